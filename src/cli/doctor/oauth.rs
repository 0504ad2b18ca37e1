//! `doctor oauth`: plays a client that people use against a running gateway, request by request as that client sends them, up to
//! the page that a person would see; with `--sign-in` to the first call. It names the first step that does not work.

mod authorize;
mod describe;
mod mismatch;
mod persona;
mod register;
mod sign_in;

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use url::Url;

use super::super::Verdict;
use super::super::failure::Failure;
use super::super::findings::{Findings, Mark};
use super::super::gateway::{Gateway, Reach};
use super::super::http::{Answer, Http, Request};
use super::super::screen::Screen;
use crate::secret::Secret;
use persona::Persona;

const EXAMPLES: &str = "\
Each line is a step of the client, in its order; the first that says FAIL is where the client stops, and so does this. The exit
code is 1 then. Give --url the address that the client was given. Without it that is the public URL (--gateway or
MREG_PUBLIC_URL), else the gateway of the data folder, with /mcp or /mcp/SLUG behind it.

Examples:
  mcp-gateway doctor oauth --as claude
  mcp-gateway doctor oauth --as vscode --server files
  mcp-gateway doctor oauth --as cursor --url https://gateway.example.com/mcp/files
  mcp-gateway doctor oauth --as claude --sign-in";

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// Claude Code
    Claude,
    /// Visual Studio Code
    Vscode,
    /// Cursor
    Cursor,
    /// The one that calls from the internet.
    #[value(help = "ChatGPT, which calls from the internet")]
    Chatgpt,
}

/// How a client makes itself known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// As the client would choose
    Auto,
    /// By the document in which it describes itself, which the gateway fetches
    Document,
    /// By registering itself
    Register,
}

/// Sign in as a client would, and name the first step that does not work
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Oauth {
    /// Which client to play
    #[arg(long = "as", value_enum, value_name = "CLIENT")]
    who: Who,
    /// Only this server, at /mcp/SLUG
    #[arg(long, value_name = "SLUG", conflicts_with = "url")]
    server: Option<String>,
    /// The address that the client was given
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How it makes itself known
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    known_by: How,
    /// Go on to the first call: prints the address for a browser and waits up to ten minutes for its answer
    #[arg(long)]
    sign_in: bool,
}

/// Longest wait for an answer. The gateway may have to fetch the client's document first.
const WAIT: Duration = Duration::from_secs(20);

/// A step went wrong, and it was said which.
struct Stop;

/// What is played, and what was found on the way.
struct Play {
    http: Http,
    who: &'static Persona,
    /// The address that the client was given.
    url: Url,
    found: Findings,
    screen: Screen,
}

impl Play {
    /// Says that a step is broken.
    fn stop(&mut self, check: &str, what: impl Into<String>, advice: impl Into<String>) -> Stop {
        self.found.say(check, Mark::Fail, what, advice);
        Stop
    }

    /// Sends a request; that there is no answer is the step's failure.
    async fn send(
        &mut self,
        check: &str,
        method: Method,
        url: &Url,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
    ) -> Result<Answer, Stop> {
        let sent = self.http.send(Request { method, url, headers, body: Bytes::from(body), wait: WAIT }).await;
        sent.map_err(|error| {
            let failure = Failure::of(error);
            let untrusted = failure.what.contains("no TLS connection");
            let advice = if untrusted {
                self.who.trust.to_owned()
            } else if url.origin() != self.url.origin() {
                format!(
                    "the gateway answers at {}, and calls itself {}, which does not answer from here: correct MREG_PUBLIC_URL, or \
                     let this machine resolve and reach it",
                    self.url,
                    url.origin().ascii_serialization()
                )
            } else {
                failure.advice.unwrap_or_default().into()
            };
            self.stop(check, failure.what, advice)
        })
    }

