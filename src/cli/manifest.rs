//! `gateway.yaml`: the registry as a file. `servers` is a list of `ServerSpec`, `tenants` one of `TenantSaid`, `policies` the access
//! rules of tenants; unknown fields, duplicate keys and duplicate
//! names are refused, and every mistake is told with line and column. Values of `headers` and `env`, and secrets of `auth`, may hold `${NAME}`, taken
//! from the environment, so that no secret need stand in the file. No message quotes a value of the file.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use serde_saphyr::{Error, Location, Options, Spanned};

use super::expand::expand;
use super::failure::Failure;
use super::servers::nearest;
use crate::access::tenants::TenantSaid;
use crate::field;
use crate::registry::model::ServerSpec;
use crate::secret::Secret;

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 16 << 20;

/// The file.
#[derive(Debug)]
pub struct Manifest {
    /// The servers that shall be registered.
    pub servers: Vec<ServerSpec>,
    /// Whether the file says which: one that holds nothing does not mean that none shall be.
    pub says_which: bool,
    /// The tenants that shall be, as far as the file describes them.
    pub tenants: Vec<TenantSaid>,
    /// The access rules that shall be in force, by tenant.
    pub policies: BTreeMap<String, PolicySource>,
    /// Where everything stands.
    pub places: Places,
}

/// Where the rules of a tenant stand: in the file itself, or in one beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// The text.
    Text(String),
    /// The name of a file.
    File(PathBuf),
}

impl Manifest {
    /// Whether it describes a tenant of that id.
    pub fn makes(&self, tenant: &str) -> bool {
        self.tenants.iter().any(|said| said.tenant_id == tenant)
    }
}

/// What the file holds.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tenants: Option<Vec<TenantSaid>>,
    servers: Option<Vec<ServerSpec>>,
    #[serde(default)]
    policies: BTreeMap<String, PolicySource>,
}

