//! The rest of the way, with a person: waits at the client's address on this machine for the browser's answer, fetches tokens,
//! refreshes them and makes the first call.

use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::super::screen::note;
use super::authorize::Asked;
use super::describe::Server;
use super::{Mark, Play, Stop, json_of, quoted};
use crate::secret::Secret;

/// How long a person has, as at the gateway.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long a browser has to send its request.
const SLOWEST: Duration = Duration::from_secs(10);
/// Most bytes of a request that are read.
const MOST: usize = 16 * 1024;
const CHECK: &str = "sign-in";

/// Somebody waits at the client's address.
pub(super) struct Waiting {
    listener: TcpListener,
    path: &'static str,
    /// The client's address.
    pub(super) redirect: String,
}

/// Begins to wait, at the client's own port if it is free.
pub(super) async fn listen(play: &mut Play) -> Result<Waiting, Stop> {
    let (host, path) = play.who.loopback.unwrap_or(("127.0.0.1", "/"));
    let listener = match TcpListener::bind(("127.0.0.1", play.who.port)).await {
        Err(_) => TcpListener::bind(("127.0.0.1", 0)).await,
        bound => bound,
    };
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let (port, listener) =
        bound.map_err(|error| play.stop(CHECK, format!("nobody can wait for the answer: {error}"), ""))?;
    Ok(Waiting { listener, path, redirect: format!("http://{host}:{port}{path}") })
}

/// Waits for the browser, and does what the client does then.
pub(super) async fn rest(play: &mut Play, server: &Server, asked: &Asked, waiting: Waiting) -> Result<(), Stop> {
    note(&format!(
        "open this address in a browser and sign in; it is waited for up to ten minutes:\n\n  {}\n",
        asked.url(server)
    ));
    let wait = play.screen.wait("waiting for the browser");
    let came = tokio::time::timeout(PATIENCE, answer(&waiting)).await;
    wait.finish_and_clear();
    let Ok(query) = came else {
        return Err(play.stop(
            CHECK,
            "the browser did not come back",
            "`mcp-gateway signins show last` says how far it came",
        ));
    };
    let code = judged(play, server, asked, &query)?;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("code_verifier", asked.verifier.expose()),
        ("redirect_uri", &asked.redirect),
        ("client_id", &asked.client_id),
        ("resource", &asked.resource),
    ];
    let first = tokens(play, server, "token", &fields).await?;
    let access = match first["refresh_token"].as_str() {
        None => {
            let what = "no refresh token was given: the person signs in again each time the access token ends";
            play.found.say("refresh", Mark::Warn, what, "the client has to ask for offline_access");
            text(&first, "access_token")
        }
        Some(refresh) => {
            let fields = [
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh),
                ("client_id", &asked.client_id),
                ("resource", &asked.resource),
            ];
            text(&tokens(play, server, "refresh", &fields).await?, "access_token")
        }
    };
    call(play, &access).await
}

/// The query with which the browser comes; other requests, such as for an icon, are told that nothing is here.
async fn answer(waiting: &Waiting) -> String {
    loop {
        let Ok((stream, _)) = waiting.listener.accept().await else {
            // Out of sockets for a moment: others end meanwhile.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if let Ok(Some(query)) = tokio::time::timeout(SLOWEST, heard(stream, waiting.path)).await {
            return query;
        }
    }
}

async fn heard(mut stream: TcpStream, path: &str) -> Option<String> {
    let mut text = Vec::new();
    while !text.windows(4).any(|four| four == b"\r\n\r\n") {
        if text.len() > MOST || stream.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&text).lines().next()?.to_owned();
    let target = line.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let query = target.strip_prefix(path).and_then(|rest| rest.strip_prefix('?')).map(str::to_owned);
    let (status, said) = match query {
        Some(_) => ("200 OK", "This window can be closed: mcp-gateway doctor has the answer."),
        None => ("404 Not Found", "There is nothing here."),
    };
    let page = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{said}",
        said.len()
    );
    // The answer is there; whether the browser hears of it changes nothing.
    let _ = stream.write_all(page.as_bytes()).await;
    let _ = stream.shutdown().await;
    query
}

