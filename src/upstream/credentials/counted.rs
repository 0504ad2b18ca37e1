//! How asking for tokens came out, counted: each time, and of what takes the place of something that was there also as a renewal.

use super::Credentials;
use super::shown::Shown;
use crate::fault::{Fault, Whose};
use crate::grants::{Kind as RefreshKind, RefreshResult};
use crate::id::TenantId;
use crate::telemetry::Counter;

impl Credentials {
    /// A token of this kind was asked for.
    pub(super) fn count(&self, kind: &'static str, got: &Result<Shown, Fault>) {
        let result = match got {
            Ok(_) => "success",
            Err(fault) if fault.whose == Whose::Client => "refused",
            Err(_) => "failure",
        };
        self.0.metrics.upstream_credential_requests.on([kind, result], Counter::inc);
    }

    /// It was to take the place of `before`.
    pub(super) fn count_renewal(&self, tenant: &TenantId, why: Renewal, before: &Shown, got: &Result<Shown, Fault>) {
        let Some(result) = renewal(why.again, before, got) else { return };
        let kind = if why.ahead { RefreshKind::Proactive } else { RefreshKind::OnDemand };
        let labels = [tenant.as_str(), kind.as_str(), result.as_str()];
        self.0.metrics.token_refresh.on(labels, Counter::inc);
        self.0.metrics.upstream_renewals.on(labels, Counter::inc);
    }
}

/// Why something is got in the place of something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    /// Ahead of its end; else because a call wants another.
    pub(super) ahead: bool,
    /// The last time somebody had to mend something first.
    pub(super) again: bool,
}

/// How a renewal came out. The same again renews nothing: there was no other yet, or another replica is at it. Whom the person must help
/// is refused once, however often they call.
fn renewal(again: bool, before: &Shown, got: &Result<Shown, Fault>) -> Option<RefreshResult> {
    match got {
        Ok(shown) => (shown.token() != before.token()).then_some(RefreshResult::Success),
        Err(fault) if fault.whose == Whose::Client && again => None,
        Err(fault) if fault.whose == Whose::Client => Some(RefreshResult::ReauthRequired),
        Err(_) => Some(RefreshResult::Failure),
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::fault::Kind;
    use crate::idp::AccessToken;
    use crate::secret::Secret;

    #[test]
    fn another_token_renews_one_and_the_same_does_not() {
        let now = OffsetDateTime::now_utc();
        let shown = |token: &str| {
            let token = AccessToken {
                token: Secret::new(token.to_owned()),
                expires_at: now + std::time::Duration::from_mins(5),
            };
            Shown::bearer(&token, now)
        };
        let before = shown("one").unwrap();
        for again in [false, true] {
            assert_eq!(renewal(again, &before, &shown("two")), Some(RefreshResult::Success));
            assert_eq!(renewal(again, &before, &shown("one")), None);
            let ill = Fault::gateway(Kind::NoCredential, "it does not answer");
            assert_eq!(renewal(again, &before, &Err(ill)), Some(RefreshResult::Failure));
        }
        let person = || Err(Fault::client(Kind::Connect, "connect again"));
        assert_eq!(renewal(false, &before, &person()), Some(RefreshResult::ReauthRequired));
        assert_eq!(renewal(true, &before, &person()), None, "a call that comes again renews nothing");
    }
}
