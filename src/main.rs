//! The binary.

use std::process::ExitCode;

use mcp_registry_gateway::cli;

fn main() -> ExitCode {
    // The guard of a child process must be up before anything else can fail.
    if std::env::args_os().nth(1).is_some_and(|word| word == "__guard") {
        return cli::guard::run(std::env::args_os().skip(2));
    }
    cli::main()
}
