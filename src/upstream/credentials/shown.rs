//! What is shown with a request, and for how long it is good.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::fault::{Fault, Kind};
use crate::idp::AccessToken;

/// A part of its life, and a time, before its end when it is renewed; whichever is less.
const RENEW: (u32, Duration) = (10, Duration::from_mins(5));
/// The same when it is not shown any more: it must be good still when it arrives.
const SPARE: (u32, Duration) = (20, Duration::from_secs(10));
/// A token that lives shorter is none: it would be asked for with nearly every call.
const SHORTEST: Duration = Duration::from_secs(30);

/// See the module.
pub struct Shown {
    /// The headers that it fills.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The member of `_meta` that it fills, with its value, JSON.
    pub meta: Option<(&'static str, Box<str>)>,
    /// Whether a server has taken it: then a refusal says that it is not good any more.
    taken: AtomicBool,
    /// Until when it is shown, and from when on it is to be renewed; none for what has no end.
    times: Option<(Instant, Instant)>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.headers.iter().map(|(name, _)| name))
            .entries(self.meta.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Shown {
    /// What is good for ever.
    pub fn fixed(headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { headers, meta: None, taken: AtomicBool::new(false), times: None }
    }

    /// What is good for so long, from `since` on.
    #[must_use]
    pub fn lasting(self, life: Duration, since: Instant) -> Self {
        let before = |(part, most): (u32, Duration)| since + life.saturating_sub((life / part).min(most));
        Self { times: Some((before(SPARE), before(RENEW))), ..self }
    }

    /// A token in the header `Authorization`.
    pub fn bearer(token: &AccessToken, now: OffsetDateTime) -> Result<Self, Fault> {
        let life = Duration::try_from(token.expires_at - now).unwrap_or_default();
        if life < SHORTEST {
            let text =
                format!("a token was given that ends within {} seconds, which is too soon to use it", life.as_secs());
            return Err(Fault::gateway(Kind::NoCredential, text));
        }
        let value = Zeroizing::new(format!("Bearer {}", token.token.expose()));
        Ok(Self::fixed(vec![(AUTHORIZATION, sensitive(&value)?)]).lasting(life, Instant::now()))
    }

    /// The bearer token that it shows, if it shows one.
    pub(super) fn token(&self) -> &[u8] {
        let shown = self.headers.iter().find(|(name, _)| *name == AUTHORIZATION);
        shown.and_then(|(_, value)| value.as_bytes().strip_prefix(b"Bearer ")).unwrap_or_default()
    }

    /// A server has let in who showed it.
    pub fn was_taken(&self) {
        if !self.is_taken() {
            self.taken.store(true, Relaxed);
        }
    }

    /// Whether a server ever has.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Relaxed)
    }

    /// Whether it is shown still.
    pub fn is_good(&self, now: Instant) -> bool {
        self.times.is_none_or(|(until, _)| now < until)
    }

    /// Whether it is to be renewed.
    pub fn is_due(&self, now: Instant) -> bool {
        self.times.is_some_and(|(_, renew)| now >= renew)
    }
}

/// A value that is printed by nobody.
pub(super) fn sensitive(text: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Fault::gateway(Kind::NoCredential, "what was given for the server is nothing that a header can hold")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_renewed_a_while_before_its_end_and_not_shown_at_its_end() {
        let now = Instant::now();
        for (life, renew, until) in [(3_600, 3_300, 3_590), (300, 270, 290), (100, 90, 95)] {
            let shown = Shown::fixed(Vec::new()).lasting(Duration::from_secs(life), now);
            let at = |seconds| now + Duration::from_secs(seconds);
            assert!(!shown.is_due(at(renew - 1)) && shown.is_due(at(renew)), "{life}");
            assert!(shown.is_good(at(until - 1)) && !shown.is_good(at(until)), "{life}");
        }
        assert!(!Shown::fixed(Vec::new()).lasting(Duration::ZERO, now).is_good(now));
        let fixed = Shown::fixed(Vec::new());
        assert!(fixed.is_good(now + Duration::from_hours(9_999)) && !fixed.is_due(now + Duration::from_hours(9_999)));
    }

    #[test]
    fn what_ends_within_seconds_is_as_good_as_nothing() {
        let now = OffsetDateTime::now_utc();
        let token = |life: i64| AccessToken {
            token: crate::secret::Secret::new("t".to_owned()),
            expires_at: now + time::Duration::seconds(life),
        };
        assert!([-5, 0, 1, 29].into_iter().all(|life| Shown::bearer(&token(life), now).is_err()));
        assert!(Shown::bearer(&token(30), now).is_ok());
    }

    #[test]
    fn nothing_of_it_is_printed() {
        let shown = Shown::fixed(vec![(AUTHORIZATION, sensitive("Bearer s3cret").unwrap())]);
        assert!(!format!("{shown:?} {:?}", shown.headers).contains("s3cret"));
    }
}
