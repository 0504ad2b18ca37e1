//! Access rules of tenants as administrators read and change them: those of the gateway any tenant's, those of a tenant their own.
//! To anybody else a tenant is not there. Each change is a version with its author, and the last ones are kept.

use std::sync::Arc;

use ahash::AHashMap;
use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::compile::broken;
use super::{DEFAULT, Mistake, Rules, aside};
use crate::access::{AccessError, Admin, Scopes};
use crate::field::FieldError;
use crate::id::TenantId;
use crate::store::access_rules::RulesRow;
use crate::store::tenants::tenant_of;
use crate::store::{Store, StoreError, at, micros};

/// A set of rules as it may be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Rules")]
pub struct RulesView {
    /// Whose.
    pub tenant_id: TenantId,
    /// Counts changes, from 1; 0 for the set that a tenant has from the beginning.
    pub version: i64,
    /// As it was written.
    pub text: String,
    /// Why nobody may use anything, if the set cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Who wrote it; none for the set that a tenant has from the beginning.
    pub author: Option<Author>,
    /// What does no harm and may be a mistake; only in the answer to a change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Mistake>,
}

/// Who changed a set, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "RulesAuthor")]
pub struct Author {
    /// What the account was called then.
    pub username: String,
    /// The account.
    pub user_id: Uuid,
    /// When.
    #[serde(with = "crate::clock::Moment")]
    pub at: OffsetDateTime,
}

impl RulesView {
    fn of(tenant: &TenantId, row: Option<RulesRow>, trouble: Option<String>) -> Self {
        let tenant_id = tenant.clone();
        let Some(row) = row else {
            let text = DEFAULT.to_owned();
            return Self { tenant_id, version: 0, text, trouble: None, author: None, warnings: Vec::new() };
        };
        let author = Author { username: row.author, user_id: row.author_id, at: at(row.created_at) };
        Self { tenant_id, version: row.version, text: row.text, trouble, author: Some(author), warnings: Vec::new() }
    }
}

/// Every tenant's rules in force, those that nobody wrote left out. What was read before and is the same is not read again. A set
/// that cannot be read denies everything to its tenant, and says so in the log.
pub async fn load(
    store: &Store,
    before: &AHashMap<TenantId, Arc<Rules>>,
) -> Result<AHashMap<TenantId, Arc<Rules>>, StoreError> {
    let mut all = AHashMap::new();
    for row in store.rules_of_all_tenants().await? {
        let tenant = tenant_of(&row.tenant_id)?;
        let same = before.get(&tenant).filter(|rules| rules.version() == row.version && rules.text() == row.text);
        let rules = match same {
            Some(same) => same.clone(),
            None => Arc::new(read_again(&tenant, &row).await),
        };
        all.insert(tenant, rules);
    }
    Ok(all)
}

/// Reads a set beside the threads that serve: it can take as long as a set is large.
///
/// # Errors
///
/// As [`Rules::read`].
pub async fn read_aside(text: &str, version: i64) -> Result<(Rules, Vec<Mistake>), Vec<Mistake>> {
    let (place, text) = (aside::place().await, text.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let _place = place;
        Rules::read(&text, version)
    });
    reading.await.unwrap_or_else(|error| Err(broken(&error)))
}

async fn read_again(tenant: &TenantId, row: &RulesRow) -> Rules {
    match read_aside(&row.text, row.version).await {
        Ok((rules, _)) => rules,
        Err(mistakes) => {
            let why = said(&mistakes);
            tracing::error!(
                tenant = tenant.as_str(),
                version = row.version,
                "the access rules cannot be read, and nobody of the tenant may use anything: {why}; correct them with \
                 `mcp-gateway policy edit`, or go back with `mcp-gateway policy rollback`"
            );
            Rules::closed(&row.text, row.version, why)
        }
    }
}

