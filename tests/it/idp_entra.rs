//! The engine of identity providers against the stand-in for Entra ID: people sign in with a browser, stay, and go.

use mcp_registry_gateway::access::Role;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::idp::check::{State, check};
use mcp_registry_gateway::idp::{Class, ENTRA, Hints, IdpError, Provider, Providers, SignedIn};
use mcp_registry_gateway::net::{AddressPolicy, Outbound};
use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::client::{Client, Request};
use testkit::entra::{CONTOSO, DAEMON, Entra, FABRIKAM, GATEWAY, SECRETS, VISITOR};
use time::OffsetDateTime;
use url::Url;

const CALLBACK: &str = "http://127.0.0.1:9/oauth/callback/entra";
const ALICE: &str = "alice@contoso.onmicrosoft.com";
/// In 250 groups, this one among them.
const CAROL: &str = "carol@contoso.onmicrosoft.com";
const GROUP_OF_CAROL: &str = "99990000-0000-4000-8000-000000001249";

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// The provider, of this tenant and with these settings more.
fn provider(entra: &Entra, tenant: &str, more: &[&str]) -> Provider {
    let (prefix, graph) = (entra.v1_issuer_prefix(), entra.graph_url());
    let mut args = vec!["--azure-tenant-id", tenant, "--azure-client-id", GATEWAY, "--azure-client-secret", SECRETS[0]];
    args.extend(["--azure-authority", entra.base_url(), "--azure-v1-issuer-prefix", &prefix]);
    args.extend(["--azure-graph-url", &graph]);
    args.extend(more);
    let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
    let outbound = Outbound::new(AddressPolicy::STRANGER, None);
    Providers::new(&settings.azure, &settings.oidc, &outbound).unwrap().get(ENTRA).unwrap().clone()
}

/// Signs this person in with a browser of their own.
async fn sign_in(entra: &Entra, provider: &Provider, user: &str) -> Result<SignedIn, IdpError> {
    let redirect = Url::parse(CALLBACK).unwrap();
    let leg = provider.begin(&redirect, &Hints::default()).await?;
    let mut browser = Browser::new().stop_at(CALLBACK);
    let page = browser.open(leg.url.as_str()).await.unwrap();
    let back = entra.sign_in(&mut browser, page, user).await.unwrap();
    assert_eq!(back.param("state").as_deref(), Some(leg.state.expose()));
    match back.param("code") {
        Some(code) => provider.finish(&redirect, &code, &leg.nonce, &leg.verifier, now()).await,
        None => Err(provider.at_callback(&back.param("error").unwrap(), back.param("error_description").as_deref())),
    }
}

