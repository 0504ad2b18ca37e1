//! `/admin/bans`: addresses and networks from which nothing is taken for a while, by the guard's judgement or by hand. What a ban is
//! named by is its address; the slash of a network is written `%2F`, or `-` where a proxy does not pass that.

use axum::response::Json;
use http::StatusCode;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::named;
use crate::access::{AccessError, Admin};
use crate::app::{App, BanOrder, BanView, LiftOrder, LiftReason};
use crate::store::{StoreError, now};
use crate::web::Source;
use crate::web::answer::{Created, Tagged};
use crate::web::json::{Body, Page, PageQuery, Parameters, Unread};
use crate::web::path::Named;
use crate::web::problem::Problem;

/// What to list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Absent: those that hold.
    state: Option<Which>,
    limit: Option<u16>,
    cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "BanStates")]
enum Which {
    Active,
    All,
}

/// A ban that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BanOrder", example = serde_json::json!({ "address": "192.0.2.7", "note": "guesses passwords", "duration_seconds": 3600 }))]
pub(super) struct Order {
    address: String,
    note: String,
    /// Absent: as one that begins by itself.
    duration_seconds: Option<u64>,
}

/// How a ban is taken back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LiftOrder", example = serde_json::json!({ "reason": "wrong", "note": "our own scanner" }))]
pub(super) struct Lift {
    reason: LiftReason,
    note: Option<String>,
}

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(search): Parameters<Search>,
) -> Result<Json<Page<BanView>>, Problem> {
    let page = PageQuery { limit: search.limit, cursor: search.cursor };
    let (limit, after) = (page.limit()?, page.place(position)?);
    let all = search.state == Some(Which::All);
    let found = app.bans().list(&admin, all, after, usize::from(limit) + 1, now())?;
    let page = Page::of(found, limit, |(_, (since, network))| format!("{since} {network}"));
    Ok(Json(page.map(|(view, _)| view)))
}

pub(super) async fn create(
    app: App,
    admin: Admin,
    source: Source,
    Body(order): Body<Order>,
) -> Result<Created<BanView>, Problem> {
    let Order { address, note, duration_seconds } = order;
    let order = BanOrder { address, duration_seconds, note };
    let view = app.bans().ban(&admin, order, source.0, now()).await.map_err(told)?;
    let location = format!("/api/v1/admin/bans/{}", view.address.replace('/', "-"));
    Ok(Created::at(location, Tagged::content(view)))
}

pub(super) async fn read(app: App, admin: Admin, Named(address): Named) -> Result<Tagged<BanView>, Problem> {
    Ok(Tagged::content(app.bans().show(&admin, &address, now()).map_err(told)?))
}

pub(super) async fn lift(
    app: App,
    admin: Admin,
    Named(address): Named,
    body: Unread<Lift>,
) -> Result<Json<BanView>, Problem> {
    app.bans().show(&admin, &address, now()).map_err(told)?;
    let Lift { reason, note } = body.read().await?;
    let order = LiftOrder { reason, note };
    Ok(Json(app.bans().lift(&admin, &address, order, now()).await.map_err(told)?))
}

/// A cursor's time and network.
fn position(text: &str) -> Option<(i64, IpNet)> {
    let (since, network) = text.split_once(' ')?;
    Some((since.parse().ok()?, network.parse().ok()?))
}

fn told(error: AccessError) -> Problem {
    let conflict = |code, detail| Problem::new(StatusCode::CONFLICT, code, detail);
    match error {
        AccessError::Store(StoreError::Taken) => {
            conflict("ALREADY_BANNED", "it is banned already; lift that ban first to make another")
        }
        AccessError::Store(StoreError::Stale) => conflict("ALREADY_LIFTED", "the ban was lifted before"),
        other => named(other.into(), "ban"),
    }
}
