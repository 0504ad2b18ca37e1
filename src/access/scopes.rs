//! What a key may be used for, whoever holds it. A list that is absent allows nothing. Patterns hold `*` for any run of
//! characters and nothing else that is special.

use memchr::memmem;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::field::FieldError;

/// The scopes of a key. The default allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scopes {
    /// Servers, by patterns of their slug.
    pub servers: Allow,
    /// Tools, by patterns of `slug/tool`. The server must be allowed too.
    pub tools: Allow,
    /// Whether it may be used to manage: servers, keys, accounts, as far as the role goes.
    pub admin: bool,
}

/// Written as a list of patterns; `["*"]`, or `"*"` alone, is everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Everything.
    All,
    /// What any of the patterns matches.
    Only(Vec<String>),
}

impl Default for Allow {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Serialize for Allow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => ["*"].serialize(serializer),
            Self::Only(patterns) => patterns.serialize(serializer),
        }
    }
}

impl JsonSchema for Allow {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Allow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = json_schema!({ "type": "array", "items": { "type": "string" } });
        if generator.contract().is_serialize() { list } else { json_schema!({ "anyOf": [{ "const": "*" }, list] }) }
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Allow;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"*\" or a list of patterns")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Allow, E> {
                if text == "*" {
                    Ok(Allow::All)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Allow, A::Error> {
                let mut patterns: Vec<String> = Vec::new();
                while let Some(pattern) = list.next_element()? {
                    patterns.push(pattern);
                }
                let all = patterns.iter().any(|pattern| pattern == "*");
                Ok(if all { Allow::All } else { Allow::Only(patterns) })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Most patterns in one list, and most bytes of one.
const MOST: (usize, usize) = (256, 200);

impl Scopes {
    /// Everything: what signing in gives, bounded by the account's role.
    pub fn all() -> Self {
        Self { servers: Allow::All, tools: Allow::All, admin: true }
    }

    /// Whether the server is named.
    pub fn allows_server(&self, slug: &str) -> bool {
        match &self.servers {
            Allow::All => true,
            Allow::Only(patterns) => patterns.iter().any(|pattern| matches(pattern.as_bytes(), slug.as_bytes())),
        }
    }

    /// Whether the server and the tool are named.
    pub fn allows_tool(&self, slug: &str, tool: &str) -> bool {
        self.allows_server(slug)
            && match &self.tools {
                Allow::All => true,
                Allow::Only(patterns) => {
                    let text = [slug, "/", tool].concat();
                    patterns.iter().any(|pattern| matches(pattern.as_bytes(), text.as_bytes()))
                }
            }
    }

    /// Whether everything that `other` allows is allowed here: nobody hands out more than they hold. Errs towards no.
    pub fn covers(&self, other: &Self) -> bool {
        // A pattern that matches another one's text matches every text the other matches: each `*` of the other is
        // then taken up by one of ours.
        let covers = |ours: &Allow, theirs: &Allow| match (ours, theirs) {
            (Allow::All, _) => true,
            (Allow::Only(_), Allow::All) => false,
            (Allow::Only(ours), Allow::Only(theirs)) => {
                theirs.iter().all(|one| ours.iter().any(|pattern| matches(pattern.as_bytes(), one.as_bytes())))
            }
        };
        (self.admin || !other.admin) && covers(&self.servers, &other.servers) && covers(&self.tools, &other.tools)
    }

    /// Every mistake at once.
    pub fn check(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        for (field, allow) in [("servers", &self.servers), ("tools", &self.tools)] {
            let Allow::Only(patterns) = allow else { continue };
            if patterns.len() > MOST.0 {
                let message = format!("at most {} patterns", MOST.0);
                found.push(FieldError::new(field, message));
            }
            for (index, pattern) in patterns.iter().enumerate() {
                let message = if pattern.is_empty() || pattern.len() > MOST.1 || pattern.contains(char::is_control) {
                    format!("a pattern has 1 to {} bytes and no control characters", MOST.1)
                } else if field == "tools" && !pattern.contains('/') {
                    "write `server/tool`; `*` stands for any characters".to_owned()
                } else if field == "servers" && !pattern.chars().all(may_be_in_a_slug) {
                    "no server has such a name: they are of small letters, digits and hyphens; `*` stands for any"
                        .to_owned()
                } else {
                    continue;
                };
                found.push(FieldError::new(format!("{field}[{index}]"), message));
            }
        }
        found
    }
}

/// Whether a pattern with this character can match a [slug](crate::id::Slug).
fn may_be_in_a_slug(letter: char) -> bool {
    matches!(letter, 'a'..='z' | '0'..='9' | '-' | '*')
}

/// Whether `pattern` matches the whole of `text`; `*` matches any run, the empty one too. Linear in both: the first place of
/// what stands between two `*` leaves the most behind it, so no other is tried.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut pieces = pattern.split(|byte| *byte == b'*');
    let Some(mut left) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let Some(last) = pieces.next_back() else { return left.is_empty() };
    for piece in pieces {
        let Some(at) = memmem::find(left, piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only(patterns: &[&str]) -> Allow {
        Allow::Only(patterns.iter().map(|&pattern| pattern.into()).collect())
    }

    #[test]
    fn nothing_is_allowed_unless_it_is_named() {
        let none = Scopes::default();
        assert!(!none.allows_server("git") && !none.allows_tool("git", "log") && !none.admin);
        let some =
            Scopes { servers: only(&["git", "file-*"]), tools: only(&["git/log", "file-*/read_*"]), admin: false };
        assert!(some.allows_tool("git", "log") && some.allows_tool("file-one", "read_all"));
        assert!(
            !some.allows_tool("git", "push") && !some.allows_tool("gitx", "log") && !some.allows_tool("git", "logs")
        );
        assert!(!some.allows_tool("other", "read_x"));
        let no_server = Scopes { servers: only(&[]), tools: Allow::All, admin: true };
        assert!(!no_server.allows_tool("git", "log"));
    }

    #[test]
    fn scopes_read_as_they_are_written() {
        let text = r#"{"servers":["*"],"tools":["git/*"],"admin":false}"#;
        let scopes: Scopes = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&scopes).unwrap(), text);
        assert_eq!(serde_json::from_str::<Scopes>("{}").unwrap(), Scopes::default());
        assert_eq!(serde_json::from_str::<Scopes>(r#"{"servers":"*"}"#).unwrap().servers, Allow::All);
        for wrong in [r#"{"servers":"all"}"#, r#"{"servers":true}"#, r#"{"server":"*"}"#, r#"{"tools":[1]}"#] {
            assert!(serde_json::from_str::<Scopes>(wrong).is_err(), "{wrong}");
        }
        let wrong =
            Scopes { servers: only(&["", "a-1*", "Bad Slug", "a/b"]), tools: only(&["git", "a/B c"]), admin: false };
        let fields: Vec<_> = wrong.check().into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["servers[0]", "servers[2]", "servers[3]", "tools[0]"]);
    }

    #[test]
    fn a_long_text_is_read_once_for_each_pattern_however_much_of_it_nearly_fits() {
        // Each goes back for every character where it is tried at every place: 2 × 10⁹ steps.
        let patterns: Vec<String> = (0..50).map(|n| format!("fs/*{}{n}*x", "a".repeat(180))).collect();
        let scopes = Scopes { servers: Allow::All, tools: Allow::Only(patterns), admin: false };
        assert!(!scopes.allows_tool("fs", &"a".repeat(250_000)));
        assert!(scopes.allows_tool("fs", &format!("{}49 x", "a".repeat(250_000))));
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_the_obvious_recursion_matches(pattern in "[ab*/]{0,8}", text in "[ab/]{0,10}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.first(), text.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..])),
                    (Some(p), Some(t)) if p == t => slow(&pattern[1..], &text[1..]),
                    _ => false,
                }
            }
            let text = text.as_bytes();
            prop_assert_eq!(matches(pattern.as_bytes(), text), slow(pattern.as_bytes(), text));
        }

        #[test]
        fn what_is_covered_allows_no_more(ours in "[ab*]{0,5}", theirs in "[ab*]{0,5}", slug in "[ab]{0,6}") {
            let scopes = |pattern: &str| Scopes { servers: only(&[pattern]), ..Scopes::default() };
            if scopes(&ours).covers(&scopes(&theirs)) && scopes(&theirs).allows_server(&slug) {
                prop_assert!(scopes(&ours).allows_server(&slug));
            }
        }
    }
}
