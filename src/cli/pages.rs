//! Shell completions and manual pages, made from the same definition as `--help`; and what describes the REST API, made from its routes.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::Verdict;
use super::screen::Screen;

/// Print the manual page
#[derive(Debug, Args)]
#[command(
    after_help = "Without --dir it is the page itself that is printed, under --json too.\n\nExamples:\n  mcp-gateway man | man -l -\n  mcp-gateway man --dir ~/.local/share/man/man1"
)]
pub struct Man {
    /// Write a page for every command into this folder instead
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes completions for `shell` to standard output.
pub fn completions(shell: clap_complete::Shell, command: &mut clap::Command) -> anyhow::Result<Verdict> {
    // The generator stops the process when it cannot write; a buffer cannot fail.
    let mut text = Vec::new();
    clap_complete::generate(shell, command, "mcp-gateway", &mut text);
    let mut text = String::from_utf8(text)?;
    if shell == clap_complete::Shell::Bash {
        // The generator spells a hyphen in the program's name in two ways, and so never finds what follows a command.
        text = text.replace("mcp__subcmd__gateway", "mcp__gateway");
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Verdict::Fine)
}

/// Writes the OpenAPI document to standard output.
pub fn openapi() -> anyhow::Result<Verdict> {
    let document = crate::admin::reference::openapi_document();
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&document)?)?;
    Ok(Verdict::Fine)
}

/// Writes the manual page to standard output, or all of them into a folder.
pub fn man(man: &Man, command: clap::Command, screen: Screen) -> anyhow::Result<Verdict> {
    if let Some(dir) = &man.dir {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        clap_mangen::generate_to(command, dir).with_context(|| format!("cannot write to {}", dir.display()))?;
        screen.show(&serde_json::json!({ "dir": dir }), || format!("wrote the manual pages to {}", dir.display()))?;
    } else {
        clap_mangen::Man::new(command).render(&mut std::io::stdout().lock())?;
    }
    Ok(Verdict::Fine)
}
