//! A mistake in something that people wrote, by field: what engines find and surfaces tell. What a reader of JSON or YAML says
//! of a value that does not fit is put in plain words here.

use schemars::JsonSchema;
use serde::Serialize;

/// One mistake in a description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    /// Path of the field, `replicas[0].url`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl FieldError {
    /// A mistake in the field of that path.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// What serde says of a value that does not fit, as a sentence for who wrote it. The value itself is not repeated, unless it is
/// a word where others were possible: it could be a secret.
pub fn plain(message: &str) -> String {
    if let Some((word, known)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "))
    {
        return format!("`{word}` is not possible here; use {}", names(known));
    }
    if let Some((_, known)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, ")) {
        let known = names(known);
        let rest = if known.is_empty() { String::new() } else { format!("; there are {known}") };
        return format!("there is no such field{rest}");
    }
    let expected = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.rsplit_once(", expected "))
        .map(|(_, expected)| expected)
        .or_else(|| message.strip_prefix("invalid ").filter(|rest| number(rest).is_some() || *rest == "boolean"));
    if let Some(expected) = expected {
        return format!("must be {}", kind(expected));
    }
    match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".to_owned()
        }
        "number too large to fit in target type" => "the number is too large".to_owned(),
        "number too small to fit in target type" => "the number is too small".to_owned(),
        other => other.to_owned(),
    }
}

/// The names in backticks, in a row.
fn names(text: &str) -> String {
    text.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(", ")
}

/// A kind of value as people call it.
fn kind(expected: &str) -> String {
    match expected {
        "a boolean" | "boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" | "string or map" | "string" => "a text".to_owned(),
        "a sequence" | "sequence" => "a list".to_owned(),
        "a map" | "map" => "an object".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => number(other).unwrap_or_else(|| other.to_owned()),
    }
}

/// The whole numbers of a type.
fn number(name: &str) -> Option<String> {
    let most = match name {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => return Some("a whole number, 0 or greater".to_owned()),
        "i8" | "i16" | "i32" | "i64" | "isize" => return Some("a whole number".to_owned()),
        _ => return None,
    };
    Some(format!("a whole number from 0 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_says_is_told_in_plain_words() {
        for (said, told) in [
            ("unknown variant `king`, expected one of `user`, `admin`", "`king` is not possible here; use user, admin"),
            (
                "unknown variant `on`, expected `active` or `disabled`",
                "`on` is not possible here; use active, disabled",
            ),
            ("unknown field `x`, expected `limit` or `cursor`", "there is no such field; there are limit, cursor"),
            ("unknown field `x`, there are no fields", "there is no such field"),
            ("invalid type: string \"s3cret, expected\", expected u32", "must be a whole number from 0 to 4294967295"),
            ("invalid value: integer `-1`, expected u64", "must be a whole number, 0 or greater"),
            ("invalid type: integer `7`, expected a string", "must be a text"),
            ("invalid type: null, expected struct Timeouts", "must be an object"),
            ("invalid type: integer `1`, expected \"*\" or a list of patterns", "must be \"*\" or a list of patterns"),
            ("invalid u32", "must be a whole number from 0 to 4294967295"),
            ("invalid digit found in string", "must be a whole number"),
            ("a slug has 1 to 40 characters", "a slug has 1 to 40 characters"),
        ] {
            assert_eq!(plain(said), told);
        }
    }
}
