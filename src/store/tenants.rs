//! Tenants: every other row belongs to one. Which directories of Entra are whose stands beside, in [`super::directories`].

use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::directories::{Directory, name_directories};
use super::servers::{ServerChange, change_servers, withdraw_offers};
use super::users::{ACTIVE_ADMINS, still_administered};
use super::{Store, StoreError, at, changed_one, micros, now};
use crate::id::TenantId;

/// A tenant.
#[derive(Debug, Clone, PartialEq)]
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
    /// What it is granted.
    pub terms: TermsRow,
    /// Since when.
    pub terms_since: OffsetDateTime,
    /// Which app roles and groups give which role, as `access` wrote it.
    pub role_mappings: Option<Value>,
    /// For how many days the audit trail is kept.
    pub audit_days: i64,
    /// For how many days analytics are kept.
    pub analytics_days: i64,
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
    /// What it is granted from now on.
    pub terms: TermsChange,
    /// Which app roles and groups give which role from now on, an array; if it is empty, the settings say so.
    pub role_mappings: Option<&'a Value>,
    /// Which did when it was decided that this may change; `Stale` if others do by now.
    pub held_role_mappings: Option<&'a Value>,
    /// For how long what is recorded of it is kept.
    pub retention: RetentionChange,
    /// When it was last changed as the caller read it; `Stale` if that was later.
    pub expected: Option<i64>,
}

impl Tenant {
    /// One that is made at `now` and of which nothing is said.
    pub fn new(id: TenantId, now: OffsetDateTime) -> Self {
        Self {
            display_name: id.to_string(),
            id,
            active: true,
            guests: true,
            directories: Vec::new(),
            terms: TermsRow::default(),
            terms_since: now,
            role_mappings: None,
            audit_days: 365,
            analytics_days: 395,
            created_at: now,
            updated_at: now,
        }
    }
}

impl TenantChange<'_> {
    /// Makes it, but for the times.
    pub fn onto(&self, tenant: &mut Tenant) {
        let named = |ids: &[Uuid]| ids.iter().map(|id| Directory { id: *id, assumed: false }).collect();
        tenant.display_name = self.display_name.map_or_else(|| tenant.display_name.clone(), str::to_owned);
        tenant.active = self.active.unwrap_or(tenant.active);
        tenant.guests = self.guests.unwrap_or(tenant.guests);
        tenant.directories = self.directories.map_or_else(|| tenant.directories.clone(), named);
        self.terms.onto(&mut tenant.terms);
        if let Some(mappings) = self.role_mappings {
            tenant.role_mappings = Some(mappings.clone()).filter(is_some_mapping);
        }
        tenant.audit_days = self.retention.audit_days.unwrap_or(tenant.audit_days);
        tenant.analytics_days = self.retention.analytics_days.unwrap_or(tenant.analytics_days);
    }
}

/// One change of tenants.
#[derive(Debug, Clone, Copy)]
pub enum TenantStep<'a> {
    /// A new one; what is not said is as usual.
    Insert(&'a TenantId, TenantChange<'a>),
    /// Of one that there is.
    Update(&'a TenantId, TenantChange<'a>),
}

fn is_some_mapping(all: &Value) -> bool {
    all.as_array().is_some_and(|all| !all.is_empty())
}

/// For how many days what is recorded of a tenant is kept; what is none stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionChange {
    /// The audit trail.
    pub audit_days: Option<i64>,
    /// Analytics.
    pub analytics_days: Option<i64>,
}

row! {
    /// What a tenant is granted, the columns of that in `tenants`; `limit` says what they mean.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct TermsRow {
        /// Most requests a minute.
        pub base_rpm: Option<i64>,
        /// Its weight when tenants share.
        pub fairness_weight: f64,
        /// How many times its share it may borrow.
        pub burst_factor: Option<f64>,
        /// Most requests under way at once.
        pub max_concurrent_requests: Option<i64>,
        /// Whether its requests that wait go before others.
        pub priority_support: bool,
        /// Whether each of its tools is measured apart.
        pub enhanced_monitoring: bool,
        /// Whether its records show what tools are called with.
        pub recorded_arguments: bool,
    }
}

impl Default for TermsRow {
    fn default() -> Self {
        Self {
            base_rpm: None,
            fairness_weight: 1.0,
            burst_factor: None,
            max_concurrent_requests: None,
            priority_support: false,
            enhanced_monitoring: false,
            recorded_arguments: false,
        }
    }
}

