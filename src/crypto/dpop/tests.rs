use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::jwk::Jwk;
use serde_json::json;

use super::*;

const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00:00 UTC);
const ADDRESS: &str = "https://gateway.example/mcp";
const TOKEN: &str = "mcpg_at_example";

/// The examples of RFC 9449: a proof for the token endpoint (figure 2), one at a resource (figure 13) with its token, and the key's
/// thumbprint (figure 9).
const OF_TOKEN_REQUEST: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
const OF_RESOURCE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
const ITS_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const ITS_KEY: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

fn key() -> EncodingKey {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/testdata/server.key");
    EncodingKey::from_ec_pem(&std::fs::read(file).unwrap()).unwrap()
}

fn public() -> Value {
    let jwk = Jwk::from_encoding_key(&key(), Algorithm::ES256).unwrap();
    let jwk = serde_json::to_value(jwk).unwrap();
    json!({"kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "y": jwk["y"]})
}

/// One by our key, with these members in place of the right ones; null leaves one out.
fn proof(head: &Value, claims: &Value) -> String {
    signed(&key(), Algorithm::ES256, head, claims)
}

fn signed(key: &EncodingKey, algorithm: Algorithm, head: &Value, claims: &Value) -> String {
    let with = |mut value: Value, more: &Value| {
        let members = value.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        members.retain(|_, value| !value.is_null());
        URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let ath = URL_SAFE_NO_PAD.encode(hash_token(TOKEN));
    let claims =
        with(json!({"jti": "1", "htm": "POST", "htu": ADDRESS, "iat": NOW.unix_timestamp(), "ath": ath}), claims);
    let text = format!("{}.{claims}", with(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": public()}), head));
    format!("{text}.{}", sign(text.as_bytes(), key, algorithm).unwrap())
}

const WANTED: Wanted<'_> = Wanted { method: "POST", address: ADDRESS, token: Some(TOKEN), key: None };

fn checked(text: &str) -> Result<Proved, BadProof> {
    check(text, &WANTED, NOW)
}

#[test]
fn the_examples_of_the_specification_hold() {
    let key = thumbprint_of(ITS_KEY).unwrap();
    let at = |second| OffsetDateTime::from_unix_timestamp(second).unwrap();
    let wanted = Wanted { method: "POST", address: "https://server.example.com/token", token: None, key: Some(&key) };
    let first = check(OF_TOKEN_REQUEST, &wanted, at(1_562_262_616)).unwrap();
    assert_eq!(first.key, key);
    let address = "https://resource.example.org/protectedresource";
    let wanted = Wanted { method: "GET", address, token: Some(ITS_TOKEN), key: Some(&key) };
    let second = check(OF_RESOURCE, &wanted, at(1_562_262_620)).unwrap();
    assert_eq!((second.key, second.id == first.id), (key, false));
    assert_eq!(check(OF_RESOURCE, &wanted, at(1_562_263_000)), Err(BadProof::Time));
    assert_eq!(
        check(OF_RESOURCE, &Wanted { token: Some("another"), ..wanted }, at(1_562_262_620)),
        Err(BadProof::Token)
    );
    // The example of RFC 7638 section 3.1.
    let rsa = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "n":
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
    assert_eq!(thumbprint(&rsa), thumbprint_of("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
}

#[test]
fn a_proof_that_lacks_one_thing_is_told_which() {
    let none = json!({});
    checked(&proof(&none, &none)).unwrap();
    let at = NOW.unix_timestamp();
    let private = {
        let mut jwk = public();
        jwk["d"] = json!("AAAA");
        jwk
    };
    let of_rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"});
    for (head, expected) in [
        (json!({"typ": null}), BadProof::Type),
        (json!({"typ": "JWT"}), BadProof::Type),
        (json!({"alg": null}), BadProof::Algorithm),
        (json!({"alg": "none"}), BadProof::Algorithm),
        (json!({"alg": "HS256"}), BadProof::Algorithm),
        (json!({"alg": "RS512"}), BadProof::Algorithm),
        (json!({"alg": "RS256"}), BadProof::Key),
        (json!({"jwk": null}), BadProof::Key),
        (json!({"jwk": private}), BadProof::Key),
        (json!({"jwk": of_rsa, "alg": "RS256"}), BadProof::Key),
        (json!({"jwk": {"kty": "oct", "k": "AAAA"}}), BadProof::Key),
        (json!({"jwk": {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}}), BadProof::Signature),
        (json!({"crit": ["b64"]}), BadProof::Malformed),
        (json!({"kid": "x".repeat(4096)}), BadProof::Malformed),
    ] {
        assert_eq!(checked(&proof(&head, &none)), Err(expected), "{head}");
    }
    for (claims, expected) in [
        (json!({"jti": null}), BadProof::Id),
        (json!({"jti": ""}), BadProof::Id),
        (json!({"jti": "x".repeat(257)}), BadProof::Id),
        (json!({"htm": null}), BadProof::Method),
        (json!({"htm": "GET"}), BadProof::Method),
        (json!({"htm": "post"}), BadProof::Method),
        (json!({"htu": null}), BadProof::Address),
        (json!({"htu": "https://gateway.example/mcp/files"}), BadProof::Address),
        (json!({"htu": "https://other.example/mcp"}), BadProof::Address),
        (json!({"htu": "http://gateway.example/mcp"}), BadProof::Address),
        (json!({"htu": "https://gateway.example:8443/mcp"}), BadProof::Address),
        (json!({"htu": "https://me@gateway.example/mcp"}), BadProof::Address),
        (json!({"htu": "/mcp"}), BadProof::Address),
        (json!({"iat": null}), BadProof::Time),
        (json!({"iat": at - 301}), BadProof::Time),
        (json!({"iat": at + 301}), BadProof::Time),
        (json!({"iat": at * 1_000}), BadProof::Time),
        (json!({"ath": null}), BadProof::Token),
        (json!({"ath": URL_SAFE_NO_PAD.encode(hash_token("another"))}), BadProof::Token),
    ] {
        assert_eq!(checked(&proof(&none, &claims)), Err(expected), "{claims}");
    }
    let good = proof(&none, &none);
    let [head, claims, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = proof(&none, &json!({"jti": "2"}));
    let twice = URL_SAFE_NO_PAD.encode(format!(r#"{{"typ":"JWT","typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, public()));
    for (text, expected) in [
        (String::new(), BadProof::Malformed),
        ("a.b.c".to_owned(), BadProof::Malformed),
        (format!("{head}.{claims}"), BadProof::Malformed),
        (format!("{good}.{signature}"), BadProof::Malformed),
        (format!("{twice}.{claims}.{signature}"), BadProof::Malformed),
        (format!("{head}.{claims}."), BadProof::Signature),
        (format!("{head}.{}.{signature}", other.split('.').nth(1).unwrap()), BadProof::Signature),
    ] {
        assert_eq!(checked(&text), Err(expected), "{text}");
    }
    assert_eq!(check(&good, &Wanted { key: Some(&[7; 32]), ..WANTED }, NOW), Err(BadProof::OtherKey));
}

#[test]
fn a_proof_of_which_a_letter_is_another_is_none() {
    let good = proof(&json!({}), &json!({}));
    let known = checked(&good).unwrap();
    for at in 0..good.len() {
        let mut bent = good.clone();
        bent.replace_range(at..=at, if &good[at..=at] == "A" { "B" } else { "A" });
        // A last letter of base64url has bits that say nothing.
        assert!(checked(&bent).map_or(true, |proved| proved == known), "letter {at}: {bent}");
    }
}

#[test]
fn each_way_to_sign_that_is_promised_is_taken() {
    let pem = |der: &[u8]| {
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der)).into_bytes()
    };
    let rsa: Pkcs8V1Der<'static> = KeyPair::generate(KeySize::Rsa2048).unwrap().as_der().unwrap();
    let rsa = EncodingKey::from_rsa_pem(&pem(rsa.as_ref())).unwrap();
    let edwards = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
    let edwards = EncodingKey::from_ed_pem(&pem(edwards.as_ref())).unwrap();
    for algorithm in ALGORITHMS {
        let key = match algorithm {
            Algorithm::ES256 => &key(),
            Algorithm::EdDSA => &edwards,
            _ => &rsa,
        };
        let jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
        let head = json!({"alg": format!("{algorithm:?}"), "jwk": jwk});
        let proved = checked(&signed(key, algorithm, &head, &json!({}))).unwrap();
        assert_eq!(Some(proved.key), thumbprint(&jwk), "{algorithm:?}");
    }
}

#[test]
fn an_address_is_the_same_however_it_is_written() {
    let near = NOW.unix_timestamp();
    for claims in [
        json!({"htu": "HTTPS://Gateway.Example:443/mcp"}),
        json!({"htu": "https://gateway.example/./mcp?a=b#c"}),
        json!({"iat": near - 300}),
        json!({"iat": near + 300}),
        json!({"nonce": "not asked for", "exp": near - 3_600}),
    ] {
        checked(&proof(&json!({}), &claims)).unwrap_or_else(|bad| panic!("{claims}: {bad}"));
    }
    let id = |jti: &str| checked(&proof(&json!({}), &json!({ "jti": jti }))).unwrap().id;
    assert!(id("a") == id("a") && id("a") != id("b"));
}
