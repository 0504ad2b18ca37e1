//! A stream of events over HTTP, read event by event: for what the gateway itself wants to know of it. What is passed on to clients
//! byte for byte is read by `mcp::source`.

use bytes::Bytes;

use crate::fault::Fault;
use crate::protocol::sse;
use crate::upstream::http::garbage;
use crate::upstream::wire::Body;

/// See the module.
pub struct EventStream {
    body: Body,
    reader: sse::Reader,
}

impl EventStream {
    /// Events of at most `limit` bytes each.
    pub fn new(body: Body, limit: usize) -> Self {
        Self { body, reader: sse::Reader::new(limit) }
    }

    /// From now on silence is no fault.
    pub fn be_patient(&mut self) {
        self.body.be_patient();
    }

    /// Reads on to the end, if that is near.
    pub async fn finish(self) {
        self.body.finish().await;
    }

    /// The next event; `None` at the end. Nothing is lost when nobody waits for it any more.
    pub async fn event(&mut self) -> Option<Result<sse::Event, Fault>> {
        loop {
            match self.reader.event() {
                Ok(None) => {}
                Ok(Some(event)) => return Some(Ok(event)),
                Err(error) => return Some(Err(garbage(error.to_string()))),
            }
            match self.body.chunk().await? {
                Ok(piece) => self.reader.feed(&piece),
                Err(fault) => return Some(Err(fault)),
            }
        }
    }

    /// The data of the next event that has any.
    pub async fn data(&mut self) -> Option<Result<Bytes, Fault>> {
        loop {
            match self.event().await? {
                Err(fault) => return Some(Err(fault)),
                Ok(event) => {
                    if let Some(data) = event.data.filter(|data| !data.is_empty()) {
                        return Some(Ok(data));
                    }
                }
            }
        }
    }
}
