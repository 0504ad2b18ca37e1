//! `config`: the settings in force and where each came from, secrets masked.

use std::fmt::Write as _;

use clap::ArgMatches;
use serde_json::json;

use super::Verdict;
use super::screen::{Screen, Table, Tone};
use crate::config::{DotEnv, Origin, check_names, effective};

/// Shows them. A variable that nobody reads would keep the gateway from starting, so it is told here too.
pub fn show(matches: &ArgMatches, dotenv: &DotEnv, screen: Screen) -> anyhow::Result<Verdict> {
    let matches = matches.subcommand().map_or(matches, |(_, sub)| sub);
    let settings = effective(matches, dotenv);
    let unknown = check_names(super::variables(dotenv)).err();
    let document = json!({ "settings": settings, "unknown": unknown.as_ref().map(|unknown| &unknown.name) });
    screen.show(&document, || {
        let mut text = String::new();
        for section in settings.chunk_by(|a, b| a.section == b.section) {
            let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
            for one in section {
                let (from, tone) = match one.origin {
                    Origin::Flag => (one.flag.as_str(), Tone::Good),
                    Origin::Variable => ("environment", Tone::Good),
                    Origin::DotEnv => (".env", Tone::Good),
                    Origin::Default => ("default", Tone::Dim),
                };
                table.row([
                    (one.variable.clone(), Tone::Plain),
                    (one.value.clone().unwrap_or_else(|| "-".to_owned()), Tone::Plain),
                    (from.to_owned(), tone),
                ]);
            }
            if !text.is_empty() {
                text.push('\n');
            }
            let _ = write!(text, "{}\n{}", section[0].section, table.render(""));
        }
        text
    })?;
    if let Some(unknown) = unknown {
        super::screen::note(&format!("{} {unknown}", Tone::Bad.paint("error:")));
        return Ok(Verdict::Bad);
    }
    Ok(Verdict::Fine)
}
