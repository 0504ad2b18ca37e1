//! The gateway as a command sees it: where it is, the key to use there, and its REST API. URL and key come from the flags or
//! the environment, else from `cli.json`, which the gateway writes into its data folder. The key in that file is sent to the
//! gateway named in it and to no other.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderName, HeaderValue, Method};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::failure::Failure;
use super::http::{Answer, Http, Request};
use crate::config::{DotEnv, is_loopback};
use crate::secret::Secret;
use crate::serve::AccessFile;

/// Where a gateway listens when nothing else is said.
const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8001";
/// Longest wait for an answer of the REST API.
const WAIT: Duration = Duration::from_mins(1);
/// More pages than this are no list but a loop.
const MAX_PAGES: usize = 2_000;
/// Most items of one page.
const LARGEST_PAGE: usize = 500;

/// Which gateway, and as whom. Every command takes these.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub struct Reach {
    /// URL of the gateway; without it, the one of the data folder (`MREG_DATA_DIR`, else ./data)
    #[arg(long, global = true, env = "MREG_GATEWAY_URL", value_name = "URL", hide_env_values = true)]
    pub gateway: Option<String>,
    /// API key to sign in with; without it, the one of the data folder
    #[arg(long, global = true, env = "MREG_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// The data folder beside which the command runs.
    #[arg(skip)]
    pub data: PathBuf,
}

/// The data folder beside which a command runs: `MREG_DATA_DIR` of the environment or of `.env`, else `./data`.
pub fn data_folder(dotenv: &DotEnv) -> PathBuf {
    let said = std::env::var_os("MREG_DATA_DIR").filter(|dir| !dir.is_empty());
    said.or_else(|| dotenv.get("MREG_DATA_DIR").map(Into::into)).map_or_else(|| PathBuf::from("data"), PathBuf::from)
}

/// A gateway's REST API.
pub struct Gateway {
    /// The client, also for calls of tools.
    pub http: Http,
    base: Url,
    key: Option<Secret>,
}

/// An answer of the REST API.
#[derive(Debug)]
pub struct Reply {
    /// The JSON body; null when there was none.
    pub value: Value,
    /// The `ETag`, as it came.
    pub etag: Option<HeaderValue>,
}

impl Gateway {
    /// Finds URL and key as the module says.
    pub fn find(reach: &Reach) -> anyhow::Result<Self> {
        // A file that cannot be read (another user's data folder) must not stop someone who names gateway and key.
        let named = reach.gateway.is_some() && reach.key.is_some();
        let file = if named { None } else { AccessFile::read(&reach.data)? };
        let base = match (&reach.gateway, &file) {
            (Some(url), _) => url.as_str(),
            (None, Some(file)) => &file.gateway,
            (None, None) => DEFAULT_GATEWAY,
        };
        let base = parse_base(base)?;
        let key = match &reach.key {
            Some(key) => Some(Secret::new(key.trim())),
            None => file.filter(|file| parse_base(&file.gateway).is_ok_and(|of| of == base)).and_then(|file| file.key),
        };
        if key.is_some() && base.scheme() == "http" && !is_loopback(&base) {
            super::screen::note(&format!("warning: the key travels unencrypted to {base}; use https"));
        }
        Ok(Self { http: Http::default(), base, key })
    }

    /// A gateway at a known place.
    pub fn at(url: &str, key: &Secret) -> anyhow::Result<Self> {
        Ok(Self { http: Http::default(), base: parse_base(url)?, key: Some(key.clone()) })
    }

