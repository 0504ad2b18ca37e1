//! What a path names: the text in place of `{slug}`, `{server}`, `{id}`. It never fails on its own: a path that names nothing
//! that there could be is answered by the surface, in the surface's form and only after it has asked who calls.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use crate::app::App;

/// The one text that the path leaves open, decoded. Bytes that are no UTF-8 (RFC 3629) read as U+FFFD, which no name and no
/// id holds: nothing is found under it.
#[derive(Debug)]
pub struct Named(pub String);

impl FromRequestParts<App> for Named {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let text = Path::<String>::from_request_parts(parts, app).await;
        Ok(Self(text.map_or_else(|_| "\u{fffd}".to_owned(), |Path(text)| text)))
    }
}
