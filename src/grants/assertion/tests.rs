use jsonwebtoken::jwk::Jwk;
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

fn public(kid: Option<&str>) -> Value {
    let mut key = Jwk::from_encoding_key(&key(), Algorithm::ES256).unwrap();
    key.common.key_id = kid.map(str::to_owned);
    serde_json::to_value(key).unwrap()
}

fn keys(kid: Option<&str>) -> KeySet {
    KeySet::read(&[public(kid)])
}

fn claims() -> Value {
    let now = NOW.unix_timestamp();
    json!({"iss": "bot", "sub": "bot", "aud": TOKEN_ENDPOINT, "iat": now, "exp": now + 300, "jti": "1"})
}

fn signed(claims: &Value) -> String {
    encode(&Header { kid: Some("a".into()), ..Header::new(Algorithm::ES256) }, claims, &key()).unwrap()
}

const RULES: Rules<'_> =
    Rules { kind: Kind::ClientProof, issuer: "bot", audiences: &[TOKEN_ENDPOINT, ISSUER], algorithms: &ALGORITHMS };

fn prove(text: &str, keys: &KeySet) -> Result<Proved, &'static str> {
    Unproved::read(text)?.prove(keys, &RULES, NOW)
}

#[test]
fn an_assertion_holds_that_is_signed_for_us_and_for_now() {
    let text = signed(&claims());
    assert_eq!(Unproved::read(&text).unwrap().subject, "bot");
    let proved = prove(&text, &keys(Some("a"))).unwrap();
    assert_eq!(proved.until, NOW + Duration::from_mins(6));
    assert!(prove(&text, &keys(None)).is_ok(), "a key without an id may be the one");
    let mut other = claims();
    other["jti"] = "2".into();
    assert_ne!(prove(&signed(&other), &keys(None)).unwrap().hash(), proved.hash());
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
        ("nbf", json!(now + 61), "not_yet"),
        ("iat", json!(now + 61), "not_yet"),
        ("jti", json!(""), "jti"),
        ("jti", json!("x".repeat(257)), "jti"),
        ("jti", Value::Null, "jti"),
        ("sub", Value::Null, "malformed"),
    ] {
        let mut claims = claims();
        claims[name] = value.clone();
        assert_eq!(prove(&signed(&claims), &keys(None)).unwrap_err(), why, "{name}: {value}");
    }
    for (missing, why) in [("iss", "malformed"), ("aud", "signature"), ("exp", "signature"), ("jti", "jti")] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        assert_eq!(prove(&signed(&claims), &keys(None)).unwrap_err(), why, "{missing}");
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

    let public = serde_json::to_vec(&public(None)).unwrap();
    let symmetric = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(&public)).unwrap();
    assert_eq!(prove(&symmetric, &keys(None)).unwrap_err(), "algorithm");
    let unsigned = format!("{}.{}.", "eyJhbGciOiJub25lIn0", rest.split('.').nth(1).unwrap());
    assert_eq!(prove(&unsigned, &keys(None)).unwrap_err(), "malformed");
    for garbage in ["", ".", "..", "a.b.c", &"a".repeat(LONGEST + 1)] {
        assert!(prove(garbage, &keys(None)).is_err(), "{garbage}");
    }
}

/// Signed with this type in its header.
fn typed(typ: Option<&str>, claims: &Value) -> String {
    let header = Header { typ: typ.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    encode(&header, claims, &key()).unwrap()
}

#[test]
fn one_kind_of_assertion_never_passes_for_another() {
    let jag = Some("oauth-id-jag+jwt");
    for (kind, typ, holds) in [
        (Kind::IdJag, jag, true),
        (Kind::IdJag, Some("application/OAuth-ID-JAG+JWT"), true),
        (Kind::IdJag, Some("JWT"), false),
        (Kind::IdJag, Some("id-jag+jwt"), false),
        (Kind::IdJag, None, false),
        (Kind::Workload, None, true),
        (Kind::Workload, Some("JWT"), true),
        (Kind::Workload, Some("at+jwt"), false),
        (Kind::Workload, jag, false),
        (Kind::ClientProof, Some("JWT"), true),
        (Kind::ClientProof, None, true),
        (Kind::ClientProof, Some("client-authentication+jwt"), true),
        (Kind::ClientProof, Some("application/Client-Authentication+JWT"), true),
        (Kind::ClientProof, Some("at+jwt"), false),
        (Kind::ClientProof, Some("mcp-identity+jwt"), false),
        (Kind::ClientProof, Some(""), false),
        (Kind::ClientProof, jag, false),
    ] {
        let text = typed(typ, &claims());
        let proved = Unproved::read(&text).unwrap().prove(&keys(None), &Rules { kind, ..RULES }, NOW);
        assert_eq!(proved.err(), (!holds).then_some("type"), "{kind:?} {typ:?}");
    }
}

#[test]
fn how_long_and_how_often_is_by_the_kind() {
    let now = NOW.unix_timestamp();
    let holds = |kind, typ, change: Value| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Unproved::read(&typed(typ, &claims)).unwrap().prove(&keys(None), &Rules { kind, ..RULES }, NOW).err()
    };
    let jag = |change| holds(Kind::IdJag, Some("oauth-id-jag+jwt"), change);
    let workload = |change| holds(Kind::Workload, None, change);
    assert_eq!(jag(json!({"exp": now + 660})), None);
    assert_eq!(jag(json!({"exp": now + 661})), Some("expiry"));
    assert_eq!((jag(json!({"jti": ""})), jag(json!({"jti": null}))), (Some("jti"), Some("jti")));
    assert_eq!(jag(json!({"iat": null})), Some("iat"));
    assert_eq!(workload(json!({"exp": now + 86_460, "jti": null, "iat": null})), None);
    assert_eq!(workload(json!({"exp": now + 86_461})), Some("expiry"));
    assert_eq!(workload(json!({"exp": now - 60})), Some("expiry"));
}

#[test]
fn algorithms_and_keys_are_those_of_the_issuer() {
    let text = signed(&claims());
    let unproved = Unproved::read(&text).unwrap();
    let narrow = Rules { algorithms: &[Algorithm::RS256], ..RULES };
    assert_eq!(unproved.prove(&keys(None), &narrow, NOW).unwrap_err(), "algorithm");
    for (issuer, holds) in
        [("bot", true), ("https://login.example/{tenantid}/v2.0", true), ("https://other.example", false)]
    {
        let mut key = public(None);
        key["issuer"] = issuer.into();
        assert_eq!(unproved.prove(&KeySet::read(&[key]), &RULES, NOW).is_ok(), holds, "{issuer}");
    }
    let header = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::ES256) };
    let critical = encode(&header, &claims(), &key()).unwrap();
    assert_eq!(Unproved::read(&critical).unwrap_err(), "crit");
}
