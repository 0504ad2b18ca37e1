//! The forms in which records are exported.

use clap::ValueEnum;
use serde_json::Value;

use super::super::screen::text_at;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON object in a line, with the record to the letter and its place in its chain
    Jsonl,
    /// Comma-separated values (RFC 4180), the whole record in the last column
    Csv,
}

const COLUMNS: [(&str, &str); 15] = [
    ("time", "/time"),
    ("id", "/id"),
    ("chain", "/chain"),
    ("seq", "/seq"),
    ("hash", "/hash"),
    ("action", "/record/action"),
    ("outcome", "/record/outcome"),
    ("reason", "/record/reason"),
    ("user", "/record/user"),
    ("username", "/record/username"),
    ("server", "/record/server"),
    ("name", "/record/name"),
    ("address", "/record/address"),
    ("client", "/record/client"),
    ("request_id", "/record/request_id"),
];

impl Format {
    /// What stands before all of them.
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::Jsonl => "",
            Self::Csv => {
                "time,id,chain,seq,hash,action,outcome,reason,user,username,server,name,address,client,request_id,record\r\n"
            }
        }
    }

    /// One of them.
    pub(super) fn line(self, item: &Value) -> serde_json::Result<String> {
        match self {
            Self::Jsonl => Ok(serde_json::to_string(item)? + "\n"),
            Self::Csv => {
                let known = COLUMNS.iter().map(|(_, pointer)| {
                    if item.pointer(pointer).is_some() { cell(&text_at(item, pointer)) } else { String::new() }
                });
                let cells: Vec<_> = known.chain([cell(&serde_json::to_string(&item["record"])?)]).collect();
                Ok(cells.join(",") + "\r\n")
            }
        }
    }
}

/// A text as a cell. A spreadsheet takes none for a formula: callers choose some of these texts.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if text.contains(['"', ',', '\n', '\r']) || !guard.is_empty() {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_cell_for_each_head_and_no_formula() {
        let head = Format::Csv.head().trim_end().split(',').collect::<Vec<_>>();
        let named: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).chain(["record"]).collect();
        assert_eq!(head, named);
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("\r=1+1"), "\"'\r=1+1\"");
        assert_eq!(cell("plain"), "plain");
    }
}
