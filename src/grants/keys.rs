//! The public keys of those who sign, clients and trusted issuers (RFC 7517): given with them, at a URL of theirs, or where an
//! issuer says that they are. What is fetched is kept for a while.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::fetch::{Chosen, FetchError, Fetcher, fetchable};
use super::kept::{Kept, Terms};
use crate::config::is_guarded;
use crate::crypto::jwk::KeySet;
use crate::json;

/// Most keys of one client.
const MOST: usize = 10;
/// Most keys that are published where an administrator says.
const MOST_BY_ADMIN: usize = 100;
/// Most sets that are kept.
const SETS: usize = 1_000;
/// Most issuers of which it is kept where their keys are.
const ISSUERS: usize = 1_000;
/// Before that, a key that is not known is not looked for again.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// Where somebody's keys are.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Here.
    Inline(Arc<KeySet>),
    /// At a URL.
    At {
        /// Which.
        url: Url,
        /// Whether an administrator chose it; else a stranger did.
        by_admin: bool,
    },
    /// Where this issuer, chosen by an administrator, says (OpenID Connect Discovery 1.0 section 4).
    Of(String),
}

impl KeySource {
    /// The keys or the URL that somebody gave, one of the two; a mistake names the member.
    pub(super) fn read(
        jwks: Option<&Value>,
        jwks_uri: Option<&str>,
        by_admin: bool,
    ) -> Result<Self, (&'static str, String)> {
        match (jwks, jwks_uri) {
            (Some(jwks), None) => {
                parse(jwks, MOST).map(|set| Self::Inline(Arc::new(set))).map_err(|error| ("jwks", error.to_owned()))
            }
            (None, Some(uri)) => match fetchable(uri) {
                Ok(url) => Ok(Self::At { url, by_admin }),
                Err(error) => Err(("jwks_uri", error.to_owned())),
            },
            _ => Err(("jwks", "give `jwks` or `jwks_uri`, one of the two".to_owned())),
        }
    }
}

/// Reads a set of public keys that can be verified with.
fn parse(value: &Value, most: usize) -> Result<KeySet, &'static str> {
    let keys = value["keys"].as_array().ok_or("must be an object with a list `keys`")?;
    if keys.is_empty() || keys.len() > most {
        return Err(if most == MOST { "holds 1 to 10 keys" } else { "holds 1 to 100 keys" });
    }
    // Whoever publishes one has lost it; whoever sends one to us should not.
    if keys.iter().any(|key| ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|part| key.get(part).is_some())) {
        return Err("holds a secret or private key; give public keys only, and make a new pair");
    }
    let usable = KeySet::read(keys);
    if usable.is_empty() {
        return Err("holds no key that can be verified with: RSA of 2048 bits or more, EC P-256 or P-384, Ed25519");
    }
    Ok(usable)
}

/// What is used of an issuer's description of itself.
#[derive(Deserialize)]
struct Described {
    issuer: String,
    jwks_uri: Url,
}

/// Sets of keys that were fetched.
pub(super) struct Keys {
    kept: Kept<KeySet, FetchError>,
    published: Kept<Url, FetchError>,
    fetcher: Arc<Fetcher>,
}

impl Keys {
    pub(super) fn new(fetcher: Arc<Fetcher>) -> Self {
        let lasting = |error: &FetchError| !error.is_ours();
        Self { kept: Kept::new(SETS, lasting), published: Kept::new(ISSUERS, lasting), fetcher }
    }