#[tokio::test]
async fn people_sign_in_with_the_role_that_entra_gives_them() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let contoso = provider(&entra, "contoso.onmicrosoft.com", &[]);
    for (user, role) in
        [("alice", Role::Admin), ("tess", Role::TenantAdmin), ("owen", Role::ServerOwner), ("nora", Role::User)]
    {
        let user = format!("{user}@contoso.onmicrosoft.com");
        let signed_in = sign_in(&entra, &contoso, &user).await?;
        let person = &signed_in.person;
        assert_eq!((person.username.as_str(), person.role), (user.as_str(), Some(role)));
        assert_eq!((person.directory, person.guest), (Some(CONTOSO.parse()?), false));
        assert!(signed_in.tokens.is_some());
    }
    let asked = entra.log("/token").await?;
    assert!(asked.iter().all(|line| line["resource"].is_null()), "Entra is never sent a resource: {asked:?}");

    let guest = sign_in(&entra, &contoso, "erin@fabrikam.onmicrosoft.com").await?.person;
    assert!(guest.guest && guest.directory == Some(CONTOSO.parse()?), "{guest:?}");

    let several = provider(&entra, "organizations", &["--azure-allowed-tenants", CONTOSO]);
    assert_eq!(sign_in(&entra, &several, ALICE).await?.person.role, Some(Role::Admin));
    let refused = sign_in(&entra, &several, "frank@fabrikam.onmicrosoft.com").await.unwrap_err();
    assert!(refused.class == Class::Refused && refused.detail.contains(FABRIKAM), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn whoever_is_in_too_many_groups_has_the_role_of_one_all_the_same() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let token = entra.token(CAROL, json!({})).await?;
    // Where app roles decide, the token is enough.
    let by_app_role = provider(&entra, CONTOSO, &[]);
    assert_eq!(by_app_role.verify_access_token(&token, now()).await?.role, Some(Role::User));

    let by_group = provider(&entra, CONTOSO, &["--azure-role-server-owner", GROUP_OF_CAROL]);
    let refused = by_group.verify_access_token(&token, now()).await.unwrap_err();
    assert!(refused.class == Class::Refused && refused.detail.contains("groups"), "{refused:?}");
    assert_eq!(sign_in(&entra, &by_group, CAROL).await?.person.role, Some(Role::ServerOwner));
    assert_eq!(entra.log("/getMemberObjects").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn whoever_signed_in_stays_until_entra_says_otherwise() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let contoso = provider(&entra, CONTOSO, &[]);
    let first = sign_in(&entra, &contoso, ALICE).await?;
    let again = contoso.recheck(&first.tokens.unwrap(), now()).await?;
    assert_eq!(again.person?.unwrap(), first.person);
    let tokens = again.tokens;

    let fault = |action: Value| {
        let only = json!({"match": {"endpoint": "token", "grant_type": "refresh_token"}, "action": action});
        entra.post("/_sim/faults", only)
    };
    for action in [json!({"status": 503}), json!({"drop": true})] {
        fault(action).await?;
        let ill = contoso.recheck(&tokens, now()).await.unwrap_err();
        assert!(matches!(ill.class, Class::Temporary { .. }), "{ill:?}");
    }
    let claims = json!({"access_token": {"capolids": {"essential": true, "values": ["x"]}}});
    for (action, class) in [
        (json!({"aadsts": 700_082}), Class::Dead),
        (json!({"aadsts": 70_043}), Class::Dead),
        (json!({"aadsts": 50_057}), Class::Dead),
        (json!({"aadsts": 50_196}), Class::Loop),
        (json!({"aadsts": 65_001}), Class::ConsentMissing),
        (json!({"aadsts": 50_076}), Class::NeedsInteraction { claims: None }),
        (json!({"aadsts": 50_079, "claims": claims}), Class::NeedsInteraction { claims: Some(claims.to_string()) }),
        (json!({"aadsts": 500_011}), Class::Configuration),
        (json!({"aadsts": 90_033}), Class::Temporary { retry_after: None }),
    ] {
        fault(action.clone()).await?;
        let error = contoso.recheck(&tokens, now()).await.unwrap_err();
        assert_eq!(error.class, class, "{action}: {error:?}");
        assert!(error.code.is_some() && error.trace_id.is_some() && error.explained().is_some(), "{error:?}");
    }
    contoso.recheck(&tokens, now()).await?;
    entra.post(&format!("/_sim/users/{ALICE}/revoke"), json!({})).await?;
    assert_eq!(contoso.recheck(&tokens, now()).await.unwrap_err().class, Class::Dead);

    fault(json!({"status": 429, "retry_after": 30})).await?;
    for _ in 0..3 {
        let paused = contoso.recheck(&tokens, now()).await.unwrap_err();
        assert!(matches!(paused.class, Class::Temporary { retry_after: Some(_) }), "{paused:?}");
    }
    let throttled = entra.log("/token").await?.iter().filter(|line| line["status"] == 429).count();
    assert_eq!(throttled, 1, "nobody asks again before the time");
    Ok(())
}

#[tokio::test]
async fn an_expired_secret_gives_way_to_the_next() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let expired = ["--azure-client-secret", "gateway-secret-old", "--azure-client-secret-next", SECRETS[1]];
    let with = |args: &[&str]| {
        let base = ["--azure-tenant-id", CONTOSO, "--azure-client-id", GATEWAY, "--azure-authority", entra.base_url()];
        let settings = Settings::from_args(base.iter().chain(args).copied(), &DotEnv::default()).unwrap();
        let outbound = Outbound::new(AddressPolicy::STRANGER, None);
        Providers::new(&settings.azure, &settings.oidc, &outbound).unwrap().get(ENTRA).unwrap().clone()
    };
    let both = with(&expired);
    sign_in(&entra, &both, ALICE).await?;
    assert!(both.credential_refused().is_none());
    let one = with(&expired[..2]);
    let refused = sign_in(&entra, &one, ALICE).await.unwrap_err();
    assert_eq!((refused.class, refused.code.as_deref()), (Class::OurCredential, Some("AADSTS7000222")));
    assert!(one.credential_refused().is_some());
    Ok(())
}

