//! The client that calls: reads what it shows, and asks `grants` whether that proves who it is. What goes wrong has the form of
//! the token endpoint.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use time::OffsetDateTime;

use super::answer::{Denied, STRANGER};
use super::form::Form;
use crate::app::App;
use crate::grants::authenticate::{AuthenticateError, OTHER_TYPE, Shown};
use crate::grants::client::{Client, ClientError};
use crate::grants::{OauthCode, Refusal};
use crate::store::micros;
use crate::web::open;

/// The client that sent a form `from` there, proved by exactly one method.
pub(super) async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    form: &Form,
    from: IpAddr,
    now: OffsetDateTime,
) -> Result<Arc<Client>, Denied> {
    let shown = shown(headers, form)?;
    let endpoint = app.issuer.join(open::TOKEN);
    let audiences = [app.issuer.as_str(), &endpoint];
    let spend = async |hash: [u8; 32], until| app.store.spend_assertion(&hash, micros(until)).await;
    let proved = app.clients.authenticate(&shown, &audiences, from, now, spend).await;
    proved.map_err(|error| {
        if let AuthenticateError::Unavailable(ClientError::TooMany(exceeded)) = &error {
            app.throttled("", exceeded.limit);
        }
        denied(error)
    })
}

/// The client that sent a form, as it calls itself.
pub(super) fn claimed(headers: &HeaderMap, form: &Form) -> Option<String> {
    shown(headers, form).ok().as_ref().and_then(Shown::claimed)
}

fn shown<'a>(headers: &'a HeaderMap, form: &'a Form) -> Result<Shown<'a>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let authorization = values.next().map(|value| value.to_str()).transpose();
    let (Ok(authorization), None) = (authorization, values.next()) else {
        let text = "the Authorization header cannot be read, or there are two";
        return Err(Refusal::new(OauthCode::InvalidRequest, "authorization", text));
    };
    Ok(Shown {
        authorization,
        client_id: form.get("client_id"),
        client_secret: form.get("client_secret"),
        assertion_type: form.get("client_assertion_type"),
        assertion: form.get("client_assertion"),
        beside: ["code", "refresh_token", "token"].into_iter().find_map(|name| form.get(name)),
    })
}

fn denied(error: AuthenticateError) -> Denied {
    match error {
        AuthenticateError::Request(text) => Refusal::new(OauthCode::InvalidRequest, "client_proof", text).into(),
        AuthenticateError::Refused { why, basic } => {
            let text = if why == OTHER_TYPE {
                "client_assertion is of another type: its header must say typ JWT or client-authentication+jwt, or no typ"
            } else {
                "the client is unknown, or did not prove who it is"
            };
            Denied::from(Refusal::new(OauthCode::InvalidClient, "invalid_client", text).because(why)).with_basic(basic)
        }
        AuthenticateError::Stranger => {
            let text = "what is shown was not given to this client, or is over; begin again";
            Refusal::new(OauthCode::InvalidGrant, STRANGER, text).into()
        }
        AuthenticateError::Unavailable(ClientError::Store(error)) => Refusal::from(error).into(),
        AuthenticateError::Unavailable(ClientError::TooMany(exceeded)) => Denied::throttled(
            exceeded,
            "too many documents and keys of clients were fetched for this address; wait before the next request",
        ),
        AuthenticateError::Unavailable(error) => {
            let text = "the client's description or keys cannot be fetched now; try again in a moment";
            let refusal = Refusal::new(OauthCode::TemporarilyUnavailable, error.reason(), text);
            let detail = match &error {
                ClientError::Unreachable { detail, .. } => detail.clone(),
                error => error.to_string(),
            };
            let denied = Denied::from(Refusal { retry_after: Some(Duration::from_secs(5)), ..refusal.because(detail) });
            if matches!(error, ClientError::Unreachable { .. }) { denied.of_others() } else { denied }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::rate::Exceeded;
    use crate::limit::Limit;
    use crate::store::StoreError;

    #[test]
    fn what_a_client_names_and_is_not_there_counts_against_who_asks_and_our_own_faults_do_not() {
        let away = ClientError::Unreachable { temporary: true, detail: "it does not answer".to_owned() };
        assert!(denied(AuthenticateError::Unavailable(away)).is_wrong());
        assert!(denied(AuthenticateError::Stranger).is_wrong());
        let exceeded = Exceeded { limit: Limit::Ip, retry_after: Duration::from_secs(5) };
        for ours in [ClientError::Store(StoreError::Stale), ClientError::Busy, ClientError::TooMany(exceeded)] {
            assert!(!denied(AuthenticateError::Unavailable(ours)).is_wrong());
        }
    }
}
