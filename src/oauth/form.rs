//! Bodies of the token endpoint: `application/x-www-form-urlencoded`, small, each name once (RFC 6749 section 3.2). Nothing is
//! read from the query, where proxies and histories would keep it.

use axum::extract::{FromRequest, Request};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap};
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::answer::Denied;
use crate::app::App;
use crate::grants::{OauthCode, Refusal};
use crate::protocol::meta::is_type;
use crate::secret::Secret;
use crate::web::body::{self, BodyProblem};

/// Most bytes of a form, or of a query.
pub(super) const LARGEST: usize = 16 * 1024;

/// A form that was sent. Its values may be secrets.
pub(super) struct Form(Vec<(String, Secret)>);

/// Whether the headers announce a form.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| is_type(kind.as_bytes(), b"application/x-www-form-urlencoded"))
}

impl Form {
    /// The value of that name. One that is empty counts as absent (RFC 6749 section 3.2).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.expose())
    }

    /// The value of that name, which must be there.
    pub(super) fn required(&self, name: &str, missing: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::new(OauthCode::InvalidRequest, "missing", missing))
    }

    fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let mut fields: Vec<(String, Secret)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body) {
            if fields.iter().any(|(known, _)| *known == name) {
                // Several resources may be asked for (RFC 8707 section 2); a token of ours is good for one.
                let (code, text) = match &*name {
                    "resource" => (OauthCode::InvalidTarget, "name one resource: each token is good for one"),
                    _ => (OauthCode::InvalidRequest, "the form holds a name twice"),
                };
                return Err(Refusal::new(code, "doubled", text));
            }
            fields.push((name.into_owned(), Secret::new(value)));
        }
        fields.retain(|(_, value)| !value.expose().is_empty());
        Ok(Self(fields))
    }
}

impl FromRequest<App> for Form {
    type Rejection = Denied;

    async fn from_request(request: Request, _: &App) -> Result<Self, Denied> {
        let refuse = |status, reason, text| {
            Denied::from(Refusal::new(OauthCode::InvalidRequest, reason, text)).with_status(status)
        };
        if !is_form(request.headers()) {
            let text = "send a form, with `Content-Type: application/x-www-form-urlencoded`";
            return Err(refuse(StatusCode::BAD_REQUEST, "content_type", text));
        }
        let body = body::read_at_most(request.into_body(), LARGEST).await.map_err(|problem| match problem {
            BodyProblem::TooLarge => {
                refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the form is larger than 16384 bytes")
            }
            _ => refuse(StatusCode::BAD_REQUEST, "incomplete", "the form did not arrive whole"),
        })?;
        let body = Zeroizing::new(body.to_vec());
        Self::parse(&body).map_err(Denied::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_once_and_an_empty_value_is_none() {
        let form = Form::parse(b"grant_type=refresh_token&scope=&a=b+c%26%C3%A4").unwrap();
        assert_eq!(form.get("grant_type"), Some("refresh_token"));
        assert_eq!((form.get("scope"), form.get("a"), form.get("b")), (None, Some("b c&ä"), None));
        let twice = |body: &[u8]| Form::parse(body).err().map(|refusal| refusal.code);
        assert_eq!(twice(b"code=a&code=a"), Some(OauthCode::InvalidRequest));
        assert_eq!(twice(b"code=&code="), Some(OauthCode::InvalidRequest));
        assert_eq!(twice(b"resource=a&resource=b"), Some(OauthCode::InvalidTarget));
    }
}
