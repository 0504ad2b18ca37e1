//! What would change, as a coloured unified diff of two descriptions in YAML. Secrets are masked on both sides before they
//! come here.

use std::fmt::Write as _;

use similar::{ChangeTag, TextDiff};

use super::screen::{Tone, clean};

/// The changed lines of `old` to `new` with two lines around each, under `title`; empty when nothing differs.
pub fn unified(title: &str, old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let mut out = format!("{}\n", anstyle_bold(title));
    let diff = TextDiff::from_lines(old, new);
    for (index, group) in diff.grouped_ops(2).iter().enumerate() {
        if index > 0 {
            let _ = writeln!(out, "{}", Tone::Dim.paint("    …"));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = clean(change.value().trim_end_matches('\n'));
            let line = match change.tag() {
                ChangeTag::Equal => format!("    {line}"),
                ChangeTag::Delete => Tone::Bad.paint(&format!("  - {line}")),
                ChangeTag::Insert => Tone::Good.paint(&format!("  + {line}")),
            };
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

fn anstyle_bold(text: &str) -> String {
    let bold = anstyle::Style::new().bold();
    format!("{bold}{text}{bold:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_lines_and_their_neighbours_are_shown() {
        let old = "a: 1\nb: 2\nc: 3\nd: 4\ne: 5\nf: 6\n";
        let text = unified("change x", old, &old.replace("f: 6", "f: 7"));
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "change x\n    d: 4\n    e: 5\n  - f: 6\n  + f: 7\n");
        assert!(text.contains('\u{1b}'), "a terminal sees colours");
        assert_eq!(unified("x", old, old), "");
    }
}
