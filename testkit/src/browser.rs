//! A very small browser: cookies, redirects, forms. Two browsers are two jars, as two people at two machines are.
//!
//! It runs no script, loads no image and speaks plain HTTP only; what a page looks like and what its content policy
//! forbids is for a real browser to judge. It sends what browsers say of a navigation (`Origin`, `Sec-Fetch-*`), and
//! it stops before an address that nobody serves, such as the callback of a client that is a test.

mod form;
mod jar;

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

pub use self::form::{Form, text_of};
pub use self::jar::Jar;
use crate::client::{Client, Request};
use crate::workload::Time;

/// How many redirects are followed before it is a loop.
const MOST_REDIRECTS: usize = 10;

/// A browser.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    jar: Jar,
    stop_at: Vec<String>,
    source: Option<IpAddr>,
    visits: Vec<Visit>,
}

/// One request of a browser and its answer.
#[derive(Clone, Debug)]
pub struct Visit {
    /// How it was asked.
    pub method: Method,
    /// For what.
    pub url: Url,
    /// What came of it.
    pub status: StatusCode,
    /// When.
    pub time: Time,
}

/// Where a navigation ended: at a page, or before an address that it was to stop at.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its address.
    pub url: Url,
    /// Its status; 200 of an address that was not visited.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its text.
    pub body: String,
    /// The redirects on the way, their targets in order.
    pub redirects: Vec<Url>,
    /// Whether this is an address to stop at, which was not visited.
    pub stopped: bool,
}

impl Browser {
    /// A browser with no cookies.
    pub fn new() -> Self {
        Self::default()
    }

    /// Never visits an address that begins with this.
    #[must_use]
    pub fn stop_at(mut self, prefix: &str) -> Self {
        self.stop_at.push(prefix.to_owned());
        self
    }

    /// Connects from this address.
    #[must_use]
    pub fn source(mut self, address: IpAddr) -> Self {
        self.source = Some(address);
        self
    }

    /// What it asked for since this was last looked at.
    pub fn take_visits(&mut self) -> Vec<Visit> {
        std::mem::take(&mut self.visits)
    }

    /// Its cookies.
    pub fn jar(&mut self) -> &mut Jar {
        &mut self.jar
    }

    /// Goes to an address that somebody typed or a program opened.
    pub async fn open(&mut self, url: &str) -> anyhow::Result<Page> {
        self.go(Method::GET, Url::parse(url).context(url.to_owned())?, None, None).await
    }

    /// Follows a link on the page.
    pub async fn follow(&mut self, page: &Page, link: &str) -> anyhow::Result<Page> {
        self.go(Method::GET, page.url.join(link)?, None, Some(&page.url)).await
    }

    /// Sends the page's form that has this field or button, with these values over its own; a button counts as
    /// pressed when it is among them.
    pub async fn submit(&mut self, page: &Page, field: &str, values: &[(&str, &str)]) -> anyhow::Result<Page> {
        let form = page.form(field)?;
        self.send(page, &form.filled(values)).await
    }

    /// Sends a form as it is, from this page.
    pub async fn send(&mut self, page: &Page, form: &Form) -> anyhow::Result<Page> {
        let mut target = page.url.join(&form.action)?;
        let encoded = form.encoded();
        if form.method == Method::GET {
            target.set_query(Some(&encoded));
            return self.go(Method::GET, target, None, Some(&page.url)).await;
        }
        self.go(Method::POST, target, Some(encoded.into()), Some(&page.url)).await
    }

    async fn go(
        &mut self,
        mut method: Method,
        mut url: Url,
        mut body: Option<Bytes>,
        from: Option<&Url>,
    ) -> anyhow::Result<Page> {
        let mut redirects = Vec::new();
        let mut site = from.map_or("none", |from| relation(from, &url));
        loop {
            url.set_fragment(None);
            if self.stop_at.iter().any(|prefix| url.as_str().starts_with(prefix)) {
                let (headers, body) = (HeaderMap::new(), String::new());
                return Ok(Page { url, status: StatusCode::OK, headers, body, redirects, stopped: true });
            }
            let mut request = Request::new(method.clone(), body.clone().unwrap_or_default())
                .path(&url[url::Position::BeforePath..])
                .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "document")
                .header("sec-fetch-site", site);
            if let Some(cookies) = self.jar.header(&url) {
                request = request.header("cookie", &cookies);
            }
            if body.is_some() {
                request = request.header("content-type", "application/x-www-form-urlencoded");
                let origin = from.map_or("null".to_owned(), |from| from.origin().ascii_serialization());
                request = request.header("origin", &origin);
            }
            if url.scheme() != "http" {
                bail!("this browser speaks plain HTTP only, and is sent to {url}");
            }
            let client = Client::new(url.as_str());
            let client = if let Some(source) = self.source { client.source(source) } else { client };
            let began = Time::now();
            let reply = client.send(request).await.with_context(|| url.to_string())?;
            self.jar.take(&url, &reply.headers);
            let (status, headers) = (reply.status, reply.headers.clone());
            let bytes = reply.bytes().await?;
            self.visits.push(Visit { method: method.clone(), url: url.clone(), status, time: Time::since(began) });
            let Some(location) = status.is_redirection().then(|| headers.get("location")).flatten() else {
                let body = String::from_utf8_lossy(&bytes).into_owned();
                return Ok(Page { url, status, headers, body, redirects, stopped: false });
            };
            let next = url.join(location.to_str()?)?;
            if redirects.len() == MOST_REDIRECTS {
                bail!("more than {MOST_REDIRECTS} redirects, the last to {next}");
            }
            // A request once sent on by another site stays that site's.
            if site != "none" && site != "cross-site" {
                site = relation(&url, &next);
            }
            if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                (method, body) = (Method::GET, None);
            }
            redirects.push(next.clone());
            url = next;
        }
    }
}

impl Page {
    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A parameter of its address.
    pub fn param(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Its forms, in order.
    pub fn forms(&self) -> Vec<Form> {
        Form::all(&self.body)
    }

    /// The form that has this field or button.
    pub fn form(&self, field: &str) -> anyhow::Result<Form> {
        let found = self.forms().into_iter().find(|form| form.has(field));
        found.with_context(|| format!("no form with {field:?} at {} ({}): {}", self.url, self.status, self.text()))
    }

    /// What a person reads of it, without tags.
    pub fn text(&self) -> String {
        text_of(&self.body)
    }
}

/// What `Sec-Fetch-Site` says of a navigation. Hosts of tests are addresses, and so their own sites.
fn relation(from: &Url, to: &Url) -> &'static str {
    if from.origin() == to.origin() {
        "same-origin"
    } else if from.host() == to.host() && from.scheme() == to.scheme() {
        "same-site"
    } else {
        "cross-site"
    }
}
