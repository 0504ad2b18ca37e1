//! `${NAME}` in values that may be secret: replaced by the environment of the command, so that a secret need stand in no file
//! and in no shell history. `$${` is a plain `${`. A name that is not set is an error, never an empty text.

/// `text` with every `${NAME}` replaced by what `lookup` gives. The error names the variable, never a value.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(length) = rest[at + 2..].find('}') else {
            return Err("a `${` without its `}`; write `$${` for a plain `${`".to_owned());
        };
        let name = &rest[at + 2..at + 2 + length];
        if !is_name(name) {
            return Err(format!("`${{{}}}` does not name an environment variable", super::screen::shorten(name, 40)));
        }
        match lookup(name) {
            Some(value) => out.push_str(&value),
            None => return Err(format!("the environment variable {name} is not set; export it before the command")),
        }
        rest = &rest[at + 3 + length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The same over the environment of this process.
pub fn from_environment(text: &str) -> Result<String, String> {
    expand(text, |name| std::env::var(name).ok())
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_doubled_dollars_are_plain() {
        let lookup = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        assert_eq!(expand("Bearer ${TOKEN}!", lookup).as_deref(), Ok("Bearer s3cret!"));
        assert_eq!(expand("$${TOKEN} costs $5 {x}", lookup).as_deref(), Ok("${TOKEN} costs $5 {x}"));
        assert!(expand("${MISSING}", lookup).unwrap_err().contains("MISSING is not set"));
        assert!(expand("${a b}", lookup).is_err());
        assert!(expand("${TOKEN", lookup).is_err());
    }
}
