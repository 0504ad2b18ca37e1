//! What is in force and where it came from, for `mcp-gateway config`. Secrets are masked here, once, so that no printer can
//! forget it.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command};
use serde::Serialize;

use super::{DotEnv, Settings};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Variable,
    /// The `.env` file.
    DotEnv,
    /// Nobody said anything.
    Default,
}

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// The section, as in `--help`.
    pub section: String,
    /// The variable.
    pub variable: String,
    /// The flag, with its dashes.
    pub flag: String,
    /// The value as written, secrets masked; none when unset.
    pub value: Option<String>,
    /// The default as written.
    pub default: Option<String>,
    /// What kind of value: `DURATION`, `BYTES`, `COUNT` …
    pub unit: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What it means.
    pub help: String,
}

/// Every setting, in the order of `--help`. `matches` are those of the command into which [`Settings`] was flattened.
pub fn effective(matches: &ArgMatches, dotenv: &DotEnv) -> Vec<Effective> {
    let command = Settings::augment_args(Command::new("mcp-gateway"));
    command.get_arguments().filter_map(|arg| one(arg, matches, dotenv)).collect()
}

fn one(arg: &Arg, matches: &ArgMatches, dotenv: &DotEnv) -> Option<Effective> {
    let variable = arg.get_env()?.to_str()?.to_owned();
    let id = arg.get_id().as_str();
    let origin = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Variable,
        Some(ValueSource::DefaultValue) if dotenv.get(&variable).is_some() => Origin::DotEnv,
        _ => Origin::Default,
    };
    let value = matches.try_get_raw(id).ok().flatten().map(|values| {
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        let value = values.join(",");
        if arg.is_hide_env_values_set() { masked(&value) } else { value }
    });
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    Some(Effective {
        section: arg.get_help_heading().unwrap_or("Other").to_owned(),
        flag: format!("--{}", arg.get_long()?),
        value,
        default: (!defaults.is_empty()).then(|| defaults.join(",")),
        unit: arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default(),
        origin,
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        variable,
    })
}

/// A URL keeps what helps to recognise it, scheme, host and path; anything else keeps nothing.
fn masked(value: &str) -> String {
    match url::Url::parse(value) {
        Ok(mut url) if url.has_host() || url.scheme() == "sqlite" => {
            if url.password().is_some() && url.set_password(Some("***")).is_err() {
                return "***".to_owned();
            }
            if url.query().is_some() {
                url.set_query(Some("***"));
            }
            url.set_fragment(None);
            url.into()
        }
        _ => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(args: &[&str], dotenv: &DotEnv) -> Vec<Effective> {
        let command = dotenv.apply(Settings::augment_args(Command::new("x").no_binary_name(true)));
        effective(&command.try_get_matches_from(args).unwrap(), dotenv)
    }

    fn find<'a>(list: &'a [Effective], variable: &str) -> &'a Effective {
        list.iter().find(|one| one.variable == variable).unwrap()
    }

    #[test]
    fn each_setting_says_its_value_and_where_it_came_from() {
        let list = listing(&["--port", "9000", "--log", "debug"], &DotEnv::default());
        let port = find(&list, "MREG_PORT");
        assert_eq!((port.value.as_deref(), port.origin, port.unit.as_str()), (Some("9000"), Origin::Flag, "PORT"));
        let grace = find(&list, "MREG_SHUTDOWN_GRACE");
        assert_eq!((grace.value.as_deref(), grace.origin), (Some("30s"), Origin::Default));
        assert_eq!(find(&list, "MREG_PUBLIC_URL").value, None);
    }

    #[test]
    fn every_setting_has_a_help_text_a_section_and_a_unit() {
        for one in listing(&[], &DotEnv::default()) {
            assert!(!one.help.is_empty() && one.section != "Other" && !one.unit.is_empty(), "{one:?}");
            assert!(["MREG_", "OTEL_"].iter().any(|ours| one.variable.starts_with(ours)), "{one:?}");
        }
    }

    #[test]
    fn secrets_are_masked_and_urls_stay_recognisable() {
        let list = listing(
            &[
                "--master-key",
                "c2VjcmV0",
                "--database-url",
                "postgres://ada:hush@db.example.com/gw?sslpassword=hush",
                "--bootstrap-admin-key",
                "mcpg_hush",
                "--otlp-headers",
                "authorization=Bearer%20hush",
                "--otlp-traces-endpoint",
                "https://traces.example.com/v1?key=hush",
            ],
            &DotEnv::default(),
        );
        let text = serde_json::to_string(&list).unwrap();
        assert!(!text.contains("hush") && !text.contains("c2VjcmV0"), "{text}");
        let traces = find(&list, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        assert_eq!(traces.value.as_deref(), Some("https://traces.example.com/v1?***"));
        assert_eq!(find(&list, "MREG_DATABASE_URL").value.as_deref(), Some("postgres://ada:***@db.example.com/gw?***"));
    }
}
