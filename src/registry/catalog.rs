//! What a server offers: its tools, resources, templates and prompts, each kept as the server wrote it, with the few members
//! read that routing and checking need. Asking for it pages through the lists, within bounds.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use ahash::{AHashMap, AHashSet, RandomState};
use bytes::Bytes;
use http::HeaderName;

use crate::fault::Fault;
use crate::json;
use crate::policy::{Hints, What};
use crate::protocol::disguise::folded;
use crate::protocol::meta::PARAM_PREFIX;
use crate::registry::names;
use crate::upstream::{Told, Upstream};

/// Most items of one kind that are kept.
const MOST_ITEMS: usize = 20_000;
/// Most bytes of one kind that are kept.
const MOST_BYTES: usize = 32 << 20;
/// Most pages asked for.
const MOST_PAGES: usize = 1_000;

/// The four lists of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `tools/list`.
    Tools,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
    /// `prompts/list`.
    Prompts,
}

impl Kind {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Resources, Self::Templates, Self::Prompts];

    /// The method that lists it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Prompts => "prompts/list",
        }
    }

    /// The kind that this method lists.
    pub fn of_method(method: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    /// The member of the result that holds the items.
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Prompts => "prompts",
        }
    }

    /// The member of an item that names it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// The capability that promises it.
    fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Resources | Self::Templates => "resources",
            Self::Prompts => "prompts",
        }
    }
}

/// One thing that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name, URI or URI template.
    pub key: Arc<str>,
    /// It, as the server wrote it.
    pub raw: Bytes,
    /// The parameters that travel in headers too.
    pub mirrored: Box<[Mirrored]>,
    /// What a tool says of itself; of anything else what is said of a tool that says nothing.
    pub hints: Hints,
}

/// A tool parameter that is mirrored into a header (2026-07-28, basic/transports/streamable-http, "Custom Headers").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// Where it stands in `arguments`.
    pub path: Box<[Box<str>]>,
    /// The header, lower case.
    pub header: HeaderName,
}

/// Everything a server offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Its tools.
    pub tools: Vec<Item>,
    /// Its resources.
    pub resources: Vec<Item>,
    /// Its resource templates.
    pub templates: Vec<Item>,
    /// Its prompts.
    pub prompts: Vec<Item>,
    /// What could not be kept, and why.
    pub problems: Vec<String>,
    indexes: Indexes,
}

/// An index of each kind, made when something is first looked for. Two lists that are the same have the same.
#[derive(Debug, Default)]
struct Indexes([OnceLock<Index>; 4]);

/// Where everything stands in its list: rules ask that about every item of every list, and about whatever clients name.
#[derive(Debug)]
struct Index {
    places: AHashMap<Arc<str>, usize>,
    /// Hashes of all names without their case.
    folded: AHashSet<u64>,
    hasher: RandomState,
}

impl Clone for Indexes {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Indexes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Indexes {}

impl Index {
    fn new(items: &[Item]) -> Self {
        let hasher = RandomState::new();
        let places = items.iter().enumerate().map(|(at, item)| (item.key.clone(), at)).collect();
        let folded = items.iter().map(|item| without_case(&hasher, &item.key)).collect();
        Self { places, folded, hasher }
    }
}

fn without_case(hasher: &RandomState, name: &str) -> u64 {
    let mut state = hasher.build_hasher();
    folded(name).for_each(|letter| letter.hash(&mut state));
    state.finish()
}

impl Item {
    /// Whether it is a tool that says that calling it once more does no harm.
    pub fn is_repeatable(&self) -> bool {
        self.hints.idempotent_hint || self.hints.read_only_hint
    }
}

impl Kind {
    /// An item of this kind, as rules speak of it; a template is a resource by its text.
    pub fn what(self, item: &Item) -> What<'_> {
        match self {
            Self::Tools => What::Tool(&item.key, item.hints),
            Self::Resources | Self::Templates => What::Resource(&item.key),
            Self::Prompts => What::Prompt(&item.key),
        }
    }
}

impl Catalog {
    /// Of a server that shows its lists to people and not to the gateway: a person's own lists are nobody else's.
    pub fn hidden() -> Self {
        let problem =
            "it shows its lists to people only, at its own endpoint; with `discovery_auth` the gateway can read them";
        Self { problems: vec![problem.to_owned()], ..Self::default() }
    }

    /// The item of this kind and name.
    pub fn item(&self, kind: Kind, name: &str) -> Option<&Item> {
        self.items(kind).get(*self.index(kind).places.get(name)?)
    }

