//! Reads typed values out of TOML tables and gathers what is wrong, so that all of it is shown at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, nearest};
use super::keys;
use crate::ids::InvalidName;
use crate::strategy::Amount;
use crate::time::{Duration, human};

/// A place in the text, in bytes.
pub(super) type Span = Range<usize>;

/// The text being read, and what is wrong with it so far.
pub(super) struct Reader<'t> {
    pub file: &'t str,
    pub text: &'t str,
    pub found: RefCell<Vec<Diagnostic>>,
}

impl Reader<'_> {
    /// Notes something wrong.
    pub fn wrong(&self, span: Span, message: impl Into<String>, help: Option<String>) {
        self.found.borrow_mut().push(Diagnostic::new(self.file, self.text, span, message, help));
    }
}

/// One table of the definition, with its unknown keys already refused.
pub(super) struct Section<'a> {
    pub reader: &'a Reader<'a>,
    /// As it is called in messages, such as `[[service]]`.
    pub title: String,
    /// Where its header stands.
    pub span: Span,
    table: &'a DeTable<'a>,
}

/// A value that was read, with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<'a> Section<'a> {
    /// Takes a table whose keys are those that `listed` names in [`keys::TABLES`].
    pub fn new(
        reader: &'a Reader<'a>,
        listed: &str,
        title: String,
        span: Span,
        table: &'a DeTable<'a>,
    ) -> Self {
        let known = keys::of(listed);
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            let place = if title.is_empty() { "at the top level".to_owned() } else { format!("in {title}") };
            let help = match nearest(name, known.iter().copied()) {
                Some(like) => format!("did you mean `{like}`?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            reader.wrong(key.span(), format!("unknown key `{name}` {place}"), Some(help));
        }
        Self { reader, title, span, table }
    }

    /// Whether the key is there, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the key itself stands, or else the section.
    pub fn key_span(&self, key: &str) -> Span {
        let found = self.table.keys().find(|known| known.get_ref() == key);
        found.map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Says that a key is missing.
    pub fn missing(&self, key: &str, example: &str) {
        let message = format!("{} has no `{key}`", self.title);
        self.reader.wrong(self.span.clone(), message, Some(format!("add `{example}`")));
    }

    /// The value behind a key.
    pub fn value(&self, key: &str) -> Option<At<&'a DeValue<'a>>> {
        self.table.get(key).map(|value| At { value: value.get_ref(), span: value.span() })
    }

    fn mismatch(&self, key: &str, found: &At<&DeValue<'_>>, expected: &str, example: Option<String>) {
        let article = |word: &str| if word.starts_with(['a', 'e', 'i']) { "an" } else { "a" };
        let kind = found.value.type_str();
        let message = format!("`{key}` must be {expected}, not {} {kind}", article(kind));
        self.reader.wrong(found.span.clone(), message, example.map(|text| format!("write `{key} = {text}`")));
    }

    /// A text.
    pub fn string(&self, key: &str) -> Option<At<String>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::String(text) => Some(At { value: text.to_string(), span: found.span }),
            other => {
                let example = match other {
                    DeValue::Integer(number) => Some(format!("\"{number}\"")),
                    DeValue::Boolean(flag) => Some(format!("\"{flag}\"")),
                    _ => None,
                };
                self.mismatch(key, &found, "a string", example);
                None
            }
        }
    }

    /// A name of some kind.
    pub fn name<T>(&self, key: &str, new: impl Fn(String) -> Result<T, InvalidName>) -> Option<At<T>> {
        let text = self.string(key)?;
        match new(text.value.clone()) {
            Ok(value) => Some(At { value, span: text.span }),
            Err(error) => {
                let tamed = tame(&text.value);
                let help = new(tamed.clone()).is_ok().then(|| format!("write `{key} = {tamed:?}`"));
                self.reader.wrong(text.span, error.to_string(), help);
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        let found = self.value(key)?;
        match found.value {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                let example = match other.as_str() {
                    Some(text @ ("true" | "false")) => Some(text.to_owned()),
                    _ => None,
                };
                self.mismatch(key, &found, "true or false", example);
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn integer(&self, key: &str, bounds: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let found = self.value(key)?;
        let DeValue::Integer(number) = found.value else {
            self.mismatch(key, &found, "a whole number", None);
            return None;
        };
        let value = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let value = value.filter(|value| bounds.contains(value));
        if value.is_none() {
            let (low, high) = (bounds.start(), bounds.end());
            let message = if *high == u32::MAX {
                format!("`{key}` is {number}; it must be a whole number, {low} or more")
            } else {
                format!("`{key}` is {number}; it must be from {low} to {high}")
            };
            self.reader.wrong(found.span, message, None);
        }
        value
    }

    /// A duration such as `"10s"`, above zero.
    pub fn duration(&self, key: &str) -> Option<At<Duration>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::String(text) => match human::parse(text) {
                Ok(value) if value.is_zero() => {
                    self.reader.wrong(found.span, format!("`{key}` must be longer than 0s"), None);
                    None
                }
                Ok(value) => Some(At { value, span: found.span }),
                Err(error) => {
                    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                    let help = digits.then(|| format!("write `{key} = \"{text}s\"` for seconds"));
                    self.reader.wrong(found.span, format!("`{key}`: {error}"), help);
                    None
                }
            },
            DeValue::Integer(number) => {
                self.mismatch(key, &found, "a duration with its unit", Some(format!("\"{number}s\"")));
                None
            }
            _ => {
                self.mismatch(key, &found, "a duration such as \"10s\"", None);
                None
            }
        }
    }

    /// A number of hosts, or a share such as `"25%"`.
    pub fn amount(&self, key: &str) -> Option<Amount> {
        let found = self.value(key)?;
        match found.value {
            DeValue::Integer(_) => self.integer(key, 0..=u32::MAX).map(Amount::Count),
            DeValue::String(text) => {
                let share = text.strip_suffix('%').and_then(|number| number.trim().parse::<u32>().ok());
                if share.is_none() {
                    let help = text.parse::<u32>().ok().map(|n| format!("write `{key} = {n}` or \"{n}%\""));
                    let message = format!("`{key}`: {text:?} is neither a number of hosts nor a share");
                    let help = help.or_else(|| Some(format!("write `{key} = 2` or `{key} = \"25%\"`")));
                    self.reader.wrong(found.span, message, help);
                }
                share.map(Amount::Percent)
            }
            _ => {
                self.mismatch(key, &found, "a number of hosts or a share such as \"25%\"", None);
                None
            }
        }
    }

    /// A list of texts, each with its place.
    pub fn strings(&self, key: &str) -> Option<At<Vec<At<String>>>> {
        let found = self.value(key)?;
        let DeValue::Array(items) = found.value else {
            // The commonest slip: a command line as one string.
            let example = found.value.as_str().map(|text| {
                let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
                format!("[{}]", words.join(", "))
            });
            self.mismatch(key, &found, "a list of strings", example);
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(At { value: text.to_string(), span: item.span() }),
                other => {
                    let message =
                        format!("`{key}` must hold strings only, not a value of type {}", other.type_str());
                    let help = other.as_integer().map(|number| format!("write \"{number}\""));
                    self.reader.wrong(item.span(), message, help);
                }
            }
        }
        Some(At { value: texts, span: found.span })
    }

    /// A table of texts.
    pub fn map(&self, key: &str) -> Option<BTreeMap<String, At<String>>> {
        let found = self.value(key)?;
        let DeValue::Table(table) = found.value else {
            self.mismatch(key, &found, "a table of strings", Some("{ NAME = \"value\" }".to_owned()));
            return None;
        };
        let mut map = BTreeMap::new();
        for (name, value) in table {
            match value.get_ref() {
                DeValue::String(text) => {
                    let at = At { value: text.to_string(), span: name.span().start..value.span().end };
                    map.insert(name.get_ref().to_string(), at);
                }
                other => {
                    let name = name.get_ref();
                    let kind = other.type_str();
                    let message = format!("`{name}` in `{key}` must be a string, not a value of type {kind}");
                    let help = match other {
                        DeValue::Integer(number) => Some(format!("write `{name} = \"{number}\"`")),
                        DeValue::Boolean(flag) => Some(format!("write `{name} = \"{flag}\"`")),
                        _ => None,
                    };
                    self.reader.wrong(value.span(), message, help);
                }
            }
        }
        Some(map)
    }

    /// A table under a key: `[key]`, or inline.
    pub fn table(&self, key: &str, listed: &str, title: &str) -> Option<Section<'a>> {
        let found = self.value(key)?;
        match found.value {
            DeValue::Table(table) => {
                Some(Section::new(self.reader, listed, title.to_owned(), found.span, table))
            }
            DeValue::Array(_) => {
                let help = Some(format!("write `[{key}]`, once"));
                self.reader.wrong(found.span, format!("`{key}` must be one table, not several"), help);
                None
            }
            _ => {
                self.mismatch(key, &found, "a table", None);
                None
            }
        }
    }

    /// The tables `[[key]]`.
    pub fn tables(&self, key: &str, title: &str) -> Vec<Section<'a>> {
        let Some(found) = self.value(key) else { return Vec::new() };
        let wrong = |span| {
            let help = Some(format!("write `{title}` above each"));
            self.reader.wrong(span, format!("`{key}` must be a list of tables"), help);
        };
        let DeValue::Array(items) = found.value else {
            wrong(found.span);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(table) => {
                    let title = title.to_owned();
                    sections.push(Section::new(
                        self.reader,
                        title.clone().as_str(),
                        title,
                        item.span(),
                        table,
                    ));
                }
                _ => wrong(item.span()),
            }
        }
        sections
    }

    /// Every table below `key`, by its own name.
    pub fn named_tables(&self, key: &str, listed: &str) -> Vec<(At<String>, Section<'a>)> {
        let Some(found) = self.value(key) else { return Vec::new() };
        let DeValue::Table(table) = found.value else {
            self.mismatch(key, &found, "a table for each name", None);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, value) in table {
            let at = At { value: name.get_ref().to_string(), span: name.span() };
            match value.get_ref() {
                DeValue::Table(inner) => {
                    let title = format!("[{key}.{}]", at.value);
                    let section = Section::new(self.reader, listed, title, value.span(), inner);
                    sections.push((at, section));
                }
                _ => {
                    let message = format!("`{}` must be a table", at.value);
                    let help = Some(format!("write `[{key}.{}]`", at.value));
                    self.reader.wrong(value.span(), message, help);
                }
            }
        }
        sections
    }
}

/// The name that was probably meant, in the characters that every kind of name takes.
pub(super) fn tame(name: &str) -> String {
    let tame = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(tame).collect::<String>().trim_matches('-').to_owned()
}
