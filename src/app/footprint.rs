//! How much memory what is kept for people takes: how many of each there are, times how large one is in this build. Texts that many share
//! are not counted again for each.

use std::collections::HashSet;
use std::time::Duration;

use super::App;
use crate::mcp::session::Session;

/// One kind of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// `access_tokens`, `api_keys`, `mcp_sessions`.
    pub component: &'static str,
    /// How many there are.
    pub count: usize,
    /// What they take.
    pub bytes: usize,
}

impl App {
    /// What is kept for people.
    pub fn footprint(&self) -> [Footprint; 3] {
        let (sessions, session) = (self.sessions.count(), size_of::<Session>() + size_of::<usize>());
        [
            Footprint { component: "access_tokens", count: self.tokens.held().0, bytes: self.tokens.bytes() },
            Footprint { component: "api_keys", count: self.keyring.len(), bytes: self.keyring.bytes() },
            Footprint { component: "mcp_sessions", count: sessions, bytes: sessions * session },
        ]
    }

    /// How many accounts showed a credential within this time, here.
    pub fn accounts_within(&self, time: Duration) -> usize {
        let mut seen = HashSet::new();
        self.keyring.users_within(time, &mut seen);
        self.tokens.users_within(time, &mut seen);
        seen.len()
    }
}
