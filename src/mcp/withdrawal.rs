//! Takes a request back from a legacy server in the session that several clients share. HTTP has no other word for "no longer
//! wanted" than a closed connection, and a server of that era does not take it for one: it wants a notification.

use std::sync::Arc;

use bytes::Bytes;

use crate::app::App;
use crate::protocol::message;
use crate::upstream::Upstream;
use crate::upstream::session::HttpSession;

/// Sends the notification when dropped, unless the answer came.
pub struct Withdrawal {
    app: App,
    upstream: Arc<Upstream>,
    link: Arc<HttpSession>,
    id: Bytes,
    answered: bool,
}

impl Withdrawal {
    /// Stands for the request with this id, which is about to be sent.
    pub fn new(app: &App, upstream: &Arc<Upstream>, link: &Arc<HttpSession>, id: &Bytes) -> Self {
        let (upstream, link) = (upstream.clone(), link.clone());
        Self { app: app.clone(), upstream, link, id: id.clone(), answered: false }
    }

    /// The answer came, or the request never got there.
    pub fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let params = format!("{{\"requestId\":{}}}", String::from_utf8_lossy(&self.id));
        let notification = message::call(None, "notifications/cancelled", params.as_bytes());
        let (upstream, link) = (self.upstream.clone(), self.link.clone());
        self.app.tasks.spawn(async move { link.tell(&upstream, notification).await });
    }
}
