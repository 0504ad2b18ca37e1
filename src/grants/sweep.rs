//! What time ends and what nobody needs any longer, in batches that hold no lock for long.

use time::OffsetDateTime;

use super::{Ended, Grants, Refusal, not_yet};

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Grants that ended, `timeout` all of them.
    pub ended: Vec<Ended>,
    /// Rows that were removed.
    pub removed: u64,
    /// Whether a batch was full, so that another sweep has work at once.
    pub more: bool,
}

impl Grants {
    /// Ends grants whose time is over and removes what is past its use. For a job, every minute or so, of any process.
    pub async fn sweep(&self, now: OffsetDateTime) -> Result<Swept, Refusal> {
        let _ = now;
        not_yet()
    }
}
