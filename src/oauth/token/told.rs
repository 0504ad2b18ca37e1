//! What the audit trail says of tokens that were given, or were not: for whom, to which client, of which grant, and why not.

use super::super::answer::Denied;
use super::Seen;
use super::noting::Asker;
use crate::grants::Tokens;
use crate::grants::client::GrantType;
use crate::store::grants::GrantRow;
use crate::telemetry::Event;
use crate::web::Origin;

/// The event; `of` is the grant that what was shown is of, where it is one of ours and was refused.
pub(super) fn told(
    origin: &Origin,
    asker: &Asker<'_>,
    seen: &Seen,
    kind: GrantType,
    given: &Result<Tokens, Denied>,
    of: Option<&GrantRow>,
) -> Event {
    let event = Event {
        client: asker.recorded(),
        name: Some(kind.as_str().into()),
        ..origin.event("auth.token", given.is_ok())
    };
    let denied = match given {
        Ok(Tokens { grant, tenant, user, .. }) => {
            return Event { tenant: Some(tenant.clone()), user: Some(*user), credential: Some(*grant), ..event };
        }
        Err(denied) => denied.refusal(),
    };
    let event = Event { reason: Some(denied.reason.into()), detail: Some(denied.text.into()), ..event };
    let own = seen.tenant.as_ref().or(asker.proved.and_then(|client| client.tenant()));
    match (denied.ended.as_deref(), of) {
        (Some(ended), _) => {
            let tenant = Some(ended.tenant.as_str().into());
            Event { tenant, user: Some(ended.user), credential: Some(ended.id), ..event }
        }
        (None, Some(grant)) => {
            let tenant = Some(grant.tenant_id.as_str().into());
            Event { tenant, user: Some(grant.user_id), credential: Some(grant.id), ..event }
        }
        (None, None) => Event { tenant: own.map(|tenant| tenant.as_str().into()), ..event },
    }
}
