//! Places for work with sets that takes its time: reading one, trying one. It is done beside the threads that serve, and only so much
//! of it at once.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Sets that are worked with at the same time.
const AT_ONCE: usize = 2;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// A place; it is free again when this is dropped, by the work itself and not by who waits for it.
#[derive(Debug)]
pub struct Place {
    _place: Option<SemaphorePermit<'static>>,
}

/// Waits for one.
pub async fn place() -> Place {
    Place { _place: PLACES.acquire().await.ok() }
}
