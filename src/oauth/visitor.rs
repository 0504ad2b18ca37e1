//! A browser that asks for a page: its cookies, and the request's name for the page and the log.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::cookies::Cookies;
use super::source::Source;
use crate::app::App;
use crate::telemetry::RequestId;
use crate::web::Visit;

/// See the module.
pub(super) struct Visitor {
    /// The gateway.
    pub(super) app: App,
    /// The browser's cookies.
    pub(super) cookies: Cookies,
    /// The request's name.
    pub(super) request_id: RequestId,
    /// Where it comes from.
    pub(super) address: IpAddr,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self {
            app: app.clone(),
            cookies: Cookies::of(&parts.headers, &app.issuer),
            request_id: parts.extensions.get::<Visit>().map_or_else(RequestId::default, |v| v.request_id.clone()),
            address: Source::of(&parts.extensions).0,
        })
    }
}
