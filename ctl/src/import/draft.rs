//! A definition that is being written: tables with comments that say where each comes from.
//!
//! What cannot be known is a comment that begins with `DECIDE:`. A table that would do harm as it stands is written as
//! a comment as a whole.

use std::collections::BTreeSet;

use landfall_common::ids::StepName;
use landfall_common::words;

use super::account::{Place, plain};

/// How wide comments are.
const WIDTH: usize = 110;

/// The tables in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// `[[build]]`
    Build,
    /// `[[prepare]]`
    Prepare,
    /// `[migrate]`
    Migrate,
    /// `[[service]]`
    Service,
    /// `[traffic]`
    Traffic,
    /// `[[check]]`
    Check,
    /// `[[smoke]]`
    Smoke,
    /// `[shared]`
    Shared,
    /// `[environment.NAME]`
    Environment,
    /// `[retention]`
    Retention,
}

enum Line {
    Key(String),
    Comment(String),
}

/// A table.
pub struct Section {
    table: Table,
    header: String,
    above: Vec<String>,
    lines: Vec<Line>,
    is_comment: bool,
}

impl Section {
    /// An empty table that was made from a line of the source.
    #[must_use]
    pub fn new(table: Table, from: &Place, what: &str) -> Self {
        Self::noted(table, &format!("From {from}: {}", plain(what)))
    }

    /// An empty table with a comment above.
    #[must_use]
    pub fn noted(table: Table, note: &str) -> Self {
        let header = match table {
            Table::Build => "[[build]]",
            Table::Prepare => "[[prepare]]",
            Table::Migrate => "[migrate]",
            Table::Service => "[[service]]",
            Table::Traffic => "[traffic]",
            Table::Check => "[[check]]",
            Table::Smoke => "[[smoke]]",
            Table::Shared => "[shared]",
            Table::Environment => "[environment.production]",
            Table::Retention => "[retention]",
        };
        let above = if note.is_empty() { Vec::new() } else { vec![note.to_owned()] };
        Self { table, header: header.to_owned(), above, lines: Vec::new(), is_comment: false }
    }

    /// `[environment.NAME]`.
    #[must_use]
    pub fn environment(name: &str, note: &str) -> Self {
        Self { header: format!("[environment.{name}]"), ..Self::noted(Table::Environment, note) }
    }

    /// Another comment above.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        self.above.push(note.to_owned());
        self
    }

    /// Something to decide about the whole table, above it.
    #[must_use]
    pub fn decide_above(self, what: &str) -> Self {
        self.note(&format!("DECIDE: {what}"))
    }

    /// A key.
    #[must_use]
    pub fn key(mut self, key: &str, value: impl Into<toml::Value>) -> Self {
        self.lines.push(Line::Key(format!("{key} = {}", one_line(&value.into()))));
        self
    }

    /// A key, if there is a value for it.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<impl Into<toml::Value>>) -> Self {
        match value {
            Some(value) => self.key(key, value),
            None => self,
        }
    }

    /// A key in other words than those of a value: an inline table.
    #[must_use]
    pub fn raw(mut self, line: &str) -> Self {
        self.lines.push(Line::Key(line.to_owned()));
        self
    }

    /// A command.
    #[must_use]
    pub fn command(self, key: &str, argv: &[impl AsRef<str>]) -> Self {
        let argv: Vec<String> = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        self.key(key, argv)
    }

    /// A comment between the keys.
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        self.lines.push(Line::Comment(text.to_owned()));
        self
    }

    /// Something to decide between the keys.
    #[must_use]
    pub fn decide(self, what: &str) -> Self {
        self.comment(&format!("DECIDE: {what}"))
    }

    /// The table is written as a comment.
    #[must_use]
    pub fn commented_out(mut self) -> Self {
        self.is_comment = true;
        self
    }

    fn write(&self, out: &mut String) {
        out.push('\n');
        for note in &self.above {
            wrapped(note, "# ", out);
        }
        let prefix = if self.is_comment { "# " } else { "" };
        out.push_str(&format!("{prefix}{}\n", self.header));
        for line in &self.lines {
            match line {
                Line::Key(text) => out.push_str(&format!("{prefix}{text}\n")),
                Line::Comment(text) => wrapped(text, "# ", out),
            }
        }
    }
}

/// The definition so far.
#[derive(Default)]
pub struct Draft {
    sections: Vec<Section>,
    taken: BTreeSet<String>,
}

