//! The command line: a client of the gateway's REST API, and what is done on the machine itself (start, demo, check, show the
//! settings). Exit codes: 0 done, 1 failed, 2 the command line is wrong. Standard output carries the result and nothing else.

mod apply;
mod audit;
mod bans;
mod call;
mod capacity;
mod clients;
mod demo;
mod diff;
mod doctor;
mod effective;
mod entra;
mod expand;
mod export;
mod failure;
mod figures;
mod findings;
mod gateway;
pub mod guard;
mod http;
mod import;
mod keys;
mod manifest;
mod mcp;
mod mcp_files;
mod pages;
mod policy;
mod pools;
mod report;
mod roles;
mod sample;
mod screen;
mod sealing_keys;
mod servers;
mod signins;
mod spec_flags;
mod status;
mod tenants;
mod top;
mod trust;
mod users;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::json;

use crate::config::{DotEnv, Settings, check_names};
use crate::secret::Secret;
use crate::serve::{Running, Stopped};
use failure::{EXIT_FAILED, Failure};
use gateway::{Gateway, Reach};
use screen::Screen;

const EXAMPLES: &str = "\
Examples:
  mcp-gateway demo                              # see it work in a minute
  mcp-gateway serve                             # the real start
  mcp-gateway servers add files -- npx -y some-mcp-server ~/notes
  mcp-gateway servers add search --url https://example.com/mcp --header 'X-Key: ${KEY}'
  mcp-gateway servers call files read_file path=a.txt
  mcp-gateway apply -f gateway.yaml --dry-run
  mcp-gateway top                               # tenants, servers and tools as they are

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
#[expect(clippy::large_enum_variant, reason = "there is one, read from the command line")]
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
    /// Make and revoke API keys; replace the keys that seal secrets
    Keys(keys::Keys),
    /// Manage local users
    Users(users::Users),
    /// Manage tenants: organisations that share the gateway
    Tenants(tenants::Tenants),
    /// Say who may see and call what: the access rules of a tenant
    Policy(Box<policy::Policy>),
    /// Register OAuth clients
    Clients(clients::Clients),
    /// Say whose assertions are taken for tokens
    Trust(trust::Trust),
    /// Look at attempts to sign in, and why one failed
    Signins(signins::Signins),
    /// Look at banned addresses, ban one, lift a ban
    Bans(bans::Bans),
    /// Look at the audit trail, export it, see whether it is whole
    Audit(audit::Audit),
    /// Bring the registry to what a file says
    Apply(apply::Apply),
    /// Register the servers of a client's configuration file (Claude, VS Code, Cursor)
    Import(import::Import),
    /// Print the registry as a file for `apply`
    Export(export::Export),
    /// Say how the gateway is
    #[command(after_help = "Examples:\n  mcp-gateway status\n  mcp-gateway status --json")]
    Status,
    /// Say what of the gateway is used, what runs out first, and when
    #[command(after_help = "Examples:\n  mcp-gateway capacity\n  mcp-gateway capacity --json")]
    Capacity,
    /// Show a report: figures, what they should be, and what was found
    Report(report::Report),
    /// Watch tenants, servers and tools
    Top(top::Top),
    /// Check the set-up and say what to do
    Doctor(Box<doctor::Doctor>),
    /// Look at the registration of the gateway in Microsoft Entra ID
    Entra(Box<entra::Entra>),
    /// Print the settings in force and where each came from
    #[command(after_help = "Examples:\n  mcp-gateway config\n  MREG_PORT=9000 mcp-gateway config --json")]
    Config(Box<Settings>),
    /// Print the description of the REST API (OpenAPI 3.1)
    #[command(after_help = "Examples:\n  mcp-gateway openapi > openapi.json")]
    Openapi,
    /// Print completions for a shell
    #[command(
        after_help = "What is printed is a script, under --json too.\n\nExamples:\n  mcp-gateway completions bash > ~/.local/share/bash-completion/completions/mcp-gateway\n  \
                            mcp-gateway completions zsh > ~/.zfunc/_mcp-gateway\n  \
                            mcp-gateway completions fish > ~/.config/fish/completions/mcp-gateway.fish"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man(pages::Man),
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

/// The whole command line: what is derived, but that `demo` has a data folder of its own.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("demo", |demo| demo.mut_arg("data_dir", |arg| arg.default_value(demo::FOLDER)))
}

