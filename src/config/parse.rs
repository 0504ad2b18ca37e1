//! How values are written: times, sizes, addresses. Each parser says in its error what would have been right.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{BROWSER_SCHEMES, PrivateHost, is_scheme};
use crate::id::TenantId;
use crate::secret::Secret;

/// `30s`, `500ms`, `5m`, `2h`; a bare number is seconds. At most 30 days.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a time as 500ms, 30s, 5m or 2h; a bare number is seconds".into()),
    };
    let number: f64 = number.parse().map_err(|_| "write a time as 500ms, 30s, 5m or 2h".to_owned())?;
    let seconds = number * scale;
    if !(0.0..=30.0 * 86_400.0).contains(&seconds) {
        return Err("a time is 0 to 30 days".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Like [`duration`], but not zero: for timeouts and intervals.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    let value = duration(text)?;
    if value.is_zero() { Err("must be more than zero".into()) } else { Ok(value) }
}

/// Like [`positive`], with days (`90d`) and up to 10 years: for what lasts.
pub fn life(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let value = if unit == "d" {
        let days: f64 = number.parse().map_err(|_| "write a time as 12h or 90d".to_owned())?;
        if !(0.0..=3650.0).contains(&days) {
            return Err("at most 3650 days".into());
        }
        Duration::from_secs_f64(days * 86_400.0)
    } else {
        duration(text)?
    };
    if value.is_zero() { Err("must be more than zero".into()) } else { Ok(value) }
}

/// Like [`life`], for tokens that nobody can call back from a client: 1 minute to 1 day.
pub(super) fn token_life(text: &str) -> Result<Duration, String> {
    let value = life(text)?;
    if (60..=86_400).contains(&value.as_secs()) { Ok(value) } else { Err("1 minute to 1 day".into()) }
}

/// How often something is stored: 5 seconds to 1 hour.
pub(super) fn export_interval(text: &str) -> Result<Duration, String> {
    let value = duration(text)?;
    if (5..=3_600).contains(&value.as_secs()) { Ok(value) } else { Err("5 seconds to 1 hour".into()) }
}

/// How many times its share a tenant may call, at least and at most.
pub const BURST_FACTORS: RangeInclusive<f64> = 1.0..=10.0;

/// One of [`BURST_FACTORS`].
pub(super) fn burst_factor(text: &str) -> Result<f64, String> {
    let factor = text.trim().parse().ok().filter(|factor| BURST_FACTORS.contains(factor));
    factor.ok_or_else(|| "give a number from 1 to 10, such as 1.5".to_owned())
}

/// A factor by which something grows: above 1, at most 10.
pub(super) fn growth_factor(text: &str) -> Result<f64, String> {
    let factor = text.trim().parse().ok().filter(|factor| *factor > 1.0 && *factor <= 10.0);
    factor.ok_or_else(|| "give a number above 1, at most 10, such as 1.5".to_owned())
}

/// A fraction of what there is, a tenth at least.
pub(super) fn threshold(text: &str) -> Result<f64, String> {
    let threshold = text.trim().parse().ok().filter(|threshold| (0.1..=1.0).contains(threshold));
    threshold.ok_or_else(|| "give a fraction from 0.1 to 1, such as 0.8".to_owned())
}

/// A text for people: 1 to 2,000 characters, none of them a control character but line breaks.
pub(super) fn notice(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 2_000 || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err("give 1 to 2,000 characters of plain text".into());
    }
    Ok(text.to_owned())
}

/// `65536`, `64KiB`, `4MiB`, `1GiB` (and `kB`, `MB`, `GB` of a thousand). At most 1 TiB.
pub(super) fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("write a size as 65536, 64KiB, 4MiB or 1GiB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "write a size as 65536, 64KiB, 4MiB or 1GiB".to_owned())?;
    number
        .checked_mul(scale)
        .filter(|size| (1..=1 << 40).contains(size))
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| "a size is 1 byte to 1 TiB".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// An address to listen on; `localhost` is `127.0.0.1`.
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "give an address such as 127.0.0.1, ::1 or 0.0.0.0".to_owned())
}

/// A network in CIDR notation, or one address.
pub(super) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let text = text.trim();
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(ipnet::IpNet::from));
    network.map_err(|_| "give a network such as 192.0.2.0/24 or an address such as 192.0.2.7".to_owned())
}

/// A host name or `name:port` as it stands in a `Host` header, lower-cased.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'));
    if plain { Ok(text) } else { Err("give a host name such as gateway.example.com, without scheme or path".into()) }
}

