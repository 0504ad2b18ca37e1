//! The places and connections of every upstream, looked at once a second.

use std::time::Instant;

use super::App;

impl App {
    /// To be called once a second: what was measured is told, and limits follow the load.
    pub fn settle_pools(&self, now: Instant) {
        let metrics = self.recorder.metrics();
        for entry in self.registry.snapshot().entries() {
            if let Some(http) = entry.upstream.http() {
                http.settle(entry.slug(), metrics, now);
            }
        }
    }
}
