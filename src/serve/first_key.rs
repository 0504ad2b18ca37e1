//! The first administrator's key, once: on standard output for a person, and in the data folder for the command line, readable
//! by its owner only.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::secret::Secret;

/// Writes `cli.json` into `folder` and, when the gateway `made` the key itself, prints it. A key that the operator gave is
/// not printed back.
pub fn announce(folder: &Path, gateway: &str, key: &Secret, made: bool) -> anyhow::Result<()> {
    let path = folder.join("cli.json");
    write(&path, gateway, key).with_context(|| format!("cannot write {}", path.display()))?;
    if made {
        let mut out = std::io::stdout().lock();
        write!(
            out,
            "\nThe first administrator's API key. It is shown this once and stored only as a hash:\n\n    {}\n\n\
             The command line on this machine finds it in {}; keep it there or move it to a safe place.\n\n",
            key.expose(),
            path.display()
        )
        .and_then(|()| out.flush())
        .context("standard output")?;
    }
    Ok(())
}

/// Through a second file, so that a reader sees the old text or the new one, and nobody ever an open one.
fn write(path: &Path, gateway: &str, key: &Secret) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&serde_json::json!({ "gateway": gateway, "key": key.expose() }))?;
    let draft = path.with_extension(format!("json.{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, path)
    })();
    if written.is_err() {
        // The draft holds the key; that it cannot be removed adds nothing to the error at hand.
        let _ = std::fs::remove_file(&draft);
    }
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_even_where_an_open_one_stood() {
        let folder = std::env::temp_dir().join(format!("first-key-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("cli.json");
        std::fs::write(&path, "old").unwrap();
        announce(&folder, "http://127.0.0.1:8001", &Secret::new("mcpg_x"), false).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, serde_json::json!({ "gateway": "http://127.0.0.1:8001", "key": "mcpg_x" }));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no draft is left");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
