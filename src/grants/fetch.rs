//! Fetching what a client or an issuer says of itself: a small JSON text at an https URL that a stranger or an administrator
//! chose. Few at once, of one host and in all; no redirect is followed; an address inside a network that a stranger chose is
//! called only where the operator said so.
//!
//! Why a fetch failed is for our own log. Told to a stranger, it would tell about names and addresses inside the network.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use url::Url;

use super::kept;
use crate::config::PrivateHost;
use crate::fault::Kind;
use crate::net::{AddressPolicy, Bounds, Outbound};

/// How long one fetch may take.
const TIME: Duration = Duration::from_secs(5);
/// Largest text, bytes: of a stranger's choice, and of an administrator's, since directories publish many keys with certificates.
const LARGEST: [usize; 2] = [5 * 1024, 64 * 1024];
/// Fetches at once.
const AT_ONCE: usize = 32;
/// Fetches at once from one host.
const PER_HOST: usize = 4;

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchError {
    /// As many are under way as may be.
    Busy,
    /// It may work in a moment; for the log.
    Away(String),
    /// It will not; for the log.
    Wrong(String),
}

/// Fetches for strangers.
#[derive(Debug)]
pub(super) struct Fetcher {
    outbound: Outbound,
    hosts: Vec<PrivateHost>,
    places: Semaphore,
    under_way: Mutex<HashMap<String, usize>>,
}

/// Whose URL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Chosen {
    /// Anybody's.
    ByStranger,
    /// An administrator's.
    ByAdmin,
}

impl Fetcher {
    pub(super) fn new(outbound: &Outbound, hosts: Vec<PrivateHost>) -> Self {
        Self { outbound: outbound.clone(), hosts, places: Semaphore::new(AT_ONCE), under_way: Mutex::default() }
    }

    /// The JSON text at `url`, and how long its sender wants it kept.
    pub(super) async fn get(&self, url: &Url, chosen: Chosen) -> Result<(Bytes, Option<Duration>), FetchError> {
        let host = url.host_str().unwrap_or_default();
        let policy = match (chosen, self.hosts.iter().find(|inside| inside.host == host)) {
            (Chosen::ByAdmin, _) => AddressPolicy::ADMIN,
            (Chosen::ByStranger, None) => AddressPolicy::STRANGER,
            (Chosen::ByStranger, Some(inside)) => inside.network.map_or(AddressPolicy::ADMIN, AddressPolicy::inside),
        };
        let body = LARGEST[usize::from(chosen == Chosen::ByAdmin)];
        let _own = self.enter(host)?;
        let _place = self.places.try_acquire().map_err(|_| FetchError::Busy)?;
        let answer = self.outbound.under(policy).get(url, Bounds { body, time: TIME }).await.map_err(|fault| {
            match fault.kind {
                Kind::Setup | Kind::TooLarge => FetchError::Wrong(fault.detail),
                _ => FetchError::Away(fault.detail),
            }
        })?;
        match answer.status.as_u16() {
            200 if answer.is_json() => Ok((answer.body.clone(), kept::wish(&answer.headers))),
            200 => Err(FetchError::Wrong(format!("{url} is not JSON by its content type"))),
            status @ (429 | 500..) => Err(FetchError::Away(format!("{url} answered with status {status}"))),
            status => Err(FetchError::Wrong(format!("{url} answered with status {status}"))),
        }
    }

    fn enter(&self, host: &str) -> Result<Entered<'_>, FetchError> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(host.to_owned()).or_default();
        if *count >= PER_HOST {
            return Err(FetchError::Busy);
        }
        *count += 1;
        Ok(Entered { fetcher: self, host: host.to_owned() })
    }
}

/// One fetch that is counted.
struct Entered<'a> {
    fetcher: &'a Fetcher,
    host: String,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut under_way = self.fetcher.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.host);
            }
        }
    }
}

/// A URL from which something about a client may be fetched: https, and written as it will be asked for, so that what is
/// compared as text is also one place: no dot segments, no own port, no upper-case host, no user name, no fragment.
pub(super) fn fetchable(text: &str) -> Result<Url, &'static str> {
    if text.len() > super::redirect::LONGEST {
        return Err("is longer than 2000 bytes");
    }
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if url.scheme() != "https" {
        return Err("is no https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name");
    }
    if url.fragment().is_some() {
        return Err("has a fragment");
    }
    if url.host_str().is_none_or(|host| host.ends_with('.')) {
        return Err("names no host");
    }
    if url.as_str() != text {
        return Err("is not written in its normal form");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_takes_few_fetches_at_once_and_frees_its_place() {
        let fetcher = Fetcher::new(&Outbound::new(AddressPolicy::STRANGER, None), Vec::new());
        let held: Vec<_> = (0..PER_HOST).map(|_| fetcher.enter("a.example").unwrap()).collect();
        assert!(matches!(fetcher.enter("a.example"), Err(FetchError::Busy)));
        assert!(fetcher.enter("b.example").is_ok());
        drop(held);
        assert!(fetcher.enter("a.example").is_ok());
        assert!(fetcher.under_way.lock().unwrap().is_empty());
    }

    #[test]
    fn a_url_is_fetched_only_as_it_is_written() {
        for good in ["https://app.example/client.json", "https://app.example:8443/a/b?c=d", "https://app.example/%20"] {
            assert_eq!(fetchable(good).map(|url| url.to_string()).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "client",
            "http://app.example/client.json",
            "https://user@app.example/client.json",
            "https://app.example/client.json#x",
            "https://app.example/a/../client.json",
            "https://app.example/a/./client.json",
            "https://app.example/%2e%2e/client.json",
            "https://app.example:443/client.json",
            "https://App.example/client.json",
            "https://app.example./client.json",
            "https://app.example/a b",
            "https://app.example\\client.json",
            "https://2130706433/client.json",
            " https://app.example/client.json",
            "https://app.example",
        ] {
            assert!(fetchable(bad).is_err(), "{bad}");
        }
    }
}
