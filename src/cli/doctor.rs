//! `doctor`: checks the set-up line by line and says what to do. What keeps the gateway from starting is checked by the very
//! functions that refuse the start (`app::preflight`, `serve`). It changes nothing but a probe file that it removes again.

mod directories;
mod oauth;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;
use time::OffsetDateTime;

use super::Verdict;
use super::failure::Failure;
use super::findings::{Findings, Mark};
use super::gateway::{Gateway, Reach};
use super::screen::{Screen, text_at};
use super::view::problems;
use crate::app::preflight::{self, Sealing};
use crate::config::{DotEnv, Settings, check_names};
use crate::serve::{AccessFile, check_tls};
use crate::store::look::Seen;

const EXAMPLES: &str = "\
Each line says OK, WARN or FAIL and what to do. The exit code is 1 when a line says FAIL. Give the flags and variables that the
gateway is started with.

Examples:
  mcp-gateway doctor
  mcp-gateway doctor oauth --as vscode
  MREG_DATA_DIR=/var/lib/mcp-gateway mcp-gateway doctor --json";

/// Check the set-up and say what to do
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Sign in as a client would, and name the first step that does not work
    Oauth(oauth::Oauth),
}

/// More files than this in the data folder are not looked at.
const MAX_FILES: usize = 1_000;

/// Checks everything, or what is asked for, and shows it.
pub async fn run(doctor: &Doctor, dotenv: &DotEnv, reach: &Reach, screen: Screen) -> anyhow::Result<Verdict> {
    let settings = &doctor.settings;
    if let Some(What::Oauth(oauth)) = &doctor.what {
        return oauth::run(oauth, settings.listen.public_url.as_ref(), reach, screen).await;
    }
    let mut found = Findings::default();
    check_settings(settings, dotenv, &mut found);
    check_folder(&settings.data.data_dir, &mut found);
    check_tls_files(settings, &mut found).await;
    let seen = check_database(settings, &mut found).await;
    check_master_key(settings, seen.as_ref(), &mut found).await;
    check_redis(settings, &mut found).await;
    check_clock(OffsetDateTime::now_utc(), &mut found);
    check_open_files(&mut found);
    let mut reach = reach.clone();
    reach.data.clone_from(&settings.data.data_dir);
    check_gateway(settings, &reach, &mut found).await;
    found.show(screen)
}

fn check_settings(settings: &Settings, dotenv: &DotEnv, found: &mut Findings) {
    if let Err(error) = check_names(super::variables(dotenv)) {
        return found.say("settings", Mark::Fail, error.to_string(), "the gateway does not start with it");
    }
    match settings.check() {
        Ok(()) => found.fine("settings", "they go together; `mcp-gateway config` shows them"),
        Err(error) => found.say("settings", Mark::Fail, error.to_string(), STOPS),
    }
    if let Err(error) = preflight::admin_key(settings) {
        found.say("first key", Mark::Fail, format!("{error:#}"), STOPS);
    }
}

/// Whose cause says already what to do.
const STOPS: &str = "the gateway does not start like this";

async fn check_tls_files(settings: &Settings, found: &mut Findings) {
    match check_tls(&settings.listen).await {
        Ok(()) if settings.listen.has_tls() => found.fine("certificate", "it can be served with, and its key fits"),
        Ok(()) => {}
        Err(error) => found.say("certificate", Mark::Fail, format!("{error:#}"), STOPS),
    }
}

fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

fn check_folder(data: &Path, found: &mut Findings) {
    let shown = data.display();
    if !data.exists() {
        return found.fine("data folder", format!("{shown} is not there yet; the first start makes it"));
    }
    let probe = data.join(format!(".probe-{}", std::process::id()));
    match std::fs::OpenOptions::new().write(true).create_new(true).open(&probe) {
        Ok(_) => {
            // It was just made; if it cannot be removed, an empty file stays behind.
            let _ = std::fs::remove_file(&probe);
        }
        Err(error) => {
            let advice = "run as the user that the gateway runs as, or give that user the folder with chown";
            return found.say("data folder", Mark::Fail, format!("{shown} cannot be written: {error}"), advice);
        }
    }
    let advice = format!("chmod -R go-rwx {shown}");
    match mode(data) {
        Ok(mode) if mode & 0o022 != 0 => {
            let what = format!("{shown} can be written by others (mode {mode:o}): they could replace its keys");
            found.say("data folder", Mark::Fail, what, &advice);
        }
        Ok(mode) if mode & 0o055 != 0 => {
            found.say("data folder", Mark::Warn, format!("{shown} can be listed by others (mode {mode:o})"), &advice);
        }
        _ => found.fine("data folder", format!("{shown} can be written, by its owner alone")),
    }
    let open = open_files(data);
    if open.is_empty() {
        found.fine("data files", "none can be read by others");
    } else {
        let names: Vec<_> = open.iter().map(|path| path.display().to_string()).collect();
        found.say("data files", Mark::Fail, format!("readable by others: {}", names.join(", ")), &advice);
    }
}

