//! What was fetched and is kept for a while, by URL: bounded, and asked for once however many wait for it. A failure is kept
//! too, for a minute, so that nobody makes us ask again and again. When there is no room, what failed goes first, then what
//! was not used for longest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

/// How long a failure is kept.
const FAILURE_LASTS: Duration = Duration::from_mins(1);
/// How long what was fetched is kept at least and at most, whatever its sender says.
const SHORTEST: Duration = Duration::from_mins(5);
const LONGEST: Duration = Duration::from_hours(24);
/// How long when its sender says nothing.
const USUAL: Duration = Duration::from_hours(1);

type Slots<T, E> = HashMap<String, Arc<Slot<T, E>>, ahash::RandomState>;

/// Values of one kind by URL.
pub(super) struct Kept<T, E> {
    slots: Mutex<Slots<T, E>>,
    most: usize,
    /// Whether a failure says something of the URL, and not of how busy we are.
    lasting: fn(&E) -> bool,
    clock: AtomicU64,
}

struct Slot<T, E> {
    /// Held while it is fetched: the others wait for it.
    state: tokio::sync::Mutex<State<T, E>>,
    holds: AtomicBool,
    used: AtomicU64,
}

struct State<T, E> {
    /// The last good one, when it was fetched, and until when it is kept.
    value: Option<(Arc<T>, OffsetDateTime, OffsetDateTime)>,
    /// What went wrong since, until when.
    failed: Option<(E, OffsetDateTime)>,
}

/// What to do with what is kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// A value older than this is fetched anew even if it may still be kept.
    pub at_most: Option<Duration>,
    /// A value that may be kept no longer is better than none.
    pub stale: bool,
}

