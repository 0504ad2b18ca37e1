//! Many people sign in at once, each with a browser and at an address of their own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use testkit::browser::Browser;
use testkit::client::{Client, Request};
use url::Url;

use crate::gateway::{Gateway, REDIRECT, address};
use crate::provider::Provider;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// S256 of it (RFC 7636 appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// The client, which an administrator registers.
const CLIENT: &str = "bench-editor";

/// What is measured apart.
pub const LEGS: [&str; 4] = ["authorize", "consent", "callback", "token"];

/// How long each leg of one sign-in took, connection included.
pub type Took = [Duration; LEGS.len()];

/// Registers the client.
pub async fn prepare(gateway: &Gateway) -> anyhow::Result<()> {
    let order = json!({ "client_id": CLIENT, "name": "Bench", "kind": "public", "redirect_uris": [REDIRECT], "scopes": ["mcp", "offline_access"] });
    gateway.rest("/oauth-clients", &order).await.map(drop)
}

/// `people` sign in, `at_once` of them at any time.
pub async fn run(gateway: &Gateway, provider: &Provider, people: usize, at_once: usize) -> anyhow::Result<Vec<Took>> {
    let url = gateway.url();
    stream::iter(0..people).map(|number| one(&url, provider, number)).buffer_unordered(at_once).try_collect().await
}

async fn one(gateway: &str, provider: &Provider, number: usize) -> anyhow::Result<Took> {
    let source = address(number);
    let mut browser = Browser::new().source(source).stop_at(REDIRECT).stop_at(&provider.url);
    let mut took = Took::default();
    let asked = [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", REDIRECT),
        ("state", "s"),
        ("scope", "mcp offline_access"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("resource", &format!("{gateway}/mcp")),
    ];
    let authorize = Url::parse_with_params(&format!("{gateway}/oauth/authorize"), asked)?;

    let began = Instant::now();
    let consent = browser.open(authorize.as_str()).await?;
    took[0] = began.elapsed();
    let form = consent.form("decision")?;
    let allow =
        form.choices.iter().find(|(_, value)| value.starts_with("allow")).context("nothing to allow")?.1.clone();

    let began = Instant::now();
    let at_provider = browser.submit(&consent, "decision", &[("decision", &allow)]).await?;
    took[1] = began.elapsed();
    ensure!(at_provider.stopped, "consent ended at {}: {}", at_provider.url, at_provider.text());
    let back = Provider::answer(&at_provider.url, &format!("person-{number}"))?;

    let began = Instant::now();
    let end = browser.open(back.as_str()).await?;
    took[2] = began.elapsed();
    let code = end.param("code").with_context(|| format!("no code at {}: {}", end.url, end.text()))?;

    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT),
        ("redirect_uri", REDIRECT),
        ("code", &code),
        ("code_verifier", VERIFIER),
    ];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::new(http::Method::POST, body.into())
        .path("/oauth/token")
        .header("content-type", "application/x-www-form-urlencoded");
    let began = Instant::now();
    let reply = Client::new(gateway).source(source).send(request).await?;
    let status = reply.status;
    let text = reply.text().await?;
    took[3] = began.elapsed();
    ensure!(status.is_success() && text.contains("refresh_token"), "{status}: {text}");
    Ok(took)
}
