//! Ruby's values, as far as they are written down.

use std::collections::BTreeMap;

use super::super::script::{Node, Script, children, unescaped, unknown};

/// How deep an expression is followed.
const MAX_DEPTH: usize = 24;
/// No command is so long.
const MAX_TEXT: usize = 8192;

/// What was `set`.
#[derive(Debug, Default)]
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(super) fn set(&mut self, name: &str, value: &str) {
        if value.len() <= MAX_TEXT {
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The paths that Capistrano knows by name.
    fn path(&self, name: &str) -> Option<String> {
        let root = self.get("deploy_to").unwrap_or("/srv/application");
        Some(match name {
            "release_path" | "latest_release" | "current_release" => format!("{root}/releases/${{release}}"),
            "current_path" => format!("{root}/current"),
            "shared_path" => format!("{root}/shared"),
            "releases_path" => format!("{root}/releases"),
            "deploy_path" | "deploy_to" => root.to_owned(),
            _ => return None,
        })
    }
}

/// The name of what is called without a receiver, if the node is such a call.
pub(super) fn method<'s>(script: &Script<'s>, node: Node<'_>) -> Option<&'s str> {
    match node.kind() {
        "call" if node.child_by_field_name("receiver").is_none() => {
            Some(script.text(node.child_by_field_name("method")?))
        }
        _ => None,
    }
}

/// The arguments of a call.
pub(super) fn arguments(node: Node<'_>) -> Vec<Node<'_>> {
    node.child_by_field_name("arguments").map(children).unwrap_or_default()
}

/// The block of a call.
pub(super) fn block(node: Node<'_>) -> Option<Node<'_>> {
    node.child_by_field_name("block")
}

/// A name: `:x`, `"x"`, `x:`, or the first of `x => y`.
pub(super) fn symbol(script: &Script<'_>, node: Node<'_>) -> String {
    match node.kind() {
        "pair" => node.child_by_field_name("key").map(|key| symbol(script, key)).unwrap_or_default(),
        "hash" => children(node).first().map(|pair| symbol(script, *pair)).unwrap_or_default(),
        _ => script.text(node).trim_matches(['"', '\'', ':']).to_owned(),
    }
}

/// All texts in a value but those of what it fetches: `fetch(:linked_dirs, []).push("log")`.
pub(super) fn strings(script: &Script<'_>, node: Node<'_>, settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![(node, 0)];
    while let Some((node, depth)) = open.pop() {
        match node.kind() {
            "string" | "bare_string" => found.extend(text(script, node, settings)),
            "call" if method(script, node) == Some("fetch") => {}
            _ if depth < MAX_DEPTH => {
                // The last is taken first: order is kept.
                open.extend(children(node).into_iter().rev().map(|child| (child, depth + 1)));
            }
            _ => {}
        }
    }
    found
}

/// The text of an expression, if it has one; what is not known inside of it shows as `${name}`.
pub(super) fn text(script: &Script<'_>, node: Node<'_>, settings: &Settings) -> Option<String> {
    known(script, node, settings, 0).filter(|text| text.len() <= MAX_TEXT)
}

fn known(script: &Script<'_>, node: Node<'_>, settings: &Settings, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return None;
    }
    let part = |node: Node<'_>| {
        known(script, node, settings, depth + 1).unwrap_or_else(|| unknown(script.text(node)))
    };
    match node.kind() {
        "string" | "bare_string" | "heredoc_body" | "subshell" | "chained_string" | "bare_symbol" => {
            let mut out = String::new();
            for piece in children(node) {
                match piece.kind() {
                    "string_content" | "heredoc_content" => out.push_str(script.text(piece)),
                    "escape_sequence" => out.push_str(&unescaped(script.text(piece))),
                    "interpolation" => out.extend(children(piece).first().map(|one| part(*one))),
                    "string" => out.push_str(&part(piece)),
                    _ => {}
                }
                if out.len() > MAX_TEXT {
                    return None;
                }
            }
            Some(out)
        }
        "simple_symbol" | "hash_key_symbol" => Some(script.text(node).trim_matches(':').to_owned()),
        "integer" | "true" | "false" => Some(script.text(node).to_owned()),
        "identifier" => {
            let name = script.text(node);
            settings.path(name).or_else(|| settings.get(name).map(str::to_owned))
        }
        "parenthesized_statements" | "lambda" | "block" | "do_block" | "block_body" | "body_statement" => {
            let [only] = children(node)[..] else { return None };
            known(script, only, settings, depth + 1)
        }
        "string_array" | "symbol_array" => {
            Some(children(node).into_iter().map(part).collect::<Vec<_>>().join(" "))
        }
        "binary" => {
            let (left, right) = (node.child_by_field_name("left")?, node.child_by_field_name("right")?);
            (script.text(node.child_by_field_name("operator")?) == "+").then(|| part(left) + &part(right))
        }
        "call" => called(script, node, settings, depth),
        _ => None,
    }
}

/// `fetch(:x)`, `release_path.join("x")`, `%w[a b].join(" ")`.
fn called(script: &Script<'_>, node: Node<'_>, settings: &Settings, depth: usize) -> Option<String> {
    let name = script.text(node.child_by_field_name("method")?);
    let arguments = arguments(node);
    let Some(receiver) = node.child_by_field_name("receiver") else {
        return match name {
            "fetch" | "lambda" | "proc" => {
                let first = arguments.first().map(|one| symbol(script, *one));
                let Some(first) = first else { return known(script, block(node)?, settings, depth + 1) };
                let known_path = settings.path(&first).filter(|_| first != "deploy_to");
                known_path.or_else(|| settings.get(&first).map(str::to_owned)).or_else(|| {
                    arguments.get(1).and_then(|default| known(script, *default, settings, depth + 1))
                })
            }
            _ => settings.path(name),
        };
    };
    match name {
        "join" if matches!(receiver.kind(), "string_array" | "array") => {
            known(script, receiver, settings, depth + 1)
        }
        "join" | "/" => {
            let parts = arguments.iter().map(|one| known(script, *one, settings, depth + 1));
            let parts: Option<Vec<String>> = parts.collect();
            Some(format!("{}/{}", known(script, receiver, settings, depth + 1)?, parts?.join("/")))
        }
        "to_s" | "to_sym" | "strip" | "chomp" | "downcase" | "freeze" | "shellescape" => {
            known(script, receiver, settings, depth + 1)
        }
        _ => None,
    }
}
