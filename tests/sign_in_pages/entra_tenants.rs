//! People of several directories: each comes into the tenant that names the own, and into no other.

use http::Method;
use mcp_registry_gateway::grants::TraceFilter;
use mcp_registry_gateway::serve;
use mcp_registry_gateway::store::now;
use serde_json::{Value, json};
use testkit::client::{Client, Request};
use testkit::entra::{CONTOSO, Entra, FABRIKAM, GATEWAY};
use url::form_urlencoded::Serializer;

use crate::entra::{HELP, house, leave, whole, without_help};
use crate::world::{World, new_browser};

const ALICE: &str = "alice@contoso.onmicrosoft.com";
const FRANK: &str = "frank@fabrikam.onmicrosoft.com";
/// Groups of Contoso: one of Alice's, one of the many of Carol's.
const OPS: &str = "99990000-0000-4000-8000-000000000002";
const CROWD: &str = "99990000-0000-4000-8000-000000001100";
const CAROL: &str = "carol@contoso.onmicrosoft.com";
const TAILSPIN: &str = "7a110000-0000-4000-8000-000000000003";

/// Both directories are let in.
async fn both() -> Option<(World, Entra)> {
    house("organizations", &["--azure-allowed-tenants", &format!("{CONTOSO},{FABRIKAM}")]).await
}

async fn name(world: &World, tenant: &str, directories: &[&str]) {
    world.rest(Method::PATCH, &format!("/admin/tenants/{tenant}"), &json!({ "entra_tenant_ids": directories })).await;
}

/// Who the person of a code is, and in which tenant.
async fn me(world: &World, entra: &Entra, user: &str) -> (String, String) {
    let end = whole(world, entra, user).await;
    assert!(end.stopped, "{user}: {} {}", end.status, end.text());
    let token = world.redeem(&world.client_id, &end).await.access;
    let caller = world.app.tokens.find(&world.app.store, token.expose(), now()).await.unwrap();
    (caller.tenant().to_string(), caller.role().as_str().to_owned())
}

#[tokio::test]
async fn people_come_into_the_tenant_that_names_their_directory() {
    let Some((world, entra)) = both().await else { return };
    assert_eq!(me(&world, &entra, ALICE).await, ("default".into(), "user".into()), "while none names any");
    world.rest(Method::POST, "/admin/tenants", &json!({ "tenant_id": "acme", "entra_tenant_ids": [FABRIKAM] })).await;
    assert_eq!(me(&world, &entra, FRANK).await.0, "acme");
    assert_eq!(me(&world, &entra, ALICE).await.0, "default", "who was here before stays");
    let users = world.rest(Method::GET, "/users", &Value::Null).await;
    assert!(!users.to_string().contains("fabrikam"), "{users}");

    name(&world, "acme", &[]).await;
    let page = whole(&world, &entra, FRANK).await;
    assert_eq!((page.status.as_u16(), page.stopped), (403, false), "{}", page.text());
    for shown in ["You are not let in", "not for the organisation", HELP, FABRIKAM, "Number of this request"] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    assert!(!page.text().contains("acme"), "nothing is told of tenants: {}", page.text());
    assert!(world.steps().await.ends_with("!account → failure"), "{}", world.steps().await);

    name(&world, "default", &[CONTOSO, FABRIKAM]).await;
    let page = whole(&world, &entra, FRANK).await;
    assert_eq!(page.status.as_u16(), 403);
    assert!(page.text().contains("of another organisation"), "the account stays where it was made: {}", page.text());
}

#[tokio::test]
async fn a_role_at_entra_administers_the_gateway_in_its_first_tenant_only() {
    let Some((world, entra)) = both().await else { return };
    world.rest(Method::POST, "/admin/tenants", &json!({ "tenant_id": "acme", "entra_tenant_ids": [CONTOSO] })).await;
    assert_eq!(me(&world, &entra, ALICE).await, ("acme".into(), "tenant_admin".into()));
}

/// Of Fabrikam, and a guest of Contoso.
const ERIN: &str = "erin@fabrikam.onmicrosoft.com";