/// What of the columns of [`TermsRow`] changes; what is none stays.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "as in `TermsRow`")]
pub struct TermsChange {
    pub base_rpm: Option<Option<i64>>,
    pub fairness_weight: Option<f64>,
    pub burst_factor: Option<Option<f64>>,
    pub max_concurrent_requests: Option<Option<i64>>,
    pub priority_support: Option<bool>,
    pub enhanced_monitoring: Option<bool>,
    pub recorded_arguments: Option<bool>,
}

impl TermsChange {
    /// Makes it.
    pub fn onto(&self, row: &mut TermsRow) {
        let Self { base_rpm, fairness_weight, burst_factor, max_concurrent_requests, .. } = *self;
        row.base_rpm = base_rpm.unwrap_or(row.base_rpm);
        row.fairness_weight = fairness_weight.unwrap_or(row.fairness_weight);
        row.burst_factor = burst_factor.unwrap_or(row.burst_factor);
        row.max_concurrent_requests = max_concurrent_requests.unwrap_or(row.max_concurrent_requests);
        row.priority_support = self.priority_support.unwrap_or(row.priority_support);
        row.enhanced_monitoring = self.enhanced_monitoring.unwrap_or(row.enhanced_monitoring);
        row.recorded_arguments = self.recorded_arguments.unwrap_or(row.recorded_arguments);
    }
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

row! {
    /// A row of `tenants`.
    #[expect(missing_docs, reason = "as in `Tenant`")]
    pub struct Row {
        rows {
            pub terms: TermsRow,
        }
        pub id: String,
        pub display_name: String,
        pub state: String,
        pub guests: bool,
        pub terms_changed_at: Option<i64>,
        pub role_mappings: Option<Json<Value>>,
        pub audit_days: i64,
        pub analytics_days: i64,
        pub created_at: i64,
        pub updated_at: i64,
    }
}

fn read(row: Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: tenant_of(&row.id)?,
        display_name: row.display_name,
        active: row.state == "active",
        guests: row.guests,
        directories: Vec::new(),
        terms: row.terms,
        terms_since: at(row.terms_changed_at.unwrap_or(row.created_at)),
        role_mappings: row.role_mappings.map(|Json(value)| value),
        audit_days: row.audit_days,
        analytics_days: row.analytics_days,
        created_at: at(row.created_at),
        updated_at: at(row.updated_at),
    })
}

/// What is read of a tenant, with what follows. Named, so that a replica of an older version goes on reading when a column is added.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, display_name, state, guests, terms_changed_at, created_at, updated_at, base_rpm, fairness_weight, burst_factor,
            max_concurrent_requests, priority_support, enhanced_monitoring, recorded_arguments, role_mappings, audit_days, analytics_days FROM tenants ",
            $rest
        )
    };
}

/// Makes of `$change` what is said of the columns that have a usual value, in the transaction `$tx`. `Missing` when there is no such
/// tenant.
macro_rules! change_rest {
    ($tx:ident, $tenant:expr, $change:expr, $now:expr) => {{
        if let Some(mappings) = $change.role_mappings {
            // Its row is this transaction's already: nobody changes it in between.
            let text = "SELECT role_mappings FROM tenants WHERE id = $1";
            let held: Option<Json<Value>> = sqlx::query_scalar(text).bind($tenant.as_str()).fetch_one(&mut *$tx).await?;
            if held.as_ref().map(|Json(held)| held) != $change.held_role_mappings {
                return Err(StoreError::Stale);
            }
            let text = "UPDATE tenants SET role_mappings = $1 WHERE id = $2";
            let mappings = Some(Json(mappings)).filter(|all| $crate::store::tenants::is_some_mapping(all));
            sqlx::query(text).bind(mappings).bind($tenant.as_str()).execute(&mut *$tx).await?;
        }
        if $change.retention != RetentionChange::default() {
            let RetentionChange { audit_days, analytics_days } = $change.retention;
            let text = "UPDATE tenants SET audit_days = COALESCE($1, audit_days), analytics_days = COALESCE($2, analytics_days)
                WHERE id = $3";
            let kept = sqlx::query(text).bind(audit_days).bind(analytics_days);
            kept.bind($tenant.as_str()).execute(&mut *$tx).await?;
        }
        let text = select!("WHERE id = $1");
        let before: TermsRow = sqlx::query_as(text).bind($tenant.as_str()).fetch_one(&mut *$tx).await?;
        let mut terms = before;
        $change.terms.onto(&mut terms);
        if terms != before {
            sqlx::query(
                "UPDATE tenants SET base_rpm = $1, fairness_weight = $2, burst_factor = $3, max_concurrent_requests = $4,
                priority_support = $5, enhanced_monitoring = $6, recorded_arguments = $7, terms_changed_at = $8 WHERE id = $9",
            )
            .bind(terms.base_rpm)
            .bind(terms.fairness_weight)
            .bind(terms.burst_factor)
            .bind(terms.max_concurrent_requests)
            .bind(terms.priority_support)
            .bind(terms.enhanced_monitoring)
            .bind(terms.recorded_arguments)
            .bind($now)
            .bind($tenant.as_str())
            .execute(&mut *$tx)
            .await?;
        }
    }};
}

