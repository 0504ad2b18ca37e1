//! A document of a provider that is fetched rarely and read often. Readers take the newest without waiting; one at a time
//! fetches, and not again for a while, whatever happens meanwhile; a fetch that fails leaves the last good one in place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::error::IdpError;

/// Least time between two fetches once there is a document, however many ask for a newer one.
pub(super) const LEAST: Duration = Duration::from_mins(5);
/// The same while there is none yet, and after a fetch that was broken off.
const WITHOUT: Duration = Duration::from_secs(10);

/// A document and when it came.
#[derive(Debug)]
pub(super) struct Aged<T> {
    pub(super) value: T,
    at: Instant,
}

impl<T> Aged<T> {
    pub(super) fn is_older(&self, than: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= than
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Kept<T> {
    newest: ArcSwapOption<Aged<T>>,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    not_before: Option<Instant>,
    failed: Option<IdpError>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { newest: ArcSwapOption::empty(), turn: Mutex::default() }
    }
}

impl<T> Kept<T> {
    /// The last good document.
    pub(super) fn newest(&self) -> Option<Arc<Aged<T>>> {
        self.newest.load_full()
    }

    /// A document newer than the one `seen`, if one may be fetched now; the same again if the last fetch is too young for
    /// another. The error of a failed fetch is repeated for as long.
    pub(super) async fn newer(
        &self,
        seen: Option<&Arc<Aged<T>>>,
        now: Instant,
        fetch: impl Future<Output = Result<T, IdpError>>,
    ) -> Result<Arc<Aged<T>>, IdpError> {
        let mut turn = self.turn.lock().await;
        let newest = self.newest();
        if let Some(newest) = &newest
            && !seen.is_some_and(|seen| Arc::ptr_eq(seen, newest))
        {
            return Ok(Arc::clone(newest));
        }
        if turn.not_before.is_some_and(|then| now < then) {
            return match (&turn.failed, newest) {
                (Some(error), _) => Err(error.clone()),
                (None, Some(newest)) => Ok(newest),
                (None, None) => Err(broken_off()),
            };
        }
        self.fetch(&mut turn, now, fetch).await
    }

    /// Fetches now.
    pub(super) async fn renew(
        &self,
        now: Instant,
        fetch: impl Future<Output = Result<T, IdpError>>,
    ) -> Result<Arc<Aged<T>>, IdpError> {
        let mut turn = self.turn.lock().await;
        self.fetch(&mut turn, now, fetch).await
    }

    async fn fetch(
        &self,
        turn: &mut Turn,
        now: Instant,
        fetch: impl Future<Output = Result<T, IdpError>>,
    ) -> Result<Arc<Aged<T>>, IdpError> {
        // In case this future is dropped on the way: whoever goes away at once cannot make us ask without end.
        *turn = Turn { not_before: Some(now + WITHOUT), failed: Some(broken_off()) };
        match fetch.await {
            Ok(value) => {
                let fresh = Arc::new(Aged { value, at: now });
                self.newest.store(Some(Arc::clone(&fresh)));
                *turn = Turn { not_before: Some(now + LEAST), failed: None };
                Ok(fresh)
            }
            Err(error) => {
                let pause = if self.newest().is_some() { LEAST } else { WITHOUT };
                *turn = Turn { not_before: Some(now + pause), failed: Some(error.clone()) };
                Err(error)
            }
        }
    }
}

fn broken_off() -> IdpError {
    IdpError::temporary("the last question to the identity provider was broken off before its answer")
}
