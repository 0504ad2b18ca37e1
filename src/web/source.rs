//! Where a request comes from, for limits of rate and for traces.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use super::door::Visit;
use crate::app::App;

/// The client's address as the door found it, proxies taken into account.
#[derive(Debug, Clone, Copy)]
pub struct Source(pub IpAddr);

impl Source {
    /// Of a request with these extensions. Whoever did not come through the door shares one address.
    pub fn of(extensions: &Extensions) -> Self {
        Self::from_visit(extensions.get())
    }

    /// The same of what the door knows, if the request came through it.
    pub fn from_visit(visit: Option<&Visit>) -> Self {
        Self(visit.map_or(IpAddr::from(Ipv6Addr::UNSPECIFIED), |visit| visit.client))
    }
}

impl FromRequestParts<App> for Source {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