    /// Whether it is listed here. A template is a resource by its text.
    pub fn lists(&self, what: What<'_>) -> bool {
        match what {
            What::Server => true,
            What::Tool(name, _) => self.item(Kind::Tools, name).is_some(),
            What::Prompt(name) => self.item(Kind::Prompts, name).is_some(),
            What::Resource(uri) => {
                [Kind::Resources, Kind::Templates].iter().any(|kind| self.item(*kind, uri).is_some())
            }
        }
    }

    /// Whether it is clear what is meant by something that is not listed: its name is no other spelling of anything.
    pub fn is_clear(&self, what: What<'_>) -> bool {
        let is_alike = |kind: Kind, name: &str| {
            let index = self.index(kind);
            index.folded.contains(&without_case(&index.hasher, name))
        };
        what.is_plain()
            && match what {
                What::Server => true,
                What::Resource(uri) => !self.lists(What::Resource(&format!("{uri}/"))),
                What::Tool(name, _) => !is_alike(Kind::Tools, name),
                What::Prompt(name) => !is_alike(Kind::Prompts, name),
            }
    }

    fn index(&self, kind: Kind) -> &Index {
        self.indexes.0[kind as usize].get_or_init(|| Index::new(self.items(kind)))
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.items(*kind).is_empty())
    }

    /// The items of a kind.
    pub fn items(&self, kind: Kind) -> &[Item] {
        match kind {
            Kind::Tools => &self.tools,
            Kind::Resources => &self.resources,
            Kind::Templates => &self.templates,
            Kind::Prompts => &self.prompts,
        }
    }

    /// Room for the items of a kind.
    pub fn items_mut(&mut self, kind: Kind) -> &mut Vec<Item> {
        self.indexes.0[kind as usize].take();
        match kind {
            Kind::Tools => &mut self.tools,
            Kind::Resources => &mut self.resources,
            Kind::Templates => &mut self.templates,
            Kind::Prompts => &mut self.prompts,
        }
    }

    /// Takes in a list of items as a server wrote them (a JSON array). Items that cannot be used are named in `problems`.
    pub fn take_in(&mut self, kind: Kind, list: &[u8]) {
        let mut known: HashSet<Arc<str>> = self.items(kind).iter().map(|item| item.key.clone()).collect();
        for raw in json::elements(list) {
            let Some(key) = json::get_text(raw, kind.key()).filter(|key| !key.is_empty()) else {
                self.problems.push(format!("an item of {} has no `{}`", kind.method(), kind.key()));
                continue;
            };
            if !known.insert(key.as_ref().into()) {
                self.problems.push(format!("{} holds `{key}` twice", kind.method()));
                continue;
            }
            let mirrored = if kind == Kind::Tools { read_mirrored(raw) } else { Ok(Box::default()) };
            match mirrored {
                Ok(mirrored) => {
                    let (key, raw) = (key.as_ref().into(), Bytes::copy_from_slice(raw));
                    let hints = if kind == Kind::Tools { Hints::of(&raw) } else { Hints::default() };
                    let item = Item { key, raw, mirrored, hints };
                    self.items_mut(kind).push(item);
                }
                Err(problem) => self.problems.push(format!("tool `{key}` is left out: {problem}")),
            }
        }
    }

    /// Asks the server for everything it declares to have.
    pub async fn ask(upstream: &Upstream) -> Result<Self, Fault> {
        let peer = upstream.peer().await?;
        let mut catalog = Self::default();
        for kind in Kind::ALL {
            if peer.can(&[kind.capability()]) {
                catalog.page_through(upstream, kind).await?;
            }
        }
        catalog.report_collisions(upstream.server.spec.slug.as_str());
        Ok(catalog)
    }

    /// Names those whose name at the common endpoint another one has already: the short form of a long name may be some
    /// other's whole name. There the first has it; at the server's own endpoint nothing is shortened.
    fn report_collisions(&mut self, slug: &str) {
        for kind in [Kind::Tools, Kind::Prompts] {
            let mut owners: AHashMap<String, &str> = AHashMap::new();
            let mut found = Vec::new();
            for item in self.items(kind) {
                let name = names::exposed(slug, &item.key);
                if let Some(other) = owners.get(&name) {
                    found.push(format!(
                        "`{}` is left out at the common endpoint: `{name}` there is `{other}`",
                        item.key
                    ));
                } else {
                    owners.insert(name, &item.key);
                }
            }
            self.problems.extend(found);
        }
    }

    async fn page_through(&mut self, upstream: &Upstream, kind: Kind) -> Result<(), Fault> {
        let mut params = "{}".to_owned();
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        for _ in 0..MOST_PAGES {
            let result = match upstream.ask(kind.method(), &params).await? {
                Told::Result(result) => result,
                // A server with resources need not have templates; one that declares tools and has none is odd, not dead.
                Told::Error(error) => {
                    if kind != Kind::Templates {
                        let text = error.text("message").unwrap_or_default().into_owned();
                        self.problems.push(format!("{} failed: {text}", kind.method()));
                    }
                    return Ok(());
                }
            };
            self.take_in(kind, json::get(&result, kind.member()).unwrap_or_default());
            bytes += result.len();
            if self.items(kind).len() > MOST_ITEMS || bytes > MOST_BYTES {
                self.items_mut(kind).truncate(MOST_ITEMS);
                self.problems
                    .push(format!("{} is cut: more than {MOST_ITEMS} items or {MOST_BYTES} bytes", kind.method()));
                return Ok(());
            }
            match json::get(&result, "nextCursor") {
                None | Some(b"null") => return Ok(()),
                Some(cursor) => {
                    if !seen.insert(cursor.to_vec()) {
                        self.problems.push(format!("{} goes in circles: a cursor came twice", kind.method()));
                        return Ok(());
                    }
                    params = format!("{{\"cursor\":{}}}", String::from_utf8_lossy(cursor));
                }
            }
        }
        self.problems.push(format!("{} is cut after {MOST_PAGES} pages", kind.method()));
        Ok(())
    }
}

