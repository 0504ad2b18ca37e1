use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::net::tests::data;

const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00:00 UTC);
const TOKEN_ENDPOINT: &str = "https://gateway.example/oauth/token";
const ISSUER: &str = "https://gateway.example";

fn key() -> EncodingKey {
    EncodingKey::from_ec_pem(&std::fs::read(data("server.key")).unwrap()).unwrap()
}

fn keys(kid: Option<&str>) -> JwkSet {
    let mut key = Jwk::from_encoding_key(&key(), Algorithm::ES256).unwrap();
    key.common.key_id = kid.map(str::to_owned);
    JwkSet { keys: vec![key] }
}

fn claims() -> Value {
    let now = NOW.unix_timestamp();
    json!({"iss": "bot", "sub": "bot", "aud": TOKEN_ENDPOINT, "iat": now, "exp": now + 300, "jti": "1"})
}

fn signed(claims: &Value) -> String {
    encode(&Header { kid: Some("a".into()), ..Header::new(Algorithm::ES256) }, claims, &key()).unwrap()
}

fn prove(text: &str, keys: &JwkSet) -> Result<Proved, &'static str> {
    Unproved::read(text)?.prove(keys, &[TOKEN_ENDPOINT, ISSUER], NOW)
}

#[test]
fn an_assertion_holds_that_is_signed_for_us_and_for_now() {
    let text = signed(&claims());
    assert_eq!(Unproved::read(&text).unwrap().client_id, "bot");
    let proved = prove(&text, &keys(Some("a"))).unwrap();
    assert_eq!(proved.until, NOW + Duration::from_mins(6));
    assert!(prove(&text, &keys(None)).is_ok(), "a key without an id may be the one");
    let mut other = claims();
    other["jti"] = "2".into();
    assert_ne!(prove(&signed(&other), &keys(None)).unwrap().hash, proved.hash);
    let mut to_issuer = claims();
    to_issuer["aud"] = json!([ISSUER]);
    assert!(prove(&signed(&to_issuer), &keys(None)).is_ok());
}

#[test]
fn an_assertion_that_says_something_else_does_not_hold() {
    let now = NOW.unix_timestamp();
    for (name, value, why) in [
        ("iss", json!("other"), "issuer"),
        ("aud", json!("https://other.example/token"), "audience"),
        ("aud", json!([TOKEN_ENDPOINT, "https://other.example/token"]), "audience"),
        ("aud", json!([]), "audience"),
        ("aud", json!(format!("{TOKEN_ENDPOINT}/")), "audience"),
        ("exp", json!(now - 60), "expiry"),
        ("exp", json!(now + 11 * 60 + 1), "expiry"),
        ("exp", json!(1e300), "expiry"),
        ("exp", json!(253_402_300_799_i64), "expiry"),
        ("exp", json!("soon"), "signature"),
        ("nbf", json!(now + 61), "not yet"),
        ("iat", json!(now + 61), "not yet"),
        ("jti", json!(""), "jti"),
        ("jti", json!("x".repeat(257)), "jti"),
        ("jti", Value::Null, "signature"),
        ("sub", Value::Null, "malformed"),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        assert_eq!(prove(&signed(&claims), &keys(None)).unwrap_err(), why, "{name}: {value}");
    }
    for missing in ["iss", "aud", "exp", "jti"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        assert_eq!(prove(&signed(&claims), &keys(None)).unwrap_err(), "signature", "{missing}");
    }
}

#[test]
fn an_assertion_that_the_clients_key_did_not_sign_does_not_hold() {
    let text = signed(&claims());
    assert_eq!(prove(&text, &keys(Some("b"))).unwrap_err(), "signature", "another key by its id");
    let (rest, signature) = text.rsplit_once('.').unwrap();
    let bent = format!("{rest}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]);
    assert_eq!(prove(&bent, &keys(None)).unwrap_err(), "signature");
    assert_eq!(prove(&format!("{rest}."), &keys(None)).unwrap_err(), "signature");

    let public = serde_json::to_vec(&keys(None).keys[0]).unwrap();
    let symmetric = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(&public)).unwrap();
    assert_eq!(prove(&symmetric, &keys(None)).unwrap_err(), "algorithm");
    let unsigned = format!("{}.{}.", "eyJhbGciOiJub25lIn0", rest.split('.').nth(1).unwrap());
    assert_eq!(prove(&unsigned, &keys(None)).unwrap_err(), "malformed");
    for garbage in ["", ".", "..", "a.b.c", &"a".repeat(LONGEST + 1)] {
        assert!(prove(garbage, &keys(None)).is_err(), "{garbage}");
    }
}
