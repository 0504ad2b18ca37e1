//! The keys that seal secrets, from where the settings say that they are: a text, a file, or what a program prints.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use crate::config::{Access, program};
use crate::crypto::{LONGEST_FILE, MasterKey, room_for_keys};
use crate::secret::Secret;

/// How long a program may take to print a key.
const WAIT: Duration = Duration::from_secs(30);

/// The key that seals, if it is there; and the file in which it is looked for, if it is looked for in one.
pub(super) async fn current(access: &Access, folder: &Path) -> anyhow::Result<(Option<MasterKey>, Option<PathBuf>)> {
    if let Some(text) = &access.master_key {
        return Ok((Some(MasterKey::from_text(text.expose()).context("MREG_MASTER_KEY")?), None));
    }
    if let Some(command) = &access.master_key_command {
        let key = async { anyhow::Ok(MasterKey::from_bytes(&printed_by(command).await?)?) };
        return Ok((Some(key.await.context("MREG_MASTER_KEY_COMMAND")?), None));
    }
    let file = access.master_key_file.clone().unwrap_or_else(|| folder.join("master.key"));
    let key = MasterKey::load(&file).context("the key that seals secrets")?;
    Ok((key, Some(file)))
}

/// Those that open what they sealed before.
pub(super) async fn previous(access: &Access) -> anyhow::Result<Vec<MasterKey>> {
    let Access { previous_master_key, previous_master_key_file, previous_master_key_command, .. } = access;
    if let Some(text) = previous_master_key {
        return MasterKey::list(text.expose()).context("MREG_PREVIOUS_MASTER_KEY");
    }
    if let Some(file) = previous_master_key_file {
        return MasterKey::load_list(file).context("MREG_PREVIOUS_MASTER_KEY_FILE");
    }
    let Some(command) = previous_master_key_command else { return Ok(Vec::new()) };
    let keys = async { anyhow::Ok(MasterKey::list_of_bytes(&printed_by(command).await?)?) };
    keys.await.context("MREG_PREVIOUS_MASTER_KEY_COMMAND")
}

/// What a program prints. Nothing of it is told or logged, nor what it says besides, which could hold the key. It sees the environment
/// but for what is the gateway's own.
async fn printed_by(command: &Secret) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let program = program(command.expose()).map_err(anyhow::Error::msg)?;
    let name = &program.name;
    let mut command = Command::new(name);
    command.args(&program.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MREG_")) {
        command.env_remove(variable);
    }
    let mut running = Running(command.spawn().with_context(|| format!("`{name}` cannot be started"))?);
    let by_hand = "run it by hand, as the user of the gateway, to see what it says";
    match tokio::time::timeout(WAIT, running.read()).await {
        Ok(read) => read.with_context(|| format!("`{name}`: {by_hand}")),
        Err(_) => anyhow::bail!("`{name}` has not ended within {} s; {by_hand}", WAIT.as_secs()),
    }
}

/// A program that runs in a group of its own, which ends with this.
struct Running(Child);

impl Running {
    async fn read(&mut self) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let output = self.0.stdout.take().context("it has no output")?;
        let mut text = room_for_keys();
        output.take(LONGEST_FILE + 1).read_to_end(&mut text).await.context("what it printed cannot be read")?;
        anyhow::ensure!(
            text.len() as u64 <= LONGEST_FILE,
            "it printed more than {LONGEST_FILE} bytes, which is no key"
        );
        let status = self.0.wait().await?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // None when it has ended.
        if let Some(pid) = self.0.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DotEnv, Settings};

    const KEY: &str = "3q2+78r+uq2+7wEjRWeJq83vZyHa5LPh0vYsMRlZh8I=";

    fn shell(script: &str) -> String {
        serde_json::json!(["sh", "-c", script]).to_string()
    }

    fn access(args: &[String]) -> Access {
        Settings::from_args(args, &DotEnv::default()).unwrap().access
    }

    async fn by_command(script: &str) -> anyhow::Result<MasterKey> {
        let access = access(&["--master-key-command".into(), shell(script)]);
        Ok(current(&access, Path::new("/none")).await?.0.unwrap())
    }

    #[tokio::test]
    async fn a_program_prints_the_key_and_nothing_that_it_says_is_told() {
        let key = by_command(&format!("echo ' {KEY} '")).await.unwrap();
        assert_eq!(key.id(), MasterKey::from_text(KEY).unwrap().id());
        for (script, says) in [
            (format!("echo {KEY}; echo {KEY} >&2; exit 3"), "exit status: 3"),
            ("echo s3cret-and-no-key".to_owned(), "32 random bytes"),
            (format!("while :; do echo {KEY}; done"), "more than 1024 bytes"),
            ("printf '\\377s3cret'".to_owned(), "32 random bytes"),
        ] {
            let error = format!("{:#}", by_command(&script).await.unwrap_err());
            assert!(error.starts_with("MREG_MASTER_KEY_COMMAND") && error.contains(says), "{error}");
            assert!(!error.contains("s3cret") && !error.contains("3q2"), "{error}");
        }
        let gone = access(&["--master-key-command=/none/such".into()]);
        let error = format!("{:#}", current(&gone, Path::new("/none")).await.unwrap_err());
        assert!(error.contains("`/none/such` cannot be started"), "{error}");
    }

    #[tokio::test]
    async fn previous_keys_come_from_the_same_places() {
        let other = "mQ4vJ7x0cK1rT9wZ2bN5yH8uE3fL6sA0dG4jP7kV1oI=";
        let file = std::env::temp_dir().join(format!("mcp-gateway-previous-{}", uuid::Uuid::now_v7()));
        std::fs::write(&file, format!("{KEY}\n\n{other}\n")).unwrap();
        let args = |flag: &str, value: &str| access(&[format!("--previous-master-key{flag}"), value.to_owned()]);
        let shown = args("-file", file.to_str().unwrap());
        let error = format!("{:#}", previous(&shown).await.unwrap_err());
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let ids = [KEY, other].map(|key| MasterKey::from_text(key).unwrap().id());
        for from in
            [shown, args("", &format!("{KEY},{other}")), args("-command", &format!("/bin/cat {}", file.display()))]
        {
            let found: Vec<_> = previous(&from).await.unwrap().iter().map(MasterKey::id).collect();
            assert_eq!(found, ids);
        }
        for empty in [args("", ""), args("", " , "), args("-file", "/none/such"), args("", &[KEY; 9].join(","))] {
            assert!(previous(&empty).await.is_err(), "{empty:?}");
        }
        assert!(previous(&access(&[])).await.unwrap().is_empty());
        std::fs::remove_file(&file).unwrap();
    }
}
