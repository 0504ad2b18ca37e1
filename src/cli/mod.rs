//! The command line: a client of the gateway's REST API, and what is done on the machine itself (start, demo, check, show the
//! settings). Exit codes: 0 done, 1 failed, 2 the command line is wrong. Standard output carries the result and nothing else.

mod apply;
mod call;
mod demo;
mod diff;
mod doctor;
mod effective;
mod expand;
mod export;
mod failure;
mod gateway;
pub mod guard;
mod http;
mod import;
mod keys;
mod manifest;
mod mcp;
mod mcp_files;
mod pages;
mod sample;
mod screen;
mod servers;
mod spec_flags;
mod status;
mod users;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{DotEnv, Settings, check_names};
use crate::serve::Stopped;
use failure::{EXIT_FAILED, Failure};
use gateway::{Gateway, Reach};
use screen::Screen;

pub use gateway::Access;

const EXAMPLES: &str = "\
Examples:
  mcp-gateway demo                              # see it work in a minute
  mcp-gateway serve                             # the real start
  mcp-gateway servers add files -- npx -y some-mcp-server ~/notes
  mcp-gateway servers add search --url https://example.com/mcp --header 'X-Key: ${KEY}'
  mcp-gateway servers call files read_file path=a.txt
  mcp-gateway apply -f gateway.yaml --dry-run

Every command takes --json. Exit codes: 0 done, 1 failed, 2 the command line is wrong.";

/// Registry, gateway and sign-in for Model Context Protocol servers
#[derive(Debug, Parser)]
#[command(name = "mcp-gateway", version, about, after_help = EXAMPLES, max_term_width = 110, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway
    #[command(
        after_help = "Examples:\n  mcp-gateway serve\n  MREG_DATA_DIR=/var/lib/mcp-gateway mcp-gateway serve --port 9000"
    )]
    Serve(Box<Settings>),
    /// Start the gateway with a sample server, call it once, and show how clients are connected
    #[command(after_help = "Examples:\n  mcp-gateway demo\n  mcp-gateway demo --port 9000")]
    Demo(Box<Settings>),
    /// Register, look at, change and call MCP servers
    Servers(servers::Servers),
    /// Make and revoke API keys
    Keys(keys::Keys),
    /// Manage local users
    Users(users::Users),
    /// Bring the registry to what a file says
    Apply(apply::Apply),
    /// Register the servers of a client's configuration file (Claude, VS Code, Cursor)
    Import(import::Import),
    /// Print the registry as a file for `apply`
    Export(export::Export),
    /// Say how the gateway is
    #[command(after_help = "Examples:\n  mcp-gateway status\n  mcp-gateway status --json")]
    Status,
    /// Check the set-up and say what to do
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(Box<Settings>),
    /// Print the settings in force and where each came from
    #[command(after_help = "Examples:\n  mcp-gateway config\n  MREG_PORT=9000 mcp-gateway config --json")]
    Config(Box<Settings>),
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  mcp-gateway completions bash > ~/.local/share/bash-completion/completions/mcp-gateway\n  \
                            mcp-gateway completions zsh > ~/.zfunc/_mcp-gateway"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man(pages::Man),
    /// Serve sample tools over standard input and output
    #[command(hide = true)]
    SampleServer,
}

/// As a shell reports a process that SIGINT ended.
const EXIT_FORCED: u8 = 130;

/// How a command that could do its work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// As wanted.
    Fine,
    /// It found or met something bad, and has said so.
    Bad,
    /// It was told to stop twice, and did not wait for what ran.
    Forced,
}

/// Reads the command line and carries it out.
pub fn main() -> ExitCode {
    let dotenv = match DotEnv::read() {
        Ok(dotenv) => dotenv,
        Err(error) => return stop(&Failure::usage(error.to_string()), Screen::new(false)),
    };
    let matches = match dotenv.apply(Cli::command()).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let mut cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    cli.reach.data = gateway::data_folder(&dotenv);
    let screen = Screen::new(cli.reach.json);
    match run(cli, &matches, &dotenv, screen) {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(EXIT_FAILED),
        Ok(Verdict::Forced) => ExitCode::from(EXIT_FORCED),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => stop(&Failure::of(error), screen),
    }
}

/// Tells a failure and gives its exit code.
fn stop(failure: &Failure, screen: Screen) -> ExitCode {
    screen::note(failure.render().trim_end());
    if screen.is_json() {
        // The reader may be gone; the exit code tells it all the same.
        let _ = screen.show(&failure.document(), String::new);
    }
    ExitCode::from(failure.exit)
}

fn refuse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::EXIT_USAGE))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn run(cli: Cli, matches: &clap::ArgMatches, dotenv: &DotEnv, screen: Screen) -> anyhow::Result<Verdict> {
    let reach = cli.reach;
    match cli.command {
        Command::SampleServer => {
            sample::run(std::io::stdin().lock(), std::io::stdout().lock())?;
            Ok(Verdict::Fine)
        }
        Command::Completions { shell } => pages::completions(shell, &mut Cli::command()),
        Command::Man(man) => pages::man(&man, Cli::command(), screen),
        Command::Config(_) => effective::show(matches, dotenv, screen),
        Command::Serve(settings) => {
            startable(&settings, dotenv)?;
            serve(&settings.log.clone(), crate::serve::run(*settings))
        }
        Command::Demo(settings) => {
            startable(&settings, dotenv)?;
            serve(&settings.log.clone(), demo::run(*settings, screen))
        }
        Command::Doctor(settings) => one_thread()?.block_on(doctor::run(&settings, dotenv, &reach, screen)),
        Command::Apply(apply) => one_thread()?.block_on(apply::run(&apply, &reach, screen)),
        Command::Import(import) => one_thread()?.block_on(import::run(&import, &reach, screen)),
        command => {
            let gateway = Gateway::find(&reach)?;
            one_thread()?.block_on(async {
                match command {
                    Command::Servers(servers) => servers::run(servers, &gateway, screen).await,
                    Command::Keys(keys) => keys::run(keys, &gateway, screen).await,
                    Command::Users(users) => users::run(users, &gateway, screen).await,
                    Command::Export(export) => export::run(&export, &gateway, screen).await,
                    _ => status::run(&gateway, screen).await,
                }
            })
        }
    }
}

/// Refuses to start with settings that do not go together, or with a variable that nobody reads.
fn startable(settings: &Settings, dotenv: &DotEnv) -> Result<(), Failure> {
    check_names(variables(dotenv)).map_err(|error| Failure::usage(error.to_string()))?;
    settings.check().map_err(|error| Failure::usage(error.to_string()))
}

/// The names of the variables that are set, by the environment and by `.env`.
fn variables(dotenv: &DotEnv) -> Vec<String> {
    let own = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    own.chain(dotenv.names().map(str::to_owned)).collect()
}

/// Runs the gateway until it is told to stop.
fn serve(log: &crate::config::Log, life: impl Future<Output = anyhow::Result<Stopped>>) -> anyhow::Result<Verdict> {
    crate::telemetry::logs::start(log)?;
    let how = crate::serve::block_on(life)?;
    Ok(if how == Stopped::Forced { Verdict::Forced } else { Verdict::Fine })
}

fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                if sub.get_about().is_none() {
                    missing.push(format!("{path}: about"));
                }
                if !sub.get_after_help().is_some_and(|help| help.to_string().contains("mcp-gateway")) {
                    missing.push(format!("{path}: example"));
                }
                check(sub, &path, missing);
            }
        }
        let mut missing = Vec::new();
        check(&Cli::command(), "mcp-gateway", &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }
}
