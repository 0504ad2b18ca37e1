//! Waiting for something to become true, without sleeping.
//!
//! Whoever changes what a test looks at calls [`Pulse::tick`]; whoever waits looks again after each tick.

use std::time::Duration;

use tokio::sync::watch;

/// How long a wait lasts before it is given up. Nothing in a test should take near as long.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A heartbeat that says "look again".
#[derive(Debug)]
pub struct Pulse(watch::Sender<u64>);

impl Default for Pulse {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Pulse {
    /// Something changed.
    pub fn tick(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Waits until `look` finds something; `None` when patience ends first.
    pub async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let mut ticks = self.0.subscribe();
        let found = async {
            loop {
                ticks.borrow_and_update();
                if let Some(found) = look() {
                    return Some(found);
                }
                ticks.changed().await.ok()?;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.ok().flatten()
    }
}
