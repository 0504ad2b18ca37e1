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

    /// It was to take the place of `before`: ahead of its end, or because a call wants another.
    pub(super) fn count_renewal(&self, tenant: &TenantId, ahead: bool, before: &Shown, got: &Result<Shown, Fault>) {
        let Some(result) = renewal(before, got) else { return };
        let kind = if ahead { RefreshKind::Proactive } else { RefreshKind::OnDemand };
        self.0.metrics.token_refresh.on([tenant.as_str(), kind.as_str(), result.as_str()], Counter::inc);
    }
}

/// How a renewal came out. The same again renews nothing: there was no other yet, or another replica is at it.
fn renewal(before: &Shown, got: &Result<Shown, Fault>) -> Option<RefreshResult> {
    match got {
        Ok(shown) => (shown.token() != before.token()).then_some(RefreshResult::Success),
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
        assert_eq!(renewal(&before, &shown("two")), Some(RefreshResult::Success));
        assert_eq!(renewal(&before, &shown("one")), None);
        let person = Fault::client(Kind::Connect, "connect again");
        assert_eq!(renewal(&before, &Err(person)), Some(RefreshResult::ReauthRequired));
        let ill = Fault::gateway(Kind::NoCredential, "it does not answer");
        assert_eq!(renewal(&before, &Err(ill)), Some(RefreshResult::Failure));
    }
}
