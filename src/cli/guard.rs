//! Placeholder.

/// Placeholder.
pub fn run(_args: impl Iterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
