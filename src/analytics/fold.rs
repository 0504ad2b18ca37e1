//! One record after another, into what the batch adds. Calls are first counted by minute, all else by hour, and what is longer when the batch
//! is through: most records of a batch are of one minute.

use ahash::AHashMap;

use super::Switches;
use super::behaviour::{Behaviour, Moves, Pattern};
use super::names::{Kind, Names};
use crate::audit::{Brief, Surface, tenant_in};
use crate::protocol::meta::REQUESTS;
use crate::store::rollups::{
    CallKey, CallSums, EventKey, EventSums, Increments, Period, Span, UserKey, UserSums, WordKey,
};
use crate::telemetry::OTHER;

/// An answer within it satisfies, microseconds.
const SATISFIES: u64 = 1_000_000;
/// An answer within it is put up with.
const TOLERATED: u64 = 4 * SATISFIES;

/// What is counted in hours and days.
const LONG: [Span; 2] = [Span::Hour, Span::Day];

/// What is wrong with API keys; the rest is wrong with tokens.
const OF_KEYS: [&str; 6] = ["malformed", "unknown", "expired", "revoked", "disabled", "suspended"];

/// Whether somebody asked for it and got an answer; else the gateway did it by itself, or says more of what was asked for.
pub fn is_operation<'a>(record: impl Into<Brief<'a>>) -> bool {
    let record = record.into();
    matches!(record.surface, Surface::Mcp | Surface::Oauth | Surface::Admin) && !is_event(record.action)
}

/// Words such as `auth.login` are neither methods nor routes.
fn is_event(action: &str) -> bool {
    action.split_once('.').is_some_and(|(kind, what)| {
        let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        word(kind) && word(what)
    })
}

/// See the module.
pub(super) struct Fold<'a, 'b> {
    switches: Switches,
    behaviour: &'b Behaviour,
    names: &'b mut Names,
    moves: Moves,
    calls: AHashMap<CallKey<'a>, CallSums>,
    /// By hours; days follow at the end.
    events: AHashMap<EventKey<'a>, EventSums>,
    users: AHashMap<UserKey<'a>, UserSums>,
    words: AHashMap<WordKey<'a>, i64>,
}

impl<'a, 'b> Fold<'a, 'b> {
    pub(super) fn new(switches: Switches, behaviour: &'b Behaviour, names: &'b mut Names) -> Self {
        let (moves, calls, events) = (Moves::default(), AHashMap::default(), AHashMap::default());
        let (users, words) = (AHashMap::default(), AHashMap::default());
        Self { switches, behaviour, names, moves, calls, events, users, words }
    }

    /// Counts one record; the pattern that it completes.
    pub(super) fn take(&mut self, record: &Brief<'a>) -> Option<Pattern> {
        if !is_operation(*record) {
            self.event(record);
            return None;
        }
        self.call(record);
        self.let_in(record);
        self.abroad(record);
        if self.switches.users {
            self.doing(record);
        }
        let pattern = self.switches.behaviour.then(|| self.behaviour.step(&mut self.moves, record)).flatten();
        if let Some(pattern) = pattern {
            self.count_event(record, "pattern", [pattern.label(), "", ""], None);
            self.word(record, "pattern", "", pattern.label());
        }
        pattern
    }

    /// What the batch adds, and what it changes of sessions.
    pub(super) fn finish(self) -> (Increments<'a>, Moves) {
        let Self { moves, calls, events, users, words, .. } = self;
        let mut increments = Increments { words: words.into_iter().collect(), ..Increments::default() };
        for (key, sums) in calls {
            let start = key.period.at * 1_000_000;
            let whole = CallKey { server: "", method: "", name: "", ..key };
            increments.calls.entry(whole).or_default().merge(&sums);
            for period in LONG.map(|span| span.of(start)) {
                for key in [CallKey { period, ..whole }, CallKey { period, ..key }] {
                    increments.calls.entry(key).or_default().merge(&sums);
                }
            }
        }
        for (key, sums) in events {
            for period in LONG.map(|span| span.of(key.period.at * 1_000_000)) {
                increments.events.entry(EventKey { period, ..key }).or_default().merge(&sums);
            }
        }
        for (key, sums) in users {
            for period in LONG.map(|span| span.of(key.period.at * 1_000_000)) {
                increments.users.entry(UserKey { period, ..key }).or_default().merge(&sums);
            }
        }
        (increments, moves)
    }

