//! JSON bodies and queries of the REST surfaces: bounded, strict, and refused with the place of the mistake: line and
//! column of what is no JSON, the path of a field that does not fit.

use std::marker::PhantomData;
use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::app::App;
use crate::field::plain;
use crate::json;
use crate::web::body::{self, BodyProblem};
use crate::web::problem::Problem;

/// Most bytes of a body.
pub const MAX_BODY: usize = 1024 * 1024;

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON body that nobody has read yet: for where it is asked first whether the caller may at all.
#[derive(Debug)]
pub struct Unread<T>(Request, PhantomData<fn() -> T>);

impl<T> FromRequest<App> for Unread<T> {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &App) -> Result<Self, Self::Rejection> {
        Ok(Self(request, PhantomData))
    }
}

impl<T: DeserializeOwned> Unread<T> {
    /// Reads it; a mistake names the field.
    pub async fn read(self) -> Result<T, Problem> {
        let request = self.0;
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if !(essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))) {
            let detail = "send the body as JSON, with `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", detail));
        }
        let bytes = body::read_at_most(request.into_body(), MAX_BODY).await.map_err(unread)?;
        json::check(&bytes).map_err(|problem| malformed(&bytes, &problem))?;
        read(&bytes)
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let Ok(unread) = Unread::<T>::from_request(request, app).await;
        unread.read().await.map(Self)
    }
}

/// For a body that could not be read.
pub(super) fn unread(problem: BodyProblem) -> Problem {
    if problem == BodyProblem::TooLarge {
        let detail = format!("the body is larger than {MAX_BODY} bytes");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", detail);
    }
    Problem::new(StatusCode::BAD_REQUEST, "BODY_INCOMPLETE", "the body did not arrive whole")
}

/// Reads checked JSON into `T`; a mistake names the field.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        let mut path = path_at(bytes, offset_of(bytes, error.line(), error.column()));
        if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            // The position is that of the object's end: the path is the object's, or of the member before.
            path = parent_of_missing(bytes, &error, name);
            return Problem::field(path, "is required");
        }
        if let Some(name) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
            && !path.ends_with(name)
        {
            path = join(&path, name);
        }
        Problem::field(path, plain(message))
    })
}

/// A query string; a mistake names the parameter.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Query::<T>::try_from_uri(&parts.uri).map(|Query(value)| Self(value)).map_err(|error| {
            let text = error.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text).to_owned();
            let (field, message) = match text.split_once(": ") {
                Some((field, message)) if !field.contains(' ') => (field.to_owned(), message.to_owned()),
                _ => (text.split('`').nth(1).unwrap_or("query").to_owned(), text),
            };
            Problem::field(field, plain(&message))
        })
    }
}

/// How many items of a list, and from where.
#[derive(Debug, Clone, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// 1 to 500, 100 when absent.
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<u16>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next page begins; null on the last.
    pub next_cursor: Option<String>,
}

impl PageQuery {
    /// The limit, checked.
    pub fn limit(&self) -> Result<u16, Problem> {
        match self.limit.unwrap_or(100) {
            limit @ 1..=500 => Ok(limit),
            _ => Err(Problem::field("limit", "must be 1 to 500")),
        }
    }

    /// The key after which the page begins; empty at the start.
    pub fn after(&self) -> Result<String, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(String::new()) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        bytes.filter(|key| !key.contains('\0')).ok_or_else(bad_cursor)
    }
}

impl PageQuery {
    /// What the cursor names, if there is one: as `read` finds it in the key.
    pub fn place<K>(&self, read: impl FnOnce(&str) -> Option<K>) -> Result<Option<K>, Problem> {
        match self.after()?.as_str() {
            "" => Ok(None),
            after => read(after).map(Some).ok_or_else(bad_cursor),
        }
    }

    /// The page of a list that is all there, in the order of the keys of its items. What the cursor names may be gone.
    pub fn cut<T, K: Ord + FromStr + ToString>(
        &self,
        mut items: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, Problem> {
        let (limit, after) = (self.limit()?, self.place(|text| text.parse::<K>().ok())?);
        items.retain(|item| after.as_ref().is_none_or(|after| key(item) > *after));
        items.sort_by_cached_key(&key);
        Ok(Page::of(items, limit, |item| key(item).to_string()))
    }
}

impl<T> Page<T> {
    /// The first `limit` of what was read, which is one more where there is more; `key` is what the next page begins behind.
    pub fn of(mut items: Vec<T>, limit: u16, key: impl FnOnce(&T) -> String) -> Self {
        let more = items.len() > usize::from(limit);
        items.truncate(limit.into());
        let next_cursor = items.last().filter(|_| more).map(|last| cursor_after(&key(last)));
        Self { items, next_cursor }
    }

