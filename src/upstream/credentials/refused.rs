//! What a caller is told when an authorization server gives no token for a server: whether that is about them, or about the gateway.

use std::time::Duration;

use crate::fault::{Fault, Kind};
use crate::idp::{Class, IdpError};

/// When an authorization server that is ill is asked again, where it does not say.
pub(super) const SOON: Duration = Duration::from_secs(10);
/// When one that was asked too often is.
const LATER: Duration = Duration::from_mins(5);

/// For whom a token is asked, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// For the gateway itself.
    AsClient,
    /// For a person, by something that the gateway signs about them.
    ByWord,
    /// The same in exchange (RFC 8693).
    ByWordInExchange,
    /// For a person, by what their identity provider gave.
    ByProvider,
}

impl Asked {
    fn is_exchange(self) -> bool {
        matches!(self, Self::ByWordInExchange | Self::ByProvider)
    }

    /// A failure there.
    pub(super) fn failed(self, error: &IdpError) -> Fault {
        self.of_person(error).unwrap_or_else(|| of_client(error))
    }

    /// What the caller can do something about, or somebody who lets people in there: only what the authorization server itself said of
    /// the grant. What it said it of may be wrong for everybody, so they are sent to an administrator too.
    fn of_person(self, error: &IdpError) -> Option<Fault> {
        if self == Self::AsClient || error.error.is_none() {
            return None;
        }
        // Also whom policy does not let in is an invalid request there (RFC 8693 section 2.2.2).
        if self.is_exchange() && error.error.as_deref() == Some("invalid_request") {
            let told = "the server's authorization server does not take what the gateway says of you, or does not let you in; ask an \
                        administrator if you should be";
            return Some(Fault::client(Kind::NoCredential, detail_of(error)).telling(told));
        }
        let wants_to_see = matches!(error.error.as_deref(), Some("interaction_required" | "login_required"));
        let (kind, told) = match (&error.class, self) {
            (Class::ConsentMissing, _) => (
                Kind::NoCredential,
                "the server's authorization server wants you, or an administrator of it, to agree first",
            ),
            // Only what the provider gives can become another by that.
            (Class::NeedsInteraction { .. }, Self::ByProvider) if wants_to_see => {
                (Kind::SignIn, "the server's authorization server wants to see you again; sign in again")
            }
            (Class::NeedsInteraction { .. }, _) if wants_to_see => (
                Kind::NoCredential,
                "the server's authorization server wants to see you itself; sign in there, and try again",
            ),
            (Class::NeedsInteraction { .. } | Class::Dead, Self::ByProvider) => (
                Kind::NoCredential,
                "the server's authorization server does not take what your identity provider gave for you; sign in again, \
                 and ask an administrator if that does not help",
            ),
            (Class::NeedsInteraction { .. } | Class::Dead | Class::Refused, _) => (
                Kind::NoCredential,
                "the server's authorization server does not let you in; ask an administrator if you should be",
            ),
            _ => return None,
        };
        Some(Fault::client(kind, detail_of(error)).telling(told))
    }
}

/// What whoever calls can do nothing about.
fn of_client(error: &IdpError) -> Fault {
    let fault = Fault::gateway(Kind::NoCredential, detail_of(error));
    match error.class {
        Class::Temporary { retry_after } => {
            let told = "the authorization server that the gateway asks for access does not answer now; try again";
            Fault { retry_after: retry_after.or(Some(SOON)), ..fault }.telling(told)
        }
        Class::Loop => Fault { retry_after: Some(LATER), ..fault },
        _ => fault.telling("the gateway is not given access to the server; an administrator must mend its credential"),
    }
}

fn detail_of(error: &IdpError) -> String {
    let code = error.code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
    format!("no token for the server{code}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Whose;

    #[test]
    fn what_is_about_the_person_is_told_the_person_and_nothing_else_is() {
        let interaction = Class::NeedsInteraction { claims: None };
        let (person, gateway) = (Whose::Client, Whose::Gateway);
        for (code, class, asked, whose, kind, told) in [
            ("invalid_grant", interaction.clone(), Asked::ByWord, person, Kind::NoCredential, "not let you in"),
            ("invalid_grant", interaction.clone(), Asked::ByProvider, person, Kind::NoCredential, "sign in again"),
            ("invalid_grant", interaction.clone(), Asked::AsClient, gateway, Kind::NoCredential, "must mend"),
            ("login_required", interaction.clone(), Asked::ByWord, person, Kind::NoCredential, "sign in there"),
            ("login_required", interaction, Asked::ByProvider, person, Kind::SignIn, "sign in again"),
            ("access_denied", Class::Refused, Asked::ByProvider, person, Kind::NoCredential, "not let you in"),
            ("consent_required", Class::ConsentMissing, Asked::ByWord, person, Kind::NoCredential, "to agree"),
            ("invalid_client", Class::OurCredential, Asked::ByWord, gateway, Kind::NoCredential, "must mend"),
            (
                "invalid_request",
                Class::Configuration,
                Asked::ByWordInExchange,
                person,
                Kind::NoCredential,
                "not let you in",
            ),
            ("invalid_request", Class::Configuration, Asked::ByProvider, person, Kind::NoCredential, "not let you in"),
            ("invalid_request", Class::Configuration, Asked::ByWord, gateway, Kind::NoCredential, "must mend"),
            ("invalid_target", Class::Configuration, Asked::ByWordInExchange, gateway, Kind::NoCredential, "must mend"),
            ("invalid_target", Class::Configuration, Asked::ByWord, gateway, Kind::NoCredential, "must mend"),
            (
                "server_error",
                Class::Temporary { retry_after: None },
                Asked::ByWord,
                gateway,
                Kind::NoCredential,
                "try again",
            ),
        ] {
            let fault = asked.failed(&IdpError { error: Some(code.to_owned()), ..IdpError::new(class, "why") });
            assert_eq!((fault.whose, fault.kind), (whose, kind), "{code} {asked:?}");
            assert!(fault.public().contains(told), "{code} {asked:?}: {}", fault.public());
            assert!(!fault.public().contains(code) && fault.detail.contains("why"), "{fault:?}");
        }
        // What the gateway found wrong itself was not said of anybody.
        let own = Asked::ByWord.failed(&IdpError::new(Class::Refused, "why"));
        assert_eq!(own.whose, gateway);
    }
}
