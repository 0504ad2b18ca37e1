//! Conditional requests (RFC 9110 section 13): nothing is sent that the caller has already, and nothing changed that somebody else
//! changed since the caller read it.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::app::App;
use crate::web::problem::{CHANGED, Problem};

/// What `If-Match` says, not read yet: first it is asked whether the caller may at all.
#[derive(Debug)]
pub struct IfMatch(Option<HeaderValue>);

impl FromRequestParts<App> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(IF_MATCH).cloned()))
    }
}

impl IfMatch {
    /// The version that is to be changed: none without the header or with `*`. Of a tag, what stands before the dot: what is
    /// measured of a thing may change while it is read.
    pub fn expected(&self) -> Result<Option<i64>, Problem> {
        let Some(value) = &self.0 else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(None);
        }
        let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let version = tag.and_then(|tag| tag.split('.').next()?.parse().ok());
        version.map(Some).ok_or_else(|| Problem::changed("If-Match must be one ETag that a read of this gave"))
    }
}

impl IfMatch {
    /// A refusal for who named a version: that another is there now, is no conflict but what was asked to be told.
    pub fn refused(&self, problem: Problem) -> Problem {
        if self.0.is_some() && problem.code() == CHANGED {
            return Problem::changed(
                "it was changed since it was read; read it again, and repeat this with its new ETag",
            );
        }
        problem
    }
}

/// The layer: 304 for a read of what the caller has, and 412 for one of what is another than the caller wants.
pub async fn unchanged(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let header = |name, all: &HeaderMap| all.get(name).filter(|_| reads).cloned();
    let (wanted, held) = (header(IF_MATCH, request.headers()), header(IF_NONE_MATCH, request.headers()));
    let mut response = next.run(request).await;
    let Some(tag) = response.headers().get(ETAG).filter(|_| response.status() == StatusCode::OK) else {
        return response;
    };
    if wanted.is_some_and(|wanted| !is_one_of(&wanted, tag)) {
        return Problem::changed("it is another than If-Match names").into_response();
    }
    if held.is_some_and(|held| names(&held, tag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

/// Whether the list holds the tag; weak ones compare alike (RFC 9110 section 13.1.2).
fn names(list: &HeaderValue, tag: &HeaderValue) -> bool {
    let Ok(tag) = tag.to_str() else { return false };
    tags(list).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// The same of strong ones (RFC 9110 section 13.1.1).
fn is_one_of(list: &HeaderValue, tag: &HeaderValue) -> bool {
    tags(list).any(|one| one == "*" || one.as_bytes() == tag.as_bytes())
}

/// None of ours holds a comma.
fn tags(list: &HeaderValue) -> impl Iterator<Item = &str> {
    list.to_str().unwrap_or_default().split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::servers::ServersError;

    #[expect(clippy::option_option, reason = "what is no tag, and the tag of every version")]
    fn expected(text: &'static str) -> Option<Option<i64>> {
        IfMatch(Some(HeaderValue::from_static(text))).expected().ok()
    }

    #[test]
    fn a_version_is_what_stands_before_the_dot() {
        assert_eq!(IfMatch(None).expected().unwrap(), None);
        assert_eq!(expected("*"), Some(None));
        for text in ["\"7\"", "\"7.0a1b2c3d4e5f6071\"", " \"7.x\" "] {
            assert_eq!(expected(text), Some(Some(7)), "{text}");
        }
        for text in ["7", "\"\"", "\"x\"", "W/\"7\"", "\"7\", \"8\"", "\"0a1b.7\""] {
            assert_eq!(expected(text), None, "{text}");
        }
    }

    #[test]
    fn only_who_named_a_version_is_told_that_it_is_another() {
        let told = |version: IfMatch| {
            let problem = version.refused(ServersError::Stale.into());
            (problem.status().as_u16(), problem.code())
        };
        assert_eq!(told(IfMatch(None)), (409, CHANGED));
        assert_eq!(told(IfMatch(Some(HeaderValue::from_static("\"7\"")))), (412, "PRECONDITION_FAILED"));
        let taken = Problem::new(StatusCode::CONFLICT, "TAKEN", "");
        assert_eq!(IfMatch(Some(HeaderValue::from_static("\"7\""))).refused(taken).status(), 409);
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        let is = |list: &'static str| names(&HeaderValue::from_static(list), &HeaderValue::from_static("\"7.a\""));
        assert!(is("\"7.a\"") && is("W/\"7.a\"") && is("\"x\", \"7.a\"") && is("*"));
        assert!(!is("\"7\"") && !is("7.a") && !is(""));
    }
}
