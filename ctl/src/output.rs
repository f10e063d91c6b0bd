//! Everything that `ctl` prints, and nothing else prints.
//!
//! Results go to stdout: tables and sentences for people, or with `-o json` one JSON object with its format's
//! version. What happens on the way goes to stderr: live on a terminal; off one, only changes and a
//! heartbeat line. NO_COLOR is honoured.

pub mod format;
pub mod live;
pub mod progress;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use landfall_common::printable;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Exit};

/// The version of everything that `-o json` prints. It grows when a change would break a reader.
pub const JSON_VERSION: u32 = 1;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one object, with a `version`.
    Json,
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It is well.
    Good,
    /// It failed.
    Bad,
    /// It needs a look.
    Warning,
    /// Less important.
    Faint,
}

/// Where and how to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    format: Format,
    /// Whether stderr is a terminal: then views may be live.
    live: bool,
    colour: bool,
    width: Option<u16>,
}

impl Output {
    /// By the streams of this process and NO_COLOR.
    #[must_use]
    pub fn of_process(format: Format) -> Self {
        let terminal = |is: bool| is && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            format,
            live: terminal(io::stderr().is_terminal()),
            colour: colour && terminal(io::stdout().is_terminal()),
            // Off a terminal a table is as wide as its content: programs like grep read it by lines.
            width: None,
        }
    }

    /// Plain text without colour or live views, for tests.
    #[must_use]
    pub fn plain() -> Self {
        Self { format: Format::Table, live: false, colour: false, width: None }
    }

    /// Whether results are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether views may be live.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Prints one line of a result; nothing when results are JSON.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.is_json() {
            self.out(text.as_ref());
        }
    }

    /// Prints a result as JSON: `{"version": 1, key: value}`; nothing when results are for people.
    pub fn json(&self, key: &str, value: &impl Serialize) {
        if self.is_json() {
            self.out(&envelope(key, value));
        }
    }

    /// Prints a line of somebody's output: by itself, or as `{"version": 1, "line": …}`. `false` once nobody reads it.
    #[must_use = "whoever prints for ever has to stop"]
    pub fn said(&self, line: &str) -> bool {
        let wrapped = self.is_json().then(|| envelope("line", &line));
        writeln!(io::stdout(), "{}", wrapped.as_deref().unwrap_or(line)).is_ok()
    }

    /// Prints something that is not a result.
    pub fn note(&self, text: impl AsRef<str>) {
        // A reader that has gone away is no reason to fail.
        let _ = writeln!(io::stderr(), "{}", text.as_ref());
    }

    /// Prints bytes as they are.
    pub fn raw(&self, bytes: &[u8]) {
        let _ = io::stdout().write_all(bytes);
    }

    fn out(&self, text: &str) {
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// The text in a colour, where colours are wanted.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if self.colour { painted(tone, text) } else { text.to_owned() }
    }

    /// Prints a table; nothing when results are JSON.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<String>>) {
        if !self.is_json() {
            self.out(&table(header, rows, self.width));
        }
    }

    /// Prints why a command failed, and what to do next.
    pub fn error(&self, error: &Error) {
        if self.is_json() {
            self.out(&envelope("error", &error_value(error)));
        }
        self.note(error_text(error, self.live && self.colour));
    }

    /// Asks a question that is answered with yes or no; off a terminal nobody can answer.
    ///
    /// # Errors
    /// [`Error::Usage`] off a terminal, [`Error::Declined`].
    pub fn confirm(&self, question: &str) -> Result<(), Error> {
        self.confirm_or(question, "repeat the command with --yes")
    }

    /// Refuses a question that nobody will be able to answer, before what leads to it is done.
    ///
    /// # Errors
    /// [`Error::Usage`] off a terminal.
    pub fn check_answerable(&self, question: &str, next: &str) -> Result<(), Error> {
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            return Ok(());
        }
        Err(Error::usage(format!("{question} There is nobody to say yes: this is not a terminal"), next))
    }

    /// As [`Output::confirm`], with other words on what to do where nobody can answer.
    ///
    /// # Errors
    /// [`Error::Usage`] off a terminal, [`Error::Declined`].
    pub fn confirm_or(&self, question: &str, next: &str) -> Result<(), Error> {
        self.check_answerable(question, next)?;
        let _ = write!(io::stderr(), "{question} [y/N] ");
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        match (read, answer.trim()) {
            (Ok(_), "y" | "Y" | "yes") => Ok(()),
            _ => Err(Error::Declined),
        }
    }
}

fn painted(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warning => "33",
        Tone::Faint => "2",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// The JSON form of a result.
#[must_use]
pub fn envelope(key: &str, value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    let mut object = json!({ "version": JSON_VERSION });
    object[key] = value;
    serde_json::to_string_pretty(&object).unwrap_or_default()
}

/// The JSON form of an error.
#[must_use]
pub fn error_value(error: &Error) -> Value {
    json!({
        "kind": error.kind(),
        "message": chain(error),
        "details": error.details(),
        "next": error.next(),
        "exit_code": error.exit() as u8,
    })
}

/// A message and the causes behind it, on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// An error for people: what and why, its details, the next command.
#[must_use]
pub fn error_text(error: &Error, colour: bool) -> String {
    let label = if colour { painted(Tone::Bad, "error:") } else { "error:".to_owned() };
    // It may name what somebody else has written into a file.
    let mut text = format!("{label} {}", printable::lines(&chain(error)));
    for detail in error.details() {
        for line in detail.lines() {
            text.push_str("\n  ");
            text.push_str(line);
        }
    }
    if let Some(next) = error.next() {
        text.push_str("\nnext:  ");
        text.push_str(&next);
    }
    text
}

/// A table as text.
#[must_use]
pub fn table(header: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    table.add_rows(rows);
    let last = header.len().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The exit codes, as `ctl help exit-codes` prints them.
pub const EXIT_CODES: &[(Exit, &str)] = &[
    (Exit::Succeeded, "succeeded: what was asked is done; for a rollout, on every host"),
    (Exit::Failed, "failed: a build, a refused step, a rollout that ended without reaching every host"),
    (Exit::Usage, "usage: asked wrongly, or of something that does not exist; nothing was changed"),
    (Exit::RolledBack, "rolled back: the release failed and the hosts are back on the one before"),
    (
        Exit::StillRunning,
        "still running: --wait has passed, Ctrl-C detached, or (off a terminal) it is paused for a minute",
    ),
    (
        Exit::LockHeld,
        "held: another rollout (or build) has the place, a lock is on it, or it is not the time for it; the message says more",
    ),
    (Exit::Unauthorised, "unauthorised: no certificate, a damaged or expired one, or too low a role"),
    (Exit::Unreachable, "unreachable: the controller does not answer, or is not the one that was pinned"),
];

#[cfg(test)]
mod tests;
