//! A server wants to see more scopes of somebody than they allowed: noted, for the page where they connect.

use std::time::Duration;

use uuid::Uuid;

use super::{Connections, Site, Why, listed, unite};
use crate::access::Caller;
use crate::fault::{Fault, Kind};
use crate::id::TenantId;
use crate::idp::is_scope;

/// Most scopes that are noted of one connection, and the longest.
const MOST: usize = 16;
const LONGEST: usize = 128;
/// After that what is kept in every process follows what somebody connected.
const SOON: Duration = Duration::from_secs(2);

impl Connections {
    /// It wants these of the caller, and was shown this token.
    pub async fn wants(&self, site: &Site, caller: &Caller, shown: &[u8], scopes: &str) -> Fault {
        self.wants_of(site, (caller.tenant(), caller.user_id().uuid()), shown, scopes).await
    }

    /// The same of an account.
    pub(super) async fn wants_of(
        &self,
        site: &Site,
        (tenant, user): (&TenantId, Uuid),
        shown: &[u8],
        scopes: &str,
    ) -> Fault {
        let (row, kept) = match self.usable(site, tenant, user).await {
            Ok(found) => found,
            Err(fault) => return fault,
        };
        let mut asked = listed(scopes);
        asked.retain(|scope| scope.len() <= LONGEST && is_scope(scope));
        asked.truncate(MOST);
        let granted = listed(&row.scopes);
        let is_last = kept.tokens.access.expose().as_bytes() == shown;
        if !is_last && asked.iter().all(|scope| granted.contains(scope)) {
            let detail = "what the server was shown is of before the person allowed more";
            let fault = Fault::gateway(Kind::NoCredential, detail).telling("you allowed more a moment ago; try again");
            return Fault { retry_after: Some(SOON), ..fault };
        }
        let mut wanted = listed(&row.wanted);
        unite(&mut wanted, asked.clone(), MOST);
        let wanted = wanted.join(" ");
        if wanted != row.wanted
            && let Err(error) = self.0.store.want_of_connection(tenant, &row, &wanted).await
        {
            tracing::warn!(server = %site.slug, "what the server wants could not be noted: {error}");
        }
        let asked = asked.join(" ");
        self.ask(site, &Why::More(if asked.is_empty() { "it does not say what" } else { &asked }))
    }
}
