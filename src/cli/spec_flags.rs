//! The flags that describe a server, shared by `servers add` and `servers edit`, as the JSON fields of a `ServerSpec`. Only
//! what was said becomes a field: a new server takes defaults for the rest, a known one keeps what it has.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value, json};

use super::expand::from_environment;
use super::failure::Failure;
use crate::access::Role;
use crate::registry::model::AuthKind;

/// What a server is.
#[derive(Debug, Default, Args)]
pub struct SpecFlags {
    /// Absolute URL of the MCP endpoint; more than once for more replicas
    #[arg(long, value_name = "URL", help_heading = "HTTP server")]
    url: Vec<String>,
    /// Share of the calls of the replica at the same place in the row of --url, 1 to 1000
    #[arg(long, value_name = "N", requires = "url", help_heading = "HTTP server")]
    weight: Vec<u32>,
    /// How it is spoken to [default: `streamable_http` with --url, stdio with a command]
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(["streamable_http", "sse", "stdio"]), help_heading = "HTTP server")]
    transport: Option<String>,
    /// Header sent with every request, sealed at rest; ${NAME} takes a value from the environment
    #[arg(long, value_name = "NAME: VALUE", help_heading = "HTTP server")]
    header: Vec<String>,
    /// How the gateway proves in whose name a call is made, field by field: `kind=identity`, `client_secret=${SECRET}`, `scopes=a b`
    #[arg(long, value_name = "FIELD=VALUE", help_heading = "HTTP server")]
    auth: Vec<String>,
    /// The same for what the gateway itself asks: `kind=client_credentials`, or `kind=headers` and `headers.NAME=VALUE`
    #[arg(long, value_name = "FIELD=VALUE", help_heading = "HTTP server")]
    discovery_auth: Vec<String>,
    /// Environment variable of the program, sealed at rest; ${NAME} takes a value from the environment
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Program")]
    env: Vec<String>,
    /// Folder to start the program in
    #[arg(long, value_name = "DIR", help_heading = "Program")]
    cwd: Option<String>,
    /// Who shares one running program
    #[arg(long, value_name = "WHO", value_parser = PossibleValuesParser::new(["shared", "per_user", "per_session"]), help_heading = "Program")]
    sharing: Option<String>,
    /// Program and arguments, started without a shell
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "url", help_heading = "Program")]
    command: Vec<String>,
    /// Name for people
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Word to find it by; more than once for more
    #[arg(long, value_name = "WORD")]
    tag: Vec<String>,
    /// Who may see and call it: everyone, admins, role:ROLE (user, `server_owner`, `tenant_admin`, admin), `user:NAME_OR_ID`; more than once for more
    #[arg(long, value_name = "WHO")]
    visible_to: Vec<String>,
    /// Tenant that the server is offered to, `*` for every one, or `none` to take the offer back; more than once for more
    #[arg(long, value_name = "TENANT")]
    offer_to: Vec<String>,
    /// Which replica gets a call
    #[arg(long, value_name = "POLICY", value_parser = PossibleValuesParser::new(["round_robin", "weighted", "least_in_flight", "random", "consistent_hash"]))]
    balance: Option<String>,
    /// Which protocol generation to speak
    #[arg(long, value_name = "ERA", value_parser = PossibleValuesParser::new(["auto", "legacy", "modern"]))]
    protocol: Option<String>,
    /// Longest wait for a connection: 500ms, 5s
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    timeout_connect: Option<u64>,
    /// Longest wait for the next byte of an answer
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    timeout_idle: Option<u64>,
    /// Longest wait for a whole call
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    timeout_total: Option<u64>,
    /// Requests a minute that it takes, of all who call it, or `none` for no limit
    #[arg(long, value_name = "N", value_parser = rpm)]
    rpm: Option<Value>,
    /// Calls a minute of one tool, by the name that the server gives it: search=30, or search=none; more than once for more
    #[arg(long, value_name = "TOOL=N")]
    tool_rpm: Vec<String>,
}