/// Every place is taken by something that is being fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl<T, E: Clone> Kept<T, E> {
    /// Keeps at most `most` values and failures together, and only failures that are `lasting`.
    pub(super) fn new(most: usize, lasting: fn(&E) -> bool) -> Self {
        Self { slots: Mutex::default(), most, lasting, clock: AtomicU64::new(0) }
    }

    /// The value of `url`: the kept one, or what `fetch` gives, with how long its sender wants it kept. `fetch` does nothing
    /// unless it is needed.
    pub(super) async fn get(
        &self,
        url: &str,
        terms: Terms,
        now: OffsetDateTime,
        fetch: impl Future<Output = Result<(T, Option<Duration>), E>>,
    ) -> Result<Result<Arc<T>, E>, Full> {
        let slot = self.slot(url)?;
        let mut state = slot.state.lock().await;
        let fresh = |at: OffsetDateTime| terms.at_most.is_none_or(|age| at + age > now);
        // That a newer one was not to be had takes nothing from the one that may still be kept.
        if let Some((value, at, until)) = &state.value
            && *until > now
            && fresh(*at)
        {
            return Ok(Ok(Arc::clone(value)));
        }
        if let Some((error, until)) = &state.failed
            && *until > now
        {
            return Ok(state.good(terms).ok_or_else(|| error.clone()));
        }
        match fetch.await {
            Ok((value, wish)) => {
                let value = Arc::new(value);
                let lasts = wish.unwrap_or(USUAL).clamp(SHORTEST, LONGEST);
                state.value = Some((Arc::clone(&value), now, now + lasts));
                state.failed = None;
                slot.holds.store(true, Ordering::Relaxed);
                Ok(Ok(value))
            }
            Err(error) => {
                if (self.lasting)(&error) {
                    state.failed = Some((error.clone(), now + FAILURE_LASTS));
                }
                Ok(state.good(terms).ok_or(error))
            }
        }
    }

    /// Whether there was ever something good at `url`, which is still remembered.
    pub(super) fn holds(&self, url: &str) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.get(url).is_some_and(|slot| slot.holds.load(Ordering::Relaxed))
    }

    fn slot(&self, url: &str) -> Result<Arc<Slot<T, E>>, Full> {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(url) {
            slot.used.store(used, Ordering::Relaxed);
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= self.most {
            // Whoever waits for a slot holds it: it is not thrown away under their hands.
            let idle = slots.iter().filter(|(_, slot)| Arc::strong_count(slot) == 1);
            let oldest = idle
                .min_by_key(|(_, slot)| (slot.holds.load(Ordering::Relaxed), slot.used.load(Ordering::Relaxed)))
                .map(|(url, _)| url.clone());
            slots.remove(&oldest.ok_or(Full)?);
        }
        let slot = Arc::new(Slot {
            state: tokio::sync::Mutex::new(State { value: None, failed: None }),
            holds: AtomicBool::new(false),
            used: AtomicU64::new(used),
        });
        slots.insert(url.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.lock().unwrap().len()
    }
}

impl<T, E> State<T, E> {
    fn good(&self, terms: Terms) -> Option<Arc<T>> {
        self.value.as_ref().filter(|_| terms.stale).map(|(value, ..)| Arc::clone(value))
    }
}

/// How long the sender of an answer wants it kept (RFC 9111 section 5.2.2).
pub(super) fn wish(headers: &http::HeaderMap) -> Option<Duration> {
    let mut age = None;
    for value in headers.get_all(http::header::CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            if matches!(directive.as_str(), "no-store" | "no-cache") {
                return Some(Duration::ZERO);
            }
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                age = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
        }
    }
    age
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn at(minutes: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::minutes(minutes)
    }

    #[tokio::test]
    async fn a_value_is_kept_as_long_as_its_sender_wants_within_bounds() {
        let kept = Kept::<usize, ()>::new(4, |()| true);
        let asked = AtomicUsize::new(0);
        let get = async |url: &str, wish: Option<u64>, minutes: i64| {
            let fetch = async { Ok((asked.fetch_add(1, Ordering::Relaxed), wish.map(Duration::from_secs))) };
            *kept.get(url, Terms::default(), at(minutes), fetch).await.unwrap().unwrap()
        };
        for (url, wish, lasts) in
            [("a", Some(0), 5), ("b", Some(600), 10), ("c", None, 60), ("d", Some(u64::MAX), 24 * 60)]
        {
            let first = get(url, wish, 0).await;
            assert_eq!(get(url, wish, lasts - 1).await, first, "{url}");
            assert_ne!(get(url, wish, lasts).await, first, "{url}");
        }
        let again =
            kept.get("d", Terms { at_most: Some(Duration::from_mins(1)), stale: false }, at(24 * 60 + 2), async {
                Ok((99, None))
            });
        assert_eq!(*again.await.unwrap().unwrap(), 99);
    }

    #[tokio::test]
    async fn a_failure_is_kept_for_a_minute_and_an_old_value_given_only_to_who_takes_it() {
        let kept = Kept::<&str, &str>::new(4, |error| *error != "busy");
        let (strict, lenient) = (Terms::default(), Terms { stale: true, at_most: None });
        assert_eq!(kept.get("a", strict, at(0), async { Ok(("good", None)) }).await.unwrap().as_deref(), Ok(&"good"));
        assert_eq!(kept.get("a", strict, at(60), async { Err("away") }).await.unwrap(), Err("away"));
        let kept_failure = kept.get("a", strict, at(60), async { Ok(("not asked", None)) }).await.unwrap();
        assert_eq!(kept_failure, Err("away"));
        assert_eq!(kept.get("b", strict, at(0), async { Err("busy") }).await.unwrap(), Err("busy"));
        assert_eq!(kept.get("b", strict, at(0), async { Ok(("good", None)) }).await.unwrap().as_deref(), Ok(&"good"));
        assert_eq!(kept.get("a", lenient, at(60), async { Err("away") }).await.unwrap().as_deref(), Ok(&"good"));
        assert_eq!(kept.get("a", strict, at(61), async { Ok(("new", None)) }).await.unwrap().as_deref(), Ok(&"new"));
    }

    #[tokio::test]
    async fn many_who_ask_at_once_wait_for_one_answer() {
        let kept = Kept::<usize, ()>::new(4, |()| true);
        let asked = AtomicUsize::new(0);
        let all = futures_util::future::join_all((0..50).map(|_| {
            kept.get("a", Terms::default(), at(0), async {
                tokio::task::yield_now().await;
                Ok((asked.fetch_add(1, Ordering::Relaxed), None))
            })
        }));
        assert!(all.await.into_iter().all(|value| *value.unwrap().unwrap() == 0));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_failed_makes_room_first_and_what_is_being_fetched_stays() {
        let kept = Kept::<u8, ()>::new(3, |()| true);
        let put = async |url: &str, value: Result<u8, ()>| {
            kept.get(url, Terms::default(), at(0), async { value.map(|value| (value, None)) }).await.unwrap()
        };
        put("old", Ok(1)).await.unwrap();
        put("new", Ok(2)).await.unwrap();
        for flood in 0..1_000 {
            put(&format!("bad{flood}"), Err(())).await.unwrap_err();
        }
        assert_eq!(kept.len(), 3);
        assert_eq!((put("old", Ok(9)).await.as_deref(), put("new", Ok(9)).await.as_deref()), (Ok(&1), Ok(&2)));
        let held: Vec<_> = ["old", "new", "x"].iter().map(|url| kept.slot(url).unwrap()).collect();
        assert!(matches!(kept.slot("y"), Err(Full)));
        drop(held);
        assert!(kept.slot("y").is_ok());
    }

    #[test]
    fn the_senders_wish_is_read_from_its_header() {
        let wish = |text: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::CACHE_CONTROL, text.parse().unwrap());
            super::wish(&headers)
        };
        assert_eq!(wish("public, Max-Age=600"), Some(Duration::from_mins(10)));
        assert_eq!(wish("max-age=600, no-store"), Some(Duration::ZERO));
        assert_eq!((wish("public"), wish("max-age=soon"), super::wish(&http::HeaderMap::new())), (None, None, None));
    }
}
