//! What happened in a world, line by line: a digest of all of it, and the text if somebody looks.

use std::fmt::Arguments;
use std::fmt::Write as _;

use landfall_common::Sha256;
use landfall_common::digest::Hasher;

/// The trace of a world.
pub struct Trace {
    hasher: Hasher,
    line: String,
    kept: Option<Vec<String>>,
    lines: u64,
}

impl Trace {
    /// An empty trace; `keep` keeps the text.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hasher: Sha256::hasher(), line: String::new(), kept: keep.then(Vec::new), lines: 0 }
    }

    /// Adds a line.
    pub fn add(&mut self, at_ms: u64, what: Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{:>9}.{:03} {what}", at_ms / 1000, at_ms % 1000);
        self.hasher.update(self.line.as_bytes());
        self.hasher.update(b"\n");
        self.lines += 1;
        if let Some(kept) = &mut self.kept {
            kept.push(self.line.clone());
        }
    }

    /// How many lines there are.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The digest of all lines.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        self.hasher.clone().finish()
    }

    /// The lines, if they were kept.
    #[must_use]
    pub fn take(&mut self) -> Vec<String> {
        self.kept.take().unwrap_or_default()
    }
}
