//! `/trusted-issuers`: the issuers whose assertions are taken, by the name that an administrator gave them.

use axum::response::Json;

use super::keys::named;
use crate::access::{AccessError, Admin};
use crate::app::App;
use crate::grants::trusted::{self, TrustOrder, TrustView};
use crate::store::{micros, now};
use crate::web::answer::{Created, NoContent, Tagged};
use crate::web::condition::IfMatch;
use crate::web::json::{Body, Page, PageQuery, Parameters};
use crate::web::path::Named;
use crate::web::problem::Problem;

pub(super) async fn list(
    app: App,
    admin: Admin,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Json<Page<TrustView>>, Problem> {
    let limit = query.limit()?;
    let items = trusted::list(&app.store, &admin, &query.after()?, limit + 1).await?;
    Ok(Json(Page::of(items, limit, |issuer| issuer.name.clone())))
}

pub(super) async fn create(
    app: App,
    admin: Admin,
    Body(order): Body<TrustOrder>,
) -> Result<Created<TrustView>, Problem> {
    let view = trusted::create(&app.store, &admin, order, now()).await?;
    Ok(Created::at(format!("/api/v1/trusted-issuers/{}", view.name), tagged(view)))
}

pub(super) async fn read(app: App, admin: Admin, Named(name): Named) -> Result<Tagged<TrustView>, Problem> {
    Ok(tagged(trusted::get(&app.store, &admin, &name).await.map_err(missing)?))
}

/// It is never changed, but another may take its name.
fn tagged(issuer: TrustView) -> Tagged<TrustView> {
    Tagged::version(micros(issuer.created_at), issuer)
}

pub(super) async fn delete(app: App, admin: Admin, Named(name): Named, version: IfMatch) -> Result<NoContent, Problem> {
    let removed = trusted::remove(&app.store, &admin, &name, version.expected()?, now()).await;
    removed.map_err(|error| version.refused(missing(error)))?;
    // The sessions that rested on it end here at once.
    app.tokens.forget_ended(&app.store).await?;
    Ok(NoContent)
}

fn missing(error: AccessError) -> Problem {
    named(error.into(), "trusted issuer")
}