/// Reads the command line and carries it out.
pub fn main() -> ExitCode {
    // No command of the command line: what `demo` registers, for the gateway to start.
    if std::env::args_os().nth(1).is_some_and(|word| word == sample::COMMAND) {
        return match sample::run(std::io::stdin().lock(), std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => stop(&Failure::new(error.to_string()), Screen::new(false)),
        };
    }
    // The command line may be wrong, and is to be told so as it wants to be.
    let words = std::env::args_os().skip(1).take_while(|word| word != "--");
    let screen = Screen::new(words.into_iter().any(|word| word == "--json"));
    let dotenv = match DotEnv::read() {
        Ok(dotenv) => dotenv,
        Err(error) => return stop(&Failure::usage(error.to_string()), screen),
    };
    let matches = match dotenv.apply(command()).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error, screen),
    };
    let mut cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, screen),
    };
    cli.reach.data = gateway::data_folder(&dotenv);
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

/// Shows help or version, or tells what is wrong with the command line.
fn refuse(error: &clap::Error, screen: Screen) -> ExitCode {
    let _ = error.print();
    let exit = u8::try_from(error.exit_code()).unwrap_or(failure::EXIT_USAGE);
    if exit != 0 && screen.is_json() {
        let _ = screen.show(&Failure::of_clap(error).document(), String::new);
    }
    ExitCode::from(exit)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn run(cli: Cli, matches: &clap::ArgMatches, dotenv: &DotEnv, screen: Screen) -> anyhow::Result<Verdict> {
    let reach = cli.reach;
    match cli.command {
        Command::Completions { shell } => pages::completions(shell, &mut command()),
        Command::Openapi => pages::openapi(),
        Command::Man(man) => pages::man(&man, command(), screen),
        Command::Config(_) => effective::show(matches, dotenv, screen),
        Command::Serve(settings) => {
            startable(&settings, dotenv)?;
            let log = settings.log.clone();
            serve(&log, crate::serve::live(*settings, async |_, running| Ok(greet(running, screen)?)))
        }
        Command::Demo(settings) => {
            startable(&settings, dotenv)?;
            serve(&settings.log.clone(), demo::run(*settings, screen))
        }
        Command::Doctor(doctor) => one_thread()?.block_on(doctor::run(&doctor, dotenv, &reach, screen)),
        Command::Entra(entra) => one_thread()?.block_on(entra::run(&entra, screen)),
        Command::Apply(apply) => one_thread()?.block_on(apply::run(&apply, &reach, screen)),
        Command::Audit(audit) => one_thread()?.block_on(audit::run(audit, &reach, screen)),
        Command::Import(import) => one_thread()?.block_on(import::run(&import, &reach, screen)),
        command => {
            let gateway = Gateway::find(&reach)?;
            one_thread()?.block_on(async {
                match command {
                    Command::Servers(servers) => servers::run(servers, &gateway, screen).await,
                    Command::Keys(keys) => keys::run(keys, &gateway, screen).await,
                    Command::Users(users) => users::run(users, &gateway, screen).await,
                    Command::Tenants(tenants) => tenants::run(tenants, &gateway, screen).await,
                    Command::Policy(policy) => policy::run(*policy, &gateway, screen).await,
                    Command::Clients(clients) => clients::run(clients, &gateway, screen).await,
                    Command::Trust(trust) => trust::run(trust, &gateway, screen).await,
                    Command::Signins(signins) => signins::run(signins, &gateway, screen).await,
                    Command::Bans(bans) => bans::run(bans, &gateway, screen).await,
                    Command::Export(export) => export::run(&export, &gateway, screen).await,
                    Command::Capacity => capacity::run(&gateway, screen).await,
                    Command::Report(report) => report::run(&report, &gateway, screen).await,
                    Command::Top(top) => top::run(&top, &gateway, screen).await,
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

/// Says where the gateway listens, and shows the first administrator's key when it was made just now.
fn greet(running: &Running, screen: Screen) -> std::io::Result<()> {
    let key = running.first_key().map(Secret::expose);
    screen.say(&json!({ "gateway": running.url(), "first_key": key }), || {
        let first = key.map(|key| {
            format!(
                "The first administrator's API key. It is shown this once and stored only as a hash:\n\n    {key}\n\n\
                 The command line on this machine finds it in the data folder, in cli.json; keep it there or move it to a \
                 safe place.\n\n"
            )
        });
        format!("{}listening on {}\n", first.unwrap_or_default(), running.url())
    })
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
        command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                if sub.get_about().is_none() {
                    missing.push(format!("{path}: about"));
                }
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                if !help.contains("mcp-gateway") {
                    missing.push(format!("{path}: example"));
                }
                // A command that is wider is broken in two where there is no terminal to ask for its width.
                for line in help.lines().filter(|line| line.starts_with("  ") && line.chars().count() > 100) {
                    missing.push(format!("{path}: a shorter line than: {line}"));
                }
                check(sub, &path, missing);
            }
        }
        let mut missing = Vec::new();
        check(&command(), "mcp-gateway", &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }
}
