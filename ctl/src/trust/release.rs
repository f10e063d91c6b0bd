//! A release as its next signer is shown it: where it comes from, and everything that will execute.

use landfall_common::manifest::{Manifest, ManifestError, Origin};
use serde_json::Value;

use super::draft::DraftRelease;
use crate::error::Error;
use crate::output::format;

impl DraftRelease {
    /// Its manifest, read as a host reads it.
    ///
    /// # Errors
    /// Why a host would not take it.
    pub fn read(&self) -> Result<Manifest, Error> {
        Manifest::from_bytes(self.manifest.as_bytes()).map_err(|error| match error {
            // It cannot be shown, and what is not shown is not signed.
            ManifestError::Newer { .. } => error.into(),
            _ => {
                let what = format!(
                    "the draft's release has no manifest that a host would take: {}",
                    error.in_full()
                );
                Error::usage(what, "do not sign it; have the release made anew with ctl release")
            }
        })
    }
}

/// What is in a manifest, line by line. Nothing that executes is left out: every field of the program is shown, also
/// those that this text knows nothing of.
#[must_use]
pub fn lines(manifest: &Manifest) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}: {}, {}, tree {}",
        manifest.application,
        manifest.release,
        format::count(manifest.file_count, "file"),
        format::bytes(manifest.total_bytes),
        manifest.tree
    )];
    match &manifest.origin {
        Origin::Git { commit, author, subject, .. } => {
            lines.push(format!("commit {} of {}: {}", visible(commit), visible(author), visible(subject)));
        }
        Origin::Artifact { commit: Some(commit) } => {
            lines.push(format!("built elsewhere; its maker says from commit {}", visible(commit)));
        }
        Origin::Artifact { commit: None } => lines.push("built elsewhere".to_owned()),
    }
    lines.push("what it executes on hosts:".to_owned());
    let program = serde_json::to_value(&manifest.program).unwrap_or_default();
    leaves("  ", &program, &mut lines);
    let environments = serde_json::to_value(&manifest.environments).unwrap_or_default();
    leaves("  environment", &environments, &mut lines);
    lines
}

/// `services.0.driver.listen: 127.0.0.1:8000` and its like, in the manifest's own order. By number and not by name:
/// two of one name are two.
fn leaves(place: &str, value: &Value, lines: &mut Vec<String>) {
    let below =
        |key: &str| if place.trim().is_empty() { format!("{place}{key}") } else { format!("{place}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| leaves(&below(&visible(key)), value, lines)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| leaves(&below(&index.to_string()), item, lines));
        }
        Value::Array(items) => {
            let words: Vec<String> = items.iter().map(word).collect();
            lines.push(format!("{place}: {}", words.join(" ")));
        }
        leaf => lines.push(format!("{place}: {}", word(leaf))),
    }
}

/// A value; a text that is not plainly one word is quoted, so that one argument does not look like two.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let shown = visible(text);
            let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\');
            if !text.is_empty() && shown == *text && text.chars().all(plain) {
                shown
            } else {
                format!("{text:?}")
            }
        }
        other => other.to_string(),
    }
}

/// A text without what moves a terminal's cursor or turns the order of letters around.
fn visible(text: &str) -> String {
    let one = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use landfall_common::Sha256;
    use serde_json::json;

    use super::*;

    fn manifest(program: Value, subject: &str) -> Manifest {
        let origin = json!({
            "type": "git", "commit": "4f0c", "author": "Ana <ana@example.org>",
            "committed_at": "2026-11-21T16:00:00Z", "subject": subject,
        });
        serde_json::from_value(json!({
            "format": landfall_common::manifest::FORMAT, "application": "shop", "release": "v2", "origin": origin,
            "tree": Sha256::of(b"tree"), "file_count": 2, "total_bytes": 2048, "program": program, "environments": {},
        }))
        .unwrap()
    }

    #[test]
    fn everything_that_executes_is_shown() {
        let step =
            |name: &str, command: Value| json!({"name": name, "command": command, "timeout_ms": 60_000});
        let program = json!({
            "prepare": [step("venv", json!(["sh", "a b", ""])), step("venv", json!(["curl", "x\u{1b}[2K\u{202e}y"]))],
            "migrate": {"step": step("up", json!(["up"])), "lease_ms": 1000, "idempotent": false,
                "way_back": {"type": "reversible", "down": step("down", json!(["down"]))}},
        });
        let shown = lines(&manifest(program, "fix\r\u{9b}2Kall")).join("\n");
        insta::assert_snapshot!(shown, @r#"
        shop v2: 2 files, 2.0 KiB, tree dc9c5edb8b2d479e697b4b0b8ab874f32b325138598ce9e7b759eb8292110622
        commit 4f0c of Ana <ana@example.org>: fix\r\u{9b}2Kall
        what it executes on hosts:
          migrate.idempotent: false
          migrate.lease_ms: 1000
          migrate.step.command: up
          migrate.step.name: up
          migrate.step.timeout_ms: 60000
          migrate.way_back.down.command: down
          migrate.way_back.down.name: down
          migrate.way_back.down.timeout_ms: 60000
          migrate.way_back.type: reversible
          prepare.0.command: sh "a b" ""
          prepare.0.name: venv
          prepare.0.timeout_ms: 60000
          prepare.1.command: curl "x\u{1b}[2K\u{202e}y"
          prepare.1.name: venv
          prepare.1.timeout_ms: 60000
          retention.releases: 5
        "#);
    }
}
