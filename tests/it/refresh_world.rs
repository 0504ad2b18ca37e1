//! What tests of the refreshing of providers' tokens have in common: gateways that ask nobody by themselves, people with sessions, and days
//! that pass.

use std::time::Duration;

use mcp_registry_gateway::access::KeyRing;
use mcp_registry_gateway::app::{App, assemble};
use mcp_registry_gateway::clock;
use mcp_registry_gateway::config::{DotEnv, Settings};
use mcp_registry_gateway::crypto::{MasterKey, Sealer};
use mcp_registry_gateway::grants::resource::Issuer;
use mcp_registry_gateway::grants::{GivenTokens, GrantKind, Issue, Login, NewLogin, Order, ScopeSet};
use mcp_registry_gateway::id::TenantId;
use mcp_registry_gateway::idp::{ENTRA, Hints, ProviderTokens};
use mcp_registry_gateway::store::users::UserRow;
use mcp_registry_gateway::store::{Store, micros, now};
use testkit::browser::Browser;
use testkit::entra::{CONTOSO, Entra, GATEWAY, SECRETS};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

pub const CALLBACK: &str = "http://127.0.0.1:9/oauth/callback/entra";

/// The settings of a gateway for which the stand-in at this address is Entra.
pub fn behind(base: &str) -> Vec<String> {
    vec![
        format!("--azure-tenant-id={CONTOSO}"),
        format!("--azure-client-id={GATEWAY}"),
        format!("--azure-client-secret={}", SECRETS[0]),
        format!("--azure-authority={base}"),
        format!("--azure-v1-issuer-prefix={base}/sts/"),
        format!("--azure-graph-url={base}/graph"),
    ]
}

/// A gateway with these settings on a database, sealing with this key.
pub async fn gateway(database: &str, key: &MasterKey, args: &[String]) -> App {
    let store = Store::connect(database, 20).await.unwrap();
    let keyring = KeyRing::empty();
    keyring.reload(&store).await.unwrap();
    let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
    let issuer = Issuer::new(None, false, "127.0.0.1:8001".parse().unwrap());
    let app = assemble(settings, issuer, store, Sealer::new(key), keyring).unwrap();
    app.recall().await.unwrap();
    app
}

/// Somebody who signed in with Entra: the account, and what Entra gave.
pub async fn comes(app: &App, entra: &Entra, user: &str) -> (TenantId, Uuid, ProviderTokens) {
    let (provider, callback) = (app.providers.get(ENTRA).unwrap(), Url::parse(CALLBACK).unwrap());
    let leg = provider.begin(&callback, &Hints::default()).await.unwrap();
    let mut browser = Browser::new().stop_at(CALLBACK);
    let page = browser.open(leg.url.as_str()).await.unwrap();
    let code = entra.sign_in(&mut browser, page, user).await.unwrap().param("code").unwrap();
    let signed_in = provider.finish(&callback, &code, &leg.nonce, &leg.verifier, now()).await.unwrap();
    let person = signed_in.person;
    let account = app.account_of(&person, person.role.unwrap(), now()).await.unwrap();
    (account.tenant.clone(), account.id, signed_in.tokens.unwrap())
}

/// An account that nobody signs in to.
pub async fn account(app: &App, name: &str) -> Uuid {
    let at = micros(now());
    let row = UserRow {
        id: Uuid::now_v7(),
        username: name.to_owned(),
        role: "user".to_owned(),
        state: "active".to_owned(),
        created_at: at,
        updated_at: at,
        ..UserRow::default()
    };
    app.store.insert_user(&TenantId::default_tenant(), &row).await.unwrap();
    row.id
}

/// What a provider gave at this time is kept, and a session that rests on it is used now: the login, and the grant.
pub async fn keeps(
    app: &App,
    provider: &str,
    (tenant, user): (&TenantId, Uuid),
    tokens: &ProviderTokens,
    given_at: OffsetDateTime,
) -> (Uuid, Uuid) {
    let text = serde_json::to_vec(tokens).unwrap();
    let given = GivenTokens { text: &text, expires_at: tokens.expires_at };
    let login = NewLogin { tenant, user, provider, tokens: Some(given) };
    let login = app.grants.keep_login(&login, given_at).await.unwrap();
    let order = Order {
        tenant: tenant.clone(),
        user,
        client_id: "client".to_owned(),
        client_name: None,
        resource: "http://127.0.0.1:8001/mcp".to_owned(),
        scopes: ScopeSet::ALL,
        login_method: provider.to_owned(),
        login: Some(login),
    };
    let given = app.grants.issue(&order, Issue::alone(GrantKind::Client), now()).await.unwrap();
    (login, given.grant)
}

/// Whoever holds these grants uses them now.
pub async fn use_now(app: &App, grants: &[Uuid]) {
    let used: Vec<(Uuid, i64)> = grants.iter().map(|grant| (*grant, micros(now()) + 1)).collect();
    app.store.touch_grants(&used, crate::store_grants::RECHECK).await.unwrap();
}

pub async fn login(app: &App, id: Uuid) -> Login {
    app.grants.login(&TenantId::default_tenant(), id).await.unwrap().unwrap()
}

pub async fn is_live(app: &App, grant: Uuid) -> bool {
    app.grants.login_of_grant(&TenantId::default_tenant(), grant).await.unwrap().is_some()
}

/// So much time passes, in which the gateway asks about whoever is due as its job would, once a minute.
pub async fn live(app: &App, entra: Option<&Entra>, time: Duration) {
    const MINUTE: Duration = Duration::from_mins(1);
    for _ in 0..time.as_secs() / MINUTE.as_secs() {
        app.refresh_all().await.unwrap();
        clock::move_on(MINUTE);
        if let Some(entra) = entra {
            entra.post("/_sim/clock", serde_json::json!({"seconds": MINUTE.as_secs()})).await.unwrap();
        }
    }
}
