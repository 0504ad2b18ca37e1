//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a guard must stay as small as it is.
    if let Some(code) = mcp_registry_gateway::cli::guard::dispatch() {
        return code;
    }
    ExitCode::SUCCESS
}
