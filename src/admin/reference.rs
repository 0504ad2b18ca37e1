//! `/api/openapi.json` and `/api/docs`: what the surface takes and gives, for programs and for people. It is made from the routes
//! when it is first asked for, names no secret and nothing of any tenant, and is for everybody.

mod page;

use std::sync::LazyLock;

use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use serde_json::Value;

use super::BASE;
use crate::app::App;
use crate::web::answer::tag;
use crate::web::condition::unchanged;
use crate::web::describe::{About, document};

const ABOUT: About = About {
    base: BASE,
    title: "MCP gateway",
    version: "1",
    description: "Manages the gateway: servers, keys, accounts, tenants, and reports of how all of it does. Errors are problem \
        documents (RFC 9457) with a stable `code`. Lists come in pages: `next_cursor` of one is `cursor` of the next. What is read \
        has an `ETag`: with it in `If-None-Match` a read says that nothing changed, and with it in `If-Match` a change is refused if \
        somebody else was faster. A `POST` with an `Idempotency-Key` is done once, however often it is sent.",
};

/// Every path of it, with what answers there.
pub fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![("/api/openapi.json", get(openapi).layer(from_fn(unchanged))), ("/api/docs", get(page::show))]
}

/// The OpenAPI document.
pub fn openapi_document() -> Value {
    document(ABOUT, &super::table())
}

async fn openapi() -> Response {
    static TEXT: LazyLock<(Bytes, HeaderValue)> = LazyLock::new(|| {
        let text = openapi_document().to_string();
        let tag = tag(None, &text);
        (text.into(), tag)
    });
    let (text, tag) = &*TEXT;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
        (ETAG, tag.clone()),
    ];
    (headers, text.clone()).into_response()
}
