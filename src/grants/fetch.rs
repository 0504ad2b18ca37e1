//! Fetching what a client or an issuer says of itself: a small JSON text at an https URL that a stranger or an administrator
//! chose. Few at once, of one host, for one address that makes us fetch and in all, so that nobody takes the places of others;
//! what administrators chose has places of its own. No redirect is followed; an address inside a network that a stranger chose is
//! called only where the operator said so.
//!
//! Why a fetch failed is for our own log. Told to a stranger, it would tell about names and addresses inside the network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use url::Url;

use super::rate::{Exceeded, Limits, Network, Rate};
use super::{SOURCES, kept};
use crate::config::PrivateHost;
use crate::fault::Kind;
use crate::limit::Limit;
use crate::net::{AddressPolicy, Bounds, Outbound};

/// How long one fetch may take.
const TIME: Duration = Duration::from_secs(5);
/// Largest text, bytes: of a stranger's choice, and of an administrator's, since directories publish many keys with certificates.
const LARGEST: [usize; 2] = [5 * 1024, 64 * 1024];
/// Fetches at once: for strangers, and of what administrators chose.
const AT_ONCE: [usize; 2] = [128, 32];
/// Fetches at once from one host; more than one address can cause.
const PER_HOST: usize = 8;
/// Fetches at once that one address causes. A network of many addresses may as many more as in [`Network::share`].
const PER_SOURCE: usize = 4;
/// Fetches a minute that one address causes. Texts are kept for minutes at least, however many ask for them.
const PER_MINUTE: u32 = 60;

/// Why nothing was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchError {
    /// As many are under way as may be.
    Busy,
    /// The address that asks has made us fetch too much.
    TooMany(Exceeded),
    /// It may work in a moment; for the log.
    Away(String),
    /// It will not; for the log.
    Wrong(String),
}

impl FetchError {
    /// Whether it says something of us and of who asks, and nothing of the URL.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Busy | Self::TooMany(_))
    }
}

/// Fetches for strangers.
#[derive(Debug)]
pub(super) struct Fetcher {
    outbound: Outbound,
    hosts: Vec<PrivateHost>,
    places: [Semaphore; 2],
    caused: Limits,
    under_way: Mutex<HashMap<Place, usize>>,
}

/// What takes only so many fetches at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    /// A host, of URLs that administrators chose or did not.
    Host(bool, String),
    Source(Network),
}

/// Whose URL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    /// Anybody's, and asked for from this address.
    ByStranger(IpAddr),
    /// An administrator's.
    ByAdmin,
}

impl Fetcher {
    pub(super) fn new(outbound: &Outbound, hosts: Vec<PrivateHost>) -> Self {
        Self {
            outbound: outbound.clone(),
            hosts,
            places: AT_ONCE.map(Semaphore::new),
            caused: Limits::new(Rate::per_minute(PER_MINUTE), None, SOURCES),
            under_way: Mutex::default(),
        }
    }

    /// The JSON text at `url`, and how long its sender wants it kept.
    pub(super) async fn get(
        &self,
        url: &Url,
        chosen: Chosen,
        now: OffsetDateTime,
    ) -> Result<(Bytes, Option<Duration>), FetchError> {
        let host = url.host_str().unwrap_or_default();
        let policy = match (chosen, self.hosts.iter().find(|inside| inside.host == host)) {
            (Chosen::ByAdmin, _) => AddressPolicy::ADMIN,
            (Chosen::ByStranger(_), None) => AddressPolicy::STRANGER,
            (Chosen::ByStranger(_), Some(inside)) => inside.network.map_or(AddressPolicy::ADMIN, AddressPolicy::inside),
        };
        let body = LARGEST[chosen.pool()];
        let _place = self.places[chosen.pool()].try_acquire().map_err(|_| FetchError::Busy)?;
        let _entered = self.enter(host, chosen, now)?;
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

    /// Takes a place of the address that asks and of the host; what is refused costs the address nothing.
    fn enter(&self, host: &str, chosen: Chosen, now: OffsetDateTime) -> Result<Entered<'_>, FetchError> {
        let mut entered = Entered { fetcher: self, places: Vec::new() };
        if let Chosen::ByStranger(address) = chosen {
            for network in Network::all_of(address) {
                let most = PER_SOURCE.saturating_mul(network.share() as usize);
                let waits = Exceeded { limit: Limit::Ip, retry_after: TIME };
                entered.take(Place::Source(network), most).map_err(|Full| FetchError::TooMany(waits))?;
            }
        }
        let host = Place::Host(chosen == Chosen::ByAdmin, host.to_owned());
        entered.take(host, PER_HOST).map_err(|Full| FetchError::Busy)?;
        if let Chosen::ByStranger(address) = chosen {
            self.caused.take(address, now).map_err(FetchError::TooMany)?;
        }
        Ok(entered)
    }
}

