//! What a failed answer means: every example of Entra's, in the order of decision.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use serde_json::{Value, json};
use time::macros::datetime;

use super::super::classify::{at_callback, classify};
use super::super::{Class, IdpError};
use super::fake::Reply;
use super::world::{CLIENT, SECRET, TENANT, World, impatient, now};
use crate::net::Answer;

const TEMPORARY: Class = Class::Temporary { retry_after: None };
const INTERACTION: Class = Class::NeedsInteraction { claims: None };

fn answer(status: u16, body: &str, retry_after: Option<&'static str>) -> IdpError {
    let mut headers = HeaderMap::new();
    if let Some(text) = retry_after {
        headers.insert(RETRY_AFTER, text.parse().unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    let body = Bytes::copy_from_slice(body.as_bytes());
    classify(&Answer { status, headers, body, took: Duration::ZERO }, datetime!(2026-01-01 00:00:00 UTC))
}

fn of(status: u16, error: &str, code: u64, more: &Value) -> Class {
    let mut body = json!({
        "error": error, "error_codes": [code], "error_description": format!("AADSTS{code}: Words.\r\nTrace ID: t"),
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let error = answer(status, &body.to_string(), None);
    assert_eq!(error.code, Some(format!("AADSTS{code}")));
    error.class
}

#[test]
fn the_status_decides_first() {
    let wait = |seconds| Class::Temporary { retry_after: Some(Duration::from_secs(seconds)) };
    for (status, body, retry_after, class) in [
        (429, "Too Many Requests", Some("60"), wait(60)),
        (429, "{}", Some("Thu, 01 Jan 2026 00:00:30 GMT"), wait(30)),
        (429, r#"{"error":"invalid_grant","error_codes":[700082],"suberror":"bad_token"}"#, None, TEMPORARY),
        (500, r#"{"error":"invalid_client"}"#, None, TEMPORARY),
        (503, r#"{"error":"invalid_grant","claims":"{}"}"#, Some("7"), wait(7)),
        (504, "<html>", Some("soon"), TEMPORARY),
    ] {
        assert_eq!(answer(status, body, retry_after).class, class, "{status} {body}");
    }
}

#[test]
fn then_a_claims_challenge_then_the_suberror_then_the_error() {
    let claims = r#"{"access_token":{"capolids":{"essential":true}}}"#;
    let challenged = Class::NeedsInteraction { claims: Some(claims.to_owned()) };
    let none = json!({});
    for (status, error, code, more, class) in [
        // Claims, whatever the rest says.
        (400, "interaction_required", 50_076, json!({"claims": claims}), challenged.clone()),
        (400, "invalid_grant", 50_079, json!({"claims": claims, "suberror": "basic_action"}), challenged.clone()),
        (400, "invalid_grant", 53_003, json!({"claims": claims, "suberror": "bad_token"}), challenged.clone()),
        (401, "invalid_client", 7_000_222, json!({"claims": claims}), challenged.clone()),
        (400, "invalid_grant", 50_074, json!({"claims": serde_json::from_str::<Value>(claims).unwrap()}), challenged),
        (400, "invalid_grant", 50_076, json!({"claims": ""}), INTERACTION),
        (400, "invalid_grant", 50_076, json!({"claims": null}), INTERACTION),
        (400, "invalid_grant", 50_076, json!({"claims": "x".repeat(9000)}), INTERACTION),
        // The suberror, whatever error and code say.
        (400, "invalid_grant", 65_001, json!({"suberror": "consent_required"}), Class::ConsentMissing),
        (400, "invalid_grant", 700_082, json!({"suberror": "bad_token"}), Class::Dead),
        (400, "invalid_grant", 70_043, json!({"suberror": "token_expired"}), Class::Dead),
        (400, "interaction_required", 1, json!({"suberror": "bad_token"}), Class::Dead),
        (400, "invalid_grant", 700_082, json!({"suberror": "basic_action"}), INTERACTION),
        (400, "invalid_grant", 50_076, json!({"suberror": "additional_action"}), INTERACTION),
        (400, "interaction_required", 53_003, json!({"suberror": "message_only"}), INTERACTION),
        (400, "invalid_grant", 50_055, json!({"suberror": "user_password_expired"}), INTERACTION),
        (400, "invalid_grant", 50_097, json!({"suberror": "device_authentication_failed"}), INTERACTION),
        (400, "invalid_grant", 53_005, json!({"suberror": "protection_policy_required"}), Class::Refused),
        (400, "invalid_grant", 70_000, json!({"suberror": "client_mismatch"}), Class::Configuration),
        (401, "invalid_client", 7_000_222, json!({"suberror": "never_heard_of"}), Class::OurCredential),
        // Our own credential.
        (401, "invalid_client", 7_000_215, none.clone(), Class::OurCredential),
        (401, "invalid_client", 700_027, none.clone(), Class::OurCredential),
        (400, "unauthorized_client", 700_016, none.clone(), Class::OurCredential),
        (401, "invalid_client", 50_173, none.clone(), Class::OurCredential),
        // The person.
        (400, "interaction_required", 50_076, none.clone(), INTERACTION),
        (400, "login_required", 50_058, none.clone(), INTERACTION),
        (400, "consent_required", 1, none.clone(), INTERACTION),
        (400, "invalid_grant", 50_076, none.clone(), INTERACTION),
        (400, "invalid_grant", 54_005, none.clone(), INTERACTION),
        (400, "invalid_grant", 987_654_321, none.clone(), INTERACTION),
        // What a number makes of that.
        (400, "invalid_grant", 700_082, none.clone(), Class::Dead),
        (400, "invalid_grant", 50_173, none.clone(), Class::Dead),
        (400, "invalid_grant", 50_057, none.clone(), Class::Dead),
        (400, "invalid_grant", 70_008, none.clone(), Class::Dead),
        (400, "invalid_grant", 70_043, none.clone(), Class::Dead),
        (400, "invalid_grant", 70_000, none.clone(), Class::Dead),
        (400, "invalid_grant", 50_196, none.clone(), Class::Loop),
        (400, "invalid_grant", 65_001, none.clone(), Class::ConsentMissing),
        (400, "invalid_grant", 50_105, none.clone(), Class::Refused),
        // The rest is an operator's.
        (400, "invalid_resource", 500_011, none.clone(), Class::Configuration),
        (400, "invalid_resource", 650_057, none.clone(), Class::Configuration),
        (400, "invalid_target", 9_010_010, none.clone(), Class::Configuration),
        (400, "invalid_scope", 70_011, none.clone(), Class::Configuration),
        (400, "invalid_request", 90_009, none.clone(), Class::Configuration),
        (400, "invalid_request", 28_000, none.clone(), Class::Configuration),
        (400, "invalid_request", 50_011, none.clone(), Class::Configuration),
        (400, "invalid_request", 50_194, none.clone(), Class::Configuration),
        (400, "invalid_request", 700_082, none.clone(), Class::Configuration),
        (400, "invalid_request", 50_020, none.clone(), Class::Refused),
        (403, "access_denied", 50_105, none.clone(), Class::Refused),
        (400, "access_denied", 90_094, none.clone(), Class::ConsentMissing),
        (400, "temporarily_unavailable", 90_033, none, TEMPORARY),
    ] {
        assert_eq!(of(status, error, code, &more), class, "{error} {code} {more}");
    }
    assert_eq!(answer(400, "not JSON", None).class, Class::Configuration);
    let odd = r#"{"error":"invalid_grant","error_description":null,"error_codes":["700082"],"suberror":7}"#;
    assert_eq!(answer(400, odd, None).class, INTERACTION, "a field of another form is as good as none");
    assert_eq!(answer(302, "", None).class, Class::Configuration);
}

#[test]
fn an_error_at_the_callback_is_read_by_the_same_rules() {
    let said = |error, text| at_callback(error, Some(text));
    let consent =
        said("access_denied", "AADSTS90094: Administrator consent is required.\r\nTrace ID: 7-t\r\nTimestamp: x");
    assert_eq!((consent.class.clone(), consent.trace_id.as_deref()), (Class::ConsentMissing, Some("7-t")));
    assert_eq!(consent.code.as_deref(), Some("AADSTS90094"));
    assert!(consent.explained().unwrap().advice.contains("consent"));
    assert!(consent.detail.ends_with("access_denied: AADSTS90094: Administrator consent is required."));
    assert_eq!(said("access_denied", "AADSTS65004: Declined.").class, Class::Refused);
    assert_eq!(at_callback("access_denied", None).class, Class::Refused);
    assert_eq!(at_callback("login_required", None).class, INTERACTION);
    assert_eq!(at_callback("server_error", None).class, TEMPORARY);
    let odd = at_callback("x\r\ny\u{1b}[0m", Some(&"AADSTS".repeat(500)));
    assert!(odd.detail.len() < 700 && !odd.detail.contains(char::is_control), "{}", odd.detail);
    assert_eq!((odd.class, odd.code), (Class::Configuration, None));
}

#[tokio::test]
async fn an_ill_provider_is_a_passing_thing() {
    let world = World::entra().await;
    let trace = vec![("x-ms-request-id", "trace-of-the-header".to_owned()), ("retry-after", "3".to_owned())];
    world.fake.always(&world.token_path(), Reply::Answer { status: 503, headers: trace, body: "busy".to_owned() });
    let error = world.redeem().await.unwrap_err();
    assert_eq!(error.class, Class::Temporary { retry_after: Some(Duration::from_secs(3)) });
    assert_eq!(error.trace_id.as_deref(), Some("trace-of-the-header"));
    for reply in [
        Reply::Drop,
        Reply::json(200, &json!({"expires_in": []})),
        Reply::Answer { status: 200, headers: Vec::new(), body: " ".repeat(300 << 10) },
    ] {
        world.fake.always(&world.token_path(), reply);
        assert_eq!(world.redeem().await.unwrap_err().class, TEMPORARY);
    }
    world.fake.always(&world.token_path(), Reply::json(200, &json!({"access_token": "at"})));
    assert_eq!(world.redeem().await.unwrap_err().class, Class::Configuration, "no ID token is no sign-in");
    assert!(world.provider().credential_refused().is_none());
}

#[tokio::test]
async fn silence_is_a_passing_thing() {
    let mut world = World::entra().await;
    world.providers = impatient(&[
        "--azure-tenant-id",
        TENANT,
        "--azure-client-id",
        CLIENT,
        "--azure-client-secret",
        SECRET,
        "--azure-authority",
        &world.fake.base,
    ]);
    world.fake.always(&world.token_path(), Reply::Silence);
    assert_eq!(world.redeem().await.unwrap_err().class, TEMPORARY);
}

#[tokio::test]
async fn nobody_asks_a_provider_that_throttles_until_it_may_be_asked() {
    let world = World::entra().await;
    let reply = Reply::Answer {
        status: 429,
        headers: vec![("retry-after", "60".to_owned())],
        body: "Too Many Requests".to_owned(),
    };
    world.fake.always(&world.token_path(), reply);
    let waits = |error: IdpError| match error.class {
        Class::Temporary { retry_after: Some(left) } => left,
        other => panic!("{other:?}"),
    };
    let first = waits(world.redeem().await.unwrap_err());
    let again = waits(world.redeem().await.unwrap_err());
    assert!(again <= first && first == Duration::from_mins(1));
    assert_eq!(world.fake.asked(&world.token_path()).len(), 1);
}

#[tokio::test]
async fn what_was_sent_never_shows_in_an_error() {
    let world = World::entra().await;
    world.fake.on(&world.token_path(), |asked| {
        let text = format!("AADSTS9002313: You sent {}\r\nTrace ID: t-1", asked.body);
        Reply::json(400, &json!({"error": "invalid_request", "error_description": text, "trace_id": "t-1"}))
    });
    let error = world.redeem().await.unwrap_err();
    assert_eq!(error.trace_id.as_deref(), Some("t-1"));
    for secret in [SECRET, "the-code-to-redeem", "the-verifier"] {
        assert!(!format!("{error:?}").contains(secret), "{error:?}");
    }
    let broken = json!({"access_token": {"the-access-token": 1}});
    world.fake.always(&world.token_path(), Reply::json(200, &broken));
    let error = world.redeem().await.unwrap_err();
    assert!(!format!("{error:?}").contains("the-access-token"), "{error:?}");
    let tokens = super::super::ProviderTokens {
        access: Some(crate::secret::Secret::new("the-access-token")),
        refresh: crate::secret::Secret::new("the-refresh-token"),
        expires_at: now(),
        scopes: Vec::new(),
        subject: String::new(),
    };
    assert!(!format!("{tokens:?}").contains("the-access-token"));
}