    fn call(&mut self, record: &Brief<'a>) {
        let tenant = record.tenant.unwrap_or_default();
        let server = record.server.unwrap_or_default();
        let method = method(record);
        // What a resource is called is its server's affair, and there may be any number of them.
        let named = matches!(method, "tools/call" | "prompts/get");
        let name = record.name.filter(|_| named).unwrap_or_default();
        let name = self.names.of(Kind::Call, tenant, Span::Day.of(record.at).at, server, name);
        let sums = self.calls.entry(CallKey { tenant, period: Span::Minute.of(record.at), server, method, name });
        let CallSums { totals, latency } = sums.or_default();
        let succeeded = record.outcome == "success";
        totals.calls += 1;
        match record.outcome {
            "success" => {}
            "tool_error" => totals.tool_errors += 1,
            "denied" => totals.denied += 1,
            "rate_limited" => totals.rate_limited += 1,
            _ => totals.errors += 1,
        }
        totals.request_bytes += whole(record.request_bytes);
        totals.response_bytes += whole(record.response_bytes);
        totals.total_us += whole(record.total_us);
        totals.upstream_us += whole(record.upstream_us.min(record.total_us));
        totals.satisfied += i64::from(succeeded && record.total_us <= SATISFIES);
        totals.tolerated += i64::from(succeeded && record.total_us > SATISFIES && record.total_us <= TOLERATED);
        latency.add(record.total_us);
    }

    /// Who shows a credential with each request authenticates each time, or does not. Who shows none has not tried.
    fn let_in(&mut self, record: &Brief<'a>) {
        let reason = record.reason.unwrap_or_default();
        if record.action == "POST /oauth/token" {
            let success = record.outcome == "success";
            let (result, reason) = if success { ("success", "") } else { ("failure", reason) };
            self.count_event(record, "auth", ["token", result, reason], None);
        } else if record.tenant.is_some() && record.credential.is_some() {
            self.count_event(record, "auth", [way_in(record), "success", ""], None);
        } else if record.tenant.is_none() && record.outcome == "denied" {
            self.turned_away(record, reason);
        }
    }

    fn turned_away(&mut self, record: &Brief<'a>, reason: &'a str) {
        // A wrong password is told of by `auth.login`.
        if !matches!(reason, "" | "missing" | "unauthenticated") {
            let method = if OF_KEYS.contains(&reason) { "api_key" } else { "validate" };
            self.count_event(record, "auth", [method, "failure", reason], None);
        }
    }

    /// Who administers a tenant asked for another one, by its name in the path.
    fn abroad(&mut self, record: &Brief<'a>) {
        let (Some(tenant), Some(path)) = (record.tenant, record.name) else { return };
        if record.surface != Surface::Admin || record.role == Some("admin") {
            return;
        }
        if tenant_in(record.action, path).is_some_and(|asked| asked != tenant) {
            let result = if record.outcome == "success" { "let_through" } else { "refused" };
            self.count_event(record, "isolation", ["tenant", result, ""], None);
        }
    }

    fn doing(&mut self, record: &Brief<'a>) {
        let (Some(tenant), Some(user)) = (record.tenant, record.user) else { return };
        let (calls, failed) = (record.action == "tools/call", has_failed(record));
        let key = UserKey { tenant, period: Span::Hour.of(record.at), user };
        let one =
            UserSums { operations: 1, tool_calls: i64::from(calls), errors: i64::from(failed), last_at: record.at };
        self.users.entry(key).or_default().merge(&one);
        if calls && let Some(name) = record.name {
            let server = record.server.unwrap_or_default();
            let name = self.names.of(Kind::Call, tenant, Span::Day.of(record.at).at, server, name);
            self.word(record, "tool", server, name);
        }
        if failed {
            self.word(record, "error", "", record.reason.unwrap_or(record.outcome));
        }
    }