fn said(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The tenant of that id, for administrators who may know of it.
pub async fn tenant(store: &Store, admin: &Admin, id: &str) -> Result<TenantId, AccessError> {
    let id = TenantId::parse(id).map_err(|_| StoreError::Missing)?;
    if !admin.administers_gateway() && id != *admin.tenant() {
        return Err(StoreError::Missing.into());
    }
    if store.is_active_tenant(&id).await?.is_some() { Ok(id) } else { Err(StoreError::Missing.into()) }
}

/// The rules in force. `known` are those that were taken over last, of which it is known whether they can be read.
pub async fn get(store: &Store, tenant: &TenantId, known: &Rules) -> Result<RulesView, AccessError> {
    let row = store.rules(tenant).await?;
    let trouble = match &row {
        Some(row) if row.version == known.version() && row.text == known.text() => known.trouble().map(str::to_owned),
        Some(row) => trouble_of(row).await,
        None => None,
    };
    Ok(RulesView::of(tenant, row, trouble))
}

async fn trouble_of(row: &RulesRow) -> Option<String> {
    read_aside(&row.text, row.version).await.err().map(|mistakes| said(&mistakes))
}

/// One version; version 0 is what a tenant has from the beginning.
pub async fn version(store: &Store, tenant: &TenantId, version: i64) -> Result<RulesView, AccessError> {
    if version == 0 {
        return Ok(RulesView::of(tenant, None, None));
    }
    let row = store.rules_version(tenant, version).await?.ok_or(StoreError::Missing)?;
    let trouble = trouble_of(&row).await;
    Ok(RulesView::of(tenant, Some(row), trouble))
}

/// The versions that are kept, the newest first, without their texts.
pub async fn history(store: &Store, tenant: &TenantId) -> Result<Vec<(i64, Author)>, AccessError> {
    let rows = store.rules_history(tenant).await?;
    let of =
        |row: RulesRow| (row.version, Author { username: row.author, user_id: row.author_id, at: at(row.created_at) });
    Ok(rows.into_iter().map(of).collect())
}

/// Reads a text as rules, for whoever tries it or puts it in force.
///
/// # Errors
///
/// [`AccessError::Invalid`] with the mistakes, by line and column.
pub async fn read(text: &str) -> Result<(Rules, Vec<Mistake>), AccessError> {
    let field = |mistake: Mistake| match mistake.line {
        0 => FieldError::new("text", mistake.message),
        _ => FieldError::new(format!("text:{}:{}", mistake.line, mistake.column), mistake.message),
    };
    let read = read_aside(text, 0).await;
    read.map_err(|mistakes| AccessError::Invalid(mistakes.into_iter().map(field).collect()))
}

/// Puts rules in force. `expected` is the version that the author changed. A text that is in force already changes nothing.
///
/// # Errors
///
/// [`AccessError::Forbidden`] for who holds less than rules can give, [`AccessError::Invalid`] for rules with mistakes, [`StoreError::Stale`] when the version in force is another one.
pub async fn put(
    store: &Store,
    admin: &Admin,
    tenant: &TenantId,
    text: &str,
    expected: Option<i64>,
    now: OffsetDateTime,
) -> Result<RulesView, AccessError> {
    if !admin.scopes().covers(&Scopes::all()) {
        let why =
            "access rules speak of every server and tool of the tenant; a key with narrower scopes cannot write them";
        return Err(AccessError::Forbidden(why));
    }
    let (_, warnings) = read(text).await?;
    // What is in force is put aside, whether it can be read or not.
    let before = RulesView::of(tenant, store.rules(tenant).await?, None);
    if expected.is_some_and(|expected| expected != before.version) {
        return Err(StoreError::Stale.into());
    }
    if before.text == text {
        return Ok(RulesView { warnings, ..before });
    }
    let row = RulesRow {
        tenant_id: tenant.as_str().to_owned(),
        version: 0,
        text: text.to_owned(),
        author: admin.username().to_owned(),
        author_id: admin.user_id().uuid(),
        created_at: micros(now),
    };
    let row = store.put_rules(tenant, &row, expected).await?;
    Ok(RulesView { warnings, ..RulesView::of(tenant, Some(row), None) })
}
