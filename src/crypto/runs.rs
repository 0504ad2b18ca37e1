//! Runs of characters as secrets are written in: texts that are shown to people leave the long ones out.

use uuid::Uuid;

/// Longest run that is surely none. What the gateway and Entra give is longer.
const LONGEST: usize = 31;

/// `text` with an ellipsis for each run of which `is_secret` says so, who is given what stands before it and the run.
pub fn without_runs(text: &str, is_secret: impl Fn(&str, &str) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_of_secrets) {
        let run = &rest[start..];
        let end = run.find(|c| !is_of_secrets(c)).unwrap_or(run.len());
        let (before, run) = (&rest[..start], &run[..end]);
        out.push_str(before);
        rest = &rest[start + end..];
        // The rest of one of ours that holds something else.
        if out.ends_with('…') {
            continue;
        }
        if is_secret(&out, run) {
            out.push('…');
            // Of one of ours the kind stood there, and the ellipsis of the rest.
            rest = rest.strip_prefix('…').unwrap_or(rest);
        } else {
            out.push_str(run);
        }
    }
    out.push_str(rest);
    out
}

/// Whether a run is as long as secrets are, and no UUID.
pub fn is_long_run(run: &str) -> bool {
    run.len() > LONGEST && Uuid::try_parse(run).is_err()
}

fn is_of_secrets(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '~' | '+' | '%')
}
