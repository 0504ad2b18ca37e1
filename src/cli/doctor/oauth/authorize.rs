//! The request that sends a person's browser to the gateway (RFC 6749 section 4.1.1, RFC 7636, RFC 8707), and the page that the
//! browser would show.

use http::header::{ACCEPT, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::describe::{Resource, Server};
use super::{Play, Stop};
use crate::crypto::new_secret;
use crate::grants::challenge_of;
use crate::secret::Secret;

/// What is asked for, and what is kept for the answer.
pub(super) struct Asked {
    pub(super) client_id: String,
    pub(super) redirect: String,
    pub(super) resource: String,
    pub(super) state: Secret,
    pub(super) verifier: Secret,
    scope: String,
}

impl Asked {
    pub(super) fn new(client_id: &str, redirect: &str, resource: &Resource, server: &Server) -> Self {
        let stay = if server.offers_refresh { " offline_access" } else { "" };
        Self {
            client_id: client_id.to_owned(),
            redirect: redirect.to_owned(),
            resource: resource.uri.clone(),
            state: new_secret(),
            verifier: new_secret(),
            scope: format!("{}{stay}", resource.scope),
        }
    }

    /// Where the browser is sent.
    pub(super) fn url(&self, server: &Server) -> Url {
        let mut url = server.authorize.clone();
        let challenge = challenge_of(self.verifier.expose());
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("state", self.state.expose())
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("scope", self.scope.trim())
            .append_pair("resource", &self.resource);
        if self.scope.contains("offline_access") {
            query.append_pair("prompt", "consent");
        }
        drop(query);
        url
    }
}

const CHECK: &str = "authorization";

/// The page that a person would see: its heading, in a sentence.
pub(super) async fn page(play: &mut Play, server: &Server, asked: &Asked) -> Result<String, Stop> {
    let headers = vec![(ACCEPT, HeaderValue::from_static("text/html"))];
    let answer = play.send(CHECK, Method::GET, &asked.url(server), headers, Vec::new()).await?;
    let html = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status.is_redirection() {
        let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        return Err(sent_back(play, server, asked, to));
    }
    let text = text_of(&html);
    let is_consent = answer.status == StatusCode::OK && html.contains("name=\"decision\"");
    if !is_consent {
        let advice = advice_about(play, asked, &text);
        return Err(play.stop(CHECK, format!("{}: {text}", answer.status.as_u16()), advice));
    }
    let ways = html.matches("value=\"allow:").count();
    play.found.fine(CHECK, format!("a page asks the person: {}; {ways} buttons to go on with", heading(&html)));
    Ok(format!("the page `{}`.", heading(&html)))
}

/// The gateway answers the client without having asked anybody.
fn sent_back(play: &mut Play, server: &Server, asked: &Asked, to: &str) -> Stop {
    if !to.starts_with(&asked.redirect) {
        let what = format!("the browser is sent on, to {}", to.split('?').next().unwrap_or_default());
        return play.stop(
            CHECK,
            what,
            "something else than the gateway answers there, such as a sign-in of a proxy: let the path pass",
        );
    }
    let found = |name: &str| {
        let (_, query) = to.split_once('?')?;
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let error = found("error").unwrap_or_default();
    if found("iss").as_deref() != Some(&server.issuer) {
        let what = format!("the answer does not say that it is of {} (iss): {error}", server.issuer);
        return play.stop("iss", what, "a proxy changes redirects: let them pass as they are");
    }
    let advice = match error.as_str() {
        "invalid_target" => {
            "the client asks for an address that is no resource here: give it the public URL with /mcp or /mcp/SLUG"
        }
        "invalid_scope" => "the client may not have these scopes here",
        "temporarily_unavailable" => "try again in a minute",
        _ => "`mcp-gateway signins show last` says more",
    };
    let what = format!("the client is refused: {error}, {}", found("error_description").unwrap_or_default());
    play.stop(CHECK, what, advice)
}

fn advice_about(play: &Play, asked: &Asked, text: &str) -> String {
    let says = |word: &str| text.contains(word);
    if says("describes itself") {
        let host =
            play.who.document.and_then(|url| Url::parse(url).ok()).and_then(|url| url.host_str().map(str::to_owned));
        return format!(
            "the gateway fetches the document of {}: let it reach {} over https, or register the client with `mcp-gateway clients \
             add`; --known-by register plays it without the document",
            play.who.title,
            host.unwrap_or_default()
        );
    }
    if says("not registered for it") {
        return format!(
            "the address {} is not among those of the client: its document says another, or a registered one has to be edited \
             (`mcp-gateway clients edit`)",
            asked.redirect
        );
    }
    if says("Nobody can sign in here") {
        return "set up Entra ID (docs: Setting up Entra ID) or another provider, or allow passwords with MREG_LOCAL_SIGN_IN".to_owned();
    }
    "`mcp-gateway signins show last` says more".to_owned()
}

/// The heading of a page.
fn heading(html: &str) -> String {
    let inner = html.split_once("<h1>").and_then(|(_, rest)| rest.split_once("</h1>")).map_or("", |(inner, _)| inner);
    plain(inner)
}

/// What a person reads of a page, cut.
fn text_of(html: &str) -> String {
    let (_, rest) = html.split_once("<h1>").unwrap_or(("", html));
    let main = rest.split_once("</main>").map_or(rest, |(main, _)| main);
    // What stands in blocks is read with a pause between them.
    let main = ["</h1>", "</h2>", "</dt>"].iter().fold(main.to_owned(), |text, end| text.replace(end, ": "));
    super::super::super::screen::shorten(&plain(&main), 400)
}

/// A text without tags, on one line.
fn plain(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                text.push(' ');
            }
            c if !inside => text.push(c),
            _ => {}
        }
    }
    let names = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    let text = names.iter().fold(text, |text, (name, c)| text.replace(name, c));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_a_person_reads_it() {
        let html = "<main><h1>Allow <bdi>A &amp; B</bdi> to act for you?</h1>\n<p>It is &lt;here&gt;.</p></main><footer>x</footer>";
        assert_eq!(heading(html), "Allow A & B to act for you?");
        assert_eq!(text_of(html), "Allow A & B to act for you?: It is <here>.");
        assert_eq!(text_of("no page"), "no page");
    }
}
