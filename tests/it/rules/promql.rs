//! Which metrics and labels an expression of Prometheus names. No parser: what is right and wrong about an expression says promtool.

use std::collections::BTreeSet;

/// What one expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Each metric, with the labels that are asked of it.
    pub selected: Vec<(String, BTreeSet<String>)>,
    /// Labels by which is summed and matched.
    pub grouped: BTreeSet<String>,
}

/// Before a list of labels in brackets.
const LISTS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: &[&str] = &["and", "or", "unless", "offset", "bool"];

pub fn named(expression: &str) -> Named {
    let tokens = tokens(expression);
    let (mut found, mut at) = (Named::default(), 0);
    while at < tokens.len() {
        let (token, next) = (tokens[at].as_str(), tokens.get(at + 1).map_or("", String::as_str));
        at += 1;
        if !is_name(token) || WORDS.contains(&token) {
            continue;
        }
        if LISTS.contains(&token) {
            // `group_left` may have no list.
            if next == "(" {
                let labels = tokens[at + 1..].iter().take_while(|token| *token != ")");
                found.grouped.extend(labels.cloned());
                at += tokens[at..].iter().position(|token| token == ")").unwrap_or_default();
            }
        } else if next == "{" {
            let inside = tokens[at..].iter().take_while(|token| *token != "}");
            let inside = inside.filter(|token| is_name(token)).cloned().collect::<BTreeSet<_>>();
            at += tokens[at..].iter().position(|token| token == "}").unwrap_or_default();
            found.selected.push((token.to_owned(), inside));
        } else if next != "(" && !is_function_with_list(&tokens, at) {
            found.selected.push((token.to_owned(), BTreeSet::new()));
        }
    }
    found
}

/// `sum by (job) (…)`: the list stands before what is summed.
fn is_function_with_list(tokens: &[String], at: usize) -> bool {
    tokens.get(at).is_some_and(|next| next == "by" || next == "without")
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names and signs; texts, comments, ranges and numbers are left out.
fn tokens(expression: &str) -> Vec<String> {
    let code = expression.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line });
    let code = code.collect::<Vec<_>>().join(" ");
    let (mut found, mut rest) = (Vec::new(), code.as_str());
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => 2 + rest[1..].find('"').expect("a text ends"),
            '[' => 1 + rest.find(']').expect("a range ends"),
            // A variable of Grafana's is one too.
            c if c.is_ascii_alphanumeric() || c == '_' || c == '$' => {
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_:.$".contains(c))).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        if is_name(rest) || "(){}".contains(first) {
            found.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    found
}

#[test]
fn names_are_found_and_nothing_else() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let found = named(
        "# a comment\nsum by (job, le) (rate(a_total{b=\"c{d}\",e!~\"f\"}[5m] offset $__range)) > 14.4 * 0.001\n\
         and on (job) group_left () a:b:c unless min without (x) (up)",
    );
    let selected =
        vec![("a_total".to_owned(), set(&["b", "e"])), ("a:b:c".to_owned(), set(&[])), ("up".to_owned(), set(&[]))];
    assert_eq!(found, Named { selected, grouped: set(&["job", "le", "x"]) });
}
