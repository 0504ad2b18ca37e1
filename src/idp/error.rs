//! What went wrong at an identity provider, by what the caller has to do about it. The class decides; the code and the text
//! are for people. No text here holds a token, a code or a secret.

use std::time::Duration;

use super::aadsts::{self, Explained};

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The provider is ill, throttles or cannot be reached. Nobody's session ends for it.
    Temporary {
        /// When it is worth coming back, if the provider said so.
        retry_after: Option<Duration>,
    },
    /// The person must come back to a browser.
    NeedsInteraction {
        /// What the provider wants to see then (a claims challenge), to be sent along with the next authorization.
        claims: Option<String>,
    },
    /// The person or an administrator has not agreed to what was asked for.
    ConsentMissing,
    /// The refresh token is of no use any more.
    Dead,
    /// The provider refuses the gateway's own credential. An operator must act; nobody's session ends for it.
    OurCredential,
    /// The gateway or its registration at the provider is set up wrongly.
    Configuration,
    /// Who signed in is not let in: a directory that is not allowed, no role, or it was the person who refused.
    Refused,
    /// The token is not what it says: signature, issuer, audience, nonce or time.
    Forged,
    /// The provider saw the same question too often and stops answering for minutes.
    Loop,
}

impl Class {
    /// The label in metrics and logs, `snake_case` and stable.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Temporary { .. } => "temporary",
            Self::NeedsInteraction { .. } => "needs_interaction",
            Self::ConsentMissing => "consent_missing",
            Self::Dead => "dead",
            Self::OurCredential => "our_credential",
            Self::Configuration => "configuration",
            Self::Refused => "refused",
            Self::Forged => "forged",
            Self::Loop => "loop",
        }
    }
}

/// One failure.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct IdpError {
    /// What to do.
    pub class: Class,
    /// The provider's own number, `AADSTS700082`, if it gave one.
    pub code: Option<String>,
    /// The code of OAuth (RFC 6749 section 5.2), where the provider answered with one.
    pub error: Option<String>,
    /// What the provider's operators find the case by, if it gave that.
    pub trace_id: Option<String>,
    /// One sentence for an administrator, without any secret.
    pub detail: String,
}

impl IdpError {
    /// A failure without code and trace.
    pub fn new(class: Class, detail: impl Into<String>) -> Self {
        Self { class, code: None, error: None, trace_id: None, detail: detail.into() }
    }

    pub(super) fn forged(detail: impl Into<String>) -> Self {
        Self::new(Class::Forged, detail)
    }

    pub(super) fn refused(detail: impl Into<String>) -> Self {
        Self::new(Class::Refused, detail)
    }

    pub(super) fn configuration(detail: impl Into<String>) -> Self {
        Self::new(Class::Configuration, detail)
    }

    pub(super) fn temporary(detail: impl Into<String>) -> Self {
        Self::new(Class::Temporary { retry_after: None }, detail)
    }

    /// What the code means and what helps, if it is one that is known here.
    pub fn explained(&self) -> Option<&'static Explained> {
        aadsts::explain(self.code.as_deref()?)
    }
}
