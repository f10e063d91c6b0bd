//! `ctl diff`: what differs between two releases: steps, files, commits.

use std::collections::BTreeMap;

use landfall_common::Sha256;
use landfall_common::manifest::{Directory, Entry, MAX_DIRECTORY_BYTES, Manifest};
use landfall_common::{AppName, ReleaseName};
use serde::Serialize;
use serde_json::Value;

use super::Session;
use crate::cli::Diff;
use crate::client::Client;
use crate::error::{Error, Exit};
use crate::git::{self, Repository};
use crate::output::{Tone, format};
use crate::pack::ObjectCache;
use crate::view::Release;

/// How many changed files people are shown; programs get all.
const SHOWN: usize = 40;

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FileChange {
    /// `added`, `removed` or `changed`.
    kind: &'static str,
    path: String,
    size: u64,
}

/// A part of the manifest that differs, by its path in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct StepChange {
    path: String,
    from: Option<Value>,
    to: Option<Value>,
}

pub(super) async fn run(session: &Session, arguments: &Diff) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let (from, from_manifest) = get(&client, &application, &arguments.from).await?;
    let (to, to_manifest) = get(&client, &application, &arguments.to).await?;
    let cache = ObjectCache::open(session.places.cache.join("objects"))?;
    let reader = Reader { client: &client, application: &application, cache: &cache };
    let mut files = Vec::new();
    reader.compare(Some(from_manifest.tree), Some(to_manifest.tree), String::new(), &mut files).await?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let steps = steps(&from_manifest, &to_manifest);
    let commits = Repository::discover(&session.directory)
        .and_then(|repository| repository.changes(Some(&from.commit), &to.commit))
        .unwrap_or_default();

    let name = |release: &Release| format!("{} ({})", release.name, git::short(&release.commit));
    output.line(format!("{application}: {} -> {}", name(&from), name(&to)));
    if !to.notes.is_empty() {
        output.line(format!("\n{}", to.notes));
    }
    output.line(format!("\ncommits: {}", commits.len()));
    commits.iter().for_each(|commit| output.line(format!("  {commit}")));
    output.line(format!("\nsteps and settings: {}", steps.len()));
    steps.iter().for_each(|step| output.line(step_text(step)));
    output.line(format!("\nfiles: {}", files.len()));
    for file in files.iter().take(SHOWN) {
        let (mark, tone) = match file.kind {
            "added" => ("+", Tone::Good),
            "removed" => ("-", Tone::Bad),
            _ => ("~", Tone::Warning),
        };
        output.line(format!("  {} {} ({})", output.paint(tone, mark), file.path, format::bytes(file.size)));
    }
    if files.len() > SHOWN {
        output.line(format!(
            "  and {} more: ctl diff {} {} -o json",
            files.len() - SHOWN,
            from.name,
            to.name
        ));
    }
    let value = serde_json::json!({
        "application": application, "from": from, "to": to,
        "commits": commits, "steps": steps, "files": files,
    });
    output.json("diff", &value);
    Ok(Exit::Succeeded)
}

async fn get(
    client: &Client,
    application: &AppName,
    name: &ReleaseName,
) -> Result<(Release, Manifest), Error> {
    let (release, bytes) = client.release(application, name).await?.ok_or_else(|| {
        Error::usage(format!("{application} has no release {name}"), "ctl releases lists them")
    })?;
    Ok((release, Manifest::from_bytes(&bytes)?))
}

/// A release that is listed may have no files any more.
fn gone(error: Error) -> Error {
    match error {
        Error::Refused(refusal) if refusal.code == tonic::Code::NotFound => Error::usage(
            format!("{}; the files of one of the two are not on the controller any more", refusal.message),
            "ctl releases shows which; ctl release NAME --publish-only brings them back",
        ),
        other => other,
    }
}

struct Reader<'r> {
    client: &'r Client,
    application: &'r AppName,
    cache: &'r ObjectCache,
}

