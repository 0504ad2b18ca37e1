//! What the guard of addresses says of a request before anybody looks at it.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use time::OffsetDateTime;

use super::caller::is_known;
use super::problem::Problem;
use crate::app::App;
use crate::limit::guard::Barred;

/// Whether a request of `client` with these headers is refused. A good credential is not let in under a ban, and is looked for in
/// memory, a few times a second, only to know that the ban was wrong.
pub fn barred(app: &App, client: IpAddr, headers: &HeaderMap) -> Option<Barred> {
    let now = OffsetDateTime::now_utc();
    if let Some(ban) = app.guard.ban_of(client, now) {
        if headers.contains_key(AUTHORIZATION) && ban.may_look(crate::store::micros(now)) && is_known(app, headers, now)
        {
            app.guard.was_good(&ban, now);
        }
        return Some(app.guard.bars(&ban, now));
    }
    let shown = headers.get(AUTHORIZATION)?;
    app.guard.holds_back(client, shown.as_bytes(), now).filter(|_| !is_known(app, headers, now))
}

/// What is wrong and what to do, for whoever is told.
pub fn sentence(barred: &Barred) -> &'static str {
    if barred.banned {
        "too much that came from your address was refused: nothing is taken from it for a while; an administrator of this gateway \
         can lift the ban"
    } else {
        "this credential was refused a moment ago, and too much from your address was: it is not looked at for a while; show a good \
         one, or ask for a new one"
    }
}

/// The stable code.
pub fn code(barred: &Barred) -> &'static str {
    if barred.banned { "ADDRESS_BANNED" } else { "CREDENTIAL_HELD_BACK" }
}

/// Whole seconds, at least one.
pub fn seconds(barred: &Barred) -> u64 {
    (barred.retry_after.as_secs() + u64::from(barred.retry_after.subsec_nanos() > 0)).max(1)
}

/// The answer of the REST API and of pages.
pub fn problem(barred: &Barred) -> Problem {
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, code(barred), sentence(barred));
    problem.with_header(RETRY_AFTER, HeaderValue::from(seconds(barred)))
}
