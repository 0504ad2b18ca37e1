use serde_json::{Value, json};

use super::*;
use crate::crypto::{MasterKey, Sealer};

const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00:00 UTC);

fn dynamic(mode: Registration, token: Option<&str>) -> Dynamic {
    let settings = config::Clients {
        registration: mode,
        registration_token: token.map(Secret::new),
        allowed_redirect_schemes: Vec::new(),
        metadata_hosts: Vec::new(),
    };
    Dynamic::new(&settings, &Ids::under(&Sealer::new(&MasterKey::generate())), Schemes::default())
}

fn open() -> Dynamic {
    dynamic(Registration::Open, None)
}

fn ip(number: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes())
}

fn register(dynamic: &Dynamic, body: &Value) -> Result<Value, RegisterError> {
    let registered = dynamic.register(body.to_string().as_bytes(), None, ip(1), NOW)?;
    Ok(serde_json::to_value(registered).unwrap())
}

#[test]
fn a_public_client_comes_back_with_an_id_that_holds_what_it_said() {
    let dynamic = open();
    let body = json!({
        "client_name": "Inspector", "redirect_uris": ["http://localhost:6274/oauth/callback"],
        "grant_types": ["authorization_code", "refresh_token", "implicit"], "response_types": ["code"],
        "scope": "mcp openid", "application_type": "native", "logo_uri": "https://evil.example/x.png",
    });
    let mut answer = register(&dynamic, &body).unwrap();
    let id = answer["client_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with(PREFIX) && id.len() < 400 && !id.contains("localhost"), "{id}");
    answer["client_id"] = Value::Null;
    let expected = json!({
        "client_id": null, "client_id_issued_at": NOW.unix_timestamp(), "client_name": "Inspector",
        "redirect_uris": ["http://localhost:6274/oauth/callback"], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "scope": "mcp",
        "application_type": "native",
    });
    assert_eq!(answer, expected);

    let client = dynamic.open(&id).unwrap();
    assert_eq!(
        (&*client.id, &*client.name, &client.known),
        (id.as_str(), "Inspector", &Known::Dynamic { issued_at: NOW })
    );
    assert!(client.redirect("http://localhost:1/oauth/callback").is_some());
    assert!(matches!(client.proof, Proof::None));
}

#[test]
fn a_client_that_wants_only_bound_tokens_is_remembered_so_and_older_ids_want_none() {
    let dynamic = open();
    for wants in [true, false] {
        let body = json!({"redirect_uris": ["https://app.example/cb"], "dpop_bound_access_tokens": wants});
        let answer = register(&dynamic, &body).unwrap();
        assert_eq!(answer.get("dpop_bound_access_tokens"), wants.then_some(&json!(true)));
        assert_eq!(dynamic.open(answer["client_id"].as_str().unwrap()).unwrap().bound, wants);
    }
    let older = br#"{"r":["https://app.example/cb"],"n":"x","m":"none","g":["authorization_code"],"i":0}"#;
    let older = dynamic.ids.seal(place(&TenantId::default_tenant()), older).unwrap();
    assert!(!dynamic.open(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(older))).unwrap().bound);
}

#[test]
fn a_client_that_can_keep_a_secret_gets_one_for_ninety_days() {
    let dynamic = open();
    for method in ["client_secret_basic", "client_secret_post"] {
        let body = json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": method});
        let answer = register(&dynamic, &body).unwrap();
        let secret = answer["client_secret"].as_str().unwrap();
        let ends = NOW + time::Duration::days(90);
        assert!(secret.starts_with("mcpg_cs_") && secret.len() == 51, "{secret}");
        assert_eq!(
            (&answer["client_secret_expires_at"], &answer["client_name"]),
            (&json!(ends.unix_timestamp()), &json!("app.example"))
        );
        let id = answer["client_id"].as_str().unwrap();
        let Proof::Secret(kept) = dynamic.open(id).unwrap().proof else { panic!("no secret") };
        assert_eq!(kept, [SecretHash { hash: hash_token(secret), expires_at: Some(ends) }]);
    }
}