/// Files right in the folder that others may read or write; those below a folder that is closed to others are safe.
fn open_files(data: &Path) -> Vec<PathBuf> {
    if mode(data).is_ok_and(|mode| mode & 0o011 == 0) {
        return Vec::new();
    }
    let entries = std::fs::read_dir(data).into_iter().flatten().take(MAX_FILES).filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path()).filter(|path| path.is_file());
    paths.filter(|path| mode(path).is_ok_and(|mode| mode & 0o066 != 0)).collect()
}

async fn check_database(settings: &Settings, found: &mut Findings) -> Option<Seen> {
    match preflight::database(settings).await {
        Ok(seen) => {
            match (seen.exists, seen.in_use) {
                (false, _) => found.fine("database", format!("{}: none yet; the first start makes it", seen.place)),
                (true, false) => found.fine("database", format!("{}: the first start fills it", seen.place)),
                (true, true) => found.fine("database", format!("{}: it can be used", seen.place)),
            }
            Some(seen)
        }
        Err(error) => {
            found.say("database", Mark::Fail, error.to_string(), STOPS);
            None
        }
    }
}

async fn check_redis(settings: &Settings, found: &mut Findings) {
    let (check, lost) = ("redis", "each gateway goes on with its part of the limits, as long as Redis is away");
    match preflight::redis(settings) {
        Ok(None) => {}
        Ok(Some(redis)) => match redis.ping().await {
            Ok(()) => found.fine(check, "it answers"),
            Err(error) => found.say(check, Mark::Warn, error.to_string(), lost),
        },
        Err(error) => found.say(check, Mark::Fail, format!("{error:#}"), STOPS),
    }
}

async fn check_master_key(settings: &Settings, seen: Option<&Seen>, found: &mut Findings) {
    let check = "sealing key";
    match preflight::master_key(settings, seen).await {
        Ok(Sealing { current: Err(file), .. }) => {
            found.fine(check, format!("the first start makes it, in {}", file.display()));
        }
        Ok(_) => {
            let fits = if seen.is_some_and(|seen| seen.marks().next().is_some()) {
                "it opens what is sealed"
            } else {
                "it is there"
            };
            found.fine(check, format!("{fits}; back it up with the database, apart from it"));
        }
        Err(error) => found.say(check, Mark::Fail, format!("{error:#}"), STOPS),
    }
}

fn check_clock(now: OffsetDateTime, found: &mut Findings) {
    // Before this was written, or long after any certificate in use ends: the clock was never set.
    if (2026..2100).contains(&now.year()) {
        found.fine("clock", format!("{} UTC", now.date()));
    } else {
        found.say(
            "clock",
            Mark::Fail,
            format!("it says {}", now.date()),
            "set the clock, best with NTP: keys expire by it",
        );
    }
}

fn check_open_files(found: &mut Findings) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit < 4_096 => found.say(
            "open files",
            Mark::Warn,
            format!("at most {limit}: enough for about {} clients", limit / 3),
            "raise it with `ulimit -n 65536`, or LimitNOFILE in the service unit",
        ),
        Some(limit) => found.fine("open files", format!("at most {limit}")),
        None => found.fine("open files", "no limit"),
    }
}

