//! How often one address may begin a sign-in, and how often what it shows may be wrong, before it has to wait: whoever guesses,
//! or asks again and again with what is good no longer, costs the gateway little and others nothing. What is right is not counted.
//! Passwords, which can be guessed, are not even looked at then; secrets and tokens, which cannot, are: else any page in a browser of
//! an office could keep that whole office waiting.
//!
//! There is no limit of all addresses together, which a flood could reach for everybody.

use std::net::IpAddr;

use time::OffsetDateTime;

use super::SOURCES;
use super::rate::{Exceeded, Limits, Rate};
use crate::access::AccessError;
use crate::config::SignIn;

/// The limits of one process.
#[derive(Debug)]
pub struct Attempts {
    begun: Limits,
    passwords: Limits,
    tokens: Limits,
    bare: Limits,
}

impl Attempts {
    /// As the settings want them.
    pub fn new(settings: &SignIn, anonymous_rpm: u32) -> Self {
        let limits = |count| Limits::new(Rate::per_minute(count), None, SOURCES);
        let failures = settings.rate_limit_failures_rpm;
        Self {
            begun: limits(settings.rate_limit_sign_in_rpm),
            passwords: limits(failures),
            tokens: limits(failures),
            bare: limits(anonymous_rpm),
        }
    }

    /// One more sign-in begins.
    pub fn begin(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        self.begun.take(address, now)
    }

    /// Whether `address` may show a password.
    pub fn may_show(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        self.passwords.check(address, now)
    }

    /// It shows one, which counts as wrong from now on: of many at once no more are looked at than of as many one after another.
    pub fn show(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        self.passwords.take(address, now)
    }

    /// The one that was counted at `now` was right.
    pub fn was_right(&self, address: IpAddr, now: OffsetDateTime) {
        self.passwords.give_back(address, now);
    }

    /// It shows no credential where one is needed; the machine itself may do so as often as it likes.
    pub fn shows_none(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        if address.is_loopback() { Ok(()) } else { self.bare.take(address, now) }
    }

    /// The secret, code or token that it showed was wrong; or too many were.
    pub fn was_no_token(&self, address: IpAddr, now: OffsetDateTime) -> Result<(), Exceeded> {
        self.tokens.take(address, now)
    }
}

impl From<Exceeded> for AccessError {
    fn from(exceeded: Exceeded) -> Self {
        Self::TooManyFromHere { retry_after: exceeded.retry_after }
    }
}
