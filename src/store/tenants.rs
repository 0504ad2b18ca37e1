//! Tenants: every other row belongs to one. Which directories of Entra are whose stands beside, in [`super::directories`].

use time::OffsetDateTime;
use uuid::Uuid;

use super::directories::{Directory, name_directories};
use super::users::{ACTIVE_ADMINS, still_administered};
use super::{Store, StoreError, at, micros, now};
use crate::id::TenantId;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id, a slug.
    pub id: TenantId,
    /// Its name for people.
    pub display_name: String,
    /// Whether its people, keys, tokens and clients come in.
    pub active: bool,
    /// Whether guests of its directories come in too.
    pub guests: bool,
    /// The directories of Entra whose people are its own, in their order.
    pub directories: Vec<Directory>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// What of a tenant changes; what is none stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct TenantChange<'a> {
    /// New name for people.
    pub display_name: Option<&'a str>,
    /// Whether it is active from now on.
    pub active: Option<bool>,
    /// Whether guests come in from now on.
    pub guests: Option<bool>,
    /// All its directories from now on.
    pub directories: Option<&'a [Uuid]>,
}

row! {
    /// How much a tenant holds.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Holdings {
        /// Accounts, those of clients included.
        pub accounts: i64,
        /// Servers.
        pub servers: i64,
        /// Registered OAuth clients.
        pub clients: i64,
    }
}

type Row = (String, String, String, bool, i64, i64);

fn read((id, display_name, state, guests, created_at, updated_at): Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: tenant_of(&id)?,
        display_name,
        active: state == "active",
        guests,
        directories: Vec::new(),
        created_at: at(created_at),
        updated_at: at(updated_at),
    })
}

impl Store {
    /// Up to `limit` tenants by id, those after `after`.
    pub async fn tenants(&self, after: &str, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        let text = "SELECT id, display_name, state, guests, created_at, updated_at FROM tenants
            WHERE id > $1 ORDER BY id LIMIT $2";
        let rows: Vec<Row> = on!(read self, db => sqlx::query_as(text).bind(after).bind(limit).fetch_all(db).await?);
        let mut tenants = rows.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = tenants.last().map(|tenant| tenant.id.clone()) {
            for (tenant, directory) in self.directories_between(after, last.as_str()).await? {
                if let Some(own) = tenants.iter_mut().find(|own| own.id.as_str() == tenant) {
                    own.directories.push(directory);
                }
            }
        }
        Ok(tenants)
    }

