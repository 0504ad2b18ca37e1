//! A client gives a token back (RFC 7009): the grant behind it ends, with every token of it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use time::OffsetDateTime;

use super::answer::{Denied, THROTTLED, UNKEPT};
use super::client::{authenticate, claimed};
use super::form::Form;
use crate::app::App;
use crate::grants::client::Client;
use crate::grants::{Ended, shown_client};
use crate::store::{self, now};
use crate::telemetry::Event;
use crate::web::Origin;

/// `POST /oauth/revoke`. A token that is none, or has ended, is a success (section 2.2).
pub(super) async fn revoke(app: App, origin: Origin, headers: HeaderMap, form: Form) -> Result<Response, Denied> {
    let (source, now) = (origin.address, now());
    let mut proved = None;
    let done = Box::pin(take_back(&app, &headers, &form, source, now, &mut proved)).await;
    let done = app.judged(source, now, done, Denied::is_wrong);
    let claimed = || claimed(&headers, &form).map(|id| shown_client(&id).into());
    let client = proved.as_ref().map(|client| client.id.as_ref().into()).or_else(claimed);
    let event = Event { client, ..origin.event("auth.revoke", done.is_ok()) };
    match done {
        Ok(ended) => {
            for Ended { tenant, user, id, .. } in &ended {
                let tenant = Some(tenant.as_str().into());
                app.recorder.tell(Event { tenant, user: Some(*user), credential: Some(*id), ..event.clone() });
            }
            Ok(UNKEPT.into_response())
        }
        Err(denied) => {
            denied.note(&app);
            if denied.reason() != THROTTLED {
                let tenant = proved.as_ref().and_then(|client| client.tenant()).map(|tenant| tenant.as_str().into());
                let (reason, detail) = (Some(denied.reason().into()), Some(denied.refusal().text.into()));
                app.recorder.tell(Event { tenant, reason, detail, ..event });
            }
            Err(denied)
        }
    }
}

async fn take_back(
    app: &App,
    headers: &HeaderMap,
    form: &Form,
    source: IpAddr,
    now: OffsetDateTime,
    proved: &mut Option<Arc<Client>>,
) -> Result<Vec<Ended>, Denied> {
    let client = match authenticate(app, headers, form, source, now).await {
        // The token is none of the client's, whoever that is.
        Err(denied) if denied.is_of_stranger() => return Ok(Vec::new()),
        client => &*proved.insert(client?),
    };
    let token = form.required("token", "name the token that is to end: token")?;
    // Not the time of the request: the client's keys may have been fetched.
    let ended = app.grants.revoke(token, &client.id, store::now()).await?;
    app.told_of(&ended);
    Ok(ended)
}
