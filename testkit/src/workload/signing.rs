//! People who sign in: with the password at the REST API, and through pages for a program that then acts for them.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::crowd::{PASSWORD, Tenant, signs_in};
use super::ledger::{Happening, Time, Who};
use super::player::{Ask, By, Person, Player};
use crate::browser::Browser;
use crate::client::{Client, Request};
use crate::sign_in::{self, VERIFIER};

/// Where the program waits for its code.
const REDIRECT: &str = "http://127.0.0.1:7777/callback";

/// Somebody signs in with the password, looks who that is, and leaves; and somebody tries with a wrong one.
pub async fn with_password(player: &mut Player, tenant: &Tenant, person: &Person) -> anyhow::Result<()> {
    let gateway = person.gateway;
    let signed_in = signs_in(player, gateway, &tenant.id, &person.who.name).await?;
    let told = player.ask(Ask::new(By::Somebody(&signed_in), "POST /logout")).await?;
    told.expect(204)?;
    let login = json!({"username": format!("{}/{}", tenant.id, person.who.name), "password": "a wrong pass phrase"});
    let began = Time::now();
    player.ask_at(gateway, Ask::new(By::Nobody, "POST /login").body(login)).await?.expect(401)?;
    let refused = Happening::SignIn {
        tenant: String::new(),
        user: String::new(),
        method: "local",
        refused: Some("wrong_password"),
    };
    player.happened(gateway, Time::since(began), refused);
    Ok(())
}

/// A program for which somebody signed in.
pub struct Program {
    /// Its id.
    id: String,
    /// The person, by the access token.
    pub person: Person,
    refresh: String,
    signed_in: Time,
}

impl Program {
    /// One that registers itself, at the gateway of this person, who signs in for it.
    pub async fn of(player: &mut Player, tenant: &Tenant, person: &Person) -> anyhow::Result<Self> {
        let gateway = person.gateway;
        let metadata = json!({"redirect_uris": [REDIRECT], "client_name": "A program of the workload",
            "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"]});
        let made = posts(player, gateway, "/oauth/register", "application/json", metadata.to_string()).await?;
        let id = made.1["client_id"].as_str().with_context(|| format!("{made:?}"))?.to_owned();

        let mut browser = Browser::new().stop_at(REDIRECT);
        let began = Time::now();
        let scope = [("scope", "mcp offline_access")];
        let page = browser.open(&sign_in::authorize(player.url(gateway), &id, REDIRECT, &scope)?).await?;
        let name = format!("{}/{}", tenant.id, person.who.name);
        let end = sign_in::with_password(&mut browser, &page, &name, PASSWORD).await?;
        visited(player, gateway, &mut browser);
        let code = end.param("code").with_context(|| format!("{}: {}", end.url, end.text()))?;
        let signed_in = Time::since(began);
        let what = Happening::SignIn {
            tenant: tenant.id.clone(),
            user: person.who.user.clone(),
            method: "local",
            refused: None,
        };
        player.happened(gateway, signed_in, what);
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("code_verifier", VERIFIER),
            ("redirect_uri", REDIRECT),
            ("client_id", &id),
        ];
        let (status, given) = form(player, gateway, "/oauth/token", &fields).await?;
        if status != 200 {
            bail!("no token: {given}");
        }
        let token = |name: &str| given[name].as_str().unwrap_or_default().to_owned();
        let key = token("access_token");
        let who = Arc::new(Who { kind: "oauth", credential: key.clone(), ..(*person.who).clone() });
        Ok(Self { id, person: Person { who, key, gateway }, refresh: token("refresh_token"), signed_in })
    }

    /// Goes on with new tokens.
    pub async fn refreshes(&mut self, player: &mut Player) -> anyhow::Result<()> {
        let (gateway, began) = (self.person.gateway, Time::now());
        let fields = [("grant_type", "refresh_token"), ("refresh_token", &*self.refresh), ("client_id", &self.id)];
        let (status, given) = form(player, gateway, "/oauth/token", &fields).await?;
        anyhow::ensure!(status == 200, "not refreshed: {given}");
        let tenant = self.person.who.tenant.clone();
        player.happened(gateway, Time::since(began), Happening::Token { tenant, method: "refresh", refused: None });
        self.person.key = given["access_token"].as_str().unwrap_or_default().to_owned();
        self.refresh = given["refresh_token"].as_str().unwrap_or_default().to_owned();
        Ok(())
    }

    /// Gives back what it has: its session is over.
    pub async fn leaves(self, player: &mut Player) -> anyhow::Result<()> {
        let (gateway, began) = (self.person.gateway, Time::now());
        let fields = [("token", &*self.refresh), ("client_id", &self.id)];
        let (status, said) = form(player, gateway, "/oauth/revoke", &fields).await?;
        anyhow::ensure!(status == 200, "not given back: {said}");
        let time = Time::since(began);
        let lasted = (time.began.saturating_sub(self.signed_in.ended), time.ended - self.signed_in.began);
        let tenant = self.person.who.tenant.clone();
        player.happened(gateway, time, Happening::SessionEnd { tenant, reason: "logout", lasted });
        Ok(())
    }
}

async fn form(player: &mut Player, gateway: usize, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<(u16, Value)> {
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    posts(player, gateway, path, "application/x-www-form-urlencoded", body).await
}

async fn posts(
    player: &mut Player,
    gateway: usize,
    path: &str,
    kind: &str,
    body: String,
) -> anyhow::Result<(u16, Value)> {
    let request = Request::new(Method::POST, body.into()).path(path).header("content-type", kind);
    let (client, began) = (Client::new(player.url(gateway)), Time::now());
    let reply = client.send(request).await?;
    let (status, text) = (reply.status.as_u16(), reply.text().await?);
    player.asked_at_pages(gateway, "POST", path, path, status, Time::since(began));
    Ok((status, serde_json::from_str(&text).unwrap_or_default()))
}

/// What a browser asked of the gateway.
fn visited(player: &mut Player, gateway: usize, browser: &mut Browser) {
    for visit in browser.take_visits() {
        if visit.url.as_str().starts_with(player.url(gateway)) {
            let path = visit.url.path();
            let route = if path.starts_with("/oauth/callback/") { "/oauth/callback/{provider}" } else { path };
            player.asked_at_pages(gateway, visit.method.as_str(), route, path, visit.status.as_u16(), visit.time);
        }
    }
}
