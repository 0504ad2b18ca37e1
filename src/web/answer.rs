//! Answers of the REST surfaces that are more than a JSON value: with a status of their own, and with a tag that names what was read.

use axum::response::{IntoResponse, Json, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::crypto::{hash_token, hexadecimal};
use crate::web::problem::Problem;

/// It was done, and there is nothing to say.
#[derive(Debug, Clone, Copy)]
pub struct NoContent;

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

/// It is being done.
#[derive(Debug)]
pub struct Accepted<T>(pub T);

impl<T: Serialize> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self.0)).into_response()
    }
}

/// One thing, with an `ETag`.
#[derive(Debug)]
pub struct Tagged<T> {
    body: T,
    of: Of,
}

/// Of what a tag is.
#[derive(Debug)]
enum Of {
    /// Of the text, and of this version.
    Version(i64),
    /// Of the text.
    Content,
    /// Of another text.
    Other(HeaderValue),
}

impl<T> Tagged<T> {
    /// Of something that counts its changes, or knows when the last one was: what `If-Match` is held against.
    pub fn version(version: i64, body: T) -> Self {
        Self { body, of: Of::Version(version) }
    }

    /// Of something that is not changed by what it is.
    pub fn content(body: T) -> Self {
        Self { body, of: Of::Content }
    }

    /// With the tag of what a read gives, for an answer that says more.
    pub fn read_as(tag: HeaderValue, body: T) -> Self {
        Self { body, of: Of::Other(tag) }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        // Written once: what is tagged is what is sent.
        let text = match serde_json::to_string(&self.body) {
            Ok(text) => text,
            Err(error) => return Problem::internal(error).into_response(),
        };
        let tag = match self.of {
            Of::Version(version) => tag(Some(version), &text),
            Of::Content => tag(None, &text),
            Of::Other(tag) => tag,
        };
        let kind = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, kind), (ETAG, tag)], text).into_response()
    }
}

/// The version, and behind it what tells one text of it from another: what is measured changes between versions.
pub fn tag(version: Option<i64>, text: &str) -> HeaderValue {
    let hash = hexadecimal(&hash_token(text)[..8]);
    let tag = version.map_or_else(|| format!("\"{hash}\""), |version| format!("\"{version}.{hash}\""));
    HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// An answer's extension: it holds a secret that is shown this once, and is kept nowhere.
#[derive(Debug, Clone, Copy)]
pub struct ShownOnce;

/// As asked for, with a secret in it that is shown this once.
#[derive(Debug)]
pub struct Shown<T>(pub T);

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let mut response = ([(CACHE_CONTROL, "no-store")], Json(self.0)).into_response();
        response.extensions_mut().insert(ShownOnce);
        response
    }
}

/// As asked for: for programs, or for people to read.
#[derive(Debug)]
pub enum Readable<T> {
    /// JSON.
    Json(T),
    /// Markdown (RFC 7763).
    Markdown(String),
}

impl<T: Serialize> IntoResponse for Readable<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Json(value) => Json(value).into_response(),
            Self::Markdown(text) => ([(CONTENT_TYPE, MARKDOWN)], text).into_response(),
        }
    }
}

/// The media type of [`Readable::Markdown`].
pub const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// It was made.
#[derive(Debug)]
pub struct Created<T> {
    body: Tagged<T>,
    location: Option<String>,
}

impl<T> Created<T> {
    /// At this path.
    pub fn at(location: String, body: Tagged<T>) -> Self {
        Self { body, location: Some(location) }
    }

    /// Where the caller cannot look at it.
    pub fn elsewhere(body: Tagged<T>) -> Self {
        Self { body, location: None }
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        created(self.body.into_response(), self.location)
    }
}

/// It was made, at this path, and a secret with it that is shown this once. Without a tag: it would be of what nobody reads again.
#[derive(Debug)]
pub struct CreatedOnce<T> {
    body: T,
    location: String,
    shown_once: bool,
}

impl<T> CreatedOnce<T> {
    /// With a secret.
    pub fn with_secret(location: String, body: T) -> Self {
        Self { body, location, shown_once: true }
    }

    /// Of a kind that has none.
    pub fn without_secret(location: String, body: T) -> Self {
        Self { body, location, shown_once: false }
    }
}

impl<T: Serialize> IntoResponse for CreatedOnce<T> {
    fn into_response(self) -> Response {
        let mut response = created(Json(self.body).into_response(), Some(self.location));
        if self.shown_once {
            response.extensions_mut().insert(ShownOnce);
        }
        response
    }
}

/// The answer made into one that says that something was made.
fn created(mut response: Response, location: Option<String>) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let location = match location.map(HeaderValue::try_from).transpose() {
        Ok(location) => location,
        Err(error) => return Problem::internal(error).into_response(),
    };
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(location.map(|location| (LOCATION, location)));
    response
}
