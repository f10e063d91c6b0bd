//! The text format in which applications show their metrics to Prometheus (exposition format 0.0.4): its samples, line by
//! line, and nothing kept of what nobody asks for.
//!
//! What a family is (`# TYPE`, `# HELP`) is passed over: whoever asks for a series says of which kind it is. A text that has
//! one line which is no sample is rubbish as a whole: half of an answer would count as all of it.

pub mod series;
pub mod source;

use std::borrow::Cow;

use thiserror::Error;

/// One line that is a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'t> {
    /// Such as `http_requests_total`.
    pub name: &'t str,
    /// As they stand there.
    pub labels: Vec<(&'t str, Cow<'t, str>)>,
    /// Any number, `NaN` and the infinite ones included.
    pub value: f64,
}

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line} is no sample: {reason}")]
pub struct Rubbish {
    /// Counted from 1.
    pub line: usize,
    /// Why.
    pub reason: &'static str,
}

/// The samples of a text, in its order. After an error nothing of it is to be believed.
pub fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, Rubbish>> {
    text.split('\n').enumerate().filter_map(|(at, line)| {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        Some(sample(line).map_err(|reason| Rubbish { line: at + 1, reason }))
    })
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, rest) = word(line, |byte| byte == b':').ok_or("it does not begin with a name")?;
    let rest = rest.trim_start_matches(BLANKS);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split(BLANKS).filter(|word| !word.is_empty());
    let value = number(words.next().ok_or("it has no value")?).ok_or("its value is no number")?;
    if let Some(timestamp) = words.next()
        && timestamp.parse::<i64>().is_err()
    {
        return Err("what follows its value is no timestamp");
    }
    if words.next().is_some() {
        return Err("something follows its timestamp");
    }
    Ok(Sample { name, labels, value })
}

const BLANKS: [char; 2] = [' ', '\t'];

/// A name, and what follows it.
fn word(text: &str, also: impl Fn(u8) -> bool) -> Option<(&str, &str)> {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
    let is_part = |byte: &u8| is_first(*byte) || byte.is_ascii_digit();
    if !text.bytes().next().is_some_and(is_first) {
        return None;
    }
    Some(text.split_at(text.bytes().take_while(is_part).count()))
}

type Labels<'t> = Vec<(&'t str, Cow<'t, str>)>;

/// What stands in braces, the first of which has been read.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, after) = word(rest, |_| false).ok_or("a label has no name")?;
        let after = after.trim_start_matches(BLANKS).strip_prefix('=').ok_or("a label has no value")?;
        let after =
            after.trim_start_matches(BLANKS).strip_prefix('"').ok_or("a label's value is not quoted")?;
        let (value, after) = quoted(after)?;
        if labels.iter().any(|(known, _)| *known == name) {
            return Err("a label stands there twice");
        }
        labels.push((name, value));
        let after = after.trim_start_matches(BLANKS);
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => return Err("its labels do not end"),
        };
    }
}

/// Up to the closing quote, without the escapes.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let end = text.find(['"', '\\']).ok_or("a label's value does not end")?;
    if text.as_bytes()[end] == b'"' {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut letters = text[end..].char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Cow::Owned(value), &text[end + at + 1..])),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            letter => value.push(letter),
        }
    }
    Err("a label's value does not end")
}

/// As Go and Python read them, but for underscores and hexadecimal digits, which nobody writes.
fn number(word: &str) -> Option<f64> {
    let digits = word.trim_start_matches(['+', '-']);
    let is_word = ["inf", "infinity", "nan"].iter().any(|known| digits.eq_ignore_ascii_case(known));
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if is_word || is_number { word.parse().ok() } else { None }
}
