//! Clients register themselves (RFC 7591), as far as the settings let them. Nothing is stored: the id that a client gets holds
//! what it said.

use axum::extract::Request;
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{UNKEPT, after, error};
use crate::app::App;
use crate::grants::Step;
use crate::grants::dynamic::{LARGEST_BODY, RegisterError};
use crate::store::now;
use crate::telemetry::Event;
use crate::web::Origin;
use crate::web::body::{self, BodyProblem};
use crate::web::caller::bearer;

/// `POST /oauth/register`.
pub(super) async fn register(app: App, origin: Origin, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (source, preludes) = (origin.address, app.grants.preludes());
    let refused = |reason: &'static str, text: String| {
        app.recorder.tell(Event { reason: Some(reason.into()), ..origin.event("auth.register", false) });
        preludes.note(source, Step::bad("register", reason, text, now()));
    };
    let body = match read(&parts.headers, body).await {
        Ok(body) => body,
        Err((status, text)) => {
            refused("invalid_client_metadata", text.to_owned());
            return error(status, "invalid_client_metadata", text);
        }
    };
    // The initial access token (RFC 7591 section 3), if one is shown.
    match app.clients.dynamic().register(&body, bearer(&parts.headers), source, now()) {
        Ok(registered) => {
            let client = Some(registered.client_id().into());
            app.recorder.tell(Event { client, ..origin.event("auth.register", true) });
            preludes.registered(source, registered.client_id(), registered.client_name(), now());
            (StatusCode::CREATED, UNKEPT, Json(registered)).into_response()
        }
        Err(error) => {
            if let RegisterError::TooMany(exceeded) = &error {
                app.throttled("", exceeded.limit);
            }
            refused(error.code(), error.to_string());
            refuse(&error)
        }
    }
}

async fn read(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes, (StatusCode, &'static str)> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err((StatusCode::BAD_REQUEST, "send the registration as JSON, with `Content-Type: application/json`"));
    }
    body::read_at_most(body, LARGEST_BODY).await.map_err(|problem| match problem {
        BodyProblem::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the registration is larger than 16384 bytes"),
        _ => (StatusCode::BAD_REQUEST, "the registration did not arrive whole"),
    })
}

fn refuse(refused: &RegisterError) -> Response {
    let status = match refused {
        RegisterError::Off => StatusCode::FORBIDDEN,
        RegisterError::Token => StatusCode::UNAUTHORIZED,
        RegisterError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        RegisterError::Bad(_) => StatusCode::BAD_REQUEST,
        RegisterError::Sealing => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = error(status, refused.code(), &refused.to_string());
    match refused {
        RegisterError::TooMany(exceeded) => {
            response.headers_mut().insert(RETRY_AFTER, after(exceeded.retry_after));
        }
        RegisterError::Token => {
            let challenge = "Bearer realm=\"mcp-gateway registration\", error=\"invalid_token\"";
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        _ => {}
    }
    response
}
