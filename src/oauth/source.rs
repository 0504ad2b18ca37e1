//! Where a request comes from: the client's address, proxies taken into account.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use crate::app::App;
use crate::web::Visit;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source(pub(super) IpAddr);

impl Source {
    /// Of a request with these extensions; the address that stands for none where nobody said.
    pub(super) fn of(extensions: &Extensions) -> Self {
        Self(extensions.get::<Visit>().map_or(IpAddr::from(Ipv6Addr::UNSPECIFIED), |visit| visit.client))
    }
}

impl FromRequestParts<App> for Source {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
