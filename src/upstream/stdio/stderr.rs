//! What a child writes to its error stream: into the log, bounded in length and rate, and the last lines kept to explain
//! a failure. Values of the declared environment are masked, for programs like to print what they were given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tracing::info;

use crate::secret::Secret;

/// Lines kept.
const TAIL: usize = 20;
/// Bytes of a line that are logged and kept.
const LINE: usize = 1024;
/// Lines logged in a burst, and per second after it.
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 20.0;
/// A shorter value is not masked: it would mask half of every line and is no secret.
const SHORTEST: usize = 4;

/// The last lines of one child, masked. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        if lines.len() == TAIL {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Texts that never leave this module.
pub(super) struct Mask(Vec<Secret>);

impl Mask {
    /// Masks each of `values` that is long enough to be a secret.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a Secret>) -> Self {
        let mut values: Vec<Secret> = values.filter(|value| value.expose().len() >= SHORTEST).cloned().collect();
        // The longest first: one may be part of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.expose().len()));
        Self(values)
    }

    /// `line` as it may be shown: masked, without control characters, shortened.
    fn apply(&self, line: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(line).into_owned();
        for value in &self.0 {
            // A value of several lines comes line by line.
            for part in value.expose().lines().map(str::trim).filter(|part| part.len() >= SHORTEST) {
                if text.contains(part) {
                    text = text.replace(part, "***");
                }
            }
        }
        // Cut last, so that no half of a secret is left at the edge.
        text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).take(LINE / 2).collect()
    }
}

/// Reads `source` to its end.
pub(super) async fn follow<R: AsyncBufRead + Unpin>(mut source: R, name: Arc<str>, mask: Mask, tail: Tail) {
    let mut allowance = BURST;
    let mut before = Instant::now();
    let mut dropped = 0_u64;
    let mut line = Vec::new();
    while let Ok(true) = next(&mut source, &mut line).await {
        let text = mask.apply(&line);
        if text.trim().is_empty() {
            continue;
        }
        let now = Instant::now();
        allowance = (allowance + now.duration_since(before).as_secs_f64() * PER_SECOND).min(BURST);
        before = now;
        if allowance >= 1.0 {
            allowance -= 1.0;
            if dropped > 0 {
                info!(target: "mcp.stderr", server = %name, lines = dropped, "lines were left out: the server writes too many");
                dropped = 0;
            }
            info!(target: "mcp.stderr", server = %name, "{text}");
        } else {
            dropped += 1;
        }
        tail.push(text);
    }
    if dropped > 0 {
        info!(target: "mcp.stderr", server = %name, lines = dropped, "lines were left out: the server writes too many");
    }
}

/// Reads a line into `line`, of which at most a few times [`LINE`] bytes are kept; false at the end of the stream.
async fn next<R: AsyncBufRead + Unpin>(source: &mut R, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    loop {
        let chunk = source.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let stop = memchr::memchr(b'\n', chunk);
        let part = &chunk[..stop.unwrap_or(chunk.len())];
        let room = (LINE * 4).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(stop.is_some());
        source.consume(used);
        if stop.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_without_the_values_that_were_declared() {
        let secrets = [Secret::new("hunter22"), Secret::new("hunter22-long"), Secret::new("x")];
        let tail = Tail::default();
        let mut text: String = (0..50).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat();
        text.push_str("token=hunter22-long, x and hunter22\n\n");
        text.push_str(&"y".repeat(100_000));
        follow(text.as_bytes(), "s".into(), Mask::new(secrets.iter()), tail.clone()).await;
        let lines = tail.lines();
        assert_eq!((lines.len(), &*lines[0]), (TAIL, "line 32"));
        assert_eq!(lines[TAIL - 2], "token=***, x and ***");
        assert_eq!(lines[TAIL - 1].len(), LINE / 2);
    }
}
