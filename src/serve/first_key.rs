//! Who may come in when the process starts: the first administrator's key, and the file through which the command line on
//! this machine finds the gateway. The file is written before a key that it holds counts, and its address at every start.

use crate::access::bootstrap::{Admitted, bootstrap_kept, fresh_key};
use crate::app::App;
use crate::secret::Secret;
use crate::store::now;
use crate::telemetry::Event;

use super::access_file::{AccessFile, Claim};

/// What a start left word of.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// The first administrator's key, if it was made here.
    pub(super) key: Option<Secret>,
    /// Held as long as the process listens.
    _claim: Option<Claim>,
}

/// Makes the first administrator where there is none, reads the key ring, and leaves word for the command line: `gateway` is
/// where this process listens, unless another one on this folder has said so of itself, and lives.
pub(super) async fn settle(app: &App, gateway: &str) -> anyhow::Result<Settled> {
    let claim = Claim::take(&app.settings.data.data_dir);
    let key = word(app, gateway, !matches!(claim, Ok(None))).await?;
    Ok(Settled { key, _claim: claim.ok().flatten() })
}

/// The same; whether there is `no_other` is known. Returns the key if it was made here.
async fn word(app: &App, gateway: &str, no_other: bool) -> anyhow::Result<Option<Secret>> {
    let folder = &app.settings.data.data_dir;
    let supplied = app.settings.access.bootstrap_admin_key.as_ref();
    let file = |key: Option<&Secret>| AccessFile { gateway: gateway.to_owned(), key: key.cloned() };
    let admitted = bootstrap_kept(&app.store, supplied, |key| file(Some(key)).draft(folder)).await?;
    recorded(app, &admitted, if supplied.is_some() { "supplied" } else { "made" }, false);
    app.keyring.reload(&app.store).await?;
    if let Some((key, draft)) = admitted.key {
        if no_other && let Err(error) = draft.keep() {
            tracing::warn!("{} cannot be written: {error}", AccessFile::path(folder).display());
        }
        return Ok(Some(key));
    }
    if !no_other {
        tracing::warn!(
            "another gateway runs on the data folder {}: the command line goes to that one; to this one with --gateway {gateway}",
            folder.display()
        );
        return Ok(None);
    }
    let before = match AccessFile::read(folder) {
        Ok(before) => before.and_then(|before| before.key),
        Err(error) => {
            tracing::warn!("{error:#}");
            return Ok(None);
        }
    };
    let key = supplied.or(before.as_ref());
    if let Err(error) = file(key).write(folder) {
        tracing::warn!("{} cannot be written: {error}", AccessFile::path(folder).display());
    }
    match key.map(|key| app.keyring.authenticate(key.expose(), now())) {
        Some(Ok(_)) => {}
        Some(Err(error)) => tracing::warn!(
            "the key in {} does not let the command line in: {error}; {MORE}",
            AccessFile::path(folder).display()
        ),
        None => tracing::info!("the command line finds no key in {}; {MORE}", AccessFile::path(folder).display()),
    }
    Ok(None)
}

/// Has it recorded that somebody may come in as an administrator who could not before, and that nobody who could had a hand in it.
fn recorded<K>(app: &App, admitted: &Admitted<K>, reason: &'static str, commanded: bool) {
    let Some((user, key)) = admitted.made else { return };
    let action = if admitted.is_first { "admin.bootstrap" } else { "admin.key" };
    let (user, credential, reason) = (Some(user), Some(key), Some(reason.into()));
    app.recorder.tell(Event { user, credential, commanded, reason, ..Event::new(action, true) });
}

const MORE: &str = "give commands one with --key or MREG_API_KEY. If all are lost, start once with a new one in \
                    MREG_BOOTSTRAP_ADMIN_KEY";

/// An administrator's key for who starts the process: the one of the file if it is good, else a new one under `name`, in
/// place of the former of that name. The file then holds it, if it is this process's own.
pub async fn own_key(app: &App, gateway: &str, name: &str) -> anyhow::Result<Secret> {
    let folder = &app.settings.data.data_dir;
    // A file that cannot be read has been told of at the start, and is written over for want of a key in it.
    let file = AccessFile::read(folder).ok().flatten();
    let others = file.as_ref().is_some_and(|file| file.gateway != gateway);
    let held = file.and_then(|file| file.key);
    let good =
        |key: &Secret| app.keyring.authenticate(key.expose(), now()).is_ok_and(|caller| caller.administers_gateway());
    if let Some(key) = held.filter(good) {
        return Ok(key);
    }
    let admitted = fresh_key(&app.store, name).await?;
    recorded(app, &admitted, "made", true);
    let key = admitted
        .key
        .map(|(key, ())| key)
        .ok_or_else(|| anyhow::anyhow!("there is no administrator to make a key for"))?;
    app.changed().await?;
    if !others {
        AccessFile { gateway: gateway.to_owned(), key: Some(key.clone()) }.write(folder)?;
    }
    Ok(key)
}
