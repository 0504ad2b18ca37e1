//! A gateway as those see it who come to it by HTTP: words for what clients, people and administrators do there.

use http::Method;
use serde_json::{Value, json};
pub use testkit::answer::Answer;
use testkit::browser::{Browser, Page};
use testkit::client::{Client, Request};
use testkit::sign_in::{self, VERIFIER};
use url::form_urlencoded::Serializer;
use uuid::Uuid;

/// The administrator's key.
pub const KEY: &str = "mcpg_91d5a0c27be34f8f9b6e1c8d7a2403f5be17c90d4a6f8e2253b7d1096ac4ef80";
pub const REDIRECT: &str = "http://127.0.0.1:7777/callback";
/// Ada's.
pub const PASSWORD: &str = "a-long-pass-phrase-of-ada";

/// A person's browser, which stops where the client would take over.
pub fn browser() -> Browser {
    Browser::new().stop_at(REDIRECT)
}

/// See the module.
pub struct Door {
    pub url: String,
    /// The client that acts, unless another one is named.
    pub client: String,
}

impl Door {
    pub fn at(url: String) -> Self {
        Self { url, client: String::new() }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let method: Method = method.parse().unwrap();
        let request =
            headers.iter().fold(Request::new(method, body.to_owned().into()).path(path), |request, (name, value)| {
                request.also(name, value)
            });
        let reply = Client::new(&self.url).send(request).await.unwrap();
        let (status, headers) = (reply.status.as_u16(), reply.headers.clone());
        Answer { status, headers, text: reply.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send("GET", path, &[("authorization", bearer.as_str())], "").await
    }

    /// One call of the REST API by the administrator.
    pub async fn rest(&self, method: &str, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {KEY}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.send(method, &format!("/api/v1{path}"), &headers, &body.to_string()).await
    }

    pub async fn register(&self, metadata: &Value, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send("POST", "/oauth/register", &headers, &metadata.to_string()).await
    }

    /// The id of a client that registers itself so.
    pub async fn registered(&self, metadata: &Value) -> String {
        self.register(metadata, &[]).await.expect(201).json()["client_id"].as_str().unwrap().to_owned()
    }

    pub async fn form(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let headers = [&[("content-type", "application/x-www-form-urlencoded")], headers].concat();
        self.send("POST", path, &headers, &body).await
    }

    /// What the token endpoint answers to these fields.
    pub async fn token(&self, fields: &[(&str, &str)]) -> Answer {
        self.form("/oauth/token", &[], fields).await
    }

    pub fn uri(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The address to which the client sends a browser, with these changes.
    pub fn authorize(&self, changes: &[(&str, &str)]) -> String {
        sign_in::authorize(&self.url, &self.client, REDIRECT, changes).unwrap()
    }

    /// The page on which a person would allow what the client asks for, in this browser.
    pub async fn consent(&self, browser: &mut Browser, changes: &[(&str, &str)]) -> Page {
        let page = browser.open(&self.authorize(changes)).await.unwrap();
        assert!(page.form("decision").is_ok(), "{} {}", page.url, page.text());
        page
    }

    /// What the client gets for a code.
    pub async fn redeem(&self, code: &str) -> Answer {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", VERIFIER),
            ("redirect_uri", REDIRECT),
            ("client_id", &self.client),
        ];
        self.token(&fields).await
    }

    pub async fn refresh(&self, token: &str, more: &[(&str, &str)]) -> Answer {
        let own = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", self.client.as_str())];
        self.token(&[&own, more].concat()).await
    }

    /// Makes the account `ada`, with her password; its id.
    pub async fn ada(&self) -> Uuid {
        let order = json!({"username": "ada", "role": "tenant_admin", "password": PASSWORD});
        let made = self.rest("POST", "/users", order).await.expect(201).json();
        made["id"].as_str().unwrap().parse().unwrap()
    }

    /// A service that an administrator registers with these scopes; its secret.
    pub async fn service(&self, id: &str, scopes: &[&str]) -> String {
        let order = json!({"client_id": id, "name": id, "kind": "service", "scopes": scopes});
        let made = self.rest("POST", "/oauth-clients", order).await.expect(201);
        made.json()["client_secret"].as_str().unwrap().to_owned()
    }

    pub async fn metrics(&self) -> String {
        self.get("/metrics", KEY).await.expect(200).text
    }
}