async fn check_gateway(settings: &Settings, reach: &Reach, found: &mut Findings) {
    let address = SocketAddr::new(settings.listen.host, settings.listen.port);
    let named = reach.gateway.is_some();
    let file = AccessFile::read(&reach.data);
    if let Err(error) = &file {
        found.say("cli.json", Mark::Warn, format!("{error:#}"), "");
    }
    let scheme = if settings.listen.has_tls() { "https" } else { "http" };
    let mut reach = reach.clone();
    if !named && !matches!(&file, Ok(Some(_))) {
        reach.gateway = Some(format!("{scheme}://{address}"));
    }
    let gateway = match Gateway::find(&reach) {
        Ok(gateway) => gateway,
        Err(error) => return found.say("gateway", Mark::Fail, format!("{error:#}"), "correct --gateway"),
    };
    let answer = gateway.raw(Method::GET, &gateway.url(&["health"]), None, None).await;
    let health = answer.as_ref().ok().and_then(|answer| serde_json::from_slice::<Value>(&answer.body).ok());
    match health.filter(|health| health["status"].is_string()) {
        Some(health) => {
            let status = text_at(&health, "/status");
            let what = format!("{} answers: {status}", gateway.base());
            match status.as_str() {
                "degraded" | "warn" => found.say("gateway", Mark::Warn, what, "`mcp-gateway status` says which part"),
                status if super::status::is_well(status) => found.fine("gateway", what),
                _ => found.say("gateway", Mark::Fail, what, "`mcp-gateway status` says which part"),
            }
            let date = answer.ok().and_then(|answer| answer.headers.get(http::header::DATE).cloned());
            check_skew(date.as_ref().and_then(|date| date.to_str().ok()), OffsetDateTime::now_utc(), found);
            let tenants = check_servers(&gateway, found).await;
            directories::check(&settings.azure, tenants.as_deref(), found);
        }
        None if named => found.say(
            "gateway",
            Mark::Fail,
            format!("no gateway answers at {}", gateway.base()),
            "start it with `mcp-gateway serve`, or correct --gateway",
        ),
        None => match TcpListener::bind(address) {
            Ok(_) => found.fine("port", format!("{address} is free; the gateway does not run")),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => found.say(
                "port",
                Mark::Fail,
                format!("{address} is taken by something that is no gateway"),
                "stop that program, or choose another port with --port",
            ),
            Err(error) => found.say(
                "port",
                Mark::Fail,
                format!("cannot listen on {address}: {error}"),
                "choose another --host or --port",
            ),
        },
    }
}

fn check_skew(date: Option<&str>, now: OffsetDateTime, found: &mut Findings) {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let Some(there) = date.and_then(|date| time::PrimitiveDateTime::parse(date, format).ok()) else { return };
    let apart = (now - there.assume_utc()).whole_seconds().unsigned_abs();
    if apart > 30 {
        let what = format!("the gateway's clock is {apart} s away from this machine's");
        found.say("clock skew", Mark::Warn, what, "set both clocks with NTP: keys and tokens expire by them");
    }
}

/// Checks the servers; gives the tenants, where the key may list them.
async fn check_servers(gateway: &Gateway, found: &mut Findings) -> Option<Vec<Value>> {
    if !gateway.has_key() {
        found.say("key", Mark::Warn, "none known: servers are not checked", "give one with --key or MREG_API_KEY");
        return None;
    }
    let views = match gateway.all(&["servers"]).await {
        Ok(views) => views,
        Err(error) => {
            let failure = Failure::of(error);
            found.say("key", Mark::Fail, failure.what, failure.advice.unwrap_or_default());
            return None;
        }
    };
    found.fine("key", format!("it is accepted; {} servers", views.len()));
    for view in &views {
        let slug = text_at(view, "/slug");
        let check = format!("server {slug}");
        match text_at(view, "/status/state").as_str() {
            "ready" => found.fine(&check, format!("ready, {} tools", text_at(view, "/status/tools"))),
            "disabled" => found.fine(&check, "disabled"),
            "unreachable" => found.say(
                &check,
                Mark::Fail,
                format!("unreachable: {}", text_at(view, "/status/last_error")),
                format!("see that it runs, then `mcp-gateway servers refresh {slug}`"),
            ),
            other => found.say(
                &check,
                Mark::Warn,
                format!("state {other}"),
                format!("`mcp-gateway servers refresh {slug}` asks it"),
            ),
        }
        for problem in problems(view) {
            found.say(&check, Mark::Warn, problem, "it has to be mended at the server");
        }
        if let Some(program) = view["command"]["program"].as_str()
            && view["enabled"] != false
            && in_path(program, std::env::var_os("PATH").as_deref()).is_none()
        {
            let advice = "install it, or give its whole path; on another machine than the gateway's this means nothing";
            found.say(&check, Mark::Warn, format!("the program `{program}` is not in PATH here"), advice);
        }
    }
    gateway.all(&["admin", "tenants"]).await.ok()
}

