//! Where a request comes from, for limits of rate.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::door::Visit;
use crate::app::App;

/// The client's address as the door found it, proxies taken into account.
#[derive(Debug, Clone, Copy)]
pub struct Source(pub IpAddr);

impl FromRequestParts<App> for Source {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        // Whoever did not come through the door shares one address.
        let nowhere = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        Ok(Self(parts.extensions.get::<Visit>().map_or(nowhere, |visit| visit.client)))
    }
}
