//! A client gives a token back (RFC 7009): the grant behind it ends, with every token of it.

use std::net::IpAddr;

use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use time::OffsetDateTime;

use super::answer::{Denied, UNKEPT};
use super::client::authenticate;
use super::form::Form;
use crate::app::App;
use crate::store::{self, now};
use crate::web::Source;

/// `POST /oauth/revoke`. A token that is none, or has ended, is a success (section 2.2).
pub(super) async fn revoke(
    app: App,
    Source(source): Source,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Denied> {
    let now = now();
    let done = Box::pin(take_back(&app, &headers, &form, source, now)).await;
    let done = app.judged(source, now, done, Denied::is_wrong);
    done.inspect_err(|denied| denied.note(&app))?;
    Ok(UNKEPT.into_response())
}

async fn take_back(
    app: &App,
    headers: &HeaderMap,
    form: &Form,
    source: IpAddr,
    now: OffsetDateTime,
) -> Result<(), Denied> {
    let client = match authenticate(app, headers, form, source, now).await {
        // The token is none of the client's, whoever that is.
        Err(denied) if denied.is_of_stranger() => return Ok(()),
        client => client?,
    };
    let token = form.required("token", "name the token that is to end: token")?;
    // Not the time of the request: the client's keys may have been fetched.
    let ended = app.grants.revoke(token, &client.id, store::now()).await?;
    app.told_of(&ended);
    Ok(())
}
