//! A provider of OpenID Connect that does nothing but refresh, for more people than sign in one by one. It takes each refresh token once,
//! counts what it is asked, and fails as it is told to.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::upstream::Host;

/// How long its access tokens live, seconds: as Entra's do, from an hour to an hour and a half.
const LIVES: std::ops::RangeInclusive<u64> = 3_600..=5_400;

/// What it was asked to refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions.
    pub asked: u64,
    /// Those that it answered with new tokens.
    pub given: u64,
    /// Those that it failed to answer.
    pub failed: u64,
    /// Those with a token that it had replaced.
    pub spent: u64,
    /// The most at one time.
    pub most: u64,
}

#[derive(Default)]
struct Book {
    counts: Counts,
    open: u64,
    /// The number of each person's good token.
    good: HashMap<usize, u64>,
    /// One in so many questions fails.
    failing: Option<u64>,
    /// All are too many, and to be put again after so many seconds.
    throttled: Option<u64>,
    dice: u64,
}

impl Book {
    /// The same numbers in each run (xorshift).
    fn roll(&mut self, of: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 20) % of
    }

    fn answer(&mut self, shown: &str) -> (u16, Value, Option<u64>) {
        self.counts.asked += 1;
        if let Some(after) = self.throttled {
            self.counts.failed += 1;
            return (429, json!({"error": "temporarily_unavailable"}), Some(after));
        }
        if self.failing.is_some_and(|of| self.roll(of) == 0) {
            self.counts.failed += 1;
            return (503, json!({"error": "temporarily_unavailable"}), None);
        }
        let Some((person, number)) = read(shown) else { return (400, json!({"error": "invalid_request"}), None) };
        let good = self.good.entry(person).or_default();
        if *good != number {
            self.counts.spent += 1;
            return (400, json!({"error": "invalid_grant"}), None);
        }
        *good += 1;
        let next = *good;
        self.counts.given += 1;
        let life = LIVES.start() + self.roll(LIVES.end() - LIVES.start() + 1);
        (
            200,
            json!({"access_token": format!("a{next}-of-{person}"), "refresh_token": written(person, next), "token_type": "Bearer", "expires_in": life}),
            None,
        )
    }
}

/// A running one.
pub struct Provider {
    host: Host,
    book: Arc<Mutex<Book>>,
    /// Who is answered only later.
    held: watch::Sender<Option<usize>>,
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

fn written(person: usize, number: u64) -> String {
    format!("refresh-{number}-of-{person}")
}

fn read(token: &str) -> Option<(usize, u64)> {
    let (number, person) = token.strip_prefix("refresh-")?.split_once("-of-")?;
    Some((person.parse().ok()?, number.parse().ok()?))
}

/// A question, until it is answered or who put it has gone.
struct Open(Arc<Mutex<Book>>);

impl Open {
    fn new(book: &Arc<Mutex<Book>>) -> Self {
        let mut open = lock(book);
        open.open += 1;
        open.counts.most = open.counts.most.max(open.open);
        Self(Arc::clone(book))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0).open -= 1;
    }
}

impl Provider {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Self> {
        let book = Arc::new(Mutex::new(Book { dice: 0x9e37_79b9_7f4a_7c15, ..Book::default() }));
        let held = watch::Sender::new(None);
        let (kept, waits) = (Arc::clone(&book), held.subscribe());
        let host = Host::start(0, move |request: Request<Bytes>, _| {
            let (book, mut waits) = (Arc::clone(&kept), waits.clone());
            async move {
                let base = base(&request);
                let (status, body, after) = match request.uri().path() {
                    "/.well-known/openid-configuration" => (200, described(&base), None),
                    "/keys" => (200, json!({"keys": []}), None),
                    "/token" => {
                        let _open = Open::new(&book);
                        let shown = field(request.body(), "refresh_token");
                        let person = read(&shown).map(|(person, _)| person);
                        _ = waits.wait_for(|held| held.is_none() || *held != person).await;
                        lock(&book).answer(&shown)
                    }
                    _ => (404, json!({}), None),
                };
                let mut reply = crate::upstream::reply(status, "application/json", body.to_string());
                if let Some(after) = after {
                    reply.headers_mut().insert(http::header::RETRY_AFTER, after.into());
                }
                reply
            }
        })
        .await?;
        Ok(Self { host, book, held })
    }

    /// What it is called.
    pub fn issuer(&self) -> String {
        format!("http://{}", self.host.address())
    }

    /// The refresh token of a person who has just signed in.
    pub fn token(&self, person: usize) -> String {
        lock(&self.book).good.insert(person, 0);
        written(person, 0)
    }

    /// What it was asked so far.
    pub fn counts(&self) -> Counts {
        // They would fill the memory on long days.
        self.host.forget();
        lock(&self.book).counts
    }

    /// How many questions wait for their answers.
    pub fn open(&self) -> u64 {
        lock(&self.book).open
    }

    /// From now on one in so many questions fails, or none.
    pub fn fail(&self, one_in: Option<u64>) {
        lock(&self.book).failing = one_in;
    }

    /// From now on it is asked too much, and wants to be left alone for so many seconds; or is not.
    pub fn throttle(&self, seconds: Option<u64>) {
        lock(&self.book).throttled = seconds;
    }

    /// From now on whoever asks about this person waits; or nobody does.
    pub fn hold(&self, person: Option<usize>) {
        self.held.send_replace(person);
    }
}

fn base(request: &Request<Bytes>) -> String {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("http://{host}")
}

fn described(base: &str) -> Value {
    json!({
        "issuer": base, "authorization_endpoint": format!("{base}/authorize"), "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/keys"), "token_endpoint_auth_methods_supported": ["client_secret_post"],
    })
}

fn field(body: &[u8], name: &str) -> String {
    url::form_urlencoded::parse(body)
        .find(|(field, _)| field == name)
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
