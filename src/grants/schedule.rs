//! When a provider is asked again about somebody, as what that counts, and after what pause once it came to nothing. Nothing but
//! arithmetic: time and luck come as arguments.

use std::time::Duration;

use rand::RngExt as _;
use time::OffsetDateTime;

use crate::config::{Refresh, SignIn};

/// How far from their usual length the time before the end and the pauses may be, as fractions: people who signed in together, and
/// whose refreshes failed together, drift apart.
const JITTER: f64 = 0.1;
const PAUSE_JITTER: f64 = 0.5;
/// Pauses after the first failure in a row, the second and so on; the last is kept to.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(30), Duration::from_mins(1), Duration::from_mins(2), Duration::from_mins(5)];
/// However short a provider's tokens live, it is not asked more often than this without need.
const LEAST: Duration = Duration::from_secs(30);
/// However long a provider wants to be left alone.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// The terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How old the provider's word for a person may be when what rests on it is used.
    pub recheck: Duration,
    /// How long before the end of its tokens they are refreshed.
    pub proactive: Duration,
    /// How long before their end that is an emergency.
    pub margin: Duration,
    /// How often it is tried again before a refresh counts as failed.
    pub max_retries: u32,
}

/// How long a provider's tokens live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// When they came.
    pub issued_at: OffsetDateTime,
    /// When they end.
    pub expires_at: OffsetDateTime,
}

impl Life {
    fn span(self) -> Duration {
        (self.expires_at - self.issued_at).try_into().unwrap_or_default()
    }
}

/// Why a provider is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// In good time before its tokens end, or because its word for the person has grown old.
    Proactive,
    /// Its tokens end within the margin, or have ended.
    Emergency,
    /// An administrator wants it.
    Forced,
    /// A client asks for tokens of its own.
    OnDemand,
}

impl Kind {
    /// The label, stored and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proactive => "proactive",
            Self::Emergency => "emergency",
            Self::Forced => "forced",
            Self::OnDemand => "on_demand",
        }
    }
}

/// How a refresh came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshResult {
    /// The provider gave new tokens, and vouches.
    Success,
    /// It could not be asked, as often as it was tried, or refused the gateway itself.
    Failure,
    /// The person must come back.
    ReauthRequired,
}

impl RefreshResult {
    /// The label, stored and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::ReauthRequired => "reauth_required",
        }
    }
}

/// A number from -1 to 1, each as likely.
pub fn luck() -> f64 {
    rand::rng().random_range(-1.0..=1.0)
}

impl Schedule {
    /// As the settings say.
    pub fn new(sign_in: &SignIn, refresh: &Refresh) -> Self {
        Self {
            recheck: sign_in.identity_recheck_interval,
            proactive: Duration::from_mins(refresh.proactive_minutes.into()),
            margin: Duration::from_mins(refresh.margin_minutes.into()),
            max_retries: refresh.max_retries,
        }
    }

    /// When tokens of this life are to be refreshed, whoever uses what rests on them: some time before their end, and not before half
    /// of their life is over.
    pub fn due(&self, life: Life, luck: f64) -> OffsetDateTime {
        let early = self.proactive.mul_f64(1.0 + JITTER * luck.clamp(-1.0, 1.0));
        let half = life.issued_at + (life.span() / 2).max(LEAST);
        half.max(life.expires_at - early)
    }

    /// Whether a provider that last vouched at `checked_at` is to be asked when somebody uses what rests on its word.
    pub fn is_due_when_used(&self, life: Life, checked_at: OffsetDateTime, now: OffsetDateTime) -> bool {
        now > checked_at + self.recheck || now >= self.due(life, 0.0)
    }

    /// As what it counts that a refresh is begun. Of tokens that live for minutes only the last quarter is an emergency, or all of it
    /// might be.
    pub fn kind(&self, life: Life, now: OffsetDateTime) -> Kind {
        let margin = self.margin.min(life.span() / 4);
        if life.expires_at - now <= margin { Kind::Emergency } else { Kind::Proactive }
    }

    /// How long nobody asks after so many failures in a row, where the provider wanted to be left alone for `asked`.
    pub fn pause(&self, failures: u32, asked: Option<Duration>, luck: f64) -> Duration {
        let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
        let usual = PAUSES[at].mul_f64(1.0 + PAUSE_JITTER * luck.clamp(-1.0, 1.0));
        usual.max(asked.unwrap_or_default()).min(LONGEST_PAUSE)
    }

    /// Whether so many failures in a row are more than are tried. It is tried on at the longest pause.
    pub fn is_given_up(&self, failures: u32) -> bool {
        failures > self.max_retries
    }

    /// Whether a refresh counts as failed with the last of so many failures in a row, at this time: it was given up, or the tokens have
    /// ended meanwhile. In a long outage few are asked about so often that they are given up.
    pub fn has_failed(&self, failures: u32, life: Life, last_at: OffsetDateTime) -> bool {
        failures > 0 && (self.is_given_up(failures) || life.expires_at <= last_at)
    }
}

#[cfg(test)]
mod tests;