/// An origin as browsers write it: `scheme://host` or `scheme://host:port` (RFC 6454 section 6.2). Schemes of editors and
/// browser extensions are taken as written.
pub(super) fn origin(text: &str) -> Result<String, String> {
    const FORM: &str = "give an origin such as https://app.example.com, without path";
    let url = url::Url::parse(text.trim()).map_err(|error| format!("not an origin: {error}; {FORM}"))?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    match (url.origin(), url.host_str()) {
        (origin, Some(_)) if origin.is_tuple() && bare && anonymous => Ok(origin.ascii_serialization()),
        (_, Some(host)) if bare && anonymous && !host.is_empty() => Ok(format!("{}://{host}", url.scheme())),
        _ => Err(FORM.into()),
    }
}

/// The scheme of a program, lower-cased: none that browsers or the web use themselves.
pub(super) fn scheme(text: &str) -> Result<String, String> {
    let scheme = text.trim().to_ascii_lowercase();
    if !is_scheme(&scheme) {
        return Err("give a scheme such as com.example.app, without `://`".into());
    }
    if BROWSER_SCHEMES.contains(&scheme.as_str()) || matches!(scheme.as_str(), "http" | "https") {
        return Err(format!("`{scheme}` is no scheme of a program"));
    }
    Ok(scheme)
}

/// `host` or `host=CIDR`.
pub(super) fn private_host(text: &str) -> Result<PrivateHost, String> {
    const FORM: &str = "give a host such as clients.corp.example, or clients.corp.example=10.0.0.0/8";
    let (host, network) = match text.split_once('=') {
        Some((host, network)) => (host, Some(network.trim().parse().map_err(|_| FORM.to_owned())?)),
        None => (text, None),
    };
    let host = host_name(host).map_err(|_| FORM.to_owned())?;
    if host.contains(':') {
        return Err(FORM.into());
    }
    Ok(PrivateHost { host, network })
}

/// A directive list of the log filter.
pub(super) fn filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Anything; never shown again.
#[expect(clippy::unnecessary_wraps, reason = "the form that clap asks of a parser")]
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// A program with its arguments, as it is started: no shell reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its path, or its name in `PATH`.
    pub name: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Words with spaces between them, or a JSON list of texts. What would mean something to a shell is refused among words: here it would
/// not mean that.
pub fn program(text: &str) -> Result<Program, String> {
    let listed = text.trim_start().starts_with('[');
    let mut words: Vec<String> = if listed {
        serde_json::from_str(text).map_err(|_| "a list is JSON of texts: [\"program\", \"an argument\"]".to_owned())?
    } else if let Some(special) = text.chars().find(|c| "\"'`$\\|&;<>()*?~#{}".contains(*c) || c.is_control()) {
        return Err(format!(
            "no shell reads it, and {special:?} would mean itself; write a JSON list: [\"program\", \"an argument\"]"
        ));
    } else {
        text.split_whitespace().map(ToOwned::to_owned).collect()
    };
    if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
        return Err("name a program and its arguments".into());
    }
    let name = words.remove(0);
    Ok(Program { name, args: words })
}

/// A secret that somebody else made for us. What is plainly none is refused: an example, the id of one, a text of few
/// characters. The message never holds it.
pub(super) fn client_secret(text: &str) -> Result<Secret, String> {
    const EXAMPLES: [&str; 6] = ["your", "example", "placeholder", "changeme", "change-me", "client-secret"];
    let lower = text.trim().to_ascii_lowercase();
    if uuid::Uuid::try_parse(&lower).is_ok() {
        return Err("this looks like the id of a secret; give the secret's value".into());
    }
    if lower.len() < 12 {
        return Err("a client secret has at least 12 characters".into());
    }
    if lower.starts_with('<') || EXAMPLES.iter().any(|example| lower.starts_with(example)) {
        return Err("this looks like an example; give the secret that the provider made".into());
    }
    let mut letters = lower.into_bytes();
    letters.sort_unstable();
    letters.dedup();
    if letters.len() < 6 {
        Err("this looks made up; give the secret that the provider made".into())
    } else {
        secret(text)
    }
}

/// Where something is that gets secrets: `https`, or `http` on this machine; no credentials, query or fragment.
pub(super) fn endpoint(text: &str) -> Result<url::Url, String> {
    let url = url::Url::parse(text.trim()).map_err(|error| format!("not a URL: {error}"))?;
    if !is_guarded(&url) {
        return Err("must be an https URL (http only on a loopback address)".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no credentials".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have neither query nor fragment".into());
    }
    Ok(url)
}

/// Whether nobody can read on the way what is sent there: `https`, or a loopback address.
pub fn is_guarded(url: &url::Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url),
        _ => false,
    }
}