impl SpecFlags {
    /// The fields that were said.
    pub fn fields(&self) -> Result<Map<String, Value>, Failure> {
        let mut fields = Map::new();
        if !self.url.is_empty() {
            fields.insert("replicas".into(), self.replicas()?);
        }
        if let Some((program, args)) = self.command.split_first() {
            fields.insert("command".into(), json!({ "program": program, "args": args }));
            fields.insert("transport".into(), "stdio".into());
        }
        if let Some(cwd) = &self.cwd {
            let command = fields.entry("command").or_insert_with(|| json!({}));
            command["cwd"] = cwd.as_str().into();
        }
        for (name, value) in [
            ("transport", &self.transport),
            ("sharing", &self.sharing),
            ("title", &self.title),
            ("description", &self.description),
            ("balance", &self.balance),
            ("protocol", &self.protocol),
        ] {
            if let Some(value) = value {
                fields.insert(name.into(), value.as_str().into());
            }
        }
        if !self.header.is_empty() {
            fields.insert("headers".into(), pairs(&self.header, ':', "--header 'Name: value'")?);
        }
        for (name, texts) in [("auth", &self.auth), ("discovery_auth", &self.discovery_auth)] {
            if !texts.is_empty() {
                fields.insert(name.into(), credential(texts)?);
            }
        }
        if !self.env.is_empty() {
            fields.insert("env".into(), pairs(&self.env, '=', "--env NAME=value")?);
        }
        if !self.tag.is_empty() {
            fields.insert("tags".into(), json!(self.tag));
        }
        if !self.visible_to.is_empty() {
            fields.insert("visibility".into(), visibility(&self.visible_to)?);
        }
        match self.offer_to.as_slice() {
            [] => {}
            [one] if one == "none" => _ = fields.insert("offered_to".into(), json!([])),
            [one] if one == "*" => _ = fields.insert("offered_to".into(), "*".into()),
            tenants => _ = fields.insert("offered_to".into(), json!(tenants)),
        }
        let mut timeouts = Map::new();
        for (name, value) in
            [("connect_ms", self.timeout_connect), ("idle_ms", self.timeout_idle), ("total_ms", self.timeout_total)]
        {
            if let Some(value) = value {
                timeouts.insert(name.into(), value.into());
            }
        }
        if !timeouts.is_empty() {
            fields.insert("timeouts".into(), timeouts.into());
        }
        let mut rate_limits = Map::new();
        rate_limits.extend(self.rpm.clone().map(|rpm| ("rpm".to_owned(), rpm)));
        if !self.tool_rpm.is_empty() {
            rate_limits.insert("tools".into(), self.tool_limits()?);
        }
        if !rate_limits.is_empty() {
            fields.insert("rate_limits".into(), rate_limits.into());
        }
        Ok(fields)
    }

    fn tool_limits(&self) -> Result<Value, Failure> {
        let mut tools = Map::new();
        for text in &self.tool_rpm {
            // A tool's name may hold the sign, a number does not.
            let Some((name, limit)) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()) else {
                return Err(Failure::usage(format!("`{text}` is not of the form --tool-rpm TOOL=N")));
            };
            let limit = rpm(limit).map_err(|why| Failure::usage(format!("--tool-rpm {text}: {why}")))?;
            if tools.insert(name.to_owned(), limit).is_some() {
                return Err(Failure::usage(format!("--tool-rpm {name} is given twice")));
            }
        }
        Ok(tools.into())
    }

    fn replicas(&self) -> Result<Value, Failure> {
        if !self.weight.is_empty() && self.weight.len() != self.url.len() {
            return Err(Failure::usage(format!(
                "{} --url but {} --weight: give each URL its weight, or none",
                self.url.len(),
                self.weight.len()
            )));
        }
        let weight = |index: usize| self.weight.get(index).copied().unwrap_or(1);
        let replica = |(index, url): (usize, &String)| json!({ "url": url, "weight": weight(index) });
        Ok(self.url.iter().enumerate().map(replica).collect())
    }
}

/// `NAME<by>VALUE` texts as an object. An error never quotes the value.
fn pairs(texts: &[String], by: char, form: &str) -> Result<Value, Failure> {
    let mut object = Map::new();
    for (index, text) in texts.iter().enumerate() {
        let Some((name, value)) = text.split_once(by).filter(|(name, _)| !name.trim().is_empty()) else {
            return Err(Failure::usage(format!("value {} is not of the form {form}", index + 1)));
        };
        let name = name.trim();
        let value = if by == ':' { value.trim() } else { value };
        let value = from_environment(value).map_err(|why| Failure::usage(format!("{name}: {why}")))?;
        if object.insert(name.to_owned(), value.into()).is_some() {
            return Err(Failure::usage(format!("{name} is given twice")));
        }
    }
    Ok(object.into())
}

/// `FIELD=VALUE` texts as one of the fields `auth` and `discovery_auth`.
fn credential(texts: &[String]) -> Result<Value, Failure> {
    // Only a kind is quoted: anything else might be a secret.
    let is_kind = |text: &&String| serde_json::from_value::<AuthKind>(json!(text)).is_ok();
    if let Some(kind) = texts.iter().find(is_kind) {
        let failure = Failure::usage(format!("`{kind}` is not of the form FIELD=VALUE"));
        return Err(failure.advise(format!("write kind={kind}")));
    }
    let Value::Object(said) = pairs(texts, '=', "FIELD=VALUE")? else { return Ok(Value::Null) };
    let mut fields = Map::new();
    for (name, value) in said {
        let text = value.as_str().unwrap_or_default();
        if let Some(header) = name.strip_prefix("headers.") {
            let headers = fields.entry("headers").or_insert_with(|| json!({}));
            headers[header] = value;
            continue;
        }
        let value = match name.as_str() {
            "scopes" | "claims" => json!(text.split_ascii_whitespace().collect::<Vec<_>>()),
            "meta" => (text == "true").into(),
            _ => value,
        };
        fields.insert(name, value);
    }
    Ok(fields.into())
}

