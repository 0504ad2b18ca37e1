//! People who sign in: with the password at the REST API, and through pages for a program that then acts for them.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::crowd::{PASSWORD, Tenant, signs_in};
use super::ledger::Deed;
use super::ledger::{Happening, Time, Who};
use super::player::{Ask, By, Person, Player};
use crate::browser::Browser;
use crate::client::{Client, Request};
use crate::entra::Entra;
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
    /// One for which this person signs in with the password.
    pub async fn of(player: &mut Player, tenant: &Tenant, person: &Person) -> anyhow::Result<Self> {
        Self::for_which(player, person.gateway, Coming::Password(tenant, person)).await
    }

    /// One for which this person of the provider's signs in there; `admin` looks who that is here.
    pub async fn at_provider(player: &mut Player, entra: &Entra, user: &str, admin: &Person) -> anyhow::Result<Self> {
        Self::for_which(player, admin.gateway, Coming::Provider(entra, user, admin)).await
    }

    /// One that registers itself at this gateway.
    async fn for_which(player: &mut Player, gateway: usize, how: Coming<'_>) -> anyhow::Result<Self> {
        let metadata = json!({"redirect_uris": [REDIRECT], "client_name": "A program of the workload",
            "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"]});
        let made = posts(player, gateway, "/oauth/register", "application/json", metadata.to_string()).await?;
        player.happened(gateway, Time::since(Time::now()), Happening::Noted);
        let id = made.1["client_id"].as_str().with_context(|| format!("{made:?}"))?.to_owned();

        let mut browser = Browser::new().stop_at(REDIRECT);
        let began = Time::now();
        let scope = [("scope", "mcp offline_access")];
        let page = browser.open(&sign_in::authorize(player.url(gateway), &id, REDIRECT, &scope)?).await?;
        let (end, method) = match how {
            Coming::Password(tenant, person) => {
                let name = format!("{}/{}", tenant.id, person.who.name);
                (sign_in::with_password(&mut browser, &page, &name, PASSWORD).await?, "local")
            }
            Coming::Provider(entra, user, _) => {
                (sign_in::with_provider(&mut browser, &page, "entra", entra, user).await?, "entra")
            }
        };
        visited(player, gateway, &mut browser);
        let code = end.param("code").with_context(|| format!("{}: {}", end.url, end.text()))?;
        let signed_in = Time::since(began);
        let who = how.who(player).await?;
        let (tenant, user) = (who.tenant.clone(), who.user.clone());
        let what = Happening::SignIn { tenant, user, method, refused: None };
        player.happened(gateway, signed_in, what);
        // That the program may, and what it was given.
        player.happened(gateway, signed_in, Happening::Noted);
        player.happened(gateway, signed_in, Happening::Noted);
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
        let who = Arc::new(Who { kind: "oauth", credential: key.clone(), ..who });
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
        player.happened(gateway, Time::since(began), Happening::Noted);
        given["access_token"].as_str().unwrap_or_default().clone_into(&mut self.person.key);
        given["refresh_token"].as_str().unwrap_or_default().clone_into(&mut self.refresh);
        Ok(())
    }

    /// An administrator has what the provider gave refreshed; whether the session is still good.
    pub async fn is_refreshed(&self, player: &mut Player, admin: &Person) -> anyhow::Result<bool> {
        let (who, began) = (&self.person.who, Time::now());
        let force = Ask::new(By::Somebody(admin), "POST /admin/force-token-refresh/{user_id}").fill(&[&who.user]);
        let told = player.ask(force).await?;
        let good = match told.status {
            200 => true,
            424 => false,
            _ => bail!("{told:?}"),
        };
        // The provider was asked and did not answer as it should, which is about what is behind: not the client's.
        if let Some(Deed { end, .. }) = player.ledger.deeds.last_mut().filter(|_| !good) {
            *end = super::ledger::End::of_client("bad_request");
        }
        let (time, tenant) = (Time::since(began), who.tenant.clone());
        let result = if good { "success" } else { "reauth_required" };
        player.happened(admin.gateway, time, Happening::Refresh { tenant, kind: "forced", result });
        if !good {
            self.is_over(player, "error", time);
        }
        Ok(good)
    }

    fn is_over(&self, player: &mut Player, reason: &'static str, time: Time) {
        let lasted = (time.began.saturating_sub(self.signed_in.ended), time.ended - self.signed_in.began);
        let tenant = self.person.who.tenant.clone();
        player.happened(self.person.gateway, time, Happening::SessionEnd { tenant, reason, lasted });
    }

    /// Gives back what it has: its session is over.
    pub async fn leaves(self, player: &mut Player) -> anyhow::Result<()> {
        let (gateway, began) = (self.person.gateway, Time::now());
        let fields = [("token", &*self.refresh), ("client_id", &self.id)];
        let (status, said) = form(player, gateway, "/oauth/revoke", &fields).await?;
        anyhow::ensure!(status == 200, "not given back: {said}");
        player.happened(gateway, Time::since(began), Happening::Noted);
        self.is_over(player, "logout", Time::since(began));
        Ok(())
    }
}

/// How somebody signs in for a program.
#[derive(Clone, Copy)]
enum Coming<'a> {
    Password(&'a Tenant, &'a Person),
    Provider(&'a Entra, &'a str, &'a Person),
}

impl Coming<'_> {
    /// Who that is here.
    async fn who(self, player: &mut Player) -> anyhow::Result<Who> {
        let (user, admin) = match self {
            Self::Password(_, person) => return Ok((*person.who).clone()),
            Self::Provider(_, user, admin) => (user, admin),
        };
        let read = Ask::new(By::Somebody(admin), "GET /users/{id}").fill(&[user]);
        let told = player.ask(read).await?.expect(200)?;
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let (tenant, name) = (admin.who.tenant.clone(), user.to_owned());
        Ok(Who { tenant, user: text("id"), name, role: text("role"), ..Who::default() })
    }
}

async fn form(
    player: &mut Player,
    gateway: usize,
    path: &str,
    fields: &[(&str, &str)],
) -> anyhow::Result<(u16, Value)> {
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