/// The annotations of a tool's input schema; the reason why the tool is invalid, if one breaks the rules.
fn read_mirrored(tool: &[u8]) -> Result<Box<[Mirrored]>, String> {
    const MARK: &[u8] = b"x-mcp-header";
    let Some(schema) = json::get(tool, "inputSchema") else { return Ok(Box::default()) };
    if memchr::memmem::find(schema, MARK).is_none() {
        return Ok(Box::default());
    }
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found)?;
    // Whatever is marked and not reached by `properties` alone stands where no header can be read from.
    let marks = count_marks(schema);
    if marks != found.len() {
        return Err(
            "`x-mcp-header` stands where it may not (only on properties reached by `properties` alone)".to_owned()
        );
    }
    let mut names: Vec<_> = found.iter().map(|mirrored| mirrored.header.clone()).collect();
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two parameters have the same `x-mcp-header`".to_owned());
    }
    Ok(found.into())
}

fn collect(schema: &[u8], path: &mut Vec<Box<str>>, found: &mut Vec<Mirrored>) -> Result<(), String> {
    let Some(properties) = json::get(schema, "properties") else { return Ok(()) };
    for (name, property) in json::members(properties) {
        let quoted = [b"\"", name, b"\""].concat();
        path.push(json::text(&quoted).unwrap_or_default().into());
        if let Some(value) = json::get(property, "x-mcp-header") {
            let header = json::text(value).unwrap_or_default();
            let kind = json::get_text(property, "type").unwrap_or_default();
            if !matches!(kind.as_ref(), "string" | "integer" | "boolean") {
                return Err(format!("`x-mcp-header` on a parameter of type `{kind}`"));
            }
            let full = format!("{PARAM_PREFIX}{}", header.to_ascii_lowercase());
            match HeaderName::from_bytes(full.as_bytes()) {
                Ok(header) if full.len() > PARAM_PREFIX.len() => {
                    found.push(Mirrored { path: path.clone().into(), header });
                }
                _ => return Err(format!("`{header}` cannot be part of a header name")),
            }
        }
        collect(property, path, found)?;
        path.pop();
    }
    Ok(())
}