/// Inserts a tenant in the transaction `$tx`; `Taken` when there is one of that name, `DirectoryHeld` when a directory is another's.
macro_rules! insert_tenant {
    ($tx:ident, $id:expr, $about:expr, $now:expr) => {{
        let text = "INSERT INTO tenants (id, display_name, state, guests, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)";
        let (name, guests) = ($about.display_name.unwrap_or($id.as_str()), $about.guests.unwrap_or(true));
        let state = $crate::store::tenants::state($about.active.unwrap_or(true));
        let insert = sqlx::query(text).bind($id.as_str()).bind(name).bind(state).bind(guests);
        insert.bind($now).execute(&mut *$tx).await?;
        name_directories!($tx, $id, $about.directories.unwrap_or_default());
        change_rest!($tx, $id, $about, $now);
    }};
}

/// Changes a tenant in the transaction `$tx`; `Missing` when there is none, `DirectoryHeld` when a directory is another's.
macro_rules! update_tenant {
    ($tx:ident, $id:expr, $change:expr, $now:expr) => {{
        let text = "UPDATE tenants SET display_name = COALESCE($1, display_name), state = COALESCE($2, state),
            guests = COALESCE($3, guests), updated_at = CASE WHEN updated_at < $4 THEN $4 ELSE updated_at + 1 END
            WHERE id = $5 AND (CAST($6 AS BIGINT) IS NULL OR updated_at = $6)";
        let state = $change.active.map($crate::store::tenants::state);
        let update = sqlx::query(text).bind($change.display_name).bind(state).bind($change.guests).bind($now);
        let update = update.bind($id.as_str()).bind($change.expected);
        $crate::store::changed_one(update.execute(&mut *$tx).await?.rows_affected(), $change.expected)?;
        if let Some(directories) = $change.directories {
            name_directories!($tx, $id, directories);
        }
        change_rest!($tx, $id, $change, $now);
    }};
}

/// Makes all of these changes of tenants in the transaction `$tx`. A directory that one gives away is free before another takes it.
macro_rules! change_tenants {
    ($tx:ident, $steps:expr, $now:expr) => {
        let admins: i64 = sqlx::query_scalar(ACTIVE_ADMINS).fetch_one(&mut *$tx).await?;
        for step in $steps {
            if let TenantStep::Update(id, TenantChange { directories: Some(_), .. }) = step {
                sqlx::query($crate::store::directories::CLEAR).bind(id.as_str()).execute(&mut *$tx).await?;
            }
        }
        for step in $steps {
            match *step {
                TenantStep::Insert(id, about) => insert_tenant!($tx, id, about, $now),
                TenantStep::Update(id, change) => update_tenant!($tx, id, change, $now),
            }
        }
        still_administered!($tx, admins);
    };
}

fn state(active: bool) -> &'static str {
    if active { "active" } else { "suspended" }
}

