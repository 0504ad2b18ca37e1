//! `/admin/audit`: what was done, by whom and how it came out, the newest first. An administrator of a tenant sees the tenant's
//! records; one of the gateway those of all tenants, and those of none.

use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::access::Admin;
use crate::app::App;
use crate::audit::{self, Record};
use crate::crypto::hexadecimal;
use crate::store::audit::{AuditRow, ChainRow};
use crate::store::audit_search::AuditSelection;
use crate::store::{StoreError, at, micros, now};
use crate::web::json::{Page, PageQuery, Parameters, time_of};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// What to list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Of that tenant; empty: of none; `@platform`: of what administrators of the gateway did that concerns no single tenant.
    tenant: Option<String>,
    /// An account's id or name.
    user: Option<String>,
    action: Option<String>,
    server: Option<String>,
    name: Option<String>,
    outcome: Option<String>,
    address: Option<String>,
    client: Option<String>,
    request_id: Option<String>,
    /// That began then or later (RFC 3339). Where too much would be looked through for what is asked for (a `name` without `tenant` or `server`, or what most
    /// records are), the last seven days if it is absent.
    from: Option<String>,
    /// That began before then.
    to: Option<String>,
    /// With `tenant`: those behind this place of its chain, the oldest first. It has no `next_cursor`: go on behind the last.
    after_seq: Option<i64>,
    limit: Option<u16>,
    cursor: Option<String>,
}

/// How far back it is looked for what is not told apart well, microseconds.
const WINDOW: i64 = 7 * 24 * 3_600_000_000;

/// A record where it stands in its chain.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditRecord")]
pub(super) struct View {
    id: Uuid,
    /// The tenant, `@platform`, or empty.
    chain: String,
    seq: i64,
    #[serde(with = "crate::clock::Moment")]
    time: OffsetDateTime,
    /// SHA-256 of the hash before it and the record, hexadecimal.
    hash: String,
    /// To the letter.
    #[schemars(with = "Record")]
    record: Box<RawValue>,
}

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(search): Parameters<Search>,
) -> Result<Json<Page<View>>, Problem> {
    let page = PageQuery { limit: search.limit, cursor: search.cursor };
    let (limit, before) = (page.limit()?, page.place(|id| id.parse().ok())?);
    let user = search.user.as_deref().and_then(|user| Uuid::parse_str(user).ok());
    let username = search.user.as_deref().filter(|_| user.is_none()).map(str::to_lowercase);
    let from = search.from.as_deref().map(|text| time_of("from", text)).transpose()?.map(micros);
    let mut which = AuditSelection {
        chain: chain(&admin, search.tenant.as_deref())?,
        user,
        username: username.as_deref(),
        action: search.action.as_deref(),
        server: search.server.as_deref(),
        name: search.name.as_deref(),
        outcome: search.outcome.as_deref(),
        address: search.address.as_deref(),
        client: search.client.as_deref(),
        request_id: search.request_id.as_deref(),
        from: from.max(since(&app, &admin).await?),
        to: search.to.as_deref().map(|text| time_of("to", text)).transpose()?.map(micros),
        before,
        after: search.after_seq,
    };
    if which.after.is_some() && which.chain.is_none() {
        return Err(Problem::field("after_seq", "needs `tenant`: each has places of its own"));
    }
    if search.from.is_none() && !which.is_narrow() {
        which.from = which.from.max(Some(micros(now()) - WINDOW));
    }
    let rows = audit::search(&app.store, &which, usize::from(limit) + 1).await.map_err(|error| match error {
        StoreError::TooLong => Problem::field("from", "it takes too long to look so far back: give `from` and `to`"),
        error => error.into(),
    })?;
    let Page { items, next_cursor } = Page::of(rows, limit, |row| row.id.to_string());
    let next_cursor = next_cursor.filter(|_| which.after.is_none());
    Ok(Json(Page { items: items.into_iter().map(view).collect::<Result<_, _>>()?, next_cursor }))
}

/// How far a chain is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditChain")]
pub(super) struct ChainView {
    /// The tenant, or empty.
    chain: String,
    /// The last record that is kept no longer.
    begin_seq: i64,
    /// The last one.
    seq: i64,
    /// Its hash, hexadecimal.
    hash: String,
    /// When it was written.
    #[serde(with = "crate::clock::Moment")]
    time: OffsetDateTime,
}

pub(super) async fn chains(
    app: App,
    admin: Admin,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<Page<ChainView>>, Problem> {
    let rows = match chain(&admin, None)? {
        Some(own) => app.store.audit_chain(own).await?.into_iter().collect(),
        None => app.store.audit_chains().await?,
    };
    let view = |row: ChainRow| ChainView {
        chain: row.chain,
        begin_seq: row.begin_seq,
        seq: row.seq,
        hash: hexadecimal(&row.hash),
        time: at(row.at),
    };
    // That of no tenant has no name, and a page begins behind one.
    let named = |chain: &ChainView| format!("chain {}", chain.chain);
    Ok(Json(page.cut(rows.into_iter().map(view).collect(), named)?))
}

pub(super) async fn read(app: App, admin: Admin, Named(id): Named) -> Result<Json<View>, Problem> {
    let missing = || Problem::missing("record of the audit trail");
    let id = Uuid::parse_str(&id).map_err(|_| missing())?;
    let row = audit::record(&app.store, chain(&admin, None)?, id).await?;
    let since = since(&app, &admin).await?;
    let row = row.filter(|row| since.is_none_or(|since| row.at >= since));
    Ok(Json(view(row.ok_or_else(missing)?)?))
}

/// From when on records are the caller's to see; none: all. A tenant may have the name of one that was removed, whose records are kept.
async fn since(app: &App, admin: &Admin) -> Result<Option<i64>, Problem> {
    if admin.administers_gateway() {
        return Ok(None);
    }
    let tenant = app.store.tenant(admin.tenant()).await?.ok_or_else(|| Problem::missing("tenant"))?;
    Ok(Some(micros(tenant.created_at)))
}

/// The chain that is looked at; none: every one. Whose records the caller does not see has none.
fn chain<'a>(admin: &'a Admin, asked: Option<&'a str>) -> Result<Option<&'a str>, Problem> {
    if admin.administers_gateway() {
        return Ok(asked);
    }
    let own = admin.tenant().as_str();
    if asked.is_none_or(|asked| asked == own) { Ok(Some(own)) } else { Err(Problem::missing("tenant")) }
}

fn view(row: AuditRow) -> Result<View, Problem> {
    let AuditRow { id, chain, seq, at: began, hash, text, .. } = row;
    let record = RawValue::from_string(text).map_err(Problem::internal)?;
    let hash = hexadecimal(&hash);
    Ok(View { id, chain, seq, time: at(began), hash, record })
}