    /// The base URL without a slash at its end.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Whether there is a key to show.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// URL below the base, each segment escaped.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The `authorization` header, when there is a key.
    pub fn authorization(&self) -> anyhow::Result<Option<(HeaderName, HeaderValue)>> {
        let Some(key) = &self.key else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| Failure::usage("the key holds a character that no key holds; copy it again"))?;
        value.set_sensitive(true);
        Ok(Some((AUTHORIZATION, value)))
    }

    /// Sends a request and reads whatever comes.
    pub async fn raw(
        &self,
        method: Method,
        url: &Url,
        body: Option<Vec<u8>>,
        etag: Option<HeaderValue>,
    ) -> anyhow::Result<Answer> {
        let mut headers = vec![(ACCEPT, HeaderValue::from_static("application/json, application/problem+json"))];
        headers.extend(self.authorization()?);
        if body.is_some() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        headers.extend(etag.map(|etag| (IF_MATCH, etag)));
        self.http.send(Request { method, url, headers, body: body.unwrap_or_default().into(), wait: WAIT }).await
    }

    /// Sends a request under `/api/v1` and reads a success, or fails with what the gateway said.
    pub async fn api(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<Vec<u8>>,
        etag: Option<HeaderValue>,
    ) -> anyhow::Result<Reply> {
        let url = self.url(&[&["api", "v1"], segments].concat());
        read(&self.raw(method, &url, body, etag).await?)
    }

    /// `GET` under `/api/v1`.
    pub async fn get(&self, segments: &[&str]) -> anyhow::Result<Reply> {
        self.api(Method::GET, segments, None, None).await
    }

    /// `GET` under `/api/v1` with a query.
    pub async fn ask(&self, segments: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut url = self.url(&[&["api", "v1"], segments].concat());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.raw(Method::GET, &url, None, None).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(Failure::from_answer(answer.status.as_u16(), &answer.body).into())
    }

    /// `POST` under `/api/v1`.
    pub async fn post(&self, segments: &[&str], body: &impl Serialize) -> anyhow::Result<Value> {
        Ok(self.api(Method::POST, segments, Some(serde_json::to_vec(body)?), None).await?.value)
    }

    /// `POST` under `/api/v1` without a body: an action.
    pub async fn act(&self, segments: &[&str]) -> anyhow::Result<Value> {
        Ok(self.api(Method::POST, segments, None, None).await?.value)
    }

    /// `DELETE` under `/api/v1`.
    pub async fn delete(&self, segments: &[&str]) -> anyhow::Result<()> {
        self.api(Method::DELETE, segments, None, None).await.map(drop)
    }

    /// `DELETE` under `/api/v1` with a query.
    pub async fn delete_with(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<()> {
        let mut url = self.url(&[&["api", "v1"], segments].concat());
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        read(&self.raw(Method::DELETE, &url, None, None).await?).map(drop)
    }

    /// Every item of a list, page after page.
    pub async fn all(&self, segments: &[&str]) -> anyhow::Result<Vec<Value>> {
        self.list(segments, &[], usize::MAX).await
    }

    /// The first `most` items of a list with these parameters, page after page.
    pub async fn list(&self, segments: &[&str], query: &[(&str, &str)], most: usize) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = most.saturating_sub(items.len()).min(LARGEST_PAGE);
            let (more, next) = self.page(segments, query, cursor.as_deref(), page).await?;
            items.extend(more);
            match next {
                Some(next) if items.len() < most => cursor = Some(next),
                _ => return Ok(items),
            }
        }
        Err(Failure::new("the list does not end").into())
    }

    /// One page of a list, and where the next begins.
    pub async fn page(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        cursor: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<(Vec<Value>, Option<String>)> {
        let mut url = self.url(&[&["api", "v1"], segments].concat());
        url.query_pairs_mut().extend_pairs(query).append_pair("limit", &limit.to_string());
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        let mut page = read(&self.raw(Method::GET, &url, None, None).await?)?.value;
        let next = page.get("next_cursor").and_then(Value::as_str);
        let next = next.filter(|next| cursor != Some(*next)).map(str::to_owned);
        match page.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok((items, next)),
            _ => Err(no_list(&url).into()),
        }
    }
}

fn no_list(url: &Url) -> Failure {
    Failure::new(format!("{url} did not answer with a list"))
        .advise("check that --gateway is the URL of an MCP Registry Gateway")
}

fn read(answer: &Answer) -> anyhow::Result<Reply> {
    if !answer.status.is_success() {
        return Err(Failure::from_answer(answer.status.as_u16(), &answer.body).into());
    }
    let value = if answer.body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&answer.body).map_err(|_| {
            Failure::new("the answer is not JSON").advise("check that --gateway is the URL of an MCP Registry Gateway")
        })?
    };
    Ok(Reply { value, etag: answer.headers.get(ETAG).cloned() })
}

/// Checks a base URL. A missing scheme and credentials in the URL are told.
fn parse_base(text: &str) -> anyhow::Result<Url> {
    // What stands before an @ may be a password.
    let shown = if text.contains('@') { "that text" } else { text };
    let wrong = |why: &str| Failure::usage(format!("`{shown}` is not the URL of a gateway: {why}"));
    let url = Url::parse(text.trim()).map_err(|_| wrong("write it like http://127.0.0.1:8001"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("write it like http://127.0.0.1:8001").into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::usage("the URL of the gateway holds credentials; give the key with --key").into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has no query and no fragment").into());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_and_go_below_the_base() {
        let gateway = Gateway::at("https://host/base/", &Secret::new("k")).unwrap();
        assert_eq!(gateway.base(), "https://host/base");
        assert_eq!(gateway.url(&["api", "v1", "keys", "../x y"]).as_str(), "https://host/base/api/v1/keys/..%2Fx%20y");
    }

    #[test]
    fn a_base_that_is_none_is_told() {
        for text in ["127.0.0.1:8001", "ftp://x", "http://", "http://user:pw@host", "ftp://user:pw@h", "http://h/?a=1"]
        {
            let error = parse_base(text).unwrap_err().downcast::<Failure>().unwrap();
            assert_eq!(error.exit, 2, "{text}");
            assert!(!error.what.contains("pw"), "{}", error.what);
        }
    }
}
