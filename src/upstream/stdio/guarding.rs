//! What the gateway and its guard processes (`cli::guard`) have agreed on.

use std::time::Duration;

/// The first argument that makes the binary a guard.
pub const VERB: &str = "__guard";
/// Exit code when the program was not found, as shells have it.
pub const NOT_FOUND: u8 = 127;
/// Exit code when the program could not be started for another reason.
pub const NOT_STARTED: u8 = 126;
/// Exit code of a process that panicked. A guard that did could end nobody; its program may have ended with the same.
pub const PANICKED: i32 = 101;
/// How long a program has between SIGTERM and SIGKILL.
pub const TERM_GRACE: Duration = Duration::from_secs(3);
