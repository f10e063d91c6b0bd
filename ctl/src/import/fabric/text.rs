//! Python's texts, as far as they are written down: formats and variables followed, the rest `${name}`.

use std::collections::BTreeMap;

use super::super::script::{Node, Script, children, unescaped, unknown};

/// What a chain of variables may be deep.
const MAX_DEPTH: usize = 24;
/// No command is so long; variables that hold one another double with each line.
const MAX_TEXT: usize = 8192;

/// A variable.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// Its text, if it has one.
    pub text: Option<String>,
    /// Where it was given.
    pub line: usize,
    /// What stands there.
    pub source: String,
}

/// Variables by name; those of Fabric 1's `env` are `env.name`.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope(BTreeMap<String, Value>);

impl Scope {
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.text.as_deref()
    }

    /// An assignment, if the node is one; `env.update(…)` is several.
    pub(super) fn assign(&mut self, script: &Script<'_>, node: Node<'_>) {
        if node.kind() == "call" && script.text(node).starts_with("env.update(") {
            let arguments = node.child_by_field_name("arguments").map(children).unwrap_or_default();
            for one in arguments.into_iter().filter(|one| one.kind() == "keyword_argument") {
                let name = one.child_by_field_name("name").map(|name| format!("env.{}", script.text(name)));
                if let (Some(name), Some(value)) = (name, one.child_by_field_name("value")) {
                    self.insert(script, name, value);
                }
            }
            return;
        }
        if node.kind() != "assignment" {
            return;
        }
        if let (Some(left), Some(right)) =
            (node.child_by_field_name("left"), node.child_by_field_name("right"))
        {
            self.define(script, left, right);
        }
    }

    /// `name = value`.
    pub(super) fn define(&mut self, script: &Script<'_>, left: Node<'_>, right: Node<'_>) {
        if let Some(name) = variable(script, left) {
            self.insert(script, name, right);
        }
    }

    /// A parameter that is given a value.
    pub(super) fn bind(&mut self, script: &Script<'_>, name: &str, value: Node<'_>, of: &Self) {
        if let Some(text) = known(script, value, of, 0).filter(|text| text.len() <= MAX_TEXT) {
            let value =
                Value { text: Some(text), line: script.line(value), source: script.text(value).to_owned() };
            self.0.insert(name.to_owned(), value);
        }
    }

    fn insert(&mut self, script: &Script<'_>, name: String, right: Node<'_>) {
        let text = known(script, right, self, 0).filter(|text| text.len() <= MAX_TEXT);
        let value = Value { text, line: script.line(right), source: script.text(right).to_owned() };
        self.0.insert(name, value);
    }
}

/// The name of a variable: `x`, `env.x`, `env['x']`.
fn variable(script: &Script<'_>, node: Node<'_>) -> Option<String> {
    match node.kind() {
        "identifier" | "attribute" => Some(script.text(node).to_owned()),
        "subscript" => {
            let of = script.text(node.child_by_field_name("value")?);
            let key = script.text(node.child_by_field_name("subscript")?);
            Some(format!("{of}.{}", key.trim_matches(['"', '\''])))
        }
        _ => None,
    }
}

/// A text; what is not known of it shows as `${name}`.
pub(super) fn resolve(script: &Script<'_>, node: Node<'_>, scope: &Scope) -> String {
    let text = known(script, node, scope, 0).unwrap_or_else(|| placeholder(script, node));
    match text.char_indices().nth(MAX_TEXT) {
        Some((at, _)) => text[..at].to_owned(),
        None => text,
    }
}

/// Whether an expression is known to be a text.
pub(super) fn is_text(script: &Script<'_>, node: Node<'_>, scope: &Scope) -> bool {
    known(script, node, scope, 0).is_some()
}

fn placeholder(script: &Script<'_>, node: Node<'_>) -> String {
    unknown(script.text(node))
}

fn part(script: &Script<'_>, node: Node<'_>, scope: &Scope, depth: usize) -> String {
    known(script, node, scope, depth + 1).unwrap_or_else(|| placeholder(script, node))
}

/// The text of an expression, if it is one.
fn known(script: &Script<'_>, node: Node<'_>, scope: &Scope, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return None;
    }
    match node.kind() {
        "string" => Some(string(script, node, scope, depth)),
        "concatenated_string" => {
            Some(children(node).into_iter().map(|one| part(script, one, scope, depth)).collect())
        }
        "parenthesized_expression" => {
            let [only] = children(node)[..] else { return None };
            known(script, only, scope, depth + 1)
        }
        "integer" => Some(script.text(node).to_owned()),
        "identifier" | "attribute" | "subscript" => scope.text(&variable(script, node)?).map(str::to_owned),
        "binary_operator" => {
            let left = node.child_by_field_name("left")?;
            let right = node.child_by_field_name("right")?;
            match script.text(node.child_by_field_name("operator")?) {
                "+" => Some(part(script, left, scope, depth) + &part(script, right, scope, depth)),
                "%" => Some(percent(script, &known(script, left, scope, depth + 1)?, right, scope, depth)),
                "/" => {
                    let right = part(script, right, scope, depth);
                    Some(format!("{}/{right}", part(script, left, scope, depth).trim_end_matches('/')))
                }
                _ => None,
            }
        }
        "call" => called(script, node, scope, depth),
        _ => None,
    }
}

