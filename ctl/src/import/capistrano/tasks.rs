//! The tasks that a deployment runs, and their commands.

use std::collections::BTreeSet;

use super::super::account::Place;
use super::super::deed::Deed;
use super::super::script::{MAX_DEPTH, Node, Script, children, unknown};
use super::super::shell;
use super::value::{arguments, block, method, symbol, text};
use super::{Reading, said};

/// Tasks in `deploy` that every deployment runs; any other has to be named by a hook.
const EVERY_TIME: [&str; 14] = [
    "default",
    "update",
    "update_code",
    "symlink",
    "create_symlink",
    "finalize_update",
    "restart",
    "migrate",
    "updating",
    "updated",
    "publishing",
    "published",
    "finishing",
    "finished",
];

impl<'t> Reading<'_, 't, '_> {
    /// Tasks that hooks name, and all of `deploy` but those for occasions; the rest in a line each.
    pub(super) fn run_tasks(&mut self) {
        let mut seen = BTreeSet::new();
        let mut open = std::mem::take(&mut self.wanted);
        for task in &self.tasks {
            if task.name.strip_prefix("deploy:").is_some_and(|name| EVERY_TIME.contains(&name)) {
                open.push((task.name.clone(), Place::new(task.script.name, task.line)));
            }
        }
        let tasks = std::mem::take(&mut self.tasks);
        let mut at = 0;
        while at < open.len() {
            let (name, from) = open[at].clone();
            at += 1;
            if !seen.insert(name.clone()) {
                continue;
            }
            let bare = name.rsplit(':').next().unwrap_or(&name);
            let without = name.strip_prefix("deploy:").unwrap_or(&name);
            let found =
                tasks.iter().filter(|task| task.name == name || task.name == without).collect::<Vec<_>>();
            if found.is_empty() {
                if !self.of_hook(without, &from)
                    && !tasks.iter().any(|task| task.name.ends_with(&format!(":{bare}")))
                {
                    let why = "the task is not in the repository: a plugin brings it";
                    let instead = "what it does to files belongs into [[build]] or [[prepare]]; what proves, into [[smoke]]";
                    self.left(&from, format!("hook {without}"), why, instead);
                }
                continue;
            }
            for task in found {
                seen.insert(task.name.clone());
                let mut called = Vec::new();
                self.commands(task.script, task.body, None, &mut called, 0);
                open.extend(called);
            }
        }
        for task in tasks.iter().filter(|task| !seen.contains(&task.name)) {
            let from = Place::new(task.script.name, task.line);
            let (why, instead) = if task.name.contains("rollback") || task.name.contains("revert") {
                ("the way back is Landfall's own", "ctl rollback: to the last release that was proven good")
            } else {
                (
                    "no deployment runs it, and Landfall runs what is signed, at the time that the definition says",
                    "ssh is still there for what is run by hand, and what sets up hosts for the rest",
                )
            };
            self.left(&from, format!("task {}", task.name), why, instead);
        }
    }

    /// The commands of a task's body.
    fn commands(
        &mut self,
        script: &'t Script<'t>,
        node: Node<'t>,
        directory: Option<&str>,
        called: &mut Vec<(String, Place)>,
        depth: usize,
    ) {
        if depth > MAX_DEPTH {
            return;
        }
        for child in children(node) {
            let Some(name) = method(script, child) else {
                self.commands(script, child, directory, called, depth + 1);
                continue;
            };
            let from = self.at(script, child);
            let arguments = arguments(child);
            match name {
                "execute" | "run" | "sudo" | "run_locally" | "system" | "capture" | "rake" | "rails"
                | "as_user"
                    if !arguments.is_empty() =>
                {
                    let plain = arguments
                        .iter()
                        .filter(|one| !matches!(one.kind(), "pair" | "hash" | "block_argument"));
                    let mut words: Vec<String> = plain.map(|one| self.word(script, *one)).collect();
                    if matches!(name, "rake" | "rails") {
                        words.insert(0, name.to_owned());
                    }
                    self.shell(&words.join(" "), directory, &from);
                }
                "invoke" | "invoke!" => {
                    called.extend(arguments.first().map(|one| (symbol(script, *one), from)));
                }
                "within" | "cd" => {
                    let to = arguments.first().map(|one| self.word(script, *one));
                    if let Some(body) = block(child) {
                        self.commands(script, body, to.as_deref(), called, depth + 1);
                    }
                }
                "upload!" | "download!" | "upload" | "put" | "transfer" => {
                    let words = arguments.iter().take(2).map(|one| self.word(script, *one));
                    let words: Vec<String> = std::iter::once(name.to_owned()).chain(words).collect();
                    self.work.deed(from, said(words), Deed::Fetch, None);
                }
                "set" | "info" | "puts" | "error" | "warn" | "desc" | "ask" | "fetch" | "raise" => {}
                _ => match block(child) {
                    Some(body) => self.commands(script, body, directory, called, depth + 1),
                    None => self.commands(script, child, directory, called, depth + 1),
                },
            }
        }
    }

    fn word(&self, script: &Script<'_>, node: Node<'_>) -> String {
        text(script, node, &self.settings).unwrap_or_else(|| unknown(script.text(node)))
    }

    fn shell(&mut self, text: &str, directory: Option<&str>, from: &Place) {
        for mut call in shell::calls(text) {
            call.directory = call.directory.or_else(|| directory.map(str::to_owned));
            // `execute :bundle, :exec, :rake, "db:migrate"` and `execute :rake, "db:migrate"` are the same.
            self.work.command(from.clone(), call, None);
        }
    }
}
