//! YAML as a tree that knows its lines, within bounds: no depth, no chain of aliases makes it large.

use std::collections::BTreeMap;

use landfall_common::definition::Diagnostic;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Files that describe deployments are five deep.
const MAX_DEPTH: usize = 64;
/// Aliases are copies: this is what stops a small file from becoming a large tree.
const MAX_NODES: usize = 20_000;

/// A value and the line on which it begins.
#[derive(Debug, Clone)]
pub struct Node {
    /// From 1.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text, number, boolean or nothing: what it means is for who reads it.
    Text(String),
    /// Nothing, or `~`.
    Null,
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The line of the key, from 1.
    pub line: usize,
    /// The key.
    pub key: String,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The entries, if it is a mapping.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The items, if it is a sequence; a single text is a sequence of one.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Text(_) => std::slice::from_ref(self),
            _ => &[],
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Itself in a few words.
    #[must_use]
    pub fn brief(&self) -> String {
        match &self.value {
            Value::Text(text) => text.clone(),
            Value::Null => String::new(),
            Value::List(items) => items.iter().map(Self::brief).collect::<Vec<_>>().join(", "),
            Value::Map(entries) => {
                entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::Text(_) | Value::Null => 1,
            Value::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.node.size()).sum::<usize>(),
        }
    }
}

/// Reads the only document of a file.
///
/// # Errors
/// The first thing that is wrong with it, with its place.
pub fn parse(file: &str, text: &str) -> Result<Node, Box<Diagnostic>> {
    let parser = Parser::new_from_str(text);
    let mut reader = Reader { file, text, parser, anchors: BTreeMap::new(), nodes: 0 };
    let mut document = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            _ if document.is_some() => {
                return Err(reader.wrong(span, "the file has a second document; only one is read", None));
            }
            event => document = Some(reader.node(event, span, 0)?),
        }
    }
    document
        .ok_or_else(|| Box::new(Diagnostic::new(file, text, 0..0, "the file has nothing but comments", None)))
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Box<Diagnostic>> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let message = format!("this is not YAML: {}", error.info());
                Err(self.at(error.marker().index(), message, None))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn wrong(&self, span: Span, message: impl Into<String>, help: Option<String>) -> Box<Diagnostic> {
        self.at(span.start.index(), message, help)
    }

    /// `index` counts characters.
    fn at(&self, index: usize, message: impl Into<String>, help: Option<String>) -> Box<Diagnostic> {
        let start = self.text.char_indices().nth(index).map_or(self.text.len(), |(at, _)| at);
        Box::new(Diagnostic::new(self.file, self.text, start..start + 1, message, help))
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Box<Diagnostic>> {
        self.nodes += nodes;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let message =
            format!("the file has more than {MAX_NODES} values, those that aliases repeat included");
        Err(self.wrong(span, message, None))
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Box<Diagnostic>> {
        if depth > MAX_DEPTH {
            return Err(self.wrong(span, format!("values are nested more than {MAX_DEPTH} deep"), None));
        }
        self.count(1, span)?;
        let line = span.start.line();
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (if is_null { Value::Null } else { Value::Text(text.into_owned()) }, anchor)
            }
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(self.wrong(span, "an alias stands inside of what it names", None));
                };
                self.count(size, span)?;
                return Ok(node);
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, span) => items.push(self.node(event, span, depth + 1)?),
                    }
                }
                (Value::List(items), anchor)
            }
            Event::MappingStart(anchor, _) => (Value::Map(self.mapping(depth)?), anchor),
            _ => return Err(self.wrong(span, "this is not YAML: a value is missing", None)),
        };
        let node = Node { line, value };
        if anchor != 0 {
            let size = node.size();
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<Entry>, Box<Diagnostic>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let key = match key.value {
                Value::Text(text) => text,
                Value::Null => "null".to_owned(),
                _ => return Err(self.wrong(span, "a key is no plain text", None)),
            };
            let (event, value_span) = self.next()?;
            let node = self.node(event, value_span, depth + 1)?;
            if key == "<<" {
                merged.push(node);
                continue;
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let message = format!("{key:?} is there twice, first in line {}", first.line);
                let help =
                    Some("keep one of them: which of the two counts differs from parser to parser".into());
                return Err(self.wrong(span, message, help));
            }
            entries.push(Entry { line: span.start.line(), key, node });
        }
        // What a mapping says itself counts; then the first of those that it takes in.
        for node in merged {
            let sources =
                if matches!(node.value, Value::Map(_)) { vec![node] } else { node.items().to_vec() };
            for entry in sources.iter().flat_map(Node::entries) {
                if entries.iter().all(|own| own.key != entry.key) {
                    entries.push(entry.clone());
                }
            }
        }
        Ok(entries)
    }
}
