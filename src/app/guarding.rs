//! What the guard of addresses hears of: limits that were reached, and requests that came to nothing.

use std::net::IpAddr;

use http::StatusCode;
use time::OffsetDateTime;

use super::App;
use crate::limit::Limit;
use crate::limit::guard::Wrong;

impl App {
    /// Counts one refusal because a limit was reached, by whose it was; the tenant is empty where there is none.
    pub fn throttled(&self, tenant: &str, limit: Limit) {
        self.recorder.metrics().throttled(tenant, limit.label());
        self.guard.hit(limit, OffsetDateTime::now_utc());
    }

    /// A request from there was answered so. Each is counted once: credentials that are no good where they are looked at, among them all
    /// that is wrong at the paths of signing in.
    pub fn answered(&self, client: IpAddr, signs_in: bool, status: StatusCode) {
        let wrong = match status {
            StatusCode::TOO_MANY_REQUESTS => Wrong::Throttled,
            StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_ACCEPTABLE
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                if !signs_in =>
            {
                Wrong::Malformed
            }
            _ => return,
        };
        self.guard.refused(client, wrong, OffsetDateTime::now_utc());
    }
}
