//! A client gives a token back (RFC 7009): the grant behind it ends, with every token of it.

use axum::response::{IntoResponse, Response};
use http::HeaderMap;

use super::answer::{Denied, UNKEPT};
use super::client::authenticate;
use super::form::Form;
use crate::app::App;
use crate::store::now;

/// `POST /oauth/revoke`. A token that is none, or has ended, is a success (section 2.2).
pub(super) async fn revoke(app: App, headers: HeaderMap, form: Form) -> Result<Response, Denied> {
    take_back(&app, &headers, &form).await.inspect_err(|denied| denied.note(&app))?;
    Ok(UNKEPT.into_response())
}

async fn take_back(app: &App, headers: &HeaderMap, form: &Form) -> Result<(), Denied> {
    let now = now();
    let client = authenticate(app, headers, form, now).await?;
    let token = form.required("token", "name the token that is to end: token")?;
    let ended = app.grants.revoke(token, &client.id, now).await?;
    app.told_of(&ended);
    Ok(())
}