/// A text is the rules themselves; `file:` names where they stand.
impl<'de> Deserialize<'de> for PolicySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = PolicySource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or `file:` with a path")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PolicySource, E> {
                Ok(PolicySource::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PolicySource, A::Error> {
                let mut file = None;
                while let Some(name) = map.next_key::<String>()? {
                    if name != "file" {
                        return Err(serde::de::Error::unknown_field(&name, &["file"]));
                    }
                    file = Some(PolicySource::File(map.next_value::<PathBuf>()?));
                }
                file.ok_or_else(|| serde::de::Error::missing_field("file"))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Where in the file its values stand.
#[derive(Debug)]
pub struct Places {
    file: String,
    tree: Spanned<Node>,
}

impl Places {
    /// Of the value at a path like `servers[0].replicas[1].url`, as `file:line:column`.
    pub fn of(&self, path: &str) -> String {
        place(&self.file, Some(locate(&self.tree, path)))
    }
}

/// Reads `text`, named `file` in messages; `lookup` gives the environment.
pub fn read(file: &str, text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Manifest, Failure> {
    let wrong = |lines: Vec<String>| {
        let count = lines.len();
        let what = if count == 1 { "a mistake".to_owned() } else { format!("{count} mistakes") };
        Failure::new(format!("{file} has {what}; nothing was changed")).detail(lines)
    };
    let bad = |error: Error| wrong(vec![format!("{}: {}", place(file, error.location()), explain(&error))]);
    let Document { tenants, servers: said, policies } =
        serde_saphyr::from_str_with_options(text, options()).map_err(bad)?;
    let tenants = tenants.unwrap_or_default();
    let (says_which, mut servers) = (said.is_some(), said.unwrap_or_default());
    let tree: Spanned<Node> = serde_saphyr::from_str_with_options(text, options()).map_err(bad)?;
    let places = Places { file: file.to_owned(), tree };
    let mut lines = Vec::new();
    let mut first: HashMap<String, usize> = HashMap::new();
    for (index, spec) in servers.iter_mut().enumerate() {
        let at = |field: &str| places.of(&format!("servers[{index}].{field}"));
        if let Some(earlier) = first.insert(spec.slug.to_string(), index) {
            let line = locate(&places.tree, &format!("servers[{earlier}].slug")).line();
            lines.push(format!("{}: the name `{}` is taken by the server at line {line}", at("slug"), spec.slug));
        }
        for (field, values) in [("headers", &mut spec.headers), ("env", &mut spec.env)] {
            for (name, value) in values.iter_mut() {
                match expand(value.expose(), &lookup) {
                    Ok(text) => *value = Secret::new(text),
                    Err(why) => lines.push(format!("{}: {why}", at(&format!("{field}.{name}")))),
                }
            }
        }
        for (field, auth) in spec.auths_mut() {
            for (name, value) in auth.secrets() {
                match expand(value.expose(), &lookup) {
                    Ok(text) => *value = Secret::new(text),
                    Err(why) => lines.push(format!("{}: {why}", at(&format!("{field}.{name}")))),
                }
            }
        }
        for mistake in spec.check() {
            lines.push(format!("{}: {}: {}", at(&mistake.field), mistake.field, mistake.message));
        }
    }
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (index, tenant) in tenants.iter().enumerate() {
        if let Some(earlier) = first.insert(&tenant.tenant_id, index) {
            let line = locate(&places.tree, &format!("tenants[{earlier}].tenant_id")).line();
            let at = places.of(&format!("tenants[{index}].tenant_id"));
            lines.push(format!(
                "{at}: the name `{}` is taken by the tenant at line {line}",
                field::plain(&tenant.tenant_id)
            ));
        }
    }
    let read = Manifest { servers, says_which, tenants, policies, places };
    if lines.is_empty() { Ok(read) } else { Err(wrong(lines)) }
}

fn options() -> Options {
    // A snippet of the file could show a secret in somebody's build log.
    serde_saphyr::options! { with_snippet: false }
}

fn place(file: &str, location: Option<Location>) -> String {
    match location {
        Some(location) if location.line() > 0 => format!("{file}:{}:{}", location.line(), location.column()),
        _ => file.to_owned(),
    }
}

fn explain(error: &Error) -> String {
    match error.without_snippet() {
        Error::SerdeUnknownField { field, expected, .. } => {
            let hint = match nearest(field, expected) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known are {}", expected.join(", ")),
            };
            format!("unknown field `{field}`; {hint}")
        }
        Error::SerdeMissingField { field, .. } => format!("the field `{field}` is missing"),
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("`{variant}` is not possible here; use {}", expected.join(", "))
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the field `{key}` stands here twice"),
        other => {
            let text = other.to_string();
            // The place stands in front already.
            let plain = text.split(" at line ").next().unwrap_or(&text);
            field::plain(plain.strip_prefix("error: ").unwrap_or(plain).lines().next().unwrap_or_default())
        }
    }
}

/// A document with the place of every value.
#[derive(Debug)]
enum Node {
    Map(Vec<(String, Spanned<Node>)>),
    List(Vec<Spanned<Node>>),
    Leaf,
}

/// Where the value at a path like `servers[0].replicas[1].url` stands; the nearest value above it when there is none. Field
/// names may hold dots (an environment variable's name may): the longest name that fits is taken.
fn locate(tree: &Spanned<Node>, path: &str) -> Location {
    let mut node = tree;
    let mut rest = path;
    while !rest.is_empty() {
        let next = match &node.value {
            Node::Map(members) => members
                .iter()
                .filter_map(|(name, value)| Some((rest.strip_prefix(name.as_str())?, name.len(), value)))
                .filter(|(rest, ..)| rest.is_empty() || rest.starts_with(['.', '[']))
                .max_by_key(|(_, length, _)| *length)
                .map(|(rest, _, value)| (value, rest)),
            Node::List(items) => rest
                .strip_prefix('[')
                .and_then(|rest| rest.split_once(']'))
                .and_then(|(index, rest)| Some((items.get(index.parse::<usize>().ok()?)?, rest))),
            Node::Leaf => None,
        };
        let Some((below, after)) = next else { break };
        node = below;
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    node.referenced
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Node::Map(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// The fields of a server in the order in which people write them.
pub const FIELDS: [&str; 19] = [
    "slug",
    "title",
    "description",
    "transport",
    "replicas",
    "command",
    "sharing",
    "headers",
    "env",
    "auth",
    "discovery_auth",
    "tags",
    "visibility",
    "offered_to",
    "timeouts",
    "rate_limits",
    "protocol",
    "balance",
    "enabled",
];

/// The fields of a tenant in that order, with what is only shown.
const TENANT_FIELDS: [&str; 10] = [
    "tenant_id",
    "display_name",
    "state",
    "entra_tenant_ids",
    "assumed_entra_tenant_ids",
    "guests",
    "role_mappings",
    "rate_limits",
    "features",
    "retention",
];

/// What stands in a file of a server or a tenant, its fields in the order in which people write them.
#[derive(Debug)]
pub struct Brief(pub Map<String, Value>, &'static [&'static str]);

impl Brief {
    /// A tenant, whole: what would be left out stays as it is wherever the file is applied.
    pub fn tenant(mut whole: Map<String, Value>) -> Self {
        whole.retain(|name, _| TENANT_FIELDS.contains(&name.as_str()));
        Self(whole, &TENANT_FIELDS)
    }

    /// Leaves out of a whole description of a server what would be the same unsaid.
    pub fn of(mut whole: Map<String, Value>) -> Self {
        let plain = serde_json::json!({
            "title": "", "description": "", "transport": "streamable_http", "replicas": [], "command": null,
            "sharing": "shared", "headers": {}, "env": {}, "tags": [],
            "visibility": { "everyone": true, "roles": [], "users": [] }, "offered_to": [],
            "timeouts": crate::registry::model::Timeouts::default(), "rate_limits": {},
            "protocol": "auto", "balance": "round_robin", "enabled": true,
        });
        if whole.get("title") == whole.get("slug") {
            whole.remove("title");
        }
        whole.retain(|name, value| plain.get(name) != Some(value));
        Self(whole, &FIELDS)
    }

    /// As YAML, one server or tenant as it stands in a file.
    pub fn yaml(&self) -> String {
        // A map of JSON values always has a YAML form.
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Brief {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for name in self.1 {
            if let Some(value) = self.0.get(*name) {
                map.serialize_entry(name, value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        read("gateway.yaml", text, |_| None).unwrap_err().details
    }

    #[test]
    fn a_file_is_read_with_its_secrets_from_the_environment() {
        let text = "servers:\n  - slug: search\n    replicas: [{url: https://example.com/mcp}]\n    headers:\n      \
                    Authorization: Bearer ${TOKEN}\n  - slug: files\n    transport: stdio\n    command: {program: npx, args: [-y, x]}\n";
        let manifest = read("f", text, |name| (name == "TOKEN").then(|| "s3cret".into())).unwrap();
        assert_eq!(manifest.servers.len(), 2);
        assert_eq!(manifest.servers[0].headers["Authorization"].expose(), "Bearer s3cret");
        assert_eq!(manifest.servers[1].command.as_ref().unwrap().args, ["-y", "x"]);
    }

    #[test]
    fn an_unknown_field_is_told_with_its_place_and_the_name_that_was_meant() {
        let text = "servers:\n  - slug: search\n    replica:\n      - url: https://example.com/mcp\n";
        assert_eq!(mistakes(text), ["gateway.yaml:3:5: unknown field `replica`; did you mean `replicas`?"]);
        assert_eq!(
            mistakes("servers:\n  - slug: a\n    timeouts: {idle: 5}\n"),
            ["gateway.yaml:3:16: unknown field `idle`; did you mean `idle_ms`?"]
        );
        assert_eq!(mistakes("server: []\n"), ["gateway.yaml:1:1: unknown field `server`; did you mean `servers`?"]);
    }

    #[test]
    fn broken_text_wrong_types_and_wrong_words_are_told_with_their_place() {
        let start = |text: &str, prefix: &str| {
            let lines = mistakes(text);
            assert!(lines.len() == 1 && lines[0].starts_with(prefix), "{lines:?}");
        };
        start("servers:\n  - slug: [unclosed\n", "gateway.yaml:");
        start("servers:\n  - slug: a\n    enabled: perhaps\n", "gateway.yaml:3:14: must be true or false");
        start(
            "servers:\n  - slug: a\n    replicas: [{url: https://x, weight: x}]\n",
            "gateway.yaml:3:41: must be a whole number from 0",
        );
        start(
            "servers:\n  - slug: a\n    sharing: everyone\n",
            "gateway.yaml:3:14: `everyone` is not possible here; use shared",
        );
        start("servers:\n  - title: a\n", "gateway.yaml:2:");
        start("servers:\n  - slug: a\n    slug: b\n", "gateway.yaml:3:5: the field `slug` stands here twice");
        start("servers:\n  - slug: Not A Name\n", "gateway.yaml:2:11: ");
    }

    #[test]
    fn every_mistake_of_meaning_is_told_at_once_with_its_place() {
        let text = "servers:\n  - slug: a\n    replicas:\n      - url: ftp://x\n      - url: https://y\n        weight: 0\n  \
                    - slug: a\n    transport: stdio\n    command: {program: x}\n    env: {TOKEN: \"${NOT_SET}\"}\n";
        assert_eq!(
            mistakes(text),
            [
                "gateway.yaml:4:14: replicas[0].url: only http and https URLs can be called",
                "gateway.yaml:6:17: replicas[1].weight: a weight is 1 to 1000",
                "gateway.yaml:7:11: the name `a` is taken by the server at line 2",
                "gateway.yaml:10:18: the environment variable NOT_SET is not set; export it before the command",
            ]
        );
    }

    #[test]
    fn no_message_quotes_a_secret() {
        let text = "servers:\n  - slug: a\n    replicas: [{url: https://x}]\n    headers: {A: {b: s3cret}}\n";
        assert!(!mistakes(text).join("\n").contains("s3cret"));
        let text = "servers:\n  - slug: a\n    replicas: [{url: https://x}]\n    headers: {A: \"s3\\ncret\"}\n";
        assert!(!mistakes(text).join("\n").contains("cret"));
    }

    #[test]
    fn the_fields_are_those_of_a_server() {
        let spec: ServerSpec = serde_json::from_value(serde_json::json!({
            "slug": "a", "replicas": [{"url": "https://x"}], "command": {"program": "x"},
            "headers": {"a": "b"}, "env": {"a": "b"}, "offered_to": ["acme"],
            "auth": {"kind": "identity"}, "discovery_auth": {"kind": "client_credentials"},
            "rate_limits": {"rpm": 600}
        }))
        .unwrap();
        let Value::Object(object) = serde_json::to_value(&spec).unwrap() else { panic!("an object") };
        assert_eq!(object.keys().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(FIELDS));
        let brief = Brief::of(object);
        assert_eq!(brief.0.len(), 9, "{brief:?}");
        assert!(brief.yaml().starts_with("slug: a\n"), "{}", brief.yaml());
    }
}