    /// `GET` of a document.
    async fn get(&mut self, check: &str, url: &Url) -> Result<Answer, Stop> {
        let version = HeaderValue::from_static("2025-11-25");
        let headers = vec![
            (ACCEPT, HeaderValue::from_static("application/json")),
            (HeaderName::from_static("mcp-protocol-version"), version),
        ];
        self.send(check, Method::GET, url, headers, Vec::new()).await
    }

    /// `POST` of a form.
    async fn form(&mut self, check: &str, url: &Url, fields: &[(&str, &str)]) -> Result<Answer, Stop> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers = vec![
            (ACCEPT, HeaderValue::from_static("application/json")),
            (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        ];
        self.send(check, Method::POST, url, headers, body.into_bytes()).await
    }
}

/// Plays it and shows what was found.
pub async fn run(oauth: &Oauth, public: Option<&Url>, reach: &Reach, screen: Screen) -> anyhow::Result<Verdict> {
    let who = persona::of(oauth.who);
    if oauth.sign_in && who.loopback.is_none() {
        let text = format!("--sign-in is not for {}: its answer goes to its own site", who.title);
        return Err(Failure::usage(text).advise("leave it away, or play another client").into());
    }
    let url = target(oauth, public, reach)?;
    let mut play = Play { http: Http::default(), who, url, found: Findings::default(), screen };
    let end = whole(&mut play, oauth).await.unwrap_or_default();
    let broken = play.found.broken().map(|finding| finding.check.clone());
    let more = json!({ "as": who.title, "url": play.url.as_str(), "broken": broken });
    let noted = ["authorization", "sign-in", "token", "refresh"];
    let text = match broken.as_deref() {
        Some(step) if noted.contains(&step) => {
            let more = "`mcp-gateway signins show last` shows what the gateway noted of it";
            format!("\n{} stops at: {step}. {more}.\n", who.title)
        }
        Some(step) => format!("\n{} stops at: {step}.\n", who.title),
        None => format!("\n{end}\n"),
    };
    play.found.show_with(screen, &more, &text)
}

/// The steps in their order; what to say at the end.
async fn whole(play: &mut Play, oauth: &Oauth) -> Result<String, Stop> {
    describe::reachable(play)?;
    let challenge = describe::challenge(play).await?;
    let resource = describe::resource(play, &challenge).await?;
    let server = describe::server(play, &resource).await?;
    let waiting = if oauth.sign_in { Some(sign_in::listen(play).await?) } else { None };
    let redirect = waiting.as_ref().map_or(play.who.redirect.to_owned(), |waiting| waiting.redirect.clone());
    let client = register::client(play, &server, oauth.known_by, &redirect, &resource).await?;
    let asked = authorize::Asked::new(&client, &redirect, &resource, &server);
    // With a person the page is the person's to open: a second request would be a second attempt.
    let Some(waiting) = waiting else {
        let page = authorize::page(play, &server, &asked).await?;
        return Ok(format!(
            "{} comes as far as a person can see: {page} A person goes on from there; --sign-in plays the rest.",
            play.who.title
        ));
    };
    sign_in::rest(play, &server, &asked, waiting).await?;
    Ok(format!("{} signs in and calls.", play.who.title))
}

/// The address that the client was given.
fn target(oauth: &Oauth, public: Option<&Url>, reach: &Reach) -> anyhow::Result<Url> {
    if let Some(text) = &oauth.url {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        return url.ok_or_else(|| Failure::usage(format!("`{text}` is no address like https://host/mcp")).into());
    }
    // A client has no key.
    let gateway = match reach.gateway.as_deref().or(public.map(Url::as_str)) {
        Some(named) => Gateway::at(named, &Secret::new(""))?,
        None => Gateway::find(reach)?,
    };
    let path: Vec<&str> = std::iter::once("mcp").chain(oauth.server.as_deref()).collect();
    Ok(gateway.url(&path))
}

/// A body as JSON, or null.
fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

/// A text of an answer, cut.
fn quoted(answer: &Answer) -> String {
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    format!("{}: {}", answer.status.as_u16(), text.trim())
}
