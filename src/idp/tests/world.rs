//! A provider of ours over a stand-in, with keys of its own.

use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::Url;

use super::super::http::Http;
use super::super::{ENTRA, IdpError, OIDC, Provider, Providers, SignedIn};
use super::fake::{Fake, Reply};
use crate::config::{DotEnv, Settings};
use crate::net::{AddressPolicy, Outbound};
use crate::secret::Secret;

pub const TENANT: &str = "c0170000-0000-4000-8000-000000000001";
pub const OTHER_TENANT: &str = "fab00000-0000-4000-8000-000000000002";
pub const CLIENT: &str = "11111111-1111-4111-8111-111111111111";
pub const PERSON: &str = "aaaaaaaa-0000-4000-8000-00000000000a";
pub const NONCE: &str = "the-nonce-of-this-sign-in";
pub const SECRET: &str = "gateway-secret-1";
pub const CALLBACK: &str = "https://gateway.example.com/oauth/callback/entra";

pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// A key that signs, and how it is published.
pub struct Signer {
    pub id: String,
    pub pem: String,
    pub key: EncodingKey,
    algorithm: Algorithm,
    jwk: Value,
}

impl Signer {
    pub fn rsa(id: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'static> = pair.as_der().unwrap();
        let pem = pem("PRIVATE KEY", der.as_ref());
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        Self::of(id, pem, key, Algorithm::RS256)
    }

    pub fn of(id: &str, pem: String, key: EncodingKey, algorithm: Algorithm) -> Self {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        jwk["kid"] = id.into();
        jwk["use"] = "sig".into();
        // Entra does not say it.
        jwk.as_object_mut().unwrap().remove("alg");
        Self { id: id.to_owned(), pem, key, algorithm, jwk }
    }

    /// The public key as Entra publishes it, for one issuer.
    pub fn published(&self, issuer: Option<&str>) -> Value {
        let mut jwk = self.jwk.clone();
        if let Some(issuer) = issuer {
            jwk["issuer"] = issuer.into();
        }
        jwk
    }

    pub fn header(&self) -> Header {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        header
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    pub fn sign_as(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A token of any header and no signature but `signature`.
pub fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

/// Claims with some of them changed; null takes one away.
pub fn with(mut claims: Value, changes: Value) -> Value {
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (name, value) in changes {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(&name);
        } else {
            claims[name] = value;
        }
    }
    claims
}

pub struct World {
    pub fake: Fake,
    pub providers: Providers,
    pub signer: Signer,
    /// The part of the authority's paths that names the tenant.
    pub tenant: String,
}

impl World {
    /// Entra for one directory, with a secret.
    pub async fn entra() -> Self {
        Self::entra_with(TENANT, &["--azure-client-secret", SECRET]).await
    }

    pub async fn entra_with(tenant: &str, more: &[&str]) -> Self {
        let fake = Fake::start().await;
        let (graph, v1) = (format!("{}/graph", fake.base), format!("{}/sts/", fake.base));
        let mut args = vec!["--azure-tenant-id", tenant, "--azure-client-id", CLIENT, "--azure-authority", &fake.base];
        args.extend(["--azure-graph-url", &graph, "--azure-v1-issuer-prefix", &v1]);
        args.extend(more);
        let providers = over(&args);
        let world = Self { fake, providers, signer: Signer::rsa("first"), tenant: tenant.to_owned() };
        let issuer = match tenant {
            "organizations" => world.issuer("{tenantid}"),
            _ => world.issuer(TENANT),
        };
        world.describe(
            &world.path("v2.0/.well-known/openid-configuration"),
            &issuer,
            &format!("/{tenant}/oauth2/v2.0"),
        );
        world.publish(&[world.signer.published(Some(&issuer))]);
        world
    }

    /// Another provider, with these settings more.
    pub async fn oidc(more: &[&str], signer: Signer) -> Self {
        let fake = Fake::start().await;
        let issuer = format!("{}/realm", fake.base);
        let mut args = vec!["--oidc-issuer", &issuer, "--oidc-client-id", "gateway"];
        args.extend(more);
        let providers = over(&args);
        let world = Self { fake, providers, signer, tenant: "realm".to_owned() };
        world.describe("/realm/.well-known/openid-configuration", &issuer, "/realm");
        world.publish(&[world.signer.published(None)]);
        world
    }

    pub fn describe(&self, path: &str, issuer: &str, endpoints: &str) {
        let at = |name: &str| format!("{}{endpoints}/{name}", self.fake.base);
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": at("authorize"),
            "token_endpoint": at("token"),
            "jwks_uri": format!("{}{}", self.fake.base, self.keys_path()),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        });
        self.fake.always(path, Reply::json(200, &document));
    }

    pub fn publish(&self, keys: &[Value]) {
        self.fake.always(&self.keys_path(), Reply::json(200, &json!({"keys": keys})));
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/{}/{rest}", self.tenant)
    }

    pub fn keys_path(&self) -> String {
        self.path("keys")
    }

    pub fn token_path(&self) -> String {
        self.path(if self.tenant == "realm" { "token" } else { "oauth2/v2.0/token" })
    }

    pub fn issuer(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.fake.base)
    }

    pub fn provider(&self) -> &Provider {
        self.providers.get(ENTRA).or(self.providers.get(OIDC)).unwrap()
    }

    /// Claims of an ID token of version 2.0.
    pub fn id_claims(&self) -> Value {
        let now = now().unix_timestamp();
        json!({
            "aud": CLIENT, "iss": self.issuer(TENANT), "tid": TENANT, "oid": PERSON, "sub": "pairwise", "ver": "2.0",
            "nonce": NONCE, "iat": now - 300, "nbf": now - 300, "exp": now + 3600,
            "preferred_username": "ada@contoso.example", "name": "Ada",
        })
    }

    /// Claims of an access token of version 2.0, of a person.
    pub fn access_claims(&self) -> Value {
        let changes = json!({"nonce": null, "azp": "the-client", "azpacr": "0", "scp": "other access_as_user"});
        with(self.id_claims(), changes)
    }

    /// Signs in with this ID token.
    pub async fn sign_in(&self, id_token: &str) -> Result<SignedIn, IdpError> {
        let given =
            json!({"id_token": id_token, "access_token": "entra-at", "refresh_token": "entra-rt", "expires_in": 4000});
        self.fake.always(&self.token_path(), Reply::json(200, &given));
        self.redeem().await
    }

    /// Redeems a code, whatever the answer is.
    pub async fn redeem(&self) -> Result<SignedIn, IdpError> {
        let (nonce, verifier) = (Secret::new(NONCE), Secret::new("the-verifier"));
        self.provider().finish(&Url::parse(CALLBACK).unwrap(), "the-code-to-redeem", &nonce, &verifier, now()).await
    }
}

fn over(args: &[&str]) -> Providers {
    let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
    let outbound = Outbound::new(AddressPolicy::STRANGER, None);
    Providers::over(&settings.azure, &settings.oidc, &Http::new(&outbound)).unwrap()
}

/// The same, but gives up soon.
pub fn impatient(args: &[&str]) -> Providers {
    let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
    let outbound = Outbound::new(AddressPolicy::STRANGER, None);
    Providers::over(&settings.azure, &settings.oidc, &Http::within(&outbound, Duration::from_millis(100))).unwrap()
}
