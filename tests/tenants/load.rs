//! Users who ask by the clock, whatever they are told, over connections that they keep; and a record of each request and its answer.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::client::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::world::{Tenant, USERS};

/// Every so many requests of a user one asks for the list of tools instead.
const LISTS: u64 = 6;
/// Until then every tenant that asks for too much has used up what it had saved.
const PATIENCE: Duration = Duration::from_mins(1);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    Served,
    /// Refused, by the limit with this name.
    Refused(&'static str),
    /// There was nobody to answer it.
    Cut,
}

/// One request: times since the load began.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub tenant: usize,
    pub sent: Duration,
    pub answered: Duration,
    pub list: bool,
    pub became: Became,
}

/// What all users have in common.
struct Common {
    began: Instant,
    stop: CancellationToken,
    calls: AtomicU64,
    late: AtomicU64,
    asked: Mutex<Vec<Asked>>,
    wrong: Mutex<Vec<String>>,
}

/// Users that ask until they are stopped.
pub struct Load {
    common: Arc<Common>,
    users: JoinSet<()>,
}

/// One user.
struct User {
    tenant: usize,
    number: usize,
    name: String,
    client: Client,
}

impl Load {
    /// Lets each tenant ask for `asks` requests a second, its users in turn.
    pub fn start(url: &str, tenants: &[Tenant], asks: impl Fn(&Tenant) -> f64) -> Self {
        let common = Arc::new(Common {
            began: Instant::now(),
            stop: CancellationToken::new(),
            calls: AtomicU64::default(),
            late: AtomicU64::default(),
            asked: Mutex::default(),
            wrong: Mutex::default(),
        });
        let mut users = JoinSet::new();
        for (number, tenant) in tenants.iter().enumerate() {
            let every = Duration::from_secs_f64(USERS as f64 / asks(tenant));
            for (user, key) in tenant.keys.iter().enumerate() {
                // One after the other within a tenant, and no two tenants in step.
                let first = every.mul_f64((user as f64 + (number as f64 * 0.618).fract()) / USERS as f64);
                let client = Client::new(&format!("{url}/mcp/it")).bearer(key).keep_alive();
                let user = User { tenant: number, number: user, name: tenant.name.clone(), client };
                users.spawn(common.clone().ask(user, first, every));
            }
        }
        Self { common, users }
    }

    /// The time since it began.
    pub fn now(&self) -> Duration {
        self.common.began.elapsed()
    }

    pub async fn until(&self, when: Duration) {
        tokio::time::sleep_until((self.common.began + when).into()).await;
    }

    /// What was sent in this time and answered by now.
    pub fn sent_in(&self, time: &Range<Duration>) -> Vec<Asked> {
        let asked = self.common.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| time.contains(&asked.sent)).copied().collect()
    }

    /// Waits until each of these tenants was refused by its own limit: until then it uses what it has saved up. Returns when that was.
    pub async fn refused(&self, tenants: impl IntoIterator<Item = usize>, since: Duration) -> Duration {
        let mut left: BTreeSet<usize> = tenants.into_iter().collect();
        loop {
            let now = self.now();
            for asked in self.sent_in(&(since..now)) {
                if asked.became == Became::Refused("tenant") {
                    left.remove(&asked.tenant);
                }
            }
            if left.is_empty() {
                return now;
            }
            assert!(now < since + PATIENCE, "never refused since {since:?}: {left:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many turns users let pass because they were not ready by then.
    pub fn late(&self) -> u64 {
        self.common.late.load(Relaxed)
    }

    /// What was not as it must be.
    pub fn wrong(&self) -> Vec<String> {
        self.common.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops and waits until all has been answered.
    pub async fn stop(&mut self) {
        self.common.stop.cancel();
        while let Some(ended) = self.users.join_next().await {
            ended.unwrap();
        }
    }
}

impl Common {
    async fn ask(self: Arc<Self>, user: User, first: Duration, every: Duration) {
        let mut due = self.began + first;
        let mut turn = user.number as u64;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            let list = turn.is_multiple_of(LISTS);
            turn += 1;
            self.one(&user, list).await;
            due += every;
            // Who is late asks no faster for it.
            while due < Instant::now() {
                due += every;
                self.late.fetch_add(1, Relaxed);
            }
        }
    }

    async fn one(&self, user: &User, list: bool) {
        let call = self.calls.fetch_add(1, Relaxed);
        let request = if list {
            user.client.request(&call.to_string(), "tools/list", Value::Null).path("/mcp")
        } else {
            let arguments = json!({"tenant": user.name, "call": call});
            user.client.request(&call.to_string(), "tools/call", json!({"name": "whose", "arguments": arguments}))
        };
        let sent = self.began.elapsed();
        let answer = async {
            let reply = user.client.send(request).await.ok()?;
            let (status, wait) = (reply.status.as_u16(), reply.header("retry-after").to_owned());
            Some((status, wait, reply.text().await.ok()?))
        };
        let answer = answer.await;
        let answered = self.began.elapsed();
        let became = match &answer {
            Some((200, _, text)) => {
                let served = if list { text.contains("it__whose") } else { text.contains(&format!("answers {call}.")) };
                if !served || !text.contains(&user.name) {
                    self.note(user, &format!("call {call} was answered {text}"));
                }
                Became::Served
            }
            Some((429, wait, text)) => self.refused(user, wait, text),
            // A process that stops lets nobody in.
            None | Some((503, ..)) => Became::Cut,
            Some((status, _, text)) => {
                self.note(user, &format!("{status} {text}"));
                Became::Cut
            }
        };
        if let Some((_, _, text)) = &answer {
            // Every name of a tenant in it is the user's own.
            let others = text.match_indices("tenant-").filter(|(at, _)| !text[*at..].starts_with(&user.name));
            if others.count() > 0 {
                self.note(user, &format!("was told of another tenant: {text}"));
            }
        }
        let asked = Asked { tenant: user.tenant, sent, answered, list, became };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }

    fn refused(&self, user: &User, wait: &str, text: &str) -> Became {
        let said: Value = serde_json::from_str(text).unwrap_or_default();
        let data = &said["error"]["data"];
        let seconds = wait.parse::<u64>().ok().filter(|wait| *wait >= 1);
        let exact = data["retryAfterMs"].as_u64();
        if seconds.zip(exact).is_none_or(|(seconds, exact)| exact > seconds * 1000) {
            self.note(user, &format!("refused without saying for how long: {wait:?} {text}"));
        }
        match data["limit"].as_str() {
            Some("global") => Became::Refused("global"),
            Some("tenant") => Became::Refused("tenant"),
            _ => {
                self.note(user, &format!("refused by a limit that is not near: {text}"));
                Became::Refused("another")
            }
        }
    }

    fn note(&self, user: &User, what: &str) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.push(format!("{}/user{}: {what}", user.name, user.number));
    }
}
