//! Futures in memory that was in use a moment ago. The future of a call has several kilobytes, more than an allocator keeps at
//! hand for the next one; memory that comes back from further away is out of the processor's cache, and a thread with many
//! connections then waits for it at every line.

pub mod generations;

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::LocalKey;

use tokio_util::sync::ReusableBoxFuture;

/// Boxes that one thread keeps for its next futures, in a `thread_local`: memory, and no state, which would be of no use anywhere else.
/// There should be one for each kind of future: only a box of the same size is of use.
pub type Shelf<T> = RefCell<Vec<ReusableBoxFuture<'static, T>>>;

/// How many boxes a shelf has room for.
const ROOM: usize = 32;

/// A future in a box that goes to the shelf of its thread once the future is done. Dropped earlier, both are gone.
pub struct Reused<T: 'static> {
    future: Option<ReusableBoxFuture<'static, T>>,
    shelf: &'static LocalKey<Shelf<T>>,
}

impl<T> Reused<T> {
    /// Puts a future into a box of the shelf, or into a new one.
    pub fn new(shelf: &'static LocalKey<Shelf<T>>, future: impl Future<Output = T> + Send + 'static) -> Self {
        let kept = shelf.try_with(|shelf| shelf.borrow_mut().pop()).ok().flatten();
        let future = match kept {
            Some(mut kept) => {
                kept.set(future);
                kept
            }
            None => ReusableBoxFuture::new(future),
        };
        Self { future: Some(future), shelf }
    }
}

impl<T> Future for Reused<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = &mut self.future else {
            debug_assert!(false, "polled after its end");
            return Poll::Pending;
        };
        let done = ready!(future.poll(cx));
        if let Some(empty) = self.future.take() {
            // A thread that ends keeps nothing.
            let _ = self.shelf.try_with(|shelf| {
                let mut shelf = shelf.borrow_mut();
                if shelf.len() < ROOM {
                    shelf.push(empty);
                }
            });
        }
        Poll::Ready(done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    thread_local!(static SHELF: Shelf<usize> = const { RefCell::new(Vec::new()) });

    fn kept() -> usize {
        SHELF.with_borrow(Vec::len)
    }

    #[tokio::test]
    async fn a_box_is_used_again_when_its_future_is_done_and_holds_nothing_until_then() {
        let held = Arc::new(());
        let future = |held: Arc<()>| {
            Reused::new(&SHELF, async move {
                tokio::task::yield_now().await;
                Arc::strong_count(&held)
            })
        };
        assert_eq!(future(Arc::clone(&held)).await, 2);
        assert_eq!((kept(), Arc::strong_count(&held)), (1, 1));

        let (one, two) = (future(Arc::clone(&held)), future(Arc::clone(&held)));
        assert_eq!(kept(), 0, "the first took the box");
        drop(one);
        assert_eq!((two.await, kept()), (2, 1), "a future that was given up takes its box with it");
    }

    #[tokio::test]
    async fn a_box_of_another_size_gives_way() {
        assert_eq!(Reused::new(&SHELF, async { 1 }).await, 1);
        let large = [7_u8; 300];
        let future = Reused::new(&SHELF, async move {
            tokio::task::yield_now().await;
            usize::from(large[299])
        });
        assert_eq!((future.await, kept()), (7, 1));
    }

    #[tokio::test]
    async fn a_shelf_is_bounded() {
        let many: Vec<_> = (0..2 * ROOM).map(|number| Reused::new(&SHELF, async move { number })).collect();
        for future in many {
            future.await;
        }
        assert_eq!(kept(), ROOM);
    }
}
