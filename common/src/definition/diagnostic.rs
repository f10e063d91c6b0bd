//! What is wrong with a definition: where, the offending line, and what to write instead.

use std::fmt;
use std::ops::Range;

/// How many characters of a line are worth showing: a file of one line may have a hundred thousand.
const SHOWN: usize = 160;

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The name of the file, as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// What to write instead, or what else to do.
    pub help: Option<String>,
    /// The offending line.
    pub source_line: String,
    /// How many characters of it are meant, from `column` on; at least 1.
    pub width: usize,
}

impl Diagnostic {
    /// A diagnostic for the bytes `span` of `text`. What lies beyond the first line is not marked.
    #[must_use]
    pub fn new(
        file: &str,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Self {
        // The parser places an error at the end of the file behind its last byte, and could in principle
        // split a character: a message is worth more than an exact place.
        let start = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (span.end.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let marked = &text[start..end.unwrap_or(line_end).clamp(start, line_end)];
        Self {
            file: file.to_owned(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            message: message.into(),
            help,
            source_line: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width: marked.trim_end().chars().count().max(1),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // A tab is printed as one space, so that the caret stands below what it means. Of a long line, what is around it.
        let skipped = if self.column > SHOWN { self.column - SHOWN / 2 } else { 0 };
        let shown = self.source_line.chars().skip(skipped).take(SHOWN + SHOWN / 2);
        let line: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (before, width) = (self.column - 1 - skipped, self.width.min(SHOWN / 2));
        writeln!(f, "  {number} | {line}")?;
        write!(f, "  {margin} | {}{}", " ".repeat(before), "^".repeat(width))?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// The known word that is most like `word`, if one is like it at all.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let like = |candidate: &str| strsim::jaro_winkler(&word.to_lowercase(), candidate);
    known
        .into_iter()
        .map(|candidate| (like(candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_counted_in_characters_and_stays_on_its_line() {
        let text = "a = 1\nö = \"é\ny";
        let diagnostic = Diagnostic::new("f", text, 11..text.len(), "no", None);
        assert_eq!((diagnostic.line, diagnostic.column, diagnostic.width), (2, 5, 2));
        assert_eq!(diagnostic.to_string(), "f:2:5: no\n  2 | ö = \"é\n    |     ^^");
    }

    #[test]
    fn of_a_long_line_what_is_around_the_mistake_is_shown() {
        let text = format!("{}x{}", "a".repeat(100_000), "b".repeat(100_000));
        let shown = Diagnostic::new("f", &text, 100_000..100_001, "no", None).to_string();
        assert!(shown.len() < 600, "{}", shown.len());
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "f:1:100001: no");
        assert_eq!(lines[1].find('x'), lines[2].find('^'));
    }

    proptest::proptest! {
        #[test]
        fn no_span_is_a_panic(text in "[a-zé\n\t]{0,12}", start in 0..20usize, length in 0..20usize) {
            let _ = Diagnostic::new("f", &text, start..start + length, "no", None).to_string();
        }
    }

    #[test]
    fn a_suggestion_is_made_only_for_what_is_alike() {
        assert_eq!(nearest("comand", ["command", "name"]), Some("command"));
        assert_eq!(nearest("zzz", ["command", "name"]), None);
    }
}
