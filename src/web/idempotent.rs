//! What is asked for with an `Idempotency-Key` is done once, however often and at whichever replica it is asked for
//! (draft-ietf-httpapi-idempotency-key-header): a repeat gets the first answer. A key is of one credential, in one role and of one extent,
//! one path and one body: of who may less by now it is another one.
//!
//! An answer that holds a secret is not kept, not even sealed: a new key or secret is shown once, and what is nowhere cannot be
//! read later. A repeat is told that it was done, and where. What was refused changed nothing: a repeat tries again. What failed may
//! have been done before it failed: a repeat is told so, and does nothing.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::access::{Caller, Role};
use crate::app::App;
use crate::id::TenantId;
use crate::store::idempotency::{AskedRow, Asking, Claim, Headers, KEPT, Most};
use crate::store::{micros, now};
use crate::web::answer::ShownOnce;
use crate::web::body;
use crate::web::describe::Told;
use crate::web::json::{MAX_BODY, unread};
use crate::web::problem::Problem;

/// The header of a request.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in characters.
const LONGEST: usize = 255;
/// After this long, whoever began it is gone with its process.
const GIVEN_UP: Duration = Duration::from_mins(10);
/// Most keys within a day.
const MOST: Most = Most { of_account: 1_000, of_tenant: 10_000 };
/// Largest answer that is kept, bytes.
const LARGEST: usize = 16 * 1024;
/// Headers that are kept with it.
const HEADERS: [HeaderName; 4] = [CONTENT_TYPE, ETAG, LOCATION, CACHE_CONTROL];

/// Says that a call takes a key.
pub fn describe(told: &mut Told) {
    let what = "A name of your own for this request: asked for again with it within a day, it is not done again, and the first answer \
                comes once more. If the first failed with a 5xx, a repeat is answered 409 `OUTCOME_UNKNOWN`.";
    told.takes_header("Idempotency-Key", what, &json!({ "type": "string", "minLength": 1, "maxLength": LONGEST }));
}