#[tokio::test]
async fn guests_of_a_directory_come_in_unless_the_tenant_takes_none() {
    let Some((world, entra)) = house(CONTOSO, &[]).await else { return };
    assert_eq!(me(&world, &entra, ERIN).await, ("default".into(), "user".into()));
    let end = whole(&world, &entra, ERIN).await;
    let given = world.redeem(&world.client_id, &end).await;
    let known = async || world.app.tokens.find(&world.app.store, given.access.expose(), now()).await;
    known().await.unwrap();

    let refuse = json!({ "guests": false });
    let told = world.rest(Method::PATCH, "/admin/tenants/default", &refuse).await;
    assert_eq!(told["guests"], false);
    assert_eq!(known().await.unwrap_err().reason(), "not_let_in", "also with what there was, and at once");
    let page = whole(&world, &entra, ERIN).await;
    assert_eq!((page.status.as_u16(), page.stopped), (403, false), "{}", page.text());
    for shown in ["You are not let in", "is a guest of the organisation", HELP, ERIN, CONTOSO, "Number of this request"]
    {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    assert!(world.steps().await.ends_with("!account → failure"), "{}", world.steps().await);
    let trace = &world.app.grants.traces(TraceFilter::default(), None, 1).await.unwrap()[0];
    assert_eq!((trace.tenant.as_deref(), trace.username.as_deref()), (Some("default"), Some(ERIN)));
    let counted = "mcp_auth_events_total{tenant_id=\"default\",method=\"login\",result=\"failure\",reason=\"guest\"} 1";
    assert!(world.metrics().await.contains(counted), "{}", world.metrics().await);
    assert_eq!(me(&world, &entra, ALICE).await.1, "admin", "its own people come in");

    world.rest(Method::PATCH, "/admin/tenants/default", &json!({ "guests": true })).await;
    assert_eq!(me(&world, &entra, ERIN).await.1, "user");
}

#[tokio::test]
async fn who_did_not_sign_in_anew_is_noted_for_the_tenant_of_the_directory() {
    let Some((world, entra)) = both().await else { return };
    world.rest(Method::POST, "/admin/tenants", &json!({ "tenant_id": "acme", "entra_tenant_ids": [FABRIKAM] })).await;
    let mut browser = new_browser();
    let page = leave(&world, &mut browser).await;
    entra.sign_in(&mut browser, page, FRANK).await.unwrap();
    entra.post("/_sim/config", json!({ "authAgeSeconds": 3_600 })).await.unwrap();
    let consent = browser.open(&world.authorize(&[("max_age", "60")])).await.unwrap();
    let page = browser.submit(&consent, "decision", &[("decision", "allow:entra")]).await.unwrap();
    let page = entra.sign_in(&mut browser, page, FRANK).await.unwrap();
    assert!(page.text().contains("asks that you sign in anew"), "{} {}", page.url, page.text());
    let counted = "mcp_auth_events_total{tenant_id=\"acme\",method=\"login\",result=\"failure\",reason=\"not_anew\"} 1";
    assert!(world.metrics().await.contains(counted), "{}", world.metrics().await);
    let trace = &world.app.grants.traces(TraceFilter::default(), None, 1).await.unwrap()[0];
    assert_eq!((trace.tenant.as_deref(), trace.username.as_deref()), (Some("acme"), Some(FRANK)));
}

/// Who is `admin` at Entra, here.
async fn roles(world: &World, entra: &Entra) -> [String; 2] {
    [me(world, entra, ALICE).await.1, me(world, entra, FRANK).await.1]
}

#[tokio::test]
async fn a_directory_among_several_gives_no_role_until_somebody_names_it() {
    for allowed in ["*", &format!("{CONTOSO},{FABRIKAM}")] {
        let Some((world, entra)) = house("organizations", &["--azure-allowed-tenants", allowed]).await else { return };
        assert_eq!(roles(&world, &entra).await, ["user", "user"], "{allowed}: each is given by its own administrators");
        let trace = &world.app.grants.traces(TraceFilter::default(), None, 1).await.unwrap()[0];
        let account = trace.steps.iter().find(|step| step.name == "account").unwrap();
        for told in ["as user", "role `admin`", FABRIKAM, "mcp-gateway tenants edit"] {
            assert!(account.detail.contains(told), "{told}: {}", account.detail);
        }
        let program = json!({ "tenant": FABRIKAM, "resource": GATEWAY, "claims": { "roles": ["Mcp.Admin"] } });
        let program = entra.post("/_sim/token", program).await.unwrap()["access_token"].as_str().unwrap().to_owned();
        let seen = async || {
            let request = Request::get().path("/api/v1/me");
            let reply = Client::new(&world.running.url()).bearer(&program).send(request).await.unwrap();
            serde_json::from_str::<Value>(&reply.text().await.unwrap()).unwrap()["role"].clone()
        };
        assert_eq!(seen().await, "user", "programs no less than people");

        world
            .rest(Method::POST, "/admin/tenants", &json!({ "tenant_id": "acme", "entra_tenant_ids": [TAILSPIN] }))
            .await;
        let ours = world.rest(Method::GET, "/admin/tenants/default", &Value::Null).await;
        assert_eq!(ours["assumed_entra_tenant_ids"], json!([CONTOSO, FABRIKAM]), "written down by the gateway itself");
        assert_eq!(roles(&world, &entra).await, ["user", "user"], "which names nothing");
        assert_eq!(seen().await, "user");

        name(&world, "default", &[CONTOSO, FABRIKAM]).await;
        let ours = world.rest(Method::GET, "/admin/tenants/default", &Value::Null).await;
        assert_eq!(ours["assumed_entra_tenant_ids"], json!([]));
        assert_eq!(roles(&world, &entra).await, ["admin", "admin"], "{allowed}: said by who may say it");
        assert_eq!(seen().await, "user", "believed for minutes as it was");
    }
}

#[tokio::test]
async fn the_only_directory_gives_the_roles() {
    for (tenant, more) in [(CONTOSO, vec![]), ("organizations", vec!["--azure-allowed-tenants", CONTOSO])] {
        let Some((world, entra)) = house(tenant, &more).await else { return };
        assert_eq!(me(&world, &entra, ALICE).await, ("default".into(), "admin".into()));
    }
}

#[tokio::test]
async fn who_was_made_administrator_before_is_none_after_a_sign_in_a_look_or_a_start() {
    let allowed = format!("{CONTOSO},{FABRIKAM}");
    let more = ["--azure-allowed-tenants", &allowed, "--identity-recheck-interval=1ms"];
    let Some((world, entra)) = house("organizations", &more).await else { return };
    me(&world, &entra, FRANK).await;
    let raise = async || world.rest(Method::PATCH, &format!("/users/{FRANK}"), &json!({ "role": "admin" })).await;
    let role = async || world.rest(Method::GET, &format!("/users/{FRANK}"), &Value::Null).await["role"].clone();
    raise().await;
    let end = whole(&world, &entra, FRANK).await;
    assert_eq!(role().await, "user", "at a sign-in");

    let refresh = world.redeem(&world.client_id, &end).await.refresh.unwrap();
    raise().await;
    let body = Serializer::new(String::new())
        .append_pair("grant_type", "refresh_token")
        .append_pair("refresh_token", refresh.expose())
        .append_pair("client_id", &world.client_id)
        .finish();
    let request = Request::post(body).path("/oauth/token").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(Client::new(&world.running.url()).send(request).await.unwrap().status, 200);
    assert_eq!(role().await, "user", "when Entra is asked again");

    raise().await;
    let again = serve::start(world.app.settings.as_ref().clone()).await.unwrap();
    assert_eq!(role().await, "user", "at a start");
    drop(again);
}

#[tokio::test]
async fn nobody_of_a_suspended_tenant_comes_in_with_what_there_was_or_anew() {
    let Some((world, entra)) = both().await else { return };
    world.rest(Method::POST, "/admin/tenants", &json!({ "tenant_id": "acme", "entra_tenant_ids": [FABRIKAM] })).await;
    let end = whole(&world, &entra, FRANK).await;
    let token = world.redeem(&world.client_id, &end).await.access;
    let known = async || world.app.tokens.find(&world.app.store, token.expose(), now()).await;
    known().await.unwrap();
    world.rest(Method::DELETE, "/admin/tenants/acme", &Value::Null).await;
    assert!(world.app.tokens.known(token.expose(), now()).is_none(), "forgotten before the answer goes out");
    assert_eq!(known().await.unwrap_err().reason(), "suspended");
    let page = whole(&world, &entra, FRANK).await;
    assert_eq!(page.status.as_u16(), 403);
    assert!(page.text().contains("suspended") && page.text().contains(HELP), "{}", page.text());
    let counted =
        "mcp_auth_events_total{tenant_id=\"acme\",method=\"login\",result=\"failure\",reason=\"suspended\"} 1";
    let metrics = world.metrics().await;
    assert!(metrics.contains(counted), "{metrics}");
    world.rest(Method::PATCH, "/admin/tenants/acme", &json!({ "state": "active" })).await;
    known().await.unwrap();
}

#[tokio::test]
async fn whom_to_ask_is_told_in_plain_words_where_the_operator_does_not_say() {
    let Some((world, entra)) = without_help(&["--azure-allowed-tenants", CONTOSO]).await else { return };
    let page = whole(&world, &entra, FRANK).await;
    assert_eq!(page.status.as_u16(), 403);
    assert!(page.text().contains("Ask whoever gave you the address of this gateway"), "{}", page.text());
}

#[tokio::test]
async fn a_tenant_says_itself_which_roles_and_groups_of_its_directories_give_which_role() {
    let Some((world, entra)) = both().await else { return };
    let acme = json!({ "tenant_id": "acme", "entra_tenant_ids": [FABRIKAM],
        "role_mappings": [{ "value": "Mcp.Admin", "role": "server_owner" }] });
    world.rest(Method::POST, "/admin/tenants", &acme).await;
    name(&world, "default", &[CONTOSO]).await;
    assert_eq!(roles(&world, &entra).await, ["admin", "server_owner"], "the settings' rules hold elsewhere");
    let set = async |tenant: &str, rules: Value| {
        world.rest(Method::PATCH, &format!("/admin/tenants/{tenant}"), &json!({ "role_mappings": rules })).await
    };
    set("acme", json!([{ "value": "Mcp.Admin", "role": "tenant_admin" }])).await;
    let owners = [OPS, CROWD].map(|group| json!({ "value": group, "role": "server_owner" }));
    set("default", json!(owners)).await;
    assert_eq!(
        roles(&world, &entra).await,
        ["server_owner", "tenant_admin"],
        "by a group, and what it gives is the most"
    );
    assert_eq!(me(&world, &entra, CAROL).await.1, "server_owner", "whose groups Entra is asked for");

    set("acme", json!([{ "value": "Mcp.Reader", "role": "user" }])).await;
    let page = whole(&world, &entra, FRANK).await;
    assert_eq!((page.status.as_u16(), page.stopped), (403, false), "{}", page.text());
    set("acme", json!([])).await;
    assert_eq!(me(&world, &entra, FRANK).await.1, "tenant_admin", "as the settings say again");
}