    fn event(&mut self, record: &Brief<'a>) {
        let reason = record.reason.unwrap_or_default();
        match record.action.split_once('.') {
            Some(("auth", "login")) => {
                let result = if record.outcome == "success" { "success" } else { "failure" };
                let told = if result == "success" { "" } else { reason };
                self.count_event(record, "auth", ["login", result, told], None);
                if result == "success" && self.switches.users {
                    let by = record.name.unwrap_or(OTHER);
                    self.count_event(record, "login", [by, "", ""], None);
                    self.word(record, "login", "", hour(record.at));
                    self.seen(record);
                }
            }
            // So many were turned away that not each has a record.
            Some(("auth", "failure")) => match record.name {
                None => self.turned_away(record, reason),
                Some("auth.login") => self.count_event(record, "auth", ["login", "failure", reason], None),
                // Their requests are counted.
                Some(_) => {}
            },
            Some(("session", "end")) if self.switches.users => {
                let kind = record.session_type.unwrap_or("oauth");
                self.count_event(record, "session", [kind, "ended", reason], Some(record.total_us));
            }
            Some(("ban", "begin")) => self.count_event(record, "ban", ["begin", "", reason], None),
            Some(("ban", "end")) => self.count_event(record, "ban", ["end", "", reason], None),
            _ => {}
        }
    }

    /// An account was there, without an operation of its own.
    fn seen(&mut self, record: &Brief<'a>) {
        let (Some(tenant), Some(user)) = (record.tenant, record.user) else { return };
        let key = UserKey { tenant, period: Span::Hour.of(record.at), user };
        let one = UserSums { last_at: record.at, ..UserSums::default() };
        self.users.entry(key).or_default().merge(&one);
    }

    fn count_event(&mut self, record: &Brief<'a>, kind: &'a str, words: [&'a str; 3], lasted: Option<u64>) {
        let tenant = record.tenant.unwrap_or_default();
        let [what, result, reason] = words;
        let reason = self.names.of(Kind::Event, tenant, Span::Day.of(record.at).at, kind, reason);
        let key = EventKey { tenant, period: Span::Hour.of(record.at), kind, what, result, reason };
        let sums = self.events.entry(key).or_default();
        sums.count += whole(record.count);
        sums.last_at = sums.last_at.max(record.at);
        if let Some(lasted) = lasted {
            sums.lasted_us += whole(lasted);
            sums.lasted.add(lasted);
        }
    }

    fn word(&mut self, record: &Brief<'a>, kind: &'a str, place: &'a str, word: &'a str) {
        if !self.switches.users {
            return;
        }
        let (Some(tenant), Some(user)) = (record.tenant, record.user) else { return };
        let day: Period = Span::Day.of(record.at);
        *self.words.entry(WordKey { tenant, user, day, kind, place, word }).or_default() += 1;
    }
}

/// The method of MCP, or the route; clients make up others.
fn method<'a>(record: &Brief<'a>) -> &'a str {
    let action = record.action;
    if record.surface != Surface::Mcp || REQUESTS.contains(&action) { action } else { OTHER }
}

/// How somebody was let in, or was not.
fn way_in(record: &Brief<'_>) -> &'static str {
    match record.session_type {
        // A sign-in by password shows a key from then on.
        Some("api_key" | "password") => "api_key",
        _ => "validate",
    }
}

fn has_failed(record: &Brief<'_>) -> bool {
    matches!(record.outcome, "error" | "tool_error")
}

/// The hour of the day, UTC.
fn hour(micros: i64) -> &'static str {
    const HOURS: [&str; 24] = [
        "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15", "16", "17",
        "18", "19", "20", "21", "22", "23",
    ];
    let hour = micros.div_euclid(3_600_000_000).rem_euclid(24);
    usize::try_from(hour).ok().and_then(|hour| HOURS.get(hour)).copied().unwrap_or_default()
}

/// As a column holds it.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