    /// The keys of somebody. When there is none of the id `kid`, and that was not asked a moment ago, they are fetched anew:
    /// they may have changed. If that fails, those that are known stay good for as long as they are kept. `otherwise` says whose a URL is that no administrator chose.
    pub(super) async fn of(
        &self,
        source: &KeySource,
        kid: Option<&str>,
        otherwise: Chosen,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, FetchError> {
        let (url, chosen) = match source {
            KeySource::Inline(set) => return Ok(Arc::clone(set)),
            KeySource::At { url, by_admin } => (url, if *by_admin { Chosen::ByAdmin } else { otherwise }),
            KeySource::Of(issuer) => (&*self.published(issuer, now).await?, Chosen::ByAdmin),
        };
        let set = self.fetched(url, chosen, None, now).await?;
        if kid.is_none_or(|kid| set.has(kid)) {
            return Ok(set);
        }
        self.fetched(url, chosen, Some(ASK_AGAIN), now).await
    }

    async fn fetched(
        &self,
        url: &Url,
        chosen: Chosen,
        at_most: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, FetchError> {
        let (whose, most) = if chosen == Chosen::ByAdmin { ("admin", MOST_BY_ADMIN) } else { ("stranger", MOST) };
        let fetch = async {
            let (value, wish) = self.document(url, chosen, now).await?;
            let set = parse(&value, most).map_err(|what| FetchError::Wrong(format!("the keys at {url}: {what}")))?;
            Ok((set, wish))
        };
        // What an administrator's URL may reach, a stranger's may not: they are kept apart.
        let name = format!("{whose} {url}");
        self.kept.get(&name, Terms { at_most, stale: false }, now, fetch).await.map_err(|_| FetchError::Busy)?
    }

    /// Where an issuer says that its keys are. Only its own word counts: the document names exactly this issuer.
    async fn published(&self, issuer: &str, now: OffsetDateTime) -> Result<Arc<Url>, FetchError> {
        let wrong = |what: &str| FetchError::Wrong(format!("what the issuer {issuer} says of itself {what}"));
        let fetch = async {
            let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            let url = Url::parse(&url).map_err(|_| wrong("cannot be asked for: it is no URL"))?;
            let (value, wish) = self.document(&url, Chosen::ByAdmin, now).await?;
            let found = Described::deserialize(&value).map_err(|_| wrong("names no jwks_uri"))?;
            if found.issuer != issuer {
                return Err(wrong("is of another issuer"));
            }
            // Without TLS only where the issuer itself has none, on this machine: others are not to lead us there.
            if !is_guarded(&found.jwks_uri) || (url.scheme() == "https" && found.jwks_uri.scheme() != "https") {
                return Err(wrong("names a jwks_uri that is no https URL"));
            }
            Ok((found.jwks_uri, wish))
        };
        self.published.get(issuer, Terms::default(), now, fetch).await.map_err(|_| FetchError::Busy)?
    }

    async fn document(
        &self,
        url: &Url,
        chosen: Chosen,
        now: OffsetDateTime,
    ) -> Result<(Value, Option<Duration>), FetchError> {
        let (body, wish) = self.fetcher.get(url, chosen, now).await?;
        let wrong = || FetchError::Wrong(format!("{url} holds no strict JSON"));
        json::check(&body).map_err(|_| wrong())?;
        Ok((serde_json::from_slice(&body).map_err(|_| wrong())?, wish))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::{AddressPolicy, Outbound};

    #[test]
    fn only_public_keys_that_can_be_verified_with_are_taken() {
        let ec = json!({"kty": "EC", "crv": "P-256", "kid": "a",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let with = |key: &Value, name: &str, value: Value| {
            let mut key = key.clone();
            key[name] = value;
            json!({ "keys": [key] })
        };
        assert_eq!(parse(&json!({ "keys": [ec] }), MOST).unwrap().len(), 1);
        let among_others = json!({"keys": [{"kty": "future"}, ec, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]});
        assert_eq!(parse(&among_others, MOST).unwrap().len(), 1);
        for (set, told) in [
            (with(&ec, "d", json!("x")), "private"),
            (json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}), "private"),
            (with(&ec, "use", json!("enc")), "no key"),
            (json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}), "no key"),
            (json!({"keys": []}), "1 to 10"),
            (json!({"keys": vec![ec.clone(); 11]}), "1 to 10"),
            (json!([]), "list `keys`"),
        ] {
            let refused = parse(&set, MOST).unwrap_err();
            assert!(refused.contains(told), "{refused}");
        }
        let both = KeySource::read(Some(&json!({"keys": [ec]})), Some("https://a.example/keys"), false);
        assert_eq!(both.unwrap_err().0, "jwks");
        assert_eq!(KeySource::read(None, Some("http://a.example/keys"), false).unwrap_err().0, "jwks_uri");
    }

    /// A site that answers with what stands at a path; its address, and the paths that were asked for.
    async fn site(pages: Arc<Mutex<HashMap<&'static str, Value>>>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let body = pages.lock().unwrap().get(path.as_str()).map(Value::to_string);
                noted.lock().unwrap().push(path);
                let (status, body) = body.map_or(("404 Not Found", String::new()), |body| ("200 OK", body));
                let kind = "content-type: application/json\r\nconnection: close";
                let text = format!("HTTP/1.1 {status}\r\n{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        (base, asked)
    }

    #[tokio::test]
    async fn an_issuer_says_where_its_keys_are_and_new_ones_are_found_there() {
        let pages = Arc::<Mutex<HashMap<&'static str, Value>>>::default();
        let (base, asked) = site(Arc::clone(&pages)).await;
        let issuer = format!("{base}/");
        let keys = Keys::new(Arc::new(Fetcher::new(&Outbound::new(AddressPolicy::STRANGER, None), Vec::new())));
        let source = KeySource::Of(issuer.clone());
        let at = |minutes: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(minutes);
        let set = |ids: &[&str]| {
            let key = |id: &&str| {
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x5c": ["x".repeat(6_000)],
                    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
            };
            json!({"keys": ids.iter().map(key).collect::<Vec<_>>()})
        };
        let put = |path, page| _ = pages.lock().unwrap().insert(path, page);
        let about = "/.well-known/openid-configuration";
        for (minutes, wrong) in [
            (0, json!({"issuer": base, "jwks_uri": format!("{base}/keys")})),
            (10, json!({"issuer": "https://other.example", "jwks_uri": format!("{base}/keys")})),
            (20, json!({"issuer": issuer, "jwks_uri": "http://keys.example/"})),
            (30, json!({"issuer": issuer})),
        ] {
            put(about, wrong);
            assert!(
                matches!(keys.of(&source, None, Chosen::ByAdmin, at(minutes)).await, Err(FetchError::Wrong(_))),
                "{minutes}"
            );
        }
        put(about, json!({"issuer": issuer, "jwks_uri": format!("{base}/keys")}));
        put("/keys", set(&["a"]));
        asked.lock().unwrap().clear();
        assert!(keys.of(&source, Some("a"), Chosen::ByAdmin, at(40)).await.unwrap().has("a"));
        put("/keys", set(&["a", "b"]));
        assert!(
            !keys.of(&source, Some("b"), Chosen::ByAdmin, at(40)).await.unwrap().has("b"),
            "it was asked a moment ago"
        );
        assert!(keys.of(&source, Some("b"), Chosen::ByAdmin, at(42)).await.unwrap().has("b"));
        for _ in 0..20 {
            assert!(!keys.of(&source, Some("unknown"), Chosen::ByAdmin, at(42)).await.unwrap().has("unknown"));
        }
        assert_eq!(*asked.lock().unwrap(), [about, "/keys", "/keys"]);

        pages.lock().unwrap().remove("/keys");
        for _ in 0..20 {
            let unknown = keys.of(&source, Some("unknown"), Chosen::ByAdmin, at(50)).await;
            assert!(matches!(unknown, Err(FetchError::Wrong(_))), "they cannot be looked for");
            assert!(
                keys.of(&source, Some("a"), Chosen::ByAdmin, at(50)).await.unwrap().has("a"),
                "those that are known"
            );
        }
        assert_eq!(asked.lock().unwrap().len(), 4, "once a minute");
    }
}
