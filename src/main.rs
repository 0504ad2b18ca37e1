//! The binary.

use std::process::ExitCode;

use mcp_registry_gateway::cli;

fn main() -> ExitCode {
    // Before anything else: a guard must stay as small as it is.
    if let Some(code) = cli::guard::dispatch() {
        return code;
    }
    cli::main()
}
