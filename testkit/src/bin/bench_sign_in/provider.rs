//! An identity provider that knows everybody and asks nothing: OpenID Connect with one Ed25519 key. It costs next to nothing, so
//! that what is measured is the gateway's own work.

use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

/// What the gateway is called here.
pub const CLIENT: &str = "gateway";
/// How it proves that.
pub const SECRET: &str = "a-secret-for-measurements-only";

/// See the module.
pub struct Provider {
    /// Its issuer.
    pub url: String,
}

struct Inside {
    url: String,
    key: Ed25519KeyPair,
}

impl Provider {
    /// Listens on a free port of loopback, as long as the process lives.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let key = Ed25519KeyPair::generate().context("a key")?;
        let inside = Arc::new(Inside { url: url.clone(), key });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(inside);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { url })
    }

    /// Where the browser of `person` comes back to, from where the gateway sent it; what the person and the provider do between is
    /// not done.
    pub fn answer(sent_to: &Url, person: &str) -> anyhow::Result<Url> {
        let asked = |name: &str| {
            let found = sent_to.query_pairs().find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned()).with_context(|| format!("no {name} in {sent_to}"))
        };
        let mut back = Url::parse(&asked("redirect_uri")?)?;
        let code = URL_SAFE_NO_PAD.encode(json!({ "sub": person, "nonce": asked("nonce")? }).to_string());
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &asked("state")?);
        Ok(back)
    }
}

async fn discovery(State(inside): State<Arc<Inside>>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", inside.url);
    Json(json!({
        "issuer": inside.url,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "jwks_uri": at("/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["EdDSA"],
    }))
}

async fn keys(State(inside): State<Arc<Inside>>) -> Json<Value> {
    let x = URL_SAFE_NO_PAD.encode(inside.key.public_key().as_ref());
    Json(json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "one", "x": x }] }))
}

async fn token(State(inside): State<Arc<Inside>>, form: String) -> Json<Value> {
    let shown = url::form_urlencoded::parse(form.as_bytes()).find(|(name, _)| name == "code");
    let code = shown.and_then(|(_, code)| URL_SAFE_NO_PAD.decode(&*code).ok()).unwrap_or_default();
    let mut claims: Value = serde_json::from_slice(&code).unwrap_or_default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    claims["iss"] = json!(inside.url);
    claims["aud"] = json!(CLIENT);
    claims["iat"] = json!(now);
    claims["exp"] = json!(now + 600);
    claims["preferred_username"] = claims["sub"].clone();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "EdDSA", "kid": "one", "typ": "JWT" })), part(&claims));
    let signature = URL_SAFE_NO_PAD.encode(inside.key.sign(signed.as_bytes()));
    Json(json!({
        "token_type": "Bearer",
        "access_token": "opaque",
        "expires_in": 600,
        "id_token": format!("{signed}.{signature}"),
    }))
}