#[test]
fn an_id_that_we_did_not_seal_as_it_is_is_no_client() {
    let dynamic = open();
    let answer = register(&dynamic, &json!({"redirect_uris": ["https://app.example/cb"]})).unwrap();
    let id = answer["client_id"].as_str().unwrap();
    for at in 0..id.len() {
        let mut bent = id.to_owned();
        bent.replace_range(at..=at, if &id[at..=at] == "A" { "B" } else { "A" });
        assert!(dynamic.open(&bent).is_none(), "byte {at}");
    }
    assert!(open().open(id).is_none(), "another key");
    assert!(dynamic.open(PREFIX).is_none() && dynamic.open(&format!("{PREFIX}{}", "A".repeat(10_000))).is_none());
    let elsewhere = Place { table: "servers.secrets", row: "", tenant: &TenantId::default_tenant(), subject: None };
    let moved = dynamic.ids.seal(elsewhere, br#"{"r":[],"n":"x","m":"none","g":[],"i":0}"#).unwrap();
    assert!(dynamic.open(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(moved))).is_none(), "sealed for something else");
}

#[test]
fn what_cannot_be_taken_is_told_by_the_codes_of_the_standard() {
    let dynamic = open();
    let long = format!("https://app.example/{}", "a".repeat(1_500));
    for (body, code, told) in [
        (json!({}), "invalid_redirect_uri", "1 to 10"),
        (json!({"redirect_uris": ["http://app.example/cb"]}), "invalid_redirect_uri", "use https"),
        (json!({"redirect_uris": ["myapp:/cb"]}), "invalid_redirect_uri", "MREG_ALLOWED_REDIRECT_SCHEMES"),
        (json!({"redirect_uris": "https://app.example/cb"}), "invalid_client_metadata", "a list"),
        (
            json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "private_key_jwt"}),
            "invalid_client_metadata",
            "keys",
        ),
        (
            json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": "tls"}),
            "invalid_client_metadata",
            "token_endpoint_auth_method",
        ),
        (
            json!({"redirect_uris": ["https://app.example/cb"], "client_name": "x".repeat(101)}),
            "invalid_client_metadata",
            "100",
        ),
        (json!({"redirect_uris": [long, long, long]}), "invalid_client_metadata", "too long together"),
        (json!({"x": "a".repeat(LARGEST_BODY)}), "invalid_client_metadata", "16384 bytes"),
    ] {
        let refused = register(&dynamic, &body).unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.to_string().contains(told), "{refused}");
    }
}

#[test]
fn who_may_register_is_a_setting() {
    let body = json!({"redirect_uris": ["https://app.example/cb"]}).to_string();
    let off = dynamic(Registration::Off, None);
    assert!(!off.is_offered());
    assert!(matches!(off.register(body.as_bytes(), None, ip(1), NOW), Err(RegisterError::Off)));
    let guarded = dynamic(Registration::Token, Some("a long enough token"));
    for wrong in [None, Some(""), Some("a long enough toke"), Some("a long enough token ")] {
        assert!(matches!(guarded.register(body.as_bytes(), wrong, ip(1), NOW), Err(RegisterError::Token)));
    }
    assert!(guarded.register(body.as_bytes(), Some("a long enough token"), ip(1), NOW).is_ok());
}

#[test]
fn a_scheme_that_is_no_longer_allowed_takes_its_redirects_with_it() {
    let ids = Ids::under(&Sealer::new(&MasterKey::generate()));
    let with = |schemes: &[&str]| {
        let dynamic = dynamic(Registration::Open, None);
        let more: Vec<String> = schemes.iter().map(|&scheme| scheme.to_owned()).collect();
        Dynamic { ids: ids.clone(), schemes: Schemes::with(&more), ..dynamic }
    };
    let answer =
        register(&with(&["myapp"]), &json!({"redirect_uris": ["myapp:/cb", "https://app.example/cb"]})).unwrap();
    let client = with(&[]).open(answer["client_id"].as_str().unwrap()).unwrap();
    assert_eq!(client.redirects.len(), 1);
    assert!(client.redirect("myapp:/cb").is_none());
}

#[test]
fn a_flood_is_slowed_down_and_leaves_nothing_behind() {
    let dynamic = open();
    let body = json!({"redirect_uris": ["https://app.example/cb"]}).to_string();
    let mut waits = Vec::new();
    let mut flood = |source: &dyn Fn(u32) -> IpAddr| {
        (0..10_000)
            .filter(|n| match dynamic.register(body.as_bytes(), None, source(*n), NOW) {
                Err(RegisterError::TooMany(exceeded)) => {
                    waits.push(exceeded.retry_after);
                    false
                }
                other => other.is_ok(),
            })
            .count()
    };
    let (one, many) = (flood(&|_| ip(1)), flood(&ip));
    assert_eq!((one, one + many), (OF_ONE.burst as usize, OF_ALL.burst as usize));
    assert!(waits.iter().all(|wait| *wait > Duration::ZERO && *wait <= OF_ONE.pause));
    assert!(dynamic.sources() <= OF_ALL.burst as usize, "who was refused is not remembered");
}