/// Where a program is: itself when it holds a slash, else its first place in `path`.
fn in_path(program: &str, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    let runs = |file: &Path| file.is_file() && mode(file).is_ok_and(|mode| mode & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|file| runs(file));
    }
    std::env::split_paths(path?).map(|dir| dir.join(program)).find(|file| runs(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("doctor-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn marks(found: &Findings) -> Vec<(&str, Mark)> {
        found.0.iter().map(|finding| (finding.check.as_str(), finding.mark)).collect()
    }

    #[test]
    fn a_folder_open_to_others_is_found_and_so_are_its_files() {
        let folder = folder();
        let key = folder.join("key");
        std::fs::write(&key, "k").unwrap();
        let look = |of_folder: u32, of_key: u32| {
            chmod(&folder, of_folder);
            chmod(&key, of_key);
            let mut found = Findings::default();
            check_folder(&folder, &mut found);
            marks(&found).into_iter().map(|(_, mark)| mark).collect::<Vec<_>>()
        };
        assert_eq!(look(0o700, 0o644), [Mark::Ok, Mark::Ok]);
        assert_eq!(look(0o755, 0o600), [Mark::Warn, Mark::Ok]);
        assert_eq!(look(0o777, 0o644), [Mark::Fail, Mark::Fail]);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "the probe is gone");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    async fn found(args: &[&str]) -> Findings {
        let settings = Settings::from_args(args, &DotEnv::default()).unwrap();
        let mut found = Findings::default();
        check_settings(&settings, &DotEnv::default(), &mut found);
        check_tls_files(&settings, &mut found).await;
        let seen = check_database(&settings, &mut found).await;
        check_master_key(&settings, seen.as_ref(), &mut found).await;
        found
    }

    #[tokio::test]
    async fn what_does_not_start_is_not_called_well() {
        let folder = folder();
        let data = format!("--data-dir={}", folder.display());
        let file = folder.join("no-database");
        std::fs::write(&file, "something else here").unwrap();
        let no_database = format!("--database-url=sqlite://{}", file.display());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = format!("--database-url=postgres://u:s3cret@127.0.0.1:{port}/db");
        for (check, args) in [
            ("database", vec!["--database-url=mysql://u:s3cret@h/db"]),
            ("database", vec![no_database.as_str()]),
            ("database", vec![away.as_str()]),
            ("certificate", vec!["--tls-cert=/none.pem", "--tls-key=/none.key"]),
            ("sealing key", vec!["--master-key=short"]),
            ("sealing key", vec!["--master-key-file=/proc/version"]),
            ("sealing key", vec!["--master-key-command=/bin/false"]),
            ("sealing key", vec!["--previous-master-key=short"]),
            ("first key", vec!["--bootstrap-admin-key=mcpg_change-me"]),
        ] {
            let found = found(&[&[data.as_str()][..], &args[..]].concat()).await;
            let bad: Vec<_> = marks(&found).into_iter().filter(|(_, mark)| *mark == Mark::Fail).collect();
            assert_eq!(bad, [(check, Mark::Fail)], "{args:?}");
            assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
        }
        let found = found(&[&data]).await;
        assert!(marks(&found).iter().all(|(_, mark)| *mark == Mark::Ok), "{found:?}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing was made");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_clock_that_is_off_is_found() {
        let mut found = Findings::default();
        check_clock(OffsetDateTime::UNIX_EPOCH, &mut found);
        let now = time::macros::datetime!(2026-11-23 12:00:00 UTC);
        check_skew(Some("Mon, 23 Nov 2026 11:59:50 GMT"), now, &mut found);
        check_skew(Some("Mon, 23 Nov 2026 11:50:00 GMT"), now, &mut found);
        assert_eq!(marks(&found), [("clock", Mark::Fail), ("clock skew", Mark::Warn)]);
    }

    #[test]
    fn programs_are_looked_up_in_path() {
        assert!(in_path("sh", Some("/nowhere:/bin:/usr/bin".as_ref())).is_some());
        assert_eq!(in_path("sh", Some("/nowhere".as_ref())), None);
        assert_eq!(in_path("/bin/none-such", None), None);
    }
}
