//! `/trusted-issuers`: the issuers whose assertions are taken, by the name that an administrator gave them.

use axum::response::{IntoResponse, Json, Response};
use http::StatusCode;
use http::header::LOCATION;

use super::keys::named;
use crate::access::{AccessError, Admin};
use crate::app::App;
use crate::grants::trusted::{self, TrustOrder, TrustView};
use crate::store::now;
use crate::web::json::{Body, Page, PageQuery, Parameters, cursor_after};
use crate::web::path::Named;
use crate::web::problem::Problem;

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<TrustView>>, Problem> {
    let limit = query.limit()?;
    let mut items = trusted::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    let more = items.len() > usize::from(limit);
    items.truncate(limit.into());
    let next_cursor = items.last().filter(|_| more).map(|issuer| cursor_after(&issuer.name));
    Ok(Json(Page { items, next_cursor }))
}

pub(super) async fn create(app: App, admin: Admin, Body(order): Body<TrustOrder>) -> Result<Response, Problem> {
    let view = trusted::create(&app.store, &admin, order, now()).await?;
    let location = format!("/api/v1/trusted-issuers/{}", view.name);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(view)).into_response())
}

pub(super) async fn read(app: App, admin: Admin, Named(name): Named) -> Result<Json<TrustView>, Problem> {
    Ok(Json(trusted::get(&app.store, &admin, &name).await.map_err(missing)?))
}

pub(super) async fn delete(app: App, admin: Admin, Named(name): Named) -> Result<StatusCode, Problem> {
    trusted::remove(&app.store, &admin, &name, now()).await.map_err(missing)?;
    // The sessions that rested on it end here at once.
    app.tokens.forget_ended(&app.store).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "trusted issuer")
}