#[tokio::test]
async fn an_access_token_is_taken_only_if_entra_made_it_for_the_gateway() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let contoso = provider(&entra, CONTOSO, &[]);
    let good = contoso.verify_access_token(&entra.token(ALICE, json!({})).await?, now()).await?;
    assert_eq!((good.username.as_str(), good.role), (ALICE, Some(Role::Admin)));
    let signed_in = sign_in(&entra, &contoso, ALICE).await?;
    assert_eq!(signed_in.person, good, "directly or through a browser, it is the same person");

    for (more, why) in [
        (json!({"attack": "alg-none"}), "`none`"),
        (json!({"attack": "hs256-public-key"}), "`HS256`"),
        (json!({"attack": "foreign-key"}), ""),
        (json!({"resource": "00000003-0000-0000-c000-000000000000", "scp": ["User.Read"]}), "Graph"),
        (json!({"claims": {"aud": "22222222-2222-4222-8222-222222222222"}}), "not for this gateway"),
        (json!({"claims": {"exp": 1_000_000_000}}), "expired"),
        (json!({"claims": {"iss": "https://evil.example/v2.0"}}), "the token is of"),
    ] {
        let token = entra.token(ALICE, more.clone()).await?;
        let refused = contoso.verify_access_token(&token, now()).await.unwrap_err();
        assert!(refused.class == Class::Forged && refused.detail.contains(why), "{more}: {refused:?}");
    }
    let refresh = signed_in.tokens.unwrap().refresh;
    let shown = contoso.verify_access_token(refresh.expose(), now()).await;
    assert_eq!(shown.unwrap_err().class, Class::Forged, "a refresh token is no access token");

    let daemon = contoso.verify_access_token(&on_its_own(&entra, DAEMON).await?, now()).await?;
    assert!(daemon.app_only && daemon.role == Some(Role::User) && daemon.username == DAEMON.0, "{daemon:?}");
    let visitor = contoso.verify_access_token(&on_its_own(&entra, VISITOR).await?, now()).await.unwrap_err();
    assert!(visitor.class == Class::Refused && visitor.detail.contains("no app role"), "{visitor:?}");

    entra.post("/_sim/keys/rotate", json!({"tenant": "contoso.onmicrosoft.com", "mode": "emergency"})).await?;
    contoso.refresh_keys().await?;
    contoso.verify_access_token(&entra.token(ALICE, json!({})).await?, now()).await?;
    Ok(())
}

/// A token of an application, by its secret.
async fn on_its_own(entra: &Entra, (client, secret): (&str, &str)) -> anyhow::Result<String> {
    let form = format!(
        "grant_type=client_credentials&client_id={client}&client_secret={secret}&scope=api%3A%2F%2F{GATEWAY}%2F.default"
    );
    let request = Request::post(form).header("content-type", "application/x-www-form-urlencoded");
    let reply = Client::new(entra.base_url()).send(request.path(&format!("/{CONTOSO}/oauth2/v2.0/token"))).await?;
    let answer: Value = serde_json::from_str(&reply.text().await?)?;
    Ok(answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned())
}

/// What the checks of the registration say: `what` with how it is.
async fn looked_at(entra: &Entra, callback: &str, more: &[&str]) -> Vec<(&'static str, State, String)> {
    let (prefix, graph) = (entra.v1_issuer_prefix(), entra.graph_url());
    let mut args = vec!["--azure-tenant-id", CONTOSO, "--azure-client-id", GATEWAY];
    args.extend([
        "--azure-authority",
        entra.base_url(),
        "--azure-v1-issuer-prefix",
        &prefix,
        "--azure-graph-url",
        &graph,
    ]);
    args.extend(more);
    let azure = Settings::from_args(args, &DotEnv::default()).unwrap().azure;
    let outbound = Outbound::new(AddressPolicy::ADMIN, None);
    let all = check(&azure, &Url::parse(callback).unwrap(), &outbound, now()).await;
    all.into_iter().map(|seen| (seen.what, seen.state, format!("{} {}", seen.text, seen.advice))).collect()
}

