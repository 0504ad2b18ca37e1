//! The binary.

use std::process::ExitCode;

use mcp_registry_gateway::cli;

/// Messages are allocated on one thread and freed on another all the time; the system's allocator locks for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: a guard must stay as small as it is.
    if let Some(code) = cli::guard::dispatch() {
        return code;
    }
    cli::main()
}