fn string(script: &Script<'_>, node: Node<'_>, scope: &Scope, depth: usize) -> String {
    let prefix = script.text(node).split(['"', '\'']).next().unwrap_or_default().to_lowercase();
    let mut out = String::new();
    for piece in children(node) {
        match piece.kind() {
            "string_content" => {
                let text = script.text(piece);
                let text = if prefix.contains('r') { text.to_owned() } else { unescaped(text) };
                out.push_str(&if prefix.contains('f') {
                    text.replace("{{", "{").replace("}}", "}")
                } else {
                    text
                });
            }
            "interpolation" => {
                if let Some(expression) = children(piece).first() {
                    out.push_str(&part(script, *expression, scope, depth));
                }
            }
            _ => {}
        }
        if out.len() > MAX_TEXT {
            break;
        }
    }
    out
}

/// `"…" % x`, `"…" % (x, y)`, `"…" % {…}`, `"…" % env`.
fn percent(script: &Script<'_>, format: &str, right: Node<'_>, scope: &Scope, depth: usize) -> String {
    let values = match right.kind() {
        "tuple" => children(right),
        "parenthesized_expression" => children(right),
        _ => vec![right],
    };
    let named = |name: &str| -> String {
        if right.kind() == "dictionary" {
            let pair = children(right).into_iter().find(|pair| {
                let key = pair
                    .child_by_field_name("key")
                    .map(|key| script.text(key).trim_matches(['"', '\'', 'u']));
                key == Some(name)
            });
            return pair
                .and_then(|pair| pair.child_by_field_name("value"))
                .map_or_else(|| unknown(name), |value| part(script, value, scope, depth));
        }
        let prefix = if script.text(right).starts_with("locals") {
            String::new()
        } else {
            format!("{}.", script.text(right))
        };
        scope.text(&format!("{prefix}{name}")).map_or_else(|| unknown(name), str::to_owned)
    };
    let mut values = values.into_iter();
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            out.push_str(&named(name));
            rest = after.strip_prefix(['s', 'd', 'r', 'i']).unwrap_or(after);
        } else if let Some(after) = rest.strip_prefix(['s', 'd', 'r', 'i']) {
            out.push_str(
                &values.next().map_or_else(|| unknown("value"), |one| part(script, one, scope, depth)),
            );
            rest = after;
        } else {
            out.push('%');
        }
        if out.len() > MAX_TEXT {
            break;
        }
    }
    out.push_str(rest);
    out
}

/// `"…".format(…)`, `os.path.join(…)`, `str(x)`, `Path(x)`.
fn called(script: &Script<'_>, node: Node<'_>, scope: &Scope, depth: usize) -> Option<String> {
    let function = node.child_by_field_name("function")?;
    let arguments = node.child_by_field_name("arguments").map(children).unwrap_or_default();
    let name = script.text(function);
    if matches!(name, "str" | "Path" | "PurePosixPath" | "os.path.expanduser" | "shlex.quote" | "quote") {
        return known(script, *arguments.first()?, scope, depth + 1);
    }
    if name.ends_with("path.join") || name == "join" {
        let parts: Vec<String> = arguments.into_iter().map(|one| part(script, one, scope, depth)).collect();
        return Some(parts.join("/").replace("//", "/"));
    }
    let method = function.child_by_field_name("attribute").map(|name| script.text(name))?;
    let of = function.child_by_field_name("object")?;
    match method {
        "format" => Some(format(script, &known(script, of, scope, depth + 1)?, &arguments, scope, depth)),
        "strip" | "rstrip" | "lower" => known(script, of, scope, depth + 1),
        _ => None,
    }
}

fn format(script: &Script<'_>, format: &str, arguments: &[Node<'_>], scope: &Scope, depth: usize) -> String {
    let mut next = 0;
    let plain: Vec<_> = arguments
        .iter()
        .filter(|one| !matches!(one.kind(), "keyword_argument" | "dictionary_splat"))
        .collect();
    let mut value = |field: &str| -> String {
        let field = field.split(['!', ':']).next().unwrap_or_default();
        let index = if field.is_empty() {
            next += 1;
            Some(next - 1)
        } else {
            field.parse::<usize>().ok()
        };
        if let Some(index) = index {
            return plain
                .get(index)
                .map_or_else(|| unknown("value"), |one| part(script, **one, scope, depth));
        }
        let named = arguments.iter().find(|one| {
            one.kind() == "keyword_argument"
                && one.child_by_field_name("name").is_some_and(|name| script.text(name) == field)
        });
        if let Some(value) = named.and_then(|one| one.child_by_field_name("value")) {
            return part(script, value, scope, depth);
        }
        let splat = arguments.iter().find(|one| one.kind() == "dictionary_splat");
        let of = splat.map(|one| script.text(*one).trim_start_matches('*').to_owned()).unwrap_or_default();
        let found = scope
            .text(&format!("{of}.{field}"))
            .or_else(|| scope.text(field).filter(|_| of.starts_with("locals")));
        found.map_or_else(|| unknown(field), str::to_owned)
    };
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
        } else if let Some((field, after)) = after.split_once('}').filter(|_| brace == "{") {
            out.push_str(&value(field));
            rest = after;
        } else {
            out.push_str(brace);
            rest = after;
        }
        if out.len() > MAX_TEXT {
            break;
        }
    }
    out.push_str(rest);
    out
}
