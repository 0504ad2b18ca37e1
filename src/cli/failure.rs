//! What a command says when it could not do its work: what was wrong, where, and what to do next. Answers of the gateway in
//! `application/problem+json` (RFC 9457) are read here and made readable. A failure never holds a secret.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// The command line cannot be carried out as written.
pub const EXIT_USAGE: u8 = 2;
/// Something failed.
pub const EXIT_FAILED: u8 = 1;

/// Why a command stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct Failure {
    /// One sentence.
    pub what: String,
    /// One line for each single mistake, with its place.
    pub details: Vec<String>,
    /// What to do next.
    pub advice: Option<Box<str>>,
    /// Status of the gateway's answer.
    pub status: Option<u16>,
    /// Stable code of the gateway's answer, `SCREAMING_SNAKE`.
    pub code: Option<Box<str>>,
    /// Names the request in the gateway's log.
    pub request_id: Option<Box<str>>,
    /// Exit code of the process, 1 or 2.
    pub exit: u8,
}

impl Failure {
    /// A failure with one sentence.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            details: Vec::new(),
            advice: None,
            status: None,
            code: None,
            request_id: None,
            exit: EXIT_FAILED,
        }
    }

    /// A mistake in the command line: exit code 2.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { exit: EXIT_USAGE, ..Self::new(what) }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into().into());
        self
    }

    /// The same with one line for each single mistake.
    #[must_use]
    pub fn detail(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// What clap says of a command line that it cannot read, without its colours, usage and hints at `--help`.
    pub fn of_clap(error: &clap::Error) -> Self {
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::usage("the command line ends too early; --help shows how it goes on");
        }
        let text = error.render().to_string();
        let mut lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Self::usage(what).detail(lines.filter(|line| !line.is_empty()).map(str::to_owned))
    }

    /// Reads an answer that is no success. A body that is no problem document is quoted, shortened.
    pub fn from_answer(status: u16, body: &[u8]) -> Self {
        let problem: Option<Value> = serde_json::from_slice(body).ok().filter(Value::is_object);
        let word = |name: &str| {
            let text = problem.as_ref()?.get(name)?.as_str()?;
            Some(text.to_owned()).filter(|text| !text.is_empty())
        };
        let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let title = word("title").or_else(|| reason.map(str::to_owned)).unwrap_or_else(|| "no reason given".to_owned());
        let mut failure = Self::new(format!("the gateway answered {status}: {title}"));
        if problem.is_none() && !body.is_empty() {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            failure.details.push(format!("it said: {}", text.trim()));
        }
        for error in problem.as_ref().and_then(|p| p.get("errors")).and_then(Value::as_array).into_iter().flatten() {
            let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            failure.details.push(match (part("field"), part("message")) {
                ("", message) => message.to_owned(),
                (field, message) => format!("{field}: {message}"),
            });
        }
        // With one bad field the detail is that field's line.
        if let Some(detail) = word("detail").filter(|detail| *detail != title && !failure.details.contains(detail)) {
            failure.details.insert(0, detail);
        }
        failure.advice = match status {
            401 => Some(
                "give a valid key with --key or MREG_API_KEY, or run this beside the data folder of the gateway".into(),
            ),
            403 => Some("ask an administrator of the gateway, or use a key that may do this (`mcp-gateway status` says who yours is)".into()),
            // 412 is for who named a version, the other for who named none.
            _ if status == 412 || word("code").as_deref() == Some("CONFLICT") => {
                Some("somebody changed it meanwhile; look at it with `show` and try again".into())
            }
            429 | 503 => Some("the gateway is busy; try again in a moment".into()),
            404 if problem.is_none() => Some("check that --gateway is the URL of an MCP Registry Gateway".into()),
            500..=599 => Some("the log of the gateway says more, under the request id".into()),
            _ => None,
        };
        failure.status = Some(status);
        failure.code = word("code").map(Into::into);
        failure.request_id = word("request_id").map(Into::into);
        failure
    }

    /// For people, on standard error; every control character that came from elsewhere is taken out.
    pub fn render(&self) -> String {
        let red = anstyle::AnsiColor::Red.on_default().bold();
        let bold = anstyle::Style::new().bold();
        let mut out = format!("{red}error:{red:#} {}", super::screen::clean(&self.what));
        if let Some(code) = &self.code {
            let _ = write!(out, " ({})", super::screen::clean(code));
        }
        out.push('\n');
        for detail in &self.details {
            let _ = writeln!(out, "  - {}", super::screen::clean(detail));
        }
        if let Some(id) = &self.request_id {
            let _ = writeln!(out, "  request id: {}", super::screen::clean(id));
        }
        if let Some(advice) = &self.advice {
            let _ = writeln!(out, "{bold}what to do:{bold:#} {}", super::screen::clean(advice));
        }
        out
    }

    /// For programs, on standard output under `--json`.
    pub fn document(&self) -> Value {
        json!({ "error": {
            "message": self.what,
            "details": self.details,
            "advice": self.advice,
            "status": self.status,
            "code": self.code,
            "request_id": self.request_id,
        }})
    }

    /// Any error as a failure: one that is none becomes its chain of causes in one sentence.
    pub fn of(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(format!("{error:#}")),
        }
    }
}

/// Says what is not there, and how those are listed that are.
pub fn unknown(error: anyhow::Error, (what, list): (&str, &str), id: &str) -> anyhow::Error {
    let failure = Failure::of(error);
    if failure.status != Some(404) || failure.code.is_none() {
        return failure.into();
    }
    let failure = Failure { what: format!("there is no {what} `{id}`"), details: Vec::new(), ..failure };
    failure.advise(format!("`mcp-gateway {list}` shows those there are")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_told_field_by_field() {
        let body = br#"{"type":"about:blank","title":"Not valid","status":422,"detail":"Two mistakes","code":"VALIDATION_FAILED",
            "request_id":"r-1","errors":[{"field":"replicas[0].url","message":"not an absolute URL"},{"field":"","message":"odd"}]}"#;
        let failure = Failure::from_answer(422, body);
        assert_eq!(failure.details, ["Two mistakes", "replicas[0].url: not an absolute URL", "odd"]);
        let text = anstream::adapter::strip_str(&failure.render()).to_string();
        assert_eq!(
            text,
            "error: the gateway answered 422: Not valid (VALIDATION_FAILED)\n  - Two mistakes\n  - replicas[0].url: not an \
             absolute URL\n  - odd\n  request id: r-1\n"
        );
    }

    #[test]
    fn a_single_bad_field_is_told_once() {
        let body = br#"{"title":"Unprocessable Entity","detail":"username: no","errors":[{"field":"username","message":"no"}]}"#;
        assert_eq!(Failure::from_answer(422, body).details, ["username: no"]);
    }

    #[test]
    fn a_refusal_makes_nobody_an_administrator() {
        let advice = Failure::from_answer(403, b"{}").advice.unwrap();
        assert!(advice.contains("ask an administrator") && !advice.contains("--role admin"), "{advice}");
    }

    #[test]
    fn an_answer_of_something_else_is_quoted_without_its_escapes() {
        let failure = Failure::from_answer(404, b"<html>\x1b[2Jnothing here</html>");
        let text = anstream::adapter::strip_str(&failure.render()).to_string();
        assert!(text.contains("it said: <html>\u{fffd}[2Jnothing here</html>"), "{text}");
        assert!(text.contains("what to do: check that --gateway"), "{text}");
    }
}
