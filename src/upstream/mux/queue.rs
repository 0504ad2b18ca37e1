//! What waits for one caller: a queue bounded in messages and bytes, with a budget of bytes shared by all queues of one
//! mux. The reader of the peer offers, the caller takes; whatever leaves a queue, by any way, is given back to the budget.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::Event;
use crate::fault::Fault;

/// Bytes waiting in all queues of one mux, and a bell for the one reader that may be waiting for room.
#[derive(Debug)]
pub(super) struct Budget {
    per_queue: (usize, usize),
    most: usize,
    used: AtomicUsize,
    reader_waits: AtomicBool,
    room: Notify,
}

impl Budget {
    /// `messages` and `bytes` for each queue, `total` bytes for all.
    pub(super) fn new(messages: usize, bytes: usize, total: usize) -> Self {
        Self {
            per_queue: (messages.max(1), bytes),
            most: total,
            used: AtomicUsize::new(0),
            reader_waits: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    /// Waits until something left a queue. Only the reader calls this, after setting [`Budget::expect`].
    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// Says whether the reader wants to hear about room.
    pub(super) fn expect(&self, waits: bool) {
        self.reader_waits.store(waits, Ordering::SeqCst);
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.reader_waits.load(Ordering::SeqCst) {
            self.room.notify_one();
        }
    }
}

/// Why an event was not taken; the event comes back.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// This queue is full.
    Queue(Event),
    /// All queues together are.
    Total(Event),
}

#[derive(Debug)]
pub(super) struct Queue {
    budget: Arc<Budget>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    bytes: usize,
    fault: Option<Fault>,
    /// Nothing more is put in.
    ended: bool,
    waker: Option<Waker>,
}

impl Queue {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `event` in; `last` when nothing follows it. A queue that has ended swallows it.
    pub(super) fn offer(&self, event: Event, last: bool) -> Result<(), NoRoom> {
        let size = event.size();
        let mut inner = self.lock();
        if inner.ended {
            return Ok(());
        }
        let (messages, bytes) = self.budget.per_queue;
        // One message always fits an empty queue, however large: its size was bounded where it was read.
        if !inner.events.is_empty() && (inner.events.len() >= messages || inner.bytes + size > bytes) {
            return Err(NoRoom::Queue(event));
        }
        let used = self.budget.used.load(Ordering::SeqCst);
        if used > 0 && used + size > self.budget.most {
            return Err(NoRoom::Total(event));
        }
        self.budget.used.fetch_add(size, Ordering::SeqCst);
        inner.bytes += size;
        inner.events.push_back(event);
        inner.ended = last;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Ends the queue after what is in it; with `fault` as the last word, if any.
    pub(super) fn end(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        if inner.ended {
            return;
        }
        inner.ended = true;
        inner.fault = fault;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Ends the queue and throws away what is in it.
    pub(super) fn clear(&self, fault: Option<Fault>) {
        let mut inner = self.lock();
        let bytes = std::mem::take(&mut inner.bytes);
        inner.events = VecDeque::new();
        inner.ended = true;
        inner.fault = fault;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
        drop(inner);
        self.budget.give_back(bytes);
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Fault>>> {
        let mut inner = self.lock();
        if let Some(event) = inner.events.pop_front() {
            let size = event.size();
            inner.bytes -= size;
            drop(inner);
            self.budget.give_back(size);
            return Poll::Ready(Some(Ok(event)));
        }
        if let Some(fault) = inner.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        if inner.ended {
            return Poll::Ready(None);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.budget.give_back(bytes);
    }
}
