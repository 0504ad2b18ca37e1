//! `top`: tenants, servers and tools as they are, looked at again and again. On a terminal it is a page that stays; else it is one table, or
//! with `--json` a line for each look.

mod figures;
mod keys;
mod look;
mod page;
mod scrape;
mod terminal;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Verdict;
use super::failure::Failure;
use super::gateway::Gateway;
use super::screen::Screen;
use keys::{Key, Keys};
use look::{Look, Watch};
use page::Page;
use terminal::Terminal;

const EXAMPLES: &str = "\
Requests, errors and times are those of the last ten seconds, at the gateway that answers. People,
sessions and limits are those of all gateways on one database. `-` is what nobody measured.

Examples:
  mcp-gateway top
  mcp-gateway top --once
  mcp-gateway top --every 5 --json | jq .requests_per_second";

/// Watch tenants, servers and tools
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Top {
    /// Between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    every: u64,
    /// Print tables once and end; so it is anyway where there is no terminal
    #[arg(long)]
    once: bool,
}

/// Carries out `top`.
pub async fn run(top: &Top, gateway: &Gateway, screen: Screen) -> anyhow::Result<Verdict> {
    let mut watch = Watch::default();
    let every = Duration::from_secs(top.every);
    let live = !screen.is_json() && !top.once && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if live {
        stay(gateway, &mut watch, every).await?;
        return Ok(Verdict::Fine);
    }
    // One look says how many there were, two how many there are in a second.
    watch.take(Look::at(gateway).await?);
    loop {
        tokio::time::sleep(every).await;
        let figures = watch.take(Look::at(gateway).await?);
        screen.say(&figures.document(gateway.base()), || page::once(gateway.base(), &figures))?;
        if top.once || !screen.is_json() {
            return Ok(Verdict::Fine);
        }
    }
}

/// What ends the page, besides its keys.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn one(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The page, until somebody ends it. The terminal is as it was behind it.
async fn stay(gateway: &Gateway, watch: &mut Watch, every: Duration) -> anyhow::Result<()> {
    let mut figures = watch.take(Look::at(gateway).await?);
    let (mut ends, mut resized) = (Ends::new()?, signal(SignalKind::window_change())?);
    let terminal = Terminal::enter()?;
    let mut keys = Keys::read()?;
    let (mut page, mut trouble): (Page, Option<String>) = (Page::default(), None);
    let mut looking = Box::pin(later(gateway, every));
    loop {
        let size = terminal.size();
        terminal.draw(&page.render(gateway.base(), &figures, trouble.as_deref(), size))?;
        tokio::select! {
            () = ends.one() => break,
            _ = resized.recv() => {}
            key = keys.next() => match key {
                None | Some(Key::End) => break,
                Some(key) => page.press(key, &figures),
            },
            look = &mut looking => {
                // A gateway that starts anew is waited for; what was seen last stays, and says that it is old.
                match look {
                    Ok(look) => (figures, trouble) = (watch.take(look), None),
                    Err(error) => trouble = Some(Failure::of(error).what),
                }
                looking.set(later(gateway, every));
            }
        }
    }
    Ok(())
}

async fn later(gateway: &Gateway, every: Duration) -> anyhow::Result<Look> {
    tokio::time::sleep(every).await;
    Look::at(gateway).await
}