    /// The same of what each item is shown as.
    pub fn map<U>(self, shown: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(shown).collect(), next_cursor: self.next_cursor }
    }
}

/// A time that a parameter of this name says.
pub fn time_of(parameter: &str, text: &str) -> Result<OffsetDateTime, Problem> {
    let wrong = |_| Problem::field(parameter, "a time as in 2026-01-31T08:00:00Z (RFC 3339)");
    OffsetDateTime::parse(text, &Rfc3339).map_err(wrong)
}

/// 422 for a cursor that is none of ours.
pub fn bad_cursor() -> Problem {
    Problem::field("cursor", "not a cursor of this list; start without one")
}

/// The cursor that leads behind `key`.
pub fn cursor_after(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

fn malformed(bytes: &[u8], problem: &json::Problem) -> Problem {
    let (at, what) = match problem {
        json::Problem::Syntax { at, what } => (*at, (*what).to_owned()),
        json::Problem::Duplicate { at, name } => (*at, format!("the member \"{name}\" occurs twice")),
        json::Problem::TooDeep { at } => (*at, format!("nested deeper than {} levels", json::MAX_DEPTH)),
    };
    let before = &bytes[..at.min(bytes.len())];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |found| found + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    let detail = format!("the body is not valid JSON at line {line}, column {column}: {what}");
    Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_JSON", detail)
}

fn offset_of(bytes: &[u8], line: usize, column: usize) -> usize {
    let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', bytes).map(|at| at + 1));
    starts.take(line.max(1)).last().unwrap_or(0) + column
}

/// The path of the member or element that is being read at `offset`: `replicas[0].url`. The text is strict JSON.
fn path_at(bytes: &[u8], offset: usize) -> String {
    let mut path = String::new();
    let mut value = bytes;
    let base = bytes.as_ptr() as usize;
    loop {
        // Both ends are inclusive: the parser stands before a value of the wrong kind, else just behind what it dislikes.
        let inside = |part: &[u8]| {
            let start = part.as_ptr() as usize - base;
            start <= offset && offset <= start + part.len()
        };
        let before = |part: &[u8]| part.as_ptr() as usize - base <= offset;
        let first = value.iter().find(|byte| !byte.is_ascii_whitespace());
        let next = match first {
            Some(b'{') => {
                let member = json::members(value).take_while(|(name, _)| before(name)).last();
                member.map(|(name, inner)| (join(&path, &String::from_utf8_lossy(name)), inner))
            }
            Some(b'[') => {
                let element = json::elements(value).enumerate().take_while(|(_, part)| before(part)).last();
                element.map(|(index, inner)| (format!("{path}[{index}]"), inner))
            }
            _ => None,
        };
        match next {
            Some((deeper, inner)) => {
                path = deeper;
                value = inner;
                if !inside(inner) {
                    return path;
                }
            }
            None => return path,
        }
    }
}

/// The path of a member that is missing from the object that ends where the error stands.
fn parent_of_missing(bytes: &[u8], error: &serde_json::Error, name: &str) -> String {
    let offset = offset_of(bytes, error.line(), error.column());
    let mut path = String::new();
    let mut value = bytes;
    let base = bytes.as_ptr() as usize;
    // Down into whatever holds the end of the object, while it is not the object itself.
    loop {
        let holds = |part: &[u8]| {
            let start = part.as_ptr() as usize - base;
            start < offset && offset <= start + part.len()
        };
        let member = json::members(value).find(|(_, part)| holds(part));
        let element = json::elements(value).enumerate().find(|(_, part)| holds(part));
        match (member, element) {
            (Some((key, inner)), _) if matches!(inner.first(), Some(b'{' | b'[')) => {
                path = join(&path, &String::from_utf8_lossy(key));
                value = inner;
            }
            (None, Some((index, inner))) if matches!(inner.first(), Some(b'{' | b'[')) => {
                path = format!("{path}[{index}]");
                value = inner;
            }
            _ => return join(&path, name),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
