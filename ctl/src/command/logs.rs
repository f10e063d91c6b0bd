//! `ctl logs`: what a step or a service of a host has written, and with `--follow` what it writes.

use landfall_common::printable;

use super::Session;
use crate::cli::Logs;
use crate::error::{Error, Exit};

pub(super) async fn run(session: &Session, arguments: &Logs) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let (step, service) = (arguments.step.as_ref(), arguments.service.as_ref());
    let mut written =
        client.output(&arguments.host, step, service, arguments.lines, arguments.follow).await?;
    let mut lines = Lines::default();
    while let Some(data) = written.next().await? {
        for line in lines.add(&data) {
            if !show(session, &line) {
                return Ok(Exit::Succeeded);
            }
        }
    }
    if let Some(line) = lines.rest() {
        show(session, &line);
    }
    Ok(Exit::Succeeded)
}

/// Prints a line; `false` once nobody reads any more, as behind `| head`.
fn show(session: &Session, line: &str) -> bool {
    session.output.said(&printable::line(line))
}

/// The longest line that is waited for; a longer one is shown in parts.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Lines out of pieces that are cut anywhere.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn add(&mut self, data: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(data);
        let mut lines = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.0[begin..].iter().position(|byte| *byte == b'\n') {
            lines.push(text(&self.0[begin..begin + length]));
            begin += length + 1;
        }
        self.0.drain(..begin);
        if self.0.len() > MAX_LINE_BYTES {
            lines.extend(self.rest());
        }
        lines
    }

    fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.0);
        (!rest.is_empty()).then(|| text(&rest))
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_wherever_pieces_are_cut() {
        let whole = "one\ntwo ä\r\n\nlast";
        for size in 1..whole.len() {
            let mut lines = Lines::default();
            let mut said = Vec::new();
            for piece in whole.as_bytes().chunks(size) {
                said.extend(lines.add(piece));
            }
            said.extend(lines.rest());
            assert_eq!(said, ["one", "two ä", "", "last"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_shown_in_parts() {
        let mut lines = Lines::default();
        let said: Vec<_> = (0..100).flat_map(|_| lines.add(&[b'x'; 4096])).collect();
        assert!(said.len() > 3 && lines.0.len() <= MAX_LINE_BYTES, "{}", said.len());
    }
}
