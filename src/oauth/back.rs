//! The way back to the client: its redirect URI, which was found to be its own, with the answer (RFC 6749 section 4.1.2), the
//! client's `state`, and who answers (RFC 9207), whatever the answer is.

use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::fault::Whose;
use crate::grants::resource::{Issuer, shown_host};
use crate::grants::{OauthCode, Request};
use crate::telemetry::Outcome;
use crate::web::Refused;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Back {
    /// Where to, as it was asked for.
    pub(super) redirect_uri: String,
    /// The client's own.
    pub(super) state: Option<String>,
    /// Who answers.
    pub(super) issuer: Issuer,
}

impl Back {
    /// To the client of an authorization.
    pub(super) fn of(request: &Request, issuer: &Issuer) -> Self {
        Self { redirect_uri: request.redirect_uri.clone(), state: request.state.clone(), issuer: issuer.clone() }
    }

    fn url(&self, pairs: &[(&str, &str)]) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(pairs);
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        query.append_pair("iss", self.issuer.as_str());
        // Appended as text: the rest of the URI stays byte for byte what the client registered.
        let joint = if self.redirect_uri.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", self.redirect_uri, query.finish())
    }

    /// The address that brings the client a code.
    pub(super) fn url_with_code(&self, code: &str) -> String {
        self.url(&[("code", code)])
    }

    /// The address that tells the client of an error.
    pub(super) fn error_url(&self, code: &str, text: &str) -> String {
        // What the grammar of `error_description` leaves out is left out.
        let text: String = text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        self.url(&[("error", code), ("error_description", &text)])
    }

    /// With an error, which the record tells of, as the status does not.
    pub(super) fn error(&self, code: &'static str, text: &str) -> Response {
        let mut response = see_other(&self.error_url(code, text));
        response.extensions_mut().insert(Refused(outcome(code)));
        response
    }

    /// The web site to which it leads, as people read it; none where that is a program on their own machine.
    pub(super) fn site(&self) -> Option<String> {
        let url = Url::parse(&self.redirect_uri).ok().filter(|url| url.scheme() == "https")?;
        Some(shown_host(&url).to_owned())
    }

    /// With the person's no.
    pub(super) fn denied(&self) -> Response {
        self.error(OauthCode::AccessDenied.as_str(), "the person did not allow it")
    }
}

/// How an authorization ended whose client is told this.
fn outcome(code: &'static str) -> Outcome {
    const AWAY: [&str; 2] = [OauthCode::ServerError.as_str(), OauthCode::TemporarilyUnavailable.as_str()];
    match code {
        "access_denied" => Outcome::Denied(code),
        _ => Outcome::Error { whose: if AWAY.contains(&code) { Whose::Gateway } else { Whose::Client }, kind: code },
    }
}

/// 303: whatever the method was, the browser goes there by GET.
pub(super) fn see_other(url: &str) -> Response {
    match HeaderValue::from_str(url) {
        Ok(location) => (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_appended_and_the_rest_stays() {
        let issuer = Issuer::new(None, false, "127.0.0.1:8001".parse().unwrap());
        let back = |uri: &str, state: Option<&str>| Back {
            redirect_uri: uri.to_owned(),
            state: state.map(ToOwned::to_owned),
            issuer: issuer.clone(),
        };
        assert_eq!(
            back("HTTPS://App.example/cb?a=%20b", Some("s&x=1")).error_url("access_denied", "no \"quotes\"\n"),
            "HTTPS://App.example/cb?a=%20b&error=access_denied&error_description=no+quotes&state=s%26x%3D1\
             &iss=http%3A%2F%2F127.0.0.1%3A8001"
        );
        assert_eq!(back("HTTPS://App.example:8443/cb", None).site().as_deref(), Some("app.example:8443"));
        assert_eq!(back("http://127.0.0.1:7777/cb", None).site(), None);
        let answer = back("cursor://x/cb", None).url_with_code("mcpg_ac_1");
        assert_eq!(answer, "cursor://x/cb?code=mcpg_ac_1&iss=http%3A%2F%2F127.0.0.1%3A8001");
    }
}
