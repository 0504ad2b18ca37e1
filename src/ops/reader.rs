//! Who may read `/metrics`: whoever shows the token for it, and the administrators of the gateway, because labels name every
//! tenant and every server, hidden ones too. Without a credential it is read on this machine, as long as nothing in front of the
//! gateway could be who asks.

use http::header::{FORWARDED, VIA};
use http::{HeaderMap, StatusCode};
use subtle::ConstantTimeEq as _;

use crate::access::Opening;
use crate::app::App;
use crate::config::{Listen, is_loopback};
use crate::crypto::hash_token;
use crate::web::Source;
use crate::web::caller::{admit, bearer};
use crate::web::problem::Problem;
use crate::web::proof::Sent;

/// Fails for who may not.
pub(super) async fn may_read(app: &App, source: Source, headers: &HeaderMap) -> Result<(), Problem> {
    let local = is_this_machines_alone(&app.settings.listen) && source.0.is_loopback() && !is_passed_on(headers);
    if local || shows_the_token(app, headers) {
        return Ok(());
    }
    let caller = admit(app, headers, Opening::Api, Sent::new("GET", "/metrics"), source).await;
    let caller = caller.map_err(|error| Problem::unauthenticated(app, Opening::Api, error))?;
    if caller.administers_gateway() {
        return Ok(());
    }
    let detail = "metrics are of every tenant: show MREG_METRICS_TOKEN, or the key of an administrator of the gateway";
    Err(Problem::new(StatusCode::FORBIDDEN, "FORBIDDEN", detail))
}

/// Whether nothing is said of a proxy, behind which everybody would have an address of this machine, nor of a name by which others
/// come.
fn is_this_machines_alone(listen: &Listen) -> bool {
    !listen.behind_proxy && listen.allowed_hosts.is_empty() && listen.public_url.as_ref().is_none_or(is_loopback)
}

/// Whether a proxy that nobody spoke of gives itself away. One that adds none of these headers does not.
fn is_passed_on(headers: &HeaderMap) -> bool {
    let named = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
    headers.contains_key(FORWARDED) || headers.contains_key(VIA) || named.iter().any(|name| headers.contains_key(*name))
}

fn shows_the_token(app: &App, headers: &HeaderMap) -> bool {
    let Some(token) = &app.settings.metrics.token else { return false };
    // Hashes are compared: their lengths are the same, and so is the time.
    bearer(headers).is_some_and(|shown| hash_token(token.expose()).ct_eq(&hash_token(shown)).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DotEnv, Settings};

    #[test]
    fn who_is_known_by_another_name_or_behind_a_proxy_is_not_this_machines_alone() {
        let alone =
            |args: &[&str]| is_this_machines_alone(&Settings::from_args(args, &DotEnv::default()).unwrap().listen);
        assert!(alone(&[]));
        for args in [["--allowed-hosts", "gw.example.com"], ["--public-url", "https://gw.example.com"]] {
            assert!(!alone(&args), "{args:?}");
        }
        assert!(!alone(&["--behind-proxy"]));
    }
}