/// The code, if the answer is one to what was asked and of who was asked (RFC 9207 section 2.4).
fn judged(play: &mut Play, server: &Server, asked: &Asked, query: &str) -> Result<Secret, Stop> {
    let found = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    if found("state").as_deref() != Some(asked.state.expose()) {
        return Err(play.stop(
            CHECK,
            "an answer came to another question (state)",
            "open the address once, and begin again",
        ));
    }
    let iss = found("iss");
    if (server.says_iss || iss.is_some()) && iss.as_deref() != Some(&server.issuer) {
        let what = format!("the answer says that it is of `{}`, not of `{}`", iss.unwrap_or_default(), server.issuer);
        return Err(play.stop("iss", what, "a proxy changes redirects: let them pass as they are"));
    }
    if let Some(error) = found("error") {
        let what = format!("{error}: {}", found("error_description").unwrap_or_default());
        return Err(play.stop(CHECK, what, "`mcp-gateway signins show last` says what happened and what to do"));
    }
    let Some(code) = found("code") else {
        return Err(play.stop(CHECK, "the answer holds neither a code nor an error", "begin again"));
    };
    play.found.fine(CHECK, "the browser came back with a code");
    Ok(Secret::new(code))
}

async fn tokens(play: &mut Play, server: &Server, check: &str, fields: &[(&str, &str)]) -> Result<Value, Stop> {
    let answer = play.form(check, &server.token.clone(), fields).await?;
    let given = json_of(&answer);
    if answer.status != StatusCode::OK || given["access_token"].as_str().is_none_or(str::is_empty) {
        // A body that is no error may hold tokens.
        let what = match given["error"].as_str() {
            Some(error) => {
                format!("{}: {error}, {}", answer.status.as_u16(), text(&given, "error_description").expose())
            }
            None => format!("{} and no token", answer.status.as_u16()),
        };
        return Err(play.stop(check, what, "`mcp-gateway signins show last` says what happened and what to do"));
    }
    let scope = given["scope"].as_str().unwrap_or_default();
    play.found.fine(check, format!("an access token for {scope}, {} s", given["expires_in"]));
    Ok(given)
}

async fn call(play: &mut Play, access: &Secret) -> Result<(), Stop> {
    let check = "tools/list";
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "mcp-gateway-doctor", "version": env!("CARGO_PKG_VERSION") },
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    let bearer = HeaderValue::from_str(&format!("Bearer {}", access.expose()));
    let Ok(mut bearer) = bearer else {
        return Err(play.stop(
            check,
            "the access token cannot be sent",
            "something else than the gateway answers there",
        ));
    };
    bearer.set_sensitive(true);
    let headers = vec![
        (AUTHORIZATION, bearer),
        (ACCEPT, HeaderValue::from_static("application/json, text/event-stream")),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (HeaderName::from_static("mcp-protocol-version"), HeaderValue::from_static("2026-07-28")),
        (HeaderName::from_static("mcp-method"), HeaderValue::from_static("tools/list")),
    ];
    let url = play.url.clone();
    let answer = play.send(check, Method::POST, &url, headers, body.to_string().into_bytes()).await?;
    let listed = json_of(&answer);
    let Some(tools) = listed["result"]["tools"].as_array() else {
        let advice = match answer.status {
            StatusCode::UNAUTHORIZED => "a proxy in front takes the Authorization header away: let it pass",
            StatusCode::NOT_FOUND => {
                "there is no such server, or the person may not see it: `mcp-gateway servers show SLUG`"
            }
            _ => "`mcp-gateway doctor` looks at the servers",
        };
        return Err(play.stop(check, quoted(&answer), advice));
    };
    play.found.fine(check, format!("{} tools", tools.len()));
    Ok(())
}

fn text(value: &Value, name: &str) -> Secret {
    Secret::new(value[name].as_str().unwrap_or_default())
}