impl Reader<'_> {
    async fn directory(&self, digest: Option<Sha256>) -> Result<Directory, Error> {
        let Some(digest) = digest else { return Ok(Directory::default()) };
        let bytes = match self.cache.read(&digest, MAX_DIRECTORY_BYTES) {
            Ok(bytes) => bytes,
            Err(_) => {
                let bytes = self.client.object(self.application, &digest, MAX_DIRECTORY_BYTES).await;
                let bytes = bytes.map_err(gone)?;
                self.cache.put(&bytes)?;
                bytes
            }
        };
        Ok(Directory::from_bytes(&bytes)?)
    }

    /// Compares two directories, and looks only into those below that differ.
    async fn compare(
        &self,
        from: Option<Sha256>,
        to: Option<Sha256>,
        inside: String,
        found: &mut Vec<FileChange>,
    ) -> Result<(), Error> {
        let mut waiting = vec![(from, to, inside)];
        while let Some((from, to, inside)) = waiting.pop() {
            if from == to {
                continue;
            }
            let (mut before, after) =
                (self.directory(from).await?.entries, self.directory(to).await?.entries);
            for (name, entry) in after {
                let path = git::join(&inside, &name);
                match (before.remove(&name), entry) {
                    (Some(old), new) if old == new => {}
                    (Some(Entry::Directory { digest: old, .. }), Entry::Directory { digest: new, .. }) => {
                        waiting.push((Some(old), Some(new), path));
                    }
                    (old, new) => {
                        let both_files =
                            old.as_ref().is_some_and(|old| !is_directory(old)) && !is_directory(&new);
                        if both_files {
                            found.push(FileChange { kind: "changed", path, size: size(&new) });
                            continue;
                        }
                        if let Some(old) = old {
                            one_side(&old, path.clone(), "removed", &mut waiting, found);
                        }
                        one_side(&new, path, "added", &mut waiting, found);
                    }
                }
            }
            for (name, old) in before {
                one_side(&old, git::join(&inside, &name), "removed", &mut waiting, found);
            }
        }
        Ok(())
    }
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry, Entry::Directory { .. })
}

fn size(entry: &Entry) -> u64 {
    match entry {
        Entry::File { size, .. } => *size,
        _ => 0,
    }
}

type Pair = (Option<Sha256>, Option<Sha256>, String);

fn one_side(
    entry: &Entry,
    path: String,
    kind: &'static str,
    waiting: &mut Vec<Pair>,
    found: &mut Vec<FileChange>,
) {
    match entry {
        Entry::Directory { digest, .. } if kind == "added" => waiting.push((None, Some(*digest), path)),
        Entry::Directory { digest, .. } => waiting.push((Some(*digest), None, path)),
        _ => found.push(FileChange { kind, path, size: size(entry) }),
    }
}

/// What differs between what the two releases execute and how they are rolled out.
fn steps(from: &Manifest, to: &Manifest) -> Vec<StepChange> {
    let flat = |manifest: &Manifest| {
        let mut leaves = BTreeMap::new();
        let program = serde_json::to_value(&manifest.program).unwrap_or_default();
        flatten("", &program, &mut leaves);
        let environments = serde_json::to_value(&manifest.environments).unwrap_or_default();
        flatten("environment", &environments, &mut leaves);
        leaves
    };
    let (mut before, after) = (flat(from), flat(to));
    let mut changes: Vec<StepChange> = Vec::new();
    for (path, value) in after {
        let old = before.remove(&path);
        if old.as_ref() != Some(&value) {
            changes.push(StepChange { path, from: old, to: Some(value) });
        }
    }
    changes.extend(before.into_iter().map(|(path, old)| StepChange { path, from: Some(old), to: None }));
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

/// `services.web.driver.listen` and its like; a list of texts (a command) is one value, things with a name
/// are called by it.
fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&below(key), value, leaves)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Value::as_str).map_or(index.to_string(), str::to_owned);
                flatten(&below(&name), item, leaves);
            }
        }
        leaf => {
            leaves.insert(path.to_owned(), leaf.clone());
        }
    }
}

fn step_text(change: &StepChange) -> String {
    let show = |value: &Option<Value>| match value {
        None => "(none)".to_owned(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map_or(item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" "),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    format!("  {}: {} -> {}", change.path, show(&change.from), show(&change.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::definition::Definition;
    use landfall_common::manifest::{FORMAT, Origin};

    fn manifest(extra: &str) -> Manifest {
        let text = format!("[application]\nname = \"x\"\n{extra}");
        let definition = Definition::parse("landfall.toml", &text).unwrap();
        Manifest {
            format: FORMAT,
            application: definition.application,
            release: ReleaseName::new("v1").unwrap(),
            origin: Origin::Artifact { commit: None },
            tree: Sha256::of(b""),
            file_count: 0,
            total_bytes: 0,
            program: definition.program,
            environments: definition.environments,
        }
    }

    #[test]
    fn steps_that_differ_are_named_by_their_place_in_the_definition() {
        let old = manifest(
            "[[smoke]]\nname = \"page\"\ncommand = [\"a\"]\n[[check]]\nname = \"up\"\ntcp = \"x:1\"\n",
        );
        let new = manifest(
            "[[smoke]]\nname = \"page\"\ncommand = [\"a\", \"b\"]\n[environment.production]\ncanary = 2\n",
        );
        let text: Vec<String> = steps(&old, &new).iter().map(step_text).collect();
        insta::assert_snapshot!(text.join("\n"), @r#"
    checks.up.interval_ms: 1000 -> (none)
    checks.up.name: up -> (none)
    checks.up.probe.address: x:1 -> (none)
    checks.up.probe.type: tcp -> (none)
    checks.up.timeout_ms: 5000 -> (none)
    environment.production.canary: 1 -> 2
    smoke.page.command: a -> a b
    "#);
    }
}
