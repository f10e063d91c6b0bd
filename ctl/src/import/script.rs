//! Ruby and Python as trees that know their lines. Nothing is run: what only running could tell stays unknown.
//!
//! One parser for both, and one that goes on after what it does not understand: most fabfiles that are still about are of
//! Python 2.

use std::ops::ControlFlow;

use landfall_common::definition::Diagnostic;
use tree_sitter::{ParseOptions, ParseState, Parser, Tree};

/// A node of a tree.
pub type Node<'t> = tree_sitter::Node<'t>;

/// How deep trees are looked into: scripts that people write are twenty deep.
pub const MAX_DEPTH: usize = 120;
/// How often the parser reports before it is given up. It does so every hundred steps, and needs a few for a line.
const MAX_REPORTS: usize = 20_000;

/// In what a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Capistrano's.
    Ruby,
    /// Fabric's.
    Python,
}

/// A file that was parsed.
pub struct Script<'s> {
    /// Its name, relative to the repository.
    pub name: &'s str,
    text: &'s str,
    tree: Tree,
}

impl<'s> Script<'s> {
    /// Parses a file.
    ///
    /// # Errors
    /// If it is so far from the language that the parser would not come to an end soon.
    pub fn parse(language: Language, name: &'s str, text: &'s str) -> Result<Self, Box<Diagnostic>> {
        let mut parser = Parser::new();
        let grammar = match language {
            Language::Ruby => tree_sitter_ruby::LANGUAGE,
            Language::Python => tree_sitter_python::LANGUAGE,
        };
        parser.set_language(&grammar.into()).expect("parser and grammars are of versions that fit");
        let mut reports = 0;
        let mut progress = |_: &ParseState| {
            reports += 1;
            if reports > MAX_REPORTS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = ParseOptions::new().progress_callback(&mut progress);
        let bytes = text.as_bytes();
        let mut read = |at: usize, _| bytes.get(at..).unwrap_or_default();
        let tree = parser.parse_with_options(&mut read, None, Some(options));
        let said = || {
            let message = format!("this is not {language:?}: the parser was given up");
            Box::new(Diagnostic::new(name, text, 0..text.len().min(1), message, None))
        };
        Ok(Self { name, text, tree: tree.ok_or_else(said)? })
    }

    /// The whole file.
    #[must_use]
    pub fn root(&self) -> Node<'_> {
        self.tree.root_node()
    }

    /// What stands in the file.
    #[must_use]
    pub fn text(&self, node: Node<'_>) -> &'s str {
        self.text.get(node.byte_range()).unwrap_or_default()
    }

    /// The line of a node, from 1.
    #[must_use]
    pub fn line(&self, node: Node<'_>) -> usize {
        node.start_position().row + 1
    }

    /// The lines that were not understood, the outermost ones.
    #[must_use]
    pub fn mistakes(&self) -> Vec<usize> {
        let mut lines = Vec::new();
        let mut open = vec![(self.root(), 0)];
        while let Some((node, depth)) = open.pop() {
            if node.is_error() || node.is_missing() {
                lines.push(self.line(node));
            } else if node.has_error() && depth < MAX_DEPTH {
                open.extend(children(node).into_iter().map(|child| (child, depth + 1)));
            }
        }
        lines.sort_unstable();
        lines.dedup();
        lines
    }
}

/// The children that have a meaning.
#[must_use]
pub fn children(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).filter(|child| child.kind() != "comment").collect()
}

/// What a backslash in a text stands for, as far as commands need it.
#[must_use]
pub fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('t')) => out.push('\t'),
            ('\\', Some('\n')) => {}
            ('\\', Some(next @ ('\\' | '\'' | '"'))) => out.push(next),
            ('\\', Some(next)) => out.extend(['\\', next]),
            (c, _) => out.push(c),
        }
    }
    out
}

/// A value that only running could tell, in a command: no shell would find a variable of that name either.
#[must_use]
pub fn unknown(name: &str) -> String {
    let tame: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect();
    let tame = tame.trim_matches('_');
    format!("${{{}}}", if tame.is_empty() { "value" } else { tame })
}