fn states(all: &[(&'static str, State, String)]) -> Vec<(&'static str, State)> {
    all.iter().map(|(what, state, _)| (*what, *state)).collect()
}

async fn set(entra: &Entra, change: Value) {
    let request = Request::new(http::Method::PATCH, change.to_string().into());
    let request = request.header("content-type", "application/json").path(&format!("/_sim/apps/{GATEWAY}"));
    assert!(Client::new(entra.base_url()).send(request).await.unwrap().status.is_success());
}

#[tokio::test]
async fn the_registration_is_looked_at_as_far_as_it_can_be_seen() -> anyhow::Result<()> {
    use State::{Doubtful, NotVisible, Right, Wrong};
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let both = ["--azure-client-secret", SECRETS[0], "--azure-client-secret-next", "gateway-secret-old"];
    let without = looked_at(&entra, CALLBACK, &both).await;
    let expected = [
        ("directory", Right),
        ("first secret", Right),
        ("second secret", Wrong),
        ("token version", Right),
        ("secret's end", NotVisible),
        ("redirect URI", Right),
        ("scope", NotVisible),
    ];
    assert_eq!(states(&without), expected, "{without:#?}");
    assert!(without[2].2.starts_with("AADSTS7000222"), "{:?}", without[2]);
    let elsewhere = looked_at(&entra, "https://gateway.example/oauth/callback/entra", &both).await;
    assert_eq!(states(&elsewhere)[5], ("redirect URI", Wrong), "asked as a browser would: {elsewhere:#?}");

    let graph = "00000003-0000-0000-c000-000000000000";
    set(&entra, json!({"appRoleAssignments": {graph: ["Application.Read.All"]}})).await;
    let one = ["--azure-client-secret", SECRETS[0]];
    let more = looked_at(&entra, CALLBACK, &one).await;
    let visible = [
        ("secret's end", Right),
        ("redirect URI", Right),
        ("manifest", Right),
        ("scope", Right),
        ("consent", NotVisible),
    ];
    assert_eq!(states(&more)[3..], visible, "{more:#?}");

    let soon = (now() + time::Duration::days(9)).format(&time::format_description::well_known::Rfc3339)?;
    set(
        &entra,
        json!({
            "appRoleAssignments": {graph: ["Application.Read.All", "DelegatedPermissionGrant.Read.All"]},
            "secrets": [{"value": SECRETS[0], "endDateTime": soon}],
            "redirectUris": [], "spaRedirectUris": [CALLBACK], "accessTokenVersion": 1, "scopes": ["other"],
        }),
    )
    .await;
    let wrong = looked_at(&entra, CALLBACK, &one).await;
    let expected = [
        ("token version", Doubtful),
        ("secret's end", Doubtful),
        ("redirect URI", Wrong),
        ("manifest", Doubtful),
        ("scope", Wrong),
        ("consent", Right),
    ];
    assert_eq!(states(&wrong)[2..], expected, "{wrong:#?}");
    assert!(wrong[3].2.contains("in 8 days") || wrong[3].2.contains("in 9 days"), "{:?}", wrong[3]);
    assert!(wrong[4].2.contains("platform Single-page application"), "{:?}", wrong[4]);
    assert!(!format!("{without:?}{more:?}{wrong:?}").contains("gateway-secret"), "no secret is told");
    Ok(())
}

#[tokio::test]
async fn both_secrets_are_told_apart_and_consent_is_to_the_gateway_itself() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let wrong = ["--azure-client-secret", SECRETS[0], "--azure-client-secret-next", "no-secret-of-its-own"];
    let wrong = looked_at(&entra, CALLBACK, &wrong).await;
    assert!(wrong[2].2.contains("Set MREG_AZURE_CLIENT_SECRET_NEXT to the secret's value"), "{:?}", wrong[2]);

    let graph = "00000003-0000-0000-c000-000000000000";
    let at = |days| (now() + time::Duration::days(days)).format(&time::format_description::well_known::Rfc3339);
    set(
        &entra,
        json!({
            "appRoleAssignments": {graph: ["Application.Read.All", "DelegatedPermissionGrant.Read.All"]},
            "secrets": [{"value": "one-secret-1", "endDateTime": at(9)?}, {"value": "two-secret-2", "endDateTime": at(300)?}],
        }),
    )
    .await;
    let both = ["--azure-client-secret", "one-secret-1", "--azure-client-secret-next", "two-secret-2"];
    let seen = looked_at(&entra, CALLBACK, &both).await;
    let ends: Vec<_> = seen.iter().filter(|(what, ..)| *what == "secret's end").collect();
    assert_eq!(
        ends.iter().map(|(_, state, _)| *state).collect::<Vec<_>>(),
        [State::Doubtful, State::Right],
        "{ends:?}"
    );
    assert!(ends[0].2.starts_with("first secret: ") && ends[1].2.starts_with("second secret: "), "{ends:?}");
    assert_eq!(seen.last().unwrap().1, State::Right, "{seen:#?}");

    let (orders, scope) = ("22222222-2222-4222-8222-222222222222", "orders.of.others");
    let consent = json!({"client": GATEWAY, "resource": orders, "scopes": [scope]});
    entra.post("/_sim/consent", consent).await?;
    let other = looked_at(&entra, CALLBACK, &[&both[..], &["--azure-scope", scope]].concat()).await;
    assert_eq!(
        states(&other).last(),
        Some(&("consent", State::Doubtful)),
        "consent to another application: {other:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_credential_that_is_refused_is_told_by_entras_number() -> anyhow::Result<()> {
    let Some(entra) = Entra::start(&[CALLBACK]).await? else { return Ok(()) };
    let refused = looked_at(&entra, CALLBACK, &["--azure-client-secret", "no-secret-of-its-own"]).await;
    assert_eq!(
        states(&refused),
        [("directory", State::Right), ("first secret", State::Wrong), ("redirect URI", State::Right)]
    );
    assert!(refused[1].2.contains("AADSTS7000215") && refused[1].2.contains("its id is not it"), "{refused:?}");
    entra.post("/_sim/faults", json!({"match": {"endpoint": "token"}, "times": -1, "action": {"status": 503}})).await?;
    let ill = looked_at(&entra, CALLBACK, &["--azure-client-secret", SECRETS[0]]).await;
    assert_eq!(states(&ill)[1], ("first secret", State::NotVisible), "{ill:?}");
    Ok(())
}
