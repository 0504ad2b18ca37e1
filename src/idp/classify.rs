//! What a failed answer means, decided in one order: status, claims challenge, suberror, OAuth error (RFC 6749 section 5.2).
//! The provider's numbers only refine the last of these, because they change; its sentences are shown and never read.

use http::StatusCode;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::error::{Class, IdpError};
use crate::net::Answer;

/// Longest claims challenge that is kept, bytes.
const MAX_CLAIMS: usize = 8 << 10;
/// Most characters of a provider's own sentence that are shown.
const MAX_TEXT: usize = 300;

/// Refresh tokens that are of no use any more: not used for too long, revoked, of a disabled account.
const DEAD: [u64; 6] = [700_082, 50_173, 50_057, 70_008, 70_043, 70_000];
const NO_CONSENT: [u64; 2] = [65_001, 90_094];
const NOT_LET_IN: [u64; 3] = [50_105, 50_020, 65_004];
const LOOP: u64 = 50_196;

/// A failure, as far as it is read.
#[derive(Debug, Default)]
struct Body {
    error: String,
    error_description: String,
    error_codes: Vec<u64>,
    suberror: Option<String>,
    claims: Option<Value>,
    trace_id: Option<String>,
}

impl Body {
    /// Reads what is there; a field of another form than expected is as good as none.
    fn read(body: &[u8]) -> Self {
        let fields = serde_json::from_slice::<Map<String, Value>>(body).unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let codes = fields.get("error_codes").and_then(Value::as_array);
        Self {
            error: text("error").unwrap_or_default(),
            error_description: text("error_description").unwrap_or_default(),
            error_codes: codes.into_iter().flatten().filter_map(Value::as_u64).collect(),
            suberror: text("suberror"),
            claims: fields.get("claims").cloned(),
            trace_id: text("trace_id"),
        }
    }
}

/// Whether an answer names an error, whatever its status says.
pub(super) fn names_error(body: &[u8]) -> bool {
    !Body::read(body).error.is_empty()
}

/// What a failed answer of a provider's endpoint means.
pub(super) fn classify(answer: &Answer, now: OffsetDateTime) -> IdpError {
    classify_hiding(answer, &[], now)
}

/// The same without these texts, which an answer may repeat: they are taken out before anything is cut, or a part of one would be left.
pub(super) fn classify_hiding(answer: &Answer, hidden: &[&str], now: OffsetDateTime) -> IdpError {
    let mut body = Body::read(&answer.body);
    for text in [&mut body.error, &mut body.error_description].into_iter().chain(&mut body.trace_id) {
        for hidden in hidden {
            if text.contains(hidden) {
                *text = text.replace(hidden, "***");
            }
        }
    }
    let trace = body.trace_id.clone().or_else(|| {
        let id = answer.headers.get("x-ms-request-id")?.to_str().ok()?;
        Some(shown(id))
    });
    let status = answer.status;
    let class = if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Class::Temporary { retry_after: answer.retry_after(now) }
    } else {
        class_of(&body)
    };
    describe(&body, class, trace, &format!("the identity provider answered {}", status.as_u16()))
}

/// What an error means that the provider sent to the callback (RFC 6749 section 4.1.2.1).
pub(super) fn at_callback(error: &str, description: Option<&str>) -> IdpError {
    let body =
        Body { error: shown(error), error_description: description.unwrap_or_default().to_owned(), ..Body::default() };
    let class = class_of(&body);
    describe(&body, class, None, "the identity provider refused the sign-in")
}

fn class_of(body: &Body) -> Class {
    if let Some(claims) = challenge(body) {
        return Class::NeedsInteraction { claims: Some(claims) };
    }
    let interaction = Class::NeedsInteraction { claims: None };
    match body.suberror.as_deref() {
        Some("bad_token" | "token_expired") => return Class::Dead,
        Some("consent_required") => return Class::ConsentMissing,
        Some(
            "basic_action"
            | "additional_action"
            | "message_only"
            | "user_password_expired"
            | "device_authentication_failed",
        ) => return interaction,
        // A managed app on a managed device is asked for, which a gateway never is.
        Some("protection_policy_required") => return Class::Refused,
        Some("client_mismatch") => return Class::Configuration,
        _ => {}
    }
    let codes = codes(body);
    let has = |known: &[u64]| codes.iter().any(|code| known.contains(code));
    match body.error.as_str() {
        "invalid_client" | "unauthorized_client" => Class::OurCredential,
        "interaction_required" | "login_required" | "consent_required" | "invalid_grant" => {
            if has(&[LOOP]) {
                Class::Loop
            } else if has(&DEAD) {
                Class::Dead
            } else if has(&NO_CONSENT) {
                Class::ConsentMissing
            } else if has(&NOT_LET_IN) {
                Class::Refused
            } else {
                interaction
            }
        }
        "account_selection_required" => interaction,
        // GitHub's word for it.
        "bad_refresh_token" => Class::Dead,
        "temporarily_unavailable" | "server_error" => Class::Temporary { retry_after: None },
        _ if has(&NO_CONSENT) => Class::ConsentMissing,
        _ if has(&NOT_LET_IN) => Class::Refused,
        "access_denied" => Class::Refused,
        _ => Class::Configuration,
    }
}

/// The claims challenge: a text that holds JSON, or the JSON itself.
fn challenge(body: &Body) -> Option<String> {
    let claims = match body.claims.as_ref()? {
        Value::String(text) => text.clone(),
        Value::Null => return None,
        other => other.to_string(),
    };
    (!claims.is_empty() && claims.len() <= MAX_CLAIMS).then_some(claims)
}

/// The numbers of the error, also where only its description has one, as at the callback.
fn codes(body: &Body) -> Vec<u64> {
    if !body.error_codes.is_empty() {
        return body.error_codes.clone();
    }
    let text = body.error_description.strip_prefix("AADSTS").unwrap_or_default();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().into_iter().collect()
}

fn describe(body: &Body, class: Class, trace: Option<String>, what: &str) -> IdpError {
    let code = codes(body).first().map(|code| format!("AADSTS{code}"));
    let trace = trace.or_else(|| {
        let (_, rest) = body.error_description.split_once("Trace ID: ")?;
        rest.lines().next().map(shown)
    });
    let mut detail = what.to_owned();
    for part in [&body.error, body.error_description.lines().next().unwrap_or_default()] {
        if !part.is_empty() {
            detail.push_str(": ");
            detail.push_str(&shown(part));
        }
    }
    let error = Some(shown(&body.error)).filter(|error| !error.is_empty());
    IdpError { class, code, error, trace_id: trace.map(|id| shown(&id)), detail }
}

/// A foreign text, cut and without anything that could break a line.
pub(super) fn shown(text: &str) -> String {
    text.trim().chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