/// The layer of a call that takes this role.
pub async fn once(State((app, role)): State<(App, Role)>, request: Request, next: Next) -> Response {
    let Some(key) = request.headers().get(&KEY).cloned() else { return next.run(request).await };
    match guarded(app, role, key, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn guarded(app: App, role: Role, key: HeaderValue, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &app).await?;
    // The handler finds who calls, and does not ask again: a proof is good once.
    parts.extensions.insert(caller.clone());
    if caller.role() < role {
        // It is refused, and nothing more of it is read.
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let key = read(&key)?;
    let bytes = body::read_at_most(body, MAX_BODY).await.map_err(unread)?;
    let path = parts.uri.path().to_owned();
    let extent = serde_json::to_vec(caller.scopes()).map_err(Problem::internal)?;
    let id = digest(&[
        caller.repeats_as().as_bytes(),
        caller.role().as_str().as_bytes(),
        &extent,
        path.as_bytes(),
        key.as_bytes(),
    ]);
    // Not of the body alone: what lies in the database would tell a guessed password from another.
    let fingerprint = digest(&[key.as_bytes(), &bytes]);
    let begun = micros(now());
    let ago = |span: Duration| begun - i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2);
    let tenant: TenantId = caller.tenant().clone();
    let asking = Asking { tenant: &tenant, user: caller.user_id().uuid() };
    match app.store.claim(asking, &id, &fingerprint, (begun, ago(KEPT)), MOST).await? {
        Claim::Full(oldest) => Err(full(oldest - ago(KEPT))),
        Claim::Held(row) => held(row, &fingerprint, ago(GIVEN_UP)),
        Claim::Won => {
            let request = Request::from_parts(parts, Body::from(bytes));
            // Goes on when the caller goes away: else nobody would know whether it was done.
            let run = {
                let app = app.clone();
                app.tasks.clone().spawn(async move {
                    // Caught here: the key is to stay.
                    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
                    let broken = |_| Problem::internal("a request handler panicked; this is a bug of the gateway");
                    let response = response.map_err(broken).unwrap_or_else(Problem::into_response);
                    answered(&app, &tenant, &id, begun, response).await
                })
            };
            run.await.map_err(Problem::internal)?
        }
    }
}

/// Keeps the answer, or lets go of the key where nothing was changed.
async fn answered(
    app: &App,
    tenant: &TenantId,
    id: &[u8],
    begun: i64,
    response: Response,
) -> Result<Response, Problem> {
    if response.status().is_client_error() {
        if let Err(error) = app.store.let_go(tenant, id, begun).await {
            tracing::error!(%error, "an idempotency key could not be let go");
        }
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = body::read(body).await.map_err(|_| Problem::internal("an answer could not be read"))?;
    let given = parts.status.is_success() && parts.extensions.get::<ShownOnce>().is_none();
    let kept = Some(&*bytes).filter(|bytes| given && bytes.len() <= LARGEST);
    let status = i64::from(parts.status.as_u16());
    if let Err(error) = app.store.keep_answer(tenant, id, begun, status, &headers(&parts.headers), kept).await {
        // It is done all the same: a repeat is told that nobody knows.
        tracing::error!(%error, "an answer could not be kept for a repeat");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn headers(all: &HeaderMap) -> Headers {
    let text = |name: &HeaderName| Some((name.as_str().to_owned(), all.get(name)?.to_str().ok()?.to_owned()));
    HEADERS.iter().filter_map(text).collect::<BTreeMap<_, _>>()
}

/// The answer to a repeat of what has no answer yet if it was begun since `given_up`.
fn held(row: AskedRow, fingerprint: &[u8], given_up: i64) -> Result<Response, Problem> {
    if row.fingerprint != fingerprint {
        let detail =
            "this Idempotency-Key was used for this path with another body; give each request a key of its own";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "IDEMPOTENCY_KEY_REUSED", detail));
    }
    let status = row.status.and_then(|status| StatusCode::from_u16(status.try_into().ok()?).ok());
    if status.map_or(row.begun_at < given_up, |status| !status.is_success()) {
        let detail = "the first request with this Idempotency-Key failed half-way, and may have been done or not; look at what is \
                      there, and if it was not, ask with a new key";
        return Err(Problem::new(StatusCode::CONFLICT, "OUTCOME_UNKNOWN", detail));
    }
    let Some(status) = status else {
        let detail = "the first request with this Idempotency-Key is still under way; ask again in a moment";
        return Err(Problem::new(StatusCode::CONFLICT, "IDEMPOTENCY_KEY_IN_USE", detail)
            .with_header(RETRY_AFTER, HeaderValue::from_static("1")));
    };
    let headers = row.headers.map(|headers| headers.0).unwrap_or_default();
    let Some(body) = row.body else {
        let place = headers.get(LOCATION.as_str()).map(|place| format!("; it is at {place}")).unwrap_or_default();
        let detail = format!(
            "this was done when it was first asked for, with status {status}, and its answer is not kept: it held what is shown \
             once, or was too long{place}"
        );
        return Err(Problem::new(StatusCode::CONFLICT, "ANSWER_NOT_KEPT", detail));
    };
    let mut response = (status, body).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    for (name, value) in &headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// The key: a string of a structured field (RFC 9651), or as it is.
fn read(value: &HeaderValue) -> Result<&str, Problem> {
    let text = value.to_str().unwrap_or_default().trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() || key.len() > LONGEST {
        let message = format!("must be 1 to {LONGEST} visible characters");
        return Err(Problem::field("Idempotency-Key", message));
    }
    Ok(key)
}

/// There is no room for so many microseconds.
fn full(left: i64) -> Problem {
    let Most { of_account, of_tenant } = MOST;
    let detail = format!(
        "{of_account} idempotency keys of the account, or {of_tenant} of the tenant, were used within a day; send this without one, or wait"
    );
    let seconds = left.max(0).unsigned_abs() / 1_000_000 + 1;
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_IDEMPOTENCY_KEYS", detail)
        .with_header(RETRY_AFTER, HeaderValue::from(seconds))
}

/// Of parts, each with its length before it.
fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_quoted_and_is_bounded() {
        let key = |text: &str| read(&HeaderValue::from_str(text).unwrap()).map(str::to_owned).ok();
        assert_eq!(key("8e03978e-40d5"), Some("8e03978e-40d5".into()));
        assert_eq!(key("\"8e03978e-40d5\""), Some("8e03978e-40d5".into()));
        assert_eq!(key(&"k".repeat(255)).map(|key| key.len()), Some(255));
        for wrong in ["", "\"\"", &"k".repeat(256), "k\u{e4}"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