/// Whether a URL names this machine and no other.
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Like [`endpoint`], and ends in a slash: something follows.
pub(super) fn folder(text: &str) -> Result<url::Url, String> {
    let url = endpoint(text)?;
    if url.path().ends_with('/') { Ok(url) } else { Err("must end in a slash".into()) }
}

/// A text without spaces.
pub(super) fn word(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if plain { Ok(text.to_owned()) } else { Err("must be one word, without spaces".into()) }
}

/// The name of a tenant.
pub(super) fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::parse(text.trim()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_with_their_units() {
        assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_hours(2)));
        assert!(duration("-1").is_err() && duration("1d").is_err() && duration("").is_err());
        assert!(duration("99999999999").is_err() && duration("1.2.3").is_err() && positive("0").is_err());
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        assert_eq!(bytes("10 kB"), Ok(10_000));
        assert!(bytes("0").is_err() && bytes("4 pages").is_err() && bytes("1.5MiB").is_err());
        assert!(bytes("99999999999999GiB").is_err());
    }

    #[test]
    fn what_lasts_is_told_in_days() {
        assert_eq!(life("90d"), Ok(Duration::from_hours(90 * 24)));
        assert_eq!(life("12h"), Ok(Duration::from_hours(12)));
        assert!(life("0d").is_err() && life("4000d").is_err() && life("d").is_err() && life("-1d").is_err());
        assert!(token_life("59s").is_err() && token_life("25h").is_err() && token_life("1m").is_ok());
        assert!(notice(" ").is_err() && notice("a\tb").is_err() && notice(&"x".repeat(2_001)).is_err());
        assert_eq!(notice("Ask IT:\nit@example.com ").as_deref(), Ok("Ask IT:\nit@example.com"));
    }

    #[test]
    fn a_program_is_words_that_no_shell_reads() {
        let of = |name: &str, args: &[&str]| {
            Ok(Program { name: name.into(), args: args.iter().map(|arg| (*arg).into()).collect() })
        };
        assert_eq!(program(" /bin/keys get  master-key "), of("/bin/keys", &["get", "master-key"]));
        assert_eq!(program(r#"["keys", "a b", "$HOME"]"#), of("keys", &["a b", "$HOME"]));
        for wrong in ["", "  ", "[]", "[\"\"]", "[1]", "[\"a\"", "keys 'a b'", "keys $KEY", "keys | head", "a\nb"] {
            assert!(program(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_scheme_is_a_programs_own() {
        assert_eq!(scheme(" Com.Example.App ").as_deref(), Ok("com.example.app"));
        for bad in ["", "a://", "javascript", "Data", "http", "https", "1a", "ä"] {
            assert!(scheme(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_inside_may_name_its_network() {
        let inside = |host: &str, network: Option<&str>| {
            Ok(PrivateHost { host: host.into(), network: network.map(|network| network.parse().unwrap()) })
        };
        assert_eq!(private_host("Clients.corp.example"), inside("clients.corp.example", None));
        assert_eq!(private_host("a.example=10.0.0.0/8"), inside("a.example", Some("10.0.0.0/8")));
        for bad in ["", "=10.0.0.0/8", "a.example=", "a.example=10.0.0.1/99", "https://a.example", "a.example:8443"] {
            assert!(private_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_origins_are_plain() {
        assert_eq!(host("[::1]"), Ok("::1".parse().unwrap()));
        assert_eq!(host("LocalHost"), Ok("127.0.0.1".parse().unwrap()));
        assert!(host("gateway").is_err());
        assert_eq!(host_name("Gateway.Example.com:8443").as_deref(), Ok("gateway.example.com:8443"));
        assert!(host_name("https://a").is_err() && host_name("").is_err());
        assert_eq!(origin("HTTPS://App.Example.com:443").as_deref(), Ok("https://app.example.com"));
        assert_eq!(origin("chrome-extension://abcd").as_deref(), Ok("chrome-extension://abcd"));
        assert!(origin("https://a@b").is_err() && origin("null").is_err());
        assert!(origin("https://a/path").is_err() && origin("data:text/plain,x").is_err());
    }

    #[test]
    fn only_loopback_is_safe_without_encryption() {
        for (text, safe) in [
            ("http://localhost:1", true),
            ("http://[::1]", true),
            ("http://127.9.9.9", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
            ("https://10.0.0.1", true),
            ("ftp://localhost", false),
        ] {
            assert_eq!(is_guarded(&url::Url::parse(text).unwrap()), safe, "{text}");
        }
    }
}