impl Chosen {
    fn pool(self) -> usize {
        usize::from(self == Self::ByAdmin)
    }
}

/// A place is taken.
struct Full;

/// One fetch that is counted, by each of its places.
struct Entered<'a> {
    fetcher: &'a Fetcher,
    places: Vec<Place>,
}

impl Entered<'_> {
    fn take(&mut self, place: Place, most: usize) -> Result<(), Full> {
        let mut under_way = self.fetcher.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(place.clone()).or_default();
        if *count >= most {
            return Err(Full);
        }
        *count += 1;
        self.places.push(place);
        Ok(())
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut under_way = self.fetcher.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        for place in &self.places {
            if let Some(count) = under_way.get_mut(place) {
                *count -= 1;
                if *count == 0 {
                    under_way.remove(place);
                }
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

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn from(number: usize) -> Chosen {
        Chosen::ByStranger(IpAddr::from([192, 0, 2, u8::try_from(number).unwrap()]))
    }

    fn fetcher() -> Fetcher {
        Fetcher::new(&Outbound::new(AddressPolicy::STRANGER, None), Vec::new())
    }

    #[test]
    fn one_host_takes_few_fetches_at_once_and_frees_its_place() {
        let fetcher = fetcher();
        let held: Vec<_> = (0..PER_HOST).map(|number| fetcher.enter("a.example", from(number), NOW).unwrap()).collect();
        assert!(matches!(fetcher.enter("a.example", from(20), NOW), Err(FetchError::Busy)));
        assert!(fetcher.enter("a.example", Chosen::ByAdmin, NOW).is_ok(), "an administrator's has places of its own");
        assert!(fetcher.enter("b.example", from(20), NOW).is_ok());
        drop(held);
        assert!(fetcher.enter("a.example", from(20), NOW).is_ok());
        assert!(fetcher.under_way.lock().unwrap().is_empty());
    }

    #[test]
    fn one_address_takes_few_places_and_leaves_the_others_theirs() {
        let fetcher = fetcher();
        let enter = |number: usize, source| fetcher.enter(&format!("host{number}.example"), source, NOW);
        let held: Vec<_> = (0..PER_SOURCE).map(|number| enter(number, from(1)).unwrap()).collect();
        for number in 0..100 {
            assert!(matches!(enter(number, from(1)), Err(FetchError::TooMany(_))));
        }
        let others = enter(0, from(2)).is_ok() && enter(0, Chosen::ByAdmin).is_ok();
        assert!(others && PER_SOURCE < PER_HOST, "not even one host is taken by one address");
        drop(held);
        assert!(enter(0, from(1)).is_ok());
        let household = |last: usize| {
            Chosen::ByStranger(IpAddr::from([0x2001, 0xdb8, 1, 1, 0, 0, 0, u16::try_from(last).unwrap()]))
        };
        let held: Vec<_> = (0..PER_SOURCE).map(|number| enter(number, household(number)).unwrap()).collect();
        assert!(matches!(enter(50, household(50)), Err(FetchError::TooMany(_))));
        drop(held);
        assert!(fetcher.under_way.lock().unwrap().is_empty());
    }

    #[test]
    fn one_address_causes_so_many_fetches_a_minute() {
        let fetcher = fetcher();
        let most = PER_MINUTE as usize;
        assert!((0..most).all(|number| fetcher.enter(&number.to_string(), from(1), NOW).is_ok()));
        assert!(matches!(fetcher.enter("one.example", from(1), NOW), Err(FetchError::TooMany(_))));
        assert!(fetcher.enter("one.example", from(2), NOW).is_ok());
        assert!(fetcher.enter("one.example", from(1), NOW + Duration::from_mins(1)).is_ok());
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
