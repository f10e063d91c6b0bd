//! The account of an import, for people. Programs have it as JSON.

use std::path::Path;

use landfall_common::definition::FILE_NAME;

use super::account::{Account, Left};
use super::{Imported, Kind};

/// How wide the explanations are.
const WIDTH: usize = 100;

/// The whole report; `to` is where the definition was written.
#[must_use]
pub fn text(name: &str, kind: Kind, to: Option<&Path>, made: &Imported) -> String {
    let Account { carried, left, open } = &made.account;
    let mut out = Vec::new();
    let written = to.map_or_else(|| "stdout".to_owned(), |to| to.display().to_string());
    out.push(format!(
        "{name} ({}) to {written}: {} carried over, {} not, {} to decide",
        kind.title(),
        carried.len(),
        left.len(),
        open.len()
    ));
    if !carried.is_empty() {
        out.push("\ncarried over".to_owned());
    }
    for one in carried {
        explained(&format!("  {}  ", one.from), &format!("{}  ->  {}", one.what, one.to), &mut out);
    }
    if !left.is_empty() {
        out.push("\nnot carried over".to_owned());
    }
    for group in groups(left) {
        for one in &group {
            explained(&format!("  {}  ", one.from), &one.what, &mut out);
        }
        explained("      why: ", &group[0].why, &mut out);
        explained("      instead: ", &group[0].instead, &mut out);
    }
    if !open.is_empty() {
        out.push("\nto decide, or to see to (values are marked DECIDE in the definition)".to_owned());
    }
    for one in open {
        let from = one.from.as_ref().map(|from| format!(", {from}")).unwrap_or_default();
        out.push(format!("  {}{from}", one.key));
        explained("      ", &one.what, &mut out);
    }
    let next = match to {
        Some(to) => format!("look through {}, commit it, then: ctl init", to.display()),
        None => format!("write it into {FILE_NAME} in the root of the repository, commit it, then: ctl init"),
    };
    out.push(format!("\nnext: {next}"));
    out.join("\n")
}

/// What was left for the same reason stands together, where the first of it stood.
fn groups(left: &[Left]) -> Vec<Vec<&Left>> {
    let mut groups: Vec<Vec<&Left>> = Vec::new();
    for one in left {
        let like = |group: &&mut Vec<&Left>| group[0].why == one.why && group[0].instead == one.instead;
        match groups.iter_mut().find(like) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// A sentence behind its label, further lines of it below.
fn explained(label: &str, text: &str, out: &mut Vec<String>) {
    let indent = " ".repeat(6);
    let mut line = label.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + word.chars().count() >= WIDTH {
            out.push(std::mem::replace(&mut line, indent.clone()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    out.push(line);
}
