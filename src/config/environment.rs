//! Variables from outside: the `.env` file, and the check that no `MREG_*` variable is misspelt. A variable that nobody
//! reads is a setting that somebody believes in, so the process does not start with one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::{Args as _, Command};

use super::{Settings, SettingsError};

/// Variables of the command-line client, which the server does not read.
const OF_THE_CLIENT: [&str; 2] = ["MREG_GATEWAY_URL", "MREG_API_KEY"];

/// The `MREG_*` and `OTEL_*` lines of a `.env` file. Other lines are not ours and are left alone.
#[derive(Debug, Clone, Default)]
pub struct DotEnv(BTreeMap<String, String>);

impl DotEnv {
    /// Reads `.env` in the working directory; nothing when there is none.
    pub fn read() -> Result<Self, SettingsError> {
        Self::read_from(Path::new(".env"))
    }

    /// Reads the file at `path`; nothing when there is none.
    pub fn read_from(path: &Path) -> Result<Self, SettingsError> {
        match dotenvy::from_path_iter(path) {
            Ok(lines) => {
                Ok(Self(lines.filter(ours).collect::<Result<_, _>>().map_err(|e| SettingsError::DotEnv(told(&e)))?))
            }
            Err(error) if error.not_found() => Ok(Self::default()),
            Err(error) => Err(SettingsError::DotEnv(told(&error))),
        }
    }

    /// The file's value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names in the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Gives the file's values to `command` and its subcommands as defaults, below flags and variables. To be called before
    /// the command line is parsed.
    #[must_use]
    pub fn apply(&self, command: Command) -> Command {
        if self.0.is_empty() {
            return command;
        }
        let command = command.mut_args(|arg| {
            let value = arg.get_env().and_then(|name| name.to_str()).and_then(|name| self.0.get(name));
            match value {
                // `--help` prints defaults: not those of secrets.
                Some(value) => {
                    let secret = arg.is_hide_env_values_set();
                    arg.default_value(OsString::from(value)).hide_default_value(secret)
                }
                None => arg,
            }
        });
        command.mut_subcommands(|sub| self.apply(sub))
    }
}

fn ours(line: &dotenvy::Result<(String, String)>) -> bool {
    line.as_ref().map_or(true, |(name, _)| ["MREG_", "OTEL_"].iter().any(|ours| name.starts_with(ours)))
}

/// What is wrong with the file, without the line itself: it may hold a secret.
fn told(error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(_, at) => format!("a line cannot be read (near column {at}); write NAME=value"),
        dotenvy::Error::Io(error) => error.to_string(),
        _ => "cannot be read; write NAME=value lines".to_owned(),
    }
}

/// A variable that no setting has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct Unknown {
    /// The name as given.
    pub name: String,
    /// The known name most like it, if one is.
    pub nearest: Option<String>,
}

impl Unknown {
    fn message(&self) -> String {
        let name = &self.name;
        match &self.nearest {
            Some(nearest) => format!("unknown variable {name}: did you mean {nearest}? Correct or unset it"),
            None => format!("unknown variable {name}: unset it, or see `mcp-gateway config` for the names there are"),
        }
    }
}

/// Refuses the first of `names` that begins with `MREG_` and that nobody reads.
pub fn check_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<(), Unknown> {
    let mut suspects = names.into_iter().filter(|name| name.as_ref().starts_with("MREG_")).peekable();
    if suspects.peek().is_none() {
        return Ok(());
    }
    let known = known();
    for name in suspects {
        let name = name.as_ref();
        if known.iter().any(|one| one == name) {
            continue;
        }
        let nearest = known
            .iter()
            .filter(|one| one.starts_with("MREG_"))
            .map(|one| (strsim::normalized_damerau_levenshtein(&one[5..], &name[5..]), one))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(likeness, _)| *likeness >= 0.5)
            .map(|(_, one)| one.clone());
        return Err(Unknown { name: name.to_owned(), nearest });
    }
    Ok(())
}

fn known() -> Vec<String> {
    let command = Settings::augment_args(Command::new("mcp-gateway"));
    let of_settings = command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_str()?.to_owned()));
    of_settings.chain(OF_THE_CLIENT.map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_refused_with_the_nearest_name() {
        let error = check_names(["PATH", "MREG_PORT", "MREG_DATABSE_URL"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown variable MREG_DATABSE_URL: did you mean MREG_DATABASE_URL? Correct or unset it"
        );
        let error = check_names(["MREG_XQZWKJY"]).unwrap_err();
        assert_eq!(error.nearest, None);
    }

    #[test]
    fn variables_of_the_client_are_known() {
        check_names(["MREG_GATEWAY_URL", "MREG_API_KEY", "HOME"]).unwrap();
    }

    #[test]
    fn a_dotenv_file_stands_below_flags_and_above_defaults() {
        let folder = std::env::temp_dir().join(format!("dotenv-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join(".env");
        std::fs::write(&path, "# here\nMREG_PORT=9001\nMREG_MAX_CHILDREN=7\nOTEL_SERVICE_NAME=g\nOTHER=1\n").unwrap();
        let dotenv = DotEnv::read_from(&path).unwrap();
        assert_eq!(dotenv.names().collect::<Vec<_>>(), ["MREG_MAX_CHILDREN", "MREG_PORT", "OTEL_SERVICE_NAME"]);
        let settings = Settings::from_args(["--port", "9002"], &dotenv).unwrap();
        assert_eq!((settings.listen.port, settings.limits.max_children), (9002, 7));
        std::fs::write(&path, "MREG_MASTER_KEY=hush\n").unwrap();
        let mut command = DotEnv::read_from(&path).unwrap().apply(Settings::augment_args(Command::new("x")));
        let help = command.render_long_help().to_string();
        assert!(help.contains("MREG_MASTER_KEY") && !help.contains("hush"), "{help}");
        std::fs::write(&path, "MREG_MASTER_KEY='hush\n").unwrap();
        let error = DotEnv::read_from(&path).unwrap_err().to_string();
        assert!(error.contains(".env") && !error.contains("hush"), "{error}");
        assert!(DotEnv::read_from(&folder.join("none")).unwrap().names().next().is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