impl Store {
    /// Up to `limit` tenants by id, those after `after`.
    pub async fn tenants(&self, after: &str, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        let text = select!("WHERE id > $1 ORDER BY id LIMIT $2");
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
        let text = select!("WHERE id = $1");
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

    /// What each tenant is granted and whether it is active, in no order.
    pub async fn tenant_terms(&self) -> Result<Vec<(TenantId, bool, TermsRow)>, StoreError> {
        let rows: Vec<Row> = on!(read self, db => sqlx::query_as(select!("")).fetch_all(db).await?);
        rows.into_iter().map(|row| Ok((tenant_of(&row.id)?, row.state == "active", row.terms))).collect()
    }

    /// Which app roles and groups give which role in a tenant; none where the settings say so, or there is no such tenant.
    pub async fn role_mappings(&self, id: &TenantId) -> Result<Option<Value>, StoreError> {
        let text = "SELECT role_mappings FROM tenants WHERE id = $1 AND role_mappings IS NOT NULL";
        let row: Option<Json<Value>> =
            on!(read self, db => sqlx::query_scalar(text).bind(id.as_str()).fetch_optional(db).await?);
        Ok(row.map(|Json(value)| value))
    }

    /// The same of every tenant that has some, with its directories.
    pub async fn all_role_mappings(&self) -> Result<Vec<(TenantId, Value, Vec<Uuid>)>, StoreError> {
        let text = select!("WHERE role_mappings IS NOT NULL");
        let rows: Vec<Row> = on!(read self, db => sqlx::query_as(text).fetch_all(db).await?);
        let mut all = Vec::with_capacity(rows.len());
        for tenant in rows.into_iter().map(read) {
            let tenant = tenant?;
            let directories =
                self.directories_of(&tenant.id).await?.into_iter().map(|directory| directory.id).collect();
            all.extend(tenant.role_mappings.map(|mappings| (tenant.id, mappings, directories)));
        }
        Ok(all)
    }

    /// Makes a tenant of that name and nothing else; `Taken` when there is one.
    pub async fn add_tenant(&self, id: &str, display_name: &str) -> Result<TenantId, StoreError> {
        let tenant = TenantId::parse(id).map_err(|bad| StoreError::Corrupt(bad.to_string()))?;
        let about = TenantChange { display_name: Some(display_name), ..TenantChange::default() };
        self.insert_tenant(&tenant, about, micros(now())).await?;
        Ok(tenant)
    }

    /// Makes a tenant; what `about` does not say is as usual. `Taken` when there is one of that name, `DirectoryHeld` when a
    /// directory is another's.
    pub async fn insert_tenant(&self, id: &TenantId, about: TenantChange<'_>, now: i64) -> Result<(), StoreError> {
        self.change_tenants(&[TenantStep::Insert(id, about)], now, false).await
    }

    /// Changes a tenant. `Missing` when there is none, `DirectoryHeld` when a directory is another's, `LastAdmin` when nobody
    /// could administer the gateway any more.
    pub async fn update_tenant(&self, id: &TenantId, change: TenantChange<'_>, now: i64) -> Result<(), StoreError> {
        self.change_tenants(&[TenantStep::Update(id, change)], now, false).await
    }

    /// Makes all of these changes or none; with `rehearse` none, and says what would be in the way. Fails as one alone does.
    pub async fn change_tenants(&self, steps: &[TenantStep<'_>], now: i64, rehearse: bool) -> Result<(), StoreError> {
        on!(change self, tx => {
            change_tenants!(tx, steps, now);
            if rehearse {
                // Rolled back.
                return Ok(());
            }
        });
        Ok(())
    }

    /// Makes all of these changes of tenants and then of the servers of `owner`, or none. Fails as the former and
    /// [`Store::change_servers`] do.
    pub async fn change_all(
        &self,
        tenants: &[TenantStep<'_>],
        owner: &TenantId,
        servers: &[ServerChange<'_>],
        now: i64,
    ) -> Result<(), StoreError> {
        on!(change self, tx => {
            change_tenants!(tx, tenants, now);
            change_servers!(tx, owner, servers);
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

    /// Removes a tenant with all that is its own, and its name from what was offered to it. `Missing` when there is none, `Stale` when it was
    /// changed after `expected`.
    pub async fn purge_tenant(&self, id: &TenantId, expected: Option<i64>) -> Result<(), StoreError> {
        let own = [
            "DELETE FROM sign_in_traces WHERE tenant_id = $1",
            "DELETE FROM consents WHERE client_id IN (SELECT client_id FROM oauth_clients WHERE tenant_id = $1)",
            "DELETE FROM oauth_clients WHERE tenant_id = $1",
            "DELETE FROM trusted_issuers WHERE tenant_id = $1",
            "DELETE FROM servers WHERE tenant_id = $1",
            "DELETE FROM refreshes WHERE tenant_id = $1",
            // With their keys, grants, logins and consents.
            "DELETE FROM users WHERE tenant_id = $1",
        ];
        let last = "DELETE FROM tenants WHERE id = $1 AND (CAST($2 AS BIGINT) IS NULL OR updated_at = $2)";
        on!(change self, tx => {
            for text in own.into_iter().chain(super::rollups::OF_TENANT) {
                sqlx::query(text).bind(id.as_str()).execute(&mut *tx).await?;
            }
            withdraw_offers!(tx, id, micros(now()));
            let gone = sqlx::query(last).bind(id.as_str()).bind(expected).execute(&mut *tx).await?;
            changed_one(gone.rows_affected(), expected)?;
            // Its own went with it.
            sqlx::query(super::data_keys::MOVE).execute(&mut *tx).await?;
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
