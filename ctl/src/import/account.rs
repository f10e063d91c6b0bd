//! The account of an import: what was carried over and to where, what was not and why, what is left to decide.

use std::fmt;

use serde::Serialize;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file, relative to the repository.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl Place {
    /// A line of a file.
    #[must_use]
    pub fn new(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something that has its place in the definition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Carried {
    /// Where it stood.
    pub from: Place,
    /// What it was.
    pub what: String,
    /// The table and key that it became.
    pub to: String,
}

/// Something that the definition does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Left {
    /// Where it stands.
    pub from: Place,
    /// What it is.
    pub what: String,
    /// Why it was left.
    pub why: String,
    /// What to do instead.
    pub instead: String,
}

/// Something that only people know. The definition has a safe value, or a comment marked `DECIDE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Open {
    /// The table and key.
    pub key: String,
    /// What is to be decided.
    pub what: String,
    /// What raises the question.
    pub from: Option<Place>,
}

/// The whole account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// What was carried over.
    pub carried: Vec<Carried>,
    /// What was not.
    pub left: Vec<Left>,
    /// What is to be decided.
    pub open: Vec<Open>,
}

impl Account {
    /// `what` became `to`.
    pub fn carried(&mut self, from: &Place, what: impl Into<String>, to: impl Into<String>) {
        let (what, to) = (plain(&what.into()), plain(&to.into()));
        self.carried.push(Carried { from: from.clone(), what, to });
    }

    /// `what` was left.
    pub fn left(
        &mut self,
        from: &Place,
        what: impl Into<String>,
        why: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let (what, why, instead) = (plain(&what.into()), why.into(), instead.into());
        self.left.push(Left { from: from.clone(), what, why, instead });
    }

    /// `key` is to be decided.
    pub fn open(&mut self, from: Option<&Place>, key: impl Into<String>, what: impl Into<String>) {
        let open = Open { key: key.into(), what: what.into(), from: from.cloned() };
        if !self.open.contains(&open) {
            self.open.push(open);
        }
    }

    /// Brings the account into the order of the file, each line of it once.
    pub fn settle(&mut self) {
        self.carried.sort();
        self.carried.dedup();
        self.left.sort();
        self.left.dedup();
    }
}

/// How much of a source is quoted.
const QUOTED: usize = 160;

/// A text of a source on one line, without what a terminal would obey.
#[must_use]
pub fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let text = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(QUOTED) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
