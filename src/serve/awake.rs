//! For how long a thread had something to do. Only the kernel knows: a thread that was woken and waits for a processor is not
//! idle, though it looks so from within.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// The kernel's account of one thread (`proc(5)`): nanoseconds that it ran, nanoseconds that it waited to run, and more.
const ACCOUNT: &str = "/proc/thread-self/schedstat";

/// The account of the thread that made it.
pub(super) struct Awake(Option<File>);

impl Awake {
    /// Where the kernel keeps no account, or one that stays at zero, the thread seems idle at all times.
    pub(super) fn of_this_thread() -> Self {
        Self(File::open(ACCOUNT).ok())
    }

    /// For how long it ever ran or waited to run.
    pub(super) fn time(&self) -> Duration {
        let mut text = [0; 64];
        let read = self.0.as_ref().and_then(|account| account.read_at(&mut text, 0).ok()).unwrap_or_default();
        let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
        let both = text.split_ascii_whitespace().take(2).filter_map(|nanos| nanos.parse::<u64>().ok());
        Duration::from_nanos(both.fold(0, u64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_works_is_awake_for_longer() {
        let awake = Awake::of_this_thread();
        if awake.0.is_none() {
            assert_eq!(awake.time(), Duration::ZERO);
            return;
        }
        let (before, deadline) = (awake.time(), Instant::now() + Duration::from_secs(5));
        while awake.time() < before + Duration::from_millis(5) {
            if Instant::now() > deadline {
                // A kernel that was built or booted without this account writes nothing but zeros.
                assert_eq!(awake.time(), Duration::ZERO);
                return;
            }
            std::hint::spin_loop();
        }
    }
}