impl Draft {
    /// Adds a table.
    pub fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// Whether there is such a table that is not a comment.
    #[must_use]
    pub fn has(&self, table: Table) -> bool {
        self.sections.iter().any(|section| section.table == table && !section.is_comment)
    }

    /// Whether there is a table with this header.
    #[must_use]
    pub fn has_header(&self, header: &str) -> bool {
        self.sections.iter().any(|section| section.header == header)
    }

    /// A name like this one that nothing else in the definition has.
    #[must_use]
    pub fn name(&mut self, like: &str) -> String {
        let tame = tame(like);
        let stem = StepName::new(tame).map_or_else(|_| "step".to_owned(), |name| name.to_string());
        let reserved = ["migrate", "migrate-down"];
        let mut name = stem.clone();
        let mut number = 2;
        while reserved.contains(&name.as_str()) || self.taken.contains(&name) {
            let suffix = format!("-{number}");
            name = format!("{}{suffix}", &stem[..stem.len().min(60)]);
            number += 1;
        }
        self.taken.insert(name.clone());
        name
    }

    /// The definition as text.
    #[must_use]
    pub fn render(mut self, head: &[String], application: &str, about_name: &str) -> String {
        let mut out = String::new();
        for line in head {
            wrapped(line, "# ", &mut out);
        }
        out.push_str("\n[application]\n");
        let about =
            about_name.chars().next().map(|first| first.to_uppercase().chain(about_name.chars().skip(1)));
        wrapped(&about.map(Iterator::collect::<String>).unwrap_or_default(), "# ", &mut out);
        out.push_str(&format!("name = {}\n", one_line(&application.into())));
        // Stable: steps keep the order in which they were found.
        self.sections.sort_by(|a, b| (a.table, &a.header).cmp(&(b.table, &b.header)));
        self.sections.iter().for_each(|section| section.write(&mut out));
        out
    }
}

/// Lower-case letters, digits, `-` and `_`, as names have them, and at most as long.
#[must_use]
pub fn tame(text: &str) -> String {
    let tame = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
    let text: String = text.to_lowercase().chars().map(tame).collect();
    let text: String = text.trim_matches(['-', '_']).chars().take(60).collect();
    text.trim_end_matches(['-', '_']).to_owned()
}

/// A text of the source as it has to be written where words are replaced: what looks like one stays what it is.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let length = from.find('}').map_or(1, |close| close + 1);
        let is_word =
            matches!(words::parts(&from[..length])[..], [words::Part::Word(_)]) && !out.ends_with('$');
        if is_word {
            out.push_str(&format!("{{{}}}", &from[..length]));
            rest = &from[length..];
        } else {
            out.push('{');
            rest = &from[1..];
        }
    }
    out + rest
}

/// A value on one line, whatever it holds.
#[must_use]
pub fn one_line(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => quoted(text),
        toml::Value::Array(items) => {
            format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", "))
        }
        toml::Value::Table(entries) if entries.is_empty() => "{}".to_owned(),
        toml::Value::Table(entries) => {
            let bare = |key: &str| {
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            };
            let entry = |(key, value): (&String, &toml::Value)| {
                let key = if bare(key) { key.clone() } else { quoted(key) };
                format!("{key} = {}", one_line(value))
            };
            format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A comment in lines of a readable width.
pub(super) fn wrapped(text: &str, prefix: &str, out: &mut String) {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() && line.chars().count() + word.chars().count() >= WIDTH - prefix.len() {
            out.push_str(&format!("{prefix}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("{prefix}{line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_literal_stays_what_it_was(text in "[{}$ab_ -]{0,14}") {
            let expanded = words::expand(&literal(&text), |_| None);
            proptest::prop_assert_eq!(expanded, Ok(text));
        }

        #[test]
        fn a_value_is_read_as_it_was_written(text in "\\PC{0,8}[\u{0}-\u{20}\"\\\\\u{7f}]{0,8}") {
            let line = format!("a = {}", one_line(&toml::Value::from(text.as_str())));
            let read: toml::Table = line.parse().unwrap();
            proptest::prop_assert_eq!(read["a"].as_str(), Some(text.as_str()));
            proptest::prop_assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn names_are_never_used_twice() {
        let mut draft = Draft::default();
        let names = ["Web!", "web", "web-2", "migrate", "", "ö"].map(|like| draft.name(like));
        assert_eq!(names, ["web", "web-2", "web-2-2", "migrate-2", "step", "step-2"]);
    }
}