/// `everyone`, `admins`, `role:R` and `user:U` as the `visibility` field.
fn visibility(words: &[String]) -> Result<Value, Failure> {
    let (mut everyone, mut roles, mut users) = (false, Vec::new(), Vec::new());
    for word in words {
        match word.split_once(':') {
            None if word == "everyone" => everyone = true,
            // Administrators may always; alone, the word closes the server to everybody else.
            None if word == "admins" => {}
            Some(("role", role)) if Role::parse(role).is_some() => roles.push(role),
            Some(("role", role)) => {
                return Err(Failure::usage(format!("`{role}` is not a role: use one of {}", super::roles::names())));
            }
            Some(("user", user)) if !user.is_empty() => users.push(user),
            _ => {
                return Err(Failure::usage(format!(
                    "`{word}` is nobody: use everyone, admins, role:NAME or user:NAME_OR_ID"
                )));
            }
        }
    }
    Ok(json!({ "everyone": everyone, "roles": roles, "users": users }))
}

/// A whole number, or `none`, which takes a limit away.
fn rpm(text: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    text.parse::<u32>().map(Value::from).map_err(|_| "write a whole number, or none".to_owned())
}

/// `500ms`, `5s`, `2m`, `1h` or plain milliseconds.
fn milliseconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| "write a time like 500ms, 5s, 2m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_said_becomes_a_field() {
        assert_eq!(SpecFlags::default().fields().unwrap(), Map::new());
        let flags = SpecFlags {
            url: vec!["https://a".into(), "https://b".into()],
            weight: vec![3, 1],
            header: vec!["X-Team:  a:b ".into()],
            auth: vec!["kind=client_credentials".into(), "client_secret=a=b".into(), "scopes=x y".into()],
            discovery_auth: vec!["kind=headers".into(), "headers.X-Key=k".into()],
            visible_to: vec!["role:user".into(), "user:ada".into()],
            offer_to: vec!["acme".into(), "other".into()],
            timeout_idle: Some(500),
            rpm: Some(Value::Null),
            tool_rpm: vec!["a=b=30".into(), "search=none".into()],
            ..SpecFlags::default()
        };
        let expected = json!({
            "replicas": [{"url": "https://a", "weight": 3}, {"url": "https://b", "weight": 1}],
            "headers": {"X-Team": "a:b"},
            "auth": {"kind": "client_credentials", "client_secret": "a=b", "scopes": ["x", "y"]},
            "discovery_auth": {"kind": "headers", "headers": {"X-Key": "k"}},
            "visibility": {"everyone": false, "roles": ["user"], "users": ["ada"]},
            "offered_to": ["acme", "other"],
            "timeouts": {"idle_ms": 500},
            "rate_limits": {"rpm": null, "tools": {"a=b": 30, "search": null}},
        });
        assert_eq!(Value::from(flags.fields().unwrap()), expected);
        for (said, field) in [("*", json!("*")), ("none", json!([]))] {
            let flags = SpecFlags { offer_to: vec![said.into()], ..SpecFlags::default() };
            assert_eq!(flags.fields().unwrap()["offered_to"], field);
        }
    }

    #[test]
    fn mistakes_are_told_without_quoting_secrets() {
        let flags = SpecFlags { header: vec!["s3cret without colon".into()], ..SpecFlags::default() };
        let failure = flags.fields().unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(!failure.what.contains("s3cret"), "{}", failure.what);
        let said = |text: &str| SpecFlags { auth: vec![text.into()], ..SpecFlags::default() }.fields().unwrap_err();
        assert_eq!(said("identity").advice.as_deref(), Some("write kind=identity"));
        assert!(!format!("{:?}", said("s3cret")).contains("s3cret"));
        for flags in [
            SpecFlags { url: vec!["a".into(), "b".into()], weight: vec![1], ..SpecFlags::default() },
            SpecFlags { visible_to: vec!["everybody".into()], ..SpecFlags::default() },
            SpecFlags { visible_to: vec!["role:dev".into()], ..SpecFlags::default() },
            SpecFlags { env: vec!["A=1".into(), "A=2".into()], ..SpecFlags::default() },
            SpecFlags { tool_rpm: vec!["search".into()], ..SpecFlags::default() },
            SpecFlags { tool_rpm: vec!["search=many".into()], ..SpecFlags::default() },
            SpecFlags { tool_rpm: vec!["search=1".into(), "search=2".into()], ..SpecFlags::default() },
        ] {
            assert_eq!(flags.fields().unwrap_err().exit, 2);
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        let read = |text: &str| milliseconds(text).ok();
        assert_eq!(
            [read("5s"), read("250ms"), read("7"), read("1h")],
            [Some(5_000), Some(250), Some(7), Some(3_600_000)]
        );
        assert_eq!([read("5d"), read("s"), read(""), read("-1s"), read("99999999999999999h")], [None; 5]);
    }
}