    /// The tenant of that id.
    pub async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let text = "SELECT id, display_name, state, guests, created_at, updated_at FROM tenants WHERE id = $1";
        let row: Option<Row> = on!(read self, db => sqlx::query_as(text).bind(id.as_str()).fetch_optional(db).await?);
        let Some(mut tenant) = row.map(read).transpose()? else { return Ok(None) };
        tenant.directories = self.directories_of(id).await?;
        Ok(Some(tenant))
    }

    /// Whether the tenant's people may come in; none when there is no such tenant.
    pub async fn is_active_tenant(&self, id: &TenantId) -> Result<Option<bool>, StoreError> {
        Ok(self.lets_in(id).await?.map(|(active, _)| active))
    }

    /// The same, and whether guests may too.
    pub async fn lets_in(&self, id: &TenantId) -> Result<Option<(bool, bool)>, StoreError> {
        let text = "SELECT state, guests FROM tenants WHERE id = $1";
        let row: Option<(String, bool)> =
            on!(read self, db => sqlx::query_as(text).bind(id.as_str()).fetch_optional(db).await?);
        Ok(row.map(|(state, guests)| (state == "active", guests)))
    }

    /// Makes a tenant without directories; `Taken` when there is one of that name.
    pub async fn add_tenant(&self, id: &str, display_name: &str) -> Result<TenantId, StoreError> {
        let tenant = TenantId::parse(id).map_err(|bad| StoreError::Corrupt(bad.to_string()))?;
        self.insert_tenant(&tenant, display_name, true, &[], micros(now())).await?;
        Ok(tenant)
    }

    /// Makes a tenant. `Taken` when there is one of that name, `DirectoryHeld` when a directory is another's.
    pub async fn insert_tenant(
        &self,
        id: &TenantId,
        display_name: &str,
        guests: bool,
        directories: &[Uuid],
        now: i64,
    ) -> Result<(), StoreError> {
        let text = "INSERT INTO tenants (id, display_name, state, guests, created_at, updated_at)
            VALUES ($1, $2, 'active', $3, $4, $4)";
        on!(change self, tx => {
            let admins: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            sqlx::query(text).bind(id.as_str()).bind(display_name).bind(guests).bind(now).execute(&mut *tx).await?;
            name_directories!(tx, id, directories);
            still_administered!(tx, admins);
        });
        Ok(())
    }

    /// Changes a tenant. `Missing` when there is none, `DirectoryHeld` when a directory is another's, `LastAdmin` when nobody
    /// could administer the gateway any more.
    pub async fn update_tenant(&self, id: &TenantId, change: TenantChange<'_>, now: i64) -> Result<(), StoreError> {
        let text = "UPDATE tenants SET display_name = COALESCE($1, display_name), state = COALESCE($2, state),
            guests = COALESCE($3, guests), updated_at = $4 WHERE id = $5";
        let state = change.active.map(|active| if active { "active" } else { "suspended" });
        on!(change self, tx => {
            let admins: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *tx).await?;
            let done = sqlx::query(text)
                .bind(change.display_name)
                .bind(state)
                .bind(change.guests)
                .bind(now)
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Missing);
            }
            if let Some(directories) = change.directories {
                name_directories!(tx, id, directories);
            }
            still_administered!(tx, admins);
        });
        Ok(())
    }

    /// How much the tenant holds.
    pub async fn holdings(&self, id: &TenantId) -> Result<Holdings, StoreError> {
        let text = "SELECT (SELECT COUNT(*) FROM users WHERE tenant_id = $1) AS accounts,
            (SELECT COUNT(*) FROM servers WHERE tenant_id = $1) AS servers,
            (SELECT COUNT(*) FROM oauth_clients WHERE tenant_id = $1) AS clients";
        Ok(on!(read self, db => sqlx::query_as(text).bind(id.as_str()).fetch_one(db).await?))
    }

    /// Removes a tenant with all that is its own. `Missing` when there is none.
    pub async fn purge_tenant(&self, id: &TenantId) -> Result<(), StoreError> {
        let own = [
            "DELETE FROM sign_in_traces WHERE tenant_id = $1",
            "DELETE FROM consents WHERE client_id IN (SELECT client_id FROM oauth_clients WHERE tenant_id = $1)",
            "DELETE FROM oauth_clients WHERE tenant_id = $1",
            "DELETE FROM trusted_issuers WHERE tenant_id = $1",
            "DELETE FROM servers WHERE tenant_id = $1",
            // With their keys, grants, logins and consents.
            "DELETE FROM users WHERE tenant_id = $1",
        ];
        on!(change self, tx => {
            for text in own {
                sqlx::query(text).bind(id.as_str()).execute(&mut *tx).await?;
            }
            let gone = sqlx::query("DELETE FROM tenants WHERE id = $1").bind(id.as_str()).execute(&mut *tx).await?;
            if gone.rows_affected() == 0 {
                return Err(StoreError::Missing);
            }
        });
        Ok(())
    }

    /// Gives the tenant that the tables came with the time of the first start.
    pub(super) async fn date_first_start(&self) -> Result<(), StoreError> {
        let text = "UPDATE tenants SET created_at = $1, updated_at = $1 WHERE created_at = 0";
        let seen: Option<i64> = on!(read self, db => {
            sqlx::query_scalar("SELECT created_at FROM tenants WHERE created_at = 0").fetch_optional(db).await?
        });
        if seen.is_some() {
            on!(write self, tx => { sqlx::query(text).bind(micros(now())).execute(&mut *tx).await?; });
        }
        Ok(())
    }
}

/// The tenant a row names.
pub(crate) fn tenant_of(text: &str) -> Result<TenantId, StoreError> {
    TenantId::parse(text).map_err(|bad| StoreError::Corrupt(bad.to_string()))
}
