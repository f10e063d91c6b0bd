//! What a process wrote, within bounds: the first and the last part are kept, the middle is counted.

use std::collections::VecDeque;

use landfall_common::report::{self, TAIL_LINES};
use serde::{Deserialize, Serialize};

/// How much of the beginning is kept, and how much of the end: 64 KiB each.
pub const KEPT_BYTES: usize = 64 * 1024;

/// A line of a tail is cut here, so that one line leaves room for others.
const LINE_CHARS: usize = 500;

/// Bytes as they come in, in bounded memory.
#[derive(Debug)]
pub struct Capture {
    first: Vec<u8>,
    first_bytes: usize,
    last: VecDeque<u8>,
    last_bytes: usize,
    omitted: u64,
}

impl Default for Capture {
    fn default() -> Self {
        Self::new(KEPT_BYTES, KEPT_BYTES)
    }
}

impl Capture {
    /// Keeps so much of the beginning and so much of the end.
    #[must_use]
    pub fn new(first_bytes: usize, last_bytes: usize) -> Self {
        Self { first: Vec::new(), first_bytes, last: VecDeque::new(), last_bytes, omitted: 0 }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = self.first_bytes - self.first.len();
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.first.extend_from_slice(head);
        // Of a piece larger than the window only its end can remain.
        let (skipped, rest) = rest.split_at(rest.len().saturating_sub(self.last_bytes));
        let surplus = (self.last.len() + rest.len()).saturating_sub(self.last_bytes);
        self.last.drain(..surplus);
        self.last.extend(rest);
        self.omitted += (skipped.len() + surplus) as u64;
    }

    /// What was kept, as text; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn finish(&self) -> Output {
        let last: Vec<u8> = self.last.iter().copied().collect();
        if self.omitted == 0 {
            let whole = [self.first.as_slice(), &last].concat();
            let first = String::from_utf8_lossy(&whole).into_owned();
            return Output { first, omitted_bytes: 0, last: String::new() };
        }
        Output {
            first: String::from_utf8_lossy(&self.first).into_owned(),
            omitted_bytes: self.omitted,
            last: String::from_utf8_lossy(&last).into_owned(),
        }
    }
}

/// What a process wrote to its standard output and error, in the order in which it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The beginning, or all of it if nothing was omitted.
    pub first: String,
    /// How much between `first` and `last` was not kept.
    pub omitted_bytes: u64,
    /// The end, empty if nothing was omitted.
    pub last: String,
}

impl Output {
    /// The last lines, within the bounds of [`report::tail`], without control characters, each of bounded length.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        let text = if self.omitted_bytes == 0 { &self.first } else { &self.last };
        let lines: Vec<&str> = text.lines().collect();
        report::tail(
            lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| printable(line)).collect(),
        )
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.first)?;
        if self.omitted_bytes > 0 {
            write!(f, "\n[{} bytes omitted]\n{}", self.omitted_bytes, self.last)?;
        }
        Ok(())
    }
}

/// A line as it may be printed on a terminal: escape sequences and control characters are gone, so that no
/// output of a step can move the cursor of whoever reads the report.
fn printable(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            '\u{1b}' => {
                // A control sequence ends with its first letter; any other escape is one character long.
                if chars.next() == Some('[') {
                    let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
        if out.chars().count() >= LINE_CHARS {
            out.push('…');
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_its_beginning_and_its_end_and_counts_the_rest() {
        let mut capture = Capture::default();
        capture.push(b"first line\n");
        for _ in 0..100 {
            capture.push(&[b'x'; 10_000]);
        }
        capture.push(b"\nlast line");
        let output = capture.finish();
        assert!(output.first.starts_with("first line\n"));
        assert_eq!(output.last_lines().last().unwrap(), "last line");
        let kept = output.first.len() + output.last.len();
        assert_eq!(usize::try_from(output.omitted_bytes).unwrap() + kept, 11 + 1_000_000 + 10);
        assert_eq!(kept, 2 * KEPT_BYTES);
    }

    #[test]
    fn what_is_not_utf_8_is_replaced_and_not_lost() {
        let mut capture = Capture::default();
        capture.push(b"caf\xe9\n");
        assert_eq!(capture.finish().first, "caf\u{fffd}\n");
    }

    #[test]
    fn a_character_across_two_pieces_is_whole() {
        let mut capture = Capture::default();
        capture.push(&[b'x'; KEPT_BYTES - 1]);
        capture.push("é".as_bytes());
        assert!(capture.finish().first.ends_with('é'));
    }

    #[test]
    fn a_tail_cannot_steer_a_terminal() {
        assert_eq!(printable("\u{1b}[2J\u{1b}[31mred\u{1b}[0m\u{7}\tok"), "red ok");
        assert_eq!(printable(&"a".repeat(2000)).chars().count(), LINE_CHARS + 1);
    }
}
