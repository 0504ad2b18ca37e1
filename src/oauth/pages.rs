//! How pages are sent: one frame, one stylesheet of ours, no script, and headers that allow nothing else. A page is never kept and
//! never framed.

use std::sync::LazyLock;

use askama::Template;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderValue, StatusCode};
use url::Url;

use crate::app::App;
use crate::crypto::{hash_token, hexadecimal};

const STYLE: &str = include_str!("../../templates/style.css");

/// Its name says what is in it, so that a browser may keep it for good.
static STYLE_NAME: LazyLock<String> = LazyLock::new(|| {
    let digits = hexadecimal(&hash_token(STYLE)[..8]);
    format!("{digits}.css")
});

/// What all pages need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    /// What the public URL has before every path; mostly nothing.
    pub(super) base: &'a str,
    /// The stylesheet.
    pub(super) style: &'static str,
}

impl<'a> Frame<'a> {
    /// Of a gateway.
    pub(super) fn of(app: &'a App) -> Self {
        Self { base: app.issuer.path(), style: &STYLE_NAME }
    }

    /// Where the gateway is not known.
    pub(super) fn plain() -> Self {
        Self { base: "", style: &STYLE_NAME }
    }
}

/// A page. `form_action` is what its forms may lead to (Content Security Policy level 3).
pub(super) fn show(page: &impl Template, status: StatusCode, form_action: &str) -> Response {
    let text = match page.render() {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
    );
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // Not `no-referrer`: with that, browsers send the origin of a form as `null`, and that is refused.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, text).into_response()
}

/// What the forms of a page may lead to that goes on to a provider or back to a client. Browsers hold every redirect that follows
/// a form against this list, and a provider or a client's site may send the browser on to places of its own, which nobody knows
/// beforehand: so any site with TLS, and of what has none just the one address.
pub(super) fn form_action(app: &App, redirect_uri: Option<&str>) -> String {
    let mut list = "'self' https:".to_owned();
    let providers = [
        app.settings.azure.tenant_id.as_ref().map(|_| app.settings.azure.authority.clone()),
        app.settings.oidc.issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok()),
    ];
    let redirect = redirect_uri.and_then(|uri| Url::parse(uri).ok());
    for url in providers.into_iter().flatten().chain(redirect) {
        let source = match (url.scheme(), url.host()) {
            ("https", _) => continue,
            // The list has no form for such an address.
            ("http", Some(url::Host::Ipv6(_))) => "http:".to_owned(),
            ("http", _) => url.origin().ascii_serialization(),
            (scheme, _) => format!("{scheme}:"),
        };
        list.push(' ');
        list.push_str(&source);
    }
    list
}

/// The stylesheet, under its own name only.
pub(super) async fn asset(path: Result<Path<String>, PathRejection>) -> Response {
    if !path.is_ok_and(|Path(file)| file == *STYLE_NAME) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, STYLE).into_response()
}
