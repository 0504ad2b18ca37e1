//! `/admin/sealing-keys` and `/admin/rotate-sealing-keys`: the keys that seal secrets, for administrators of the gateway; those of a tenant
//! are shown to its own too. No key is in any answer, only what names it.

use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::access::{AccessError, Admin};
use crate::app::{App, NothingBefore, SealingKeys, TenantKeys};
use crate::id::TenantId;
use crate::store::StoreError;
use crate::vault::{MOST_KEYS, VaultError};
use crate::web::answer::{Accepted, Tagged};
use crate::web::json::Unread;
use crate::web::path::Named;
use crate::web::problem::Problem;

/// What is to be changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RotationOrder", example = serde_json::json!({ "what": "data", "tenant_id": "acme" }))]
pub(super) struct Order {
    what: What,
    /// Absent: every tenant.
    tenant_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "RotationKind")]
pub(super) enum What {
    /// New keys for tenants.
    Data,
    /// What previous master keys sealed, under the newest.
    Master,
}

pub(super) async fn read(app: App, admin: Admin) -> Result<Tagged<SealingKeys>, Problem> {
    of_gateway(&admin)?;
    Ok(Tagged::content(app.sealing_keys().await.map_err(told)?))
}

pub(super) async fn read_tenant(app: App, admin: Admin, Named(id): Named) -> Result<Tagged<TenantKeys>, Problem> {
    let missing = || Problem::missing("tenant");
    let tenant = TenantId::parse(&id).map_err(|_| missing())?;
    if !admin.administers_gateway() && tenant != *admin.tenant() {
        return Err(missing());
    }
    Ok(Tagged::content(app.keys_of_tenant(&tenant).await.map_err(told)?))
}

pub(super) async fn rotate(app: App, admin: Admin, body: Unread<Order>) -> Result<Accepted<SealingKeys>, Problem> {
    of_gateway(&admin)?;
    let Order { what, tenant_id } = body.read().await?;
    let by = admin.username();
    match what {
        What::Master if tenant_id.is_some() => {
            return Err(Problem::field("tenant_id", "the master key is no tenant's; leave this out"));
        }
        What::Master => {
            app.reseal_under_master().await?.map_err(|NothingBefore| nothing_before())?;
            tracing::info!(by, key = %app.vault.master().key_id(), "what previous master keys sealed is to be sealed anew");
        }
        What::Data => {
            let tenant =
                tenant_id.map(|id| TenantId::parse(&id).map_err(|_| Problem::missing("tenant"))).transpose()?;
            // Goes on when whoever asked goes away: half of the tenants would be no more or less, but nobody would know.
            let run = {
                let (app, tenant) = (app.clone(), tenant.clone());
                app.tasks.clone().spawn(async move { app.rotate_data_keys(tenant.as_ref()).await })
            };
            let made = run.await.map_err(Problem::internal)?.map_err(told)?;
            let of = tenant.as_ref().map_or("all", TenantId::as_str);
            tracing::info!(by, tenant_id = of, made, "new keys seal what belongs to tenants");
            // Where there are some, and not too many, somebody else made one at the same moment.
            if let Some(tenant) = tenant.filter(|_| made == 0) {
                match app.vault.keys_of(&tenant).len() {
                    0 => return Err(no_key_made("the tenant has no key yet, because nothing of it is sealed")),
                    MOST_KEYS.. => return Err(no_key_made(TOO_MANY)),
                    _ => {}
                }
            }
        }
    }
    Ok(Accepted(app.sealing_keys().await.map_err(told)?))
}

fn of_gateway(admin: &Admin) -> Result<(), AccessError> {
    if admin.administers_gateway() {
        return Ok(());
    }
    Err(AccessError::Forbidden("only an administrator of the gateway sees and changes the keys that seal secrets"))
}

fn nothing_before() -> Problem {
    let detail = "this gateway was started without a previous master key, so there is nothing to seal anew; start it with the new key \
                  and with the old one as MREG_PREVIOUS_MASTER_KEY, MREG_PREVIOUS_MASTER_KEY_FILE or MREG_PREVIOUS_MASTER_KEY_COMMAND";
    Problem::new(StatusCode::CONFLICT, "NO_PREVIOUS_KEY", detail)
}

const TOO_MANY: &str = "the tenant has as many keys as it may have; a retired one goes ten minutes after another took its place, once \
                        nothing names it: `mcp-gateway keys status --tenant` shows what does, and the log which values do not open";

fn no_key_made(detail: &'static str) -> Problem {
    Problem::new(StatusCode::CONFLICT, "NO_KEY_MADE", detail)
}

fn told(error: VaultError) -> Problem {
    match error {
        VaultError::Store(StoreError::Missing) => Problem::missing("tenant"),
        VaultError::Store(error) => error.into(),
        other => Problem::internal(other),
    }
}
