//! Signing in, as a client and a person do together: the address to which the client sends a browser, the pages at which the
//! person agrees and says who they are, and what the client then shows.

use anyhow::ensure;
use url::Url;

use crate::browser::{Browser, Page};
use crate::entra::Entra;

/// The verifier of RFC 7636, appendix B.
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The challenge that belongs to it.
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// The address to which a client of this id sends a browser; `changes` put in, take the place of, or with an empty text take
/// away.
pub fn authorize(
    issuer: &str,
    client_id: &str,
    redirect_uri: &str,
    changes: &[(&str, &str)],
) -> anyhow::Result<String> {
    let mut pairs = vec![
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("state", "the client's & own"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        pairs.retain(|(there, _)| there != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    Ok(Url::parse_with_params(&format!("{issuer}/oauth/authorize"), &pairs)?.into())
}

/// Agrees, and signs in with a password of the gateway; where that leads.
pub async fn with_password(
    browser: &mut Browser,
    consent: &Page,
    username: &str,
    password: &str,
) -> anyhow::Result<Page> {
    let page = browser.submit(consent, "decision", &[("decision", "allow:local")]).await?;
    ensure!(page.status == 200, "{}: {}", page.status, page.text());
    browser.submit(&page, "username", &[("username", username), ("password", password)]).await
}

/// Agrees, and signs in at Entra's stand-in by way of the provider of this name; where that leads.
pub async fn with_provider(
    browser: &mut Browser,
    consent: &Page,
    provider: &str,
    entra: &Entra,
    user: &str,
) -> anyhow::Result<Page> {
    let page = browser.submit(consent, "decision", &[("decision", &format!("allow:{provider}"))]).await?;
    entra.sign_in(browser, page, user).await
}
