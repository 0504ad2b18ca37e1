//! Where a request comes from and what names it, for what the trail says besides its record.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::door::Visit;
use super::source::Source;
use crate::app::App;
use crate::telemetry::{Event, RequestId};

/// See the module.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address as the door found it, proxies taken into account.
    pub address: IpAddr,
    /// Names the request.
    pub request_id: Option<RequestId>,
}

impl Origin {
    /// What happened in the request, of which nothing else is known.
    pub fn event(&self, action: &'static str, good: bool) -> Event {
        let address = Some(self.address);
        Event { address, request_id: self.request_id.clone(), ..Event::new(action, good) }
    }
}

impl FromRequestParts<App> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        let request_id = parts.extensions.get::<Visit>().map(|visit| visit.request_id.clone());
        Ok(Self { address: Source::of(&parts.extensions).0, request_id })
    }
}