/// How many members named `x-mcp-header` there are, anywhere but among names of properties and in example data.
fn count_marks(schema: &[u8]) -> usize {
    let mut count = 0;
    for (name, value) in json::members(schema) {
        match name {
            b"x-mcp-header" => count += 1,
            b"const" | b"default" | b"enum" | b"examples" => {}
            b"properties" | b"$defs" | b"definitions" | b"patternProperties" => {
                count += json::members(value).map(|(_, inner)| count_marks(inner)).sum::<usize>();
            }
            _ => {
                count += count_marks(value);
                count += json::elements(value).map(count_marks).sum::<usize>();
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(schema: &str) -> String {
        format!(r#"[{{"name":"t","inputSchema":{schema}}}]"#)
    }

    #[test]
    fn items_are_kept_as_written_and_doubles_are_named() {
        let mut catalog = Catalog::default();
        catalog.take_in(Kind::Tools, br#"[{"name":"a","x":1.0},{"x":1},{"name":"a"},{ "name" : "b" }]"#);
        let keys: Vec<_> = catalog.tools.iter().map(|item| &*item.key).collect();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(catalog.tools[0].raw, r#"{"name":"a","x":1.0}"#);
        assert_eq!(catalog.problems.len(), 2);
    }

    #[test]
    fn what_is_listed_is_found_at_once_however_much_is_listed() {
        let mut catalog = Catalog::default();
        for kind in Kind::ALL {
            // What is plain is clear without a look at the list.
            let braces = if matches!(kind, Kind::Resources | Kind::Templates) { "{of}" } else { "" };
            let item = |number: usize| format!(r#"{{"{}":"x:Name{braces}/{number}"}}"#, kind.key());
            catalog.take_in(kind, format!("[{}]", (0..MOST_ITEMS).map(item).collect::<Vec<_>>().join(",")).as_bytes());
            assert_eq!(catalog.items(kind).len(), MOST_ITEMS);
            assert!(catalog.items(kind).iter().all(|item| catalog.lists(kind.what(item))), "{kind:?}");
        }
        for number in 0..1_000 {
            let (alike, new) = (format!("x:name/{number}"), format!("y:name/{number}"));
            for (name, clear) in [(&alike, false), (&new, true)] {
                for what in [What::Tool(name, Hints::default()), What::Prompt(name)] {
                    assert!(!catalog.lists(what));
                    assert_eq!(catalog.is_clear(what), clear, "{what:?}");
                }
            }
            let unclear = format!("x:Name{{else}}/{number}");
            assert!(!catalog.lists(What::Resource(&unclear)) && !catalog.is_clear(What::Resource(&unclear)));
        }
    }

    #[test]
    fn a_name_that_differs_from_a_listed_one_in_case_alone_cannot_be_judged() {
        let mut catalog = Catalog::default();
        for kind in [Kind::Tools, Kind::Prompts] {
            catalog.take_in(kind, br#"[{"name":"Look"},{"name":"l o o k"}]"#);
        }
        let judged = |name| {
            let (tool, prompt) = (What::Tool(name, Hints::default()), What::Prompt(name));
            assert_eq!(catalog.is_clear(tool), catalog.is_clear(prompt), "{name}");
            catalog.is_clear(tool)
        };
        assert!(judged("peek"));
        assert!(!judged("look") && !judged("LOOK") && !judged("p e e k"));
        // One that comes later counts as well.
        catalog.take_in(Kind::Tools, br#"[{"name":"PEEK"}]"#);
        assert!(!catalog.is_clear(What::Tool("peek", Hints::default())));
    }

    #[test]
    fn a_uri_that_is_listed_with_a_slash_behind_it_cannot_be_judged_without() {
        let mut catalog = Catalog::default();
        catalog.take_in(Kind::Resources, br#"[{"uri":"notes://a/"},{"uri":"https://h:443"}]"#);
        assert!(!catalog.is_clear(What::Resource("notes://a")));
        for listed in ["notes://a/", "https://h:443"] {
            assert!(catalog.lists(What::Resource(listed)), "whatever its form");
        }
        assert!(catalog.is_clear(What::Resource("notes://a/?x=1")) && catalog.is_clear(What::Resource("notes://b")));
    }

    #[test]
    fn parameters_for_headers_are_found_where_they_may_stand() {
        let mut catalog = Catalog::default();
        catalog.take_in(
            Kind::Tools,
            tool(r#"{"properties":{"region":{"type":"string","x-mcp-header":"Region"},"o":{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}},"x-mcp-header":{"type":"string"}}}"#).as_bytes(),
        );
        assert_eq!(catalog.problems, [""; 0]);
        let mirrored = &catalog.tools[0].mirrored;
        assert_eq!(mirrored[0].header, "mcp-param-region");
        assert_eq!(mirrored[1].path.join("."), "o.n");
    }

    #[test]
    fn a_tool_whose_annotations_break_the_rules_is_left_out_and_named() {
        for schema in [
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
            r#"{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}"#,
            r#"{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#,
        ] {
            let mut catalog = Catalog::default();
            catalog.take_in(Kind::Tools, tool(schema).as_bytes());
            assert!(catalog.tools.is_empty(), "{schema}");
            assert_eq!(catalog.problems.len(), 1, "{schema}");
        }
    }
}
