//! Capistrano's `config/deploy.rb`, with the stages beside it and the Capfile: settings, plugins, and the commands of
//! tasks that a deployment runs.
//!
//! The files are parsed and not run: `set` and `fetch` are followed as far as their values are written down.

mod plugins;
mod tasks;
mod value;

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::EnvName;

use super::account::Place;
use super::draft::Section;
use super::script::{Language, MAX_DEPTH, Node, Script, children};
use super::shell::{self, Call};
use super::work::{Work, is_secret};
use super::{Kind, Source};
use crate::error::Error;
use value::{Settings, arguments, block, method, strings, symbol, text};

/// Settings of how Capistrano itself reaches and treats hosts.
const OF_SSH: [&str; 22] = [
    "ssh_options",
    "user",
    "use_sudo",
    "pty",
    "log_level",
    "format",
    "format_options",
    "default_run_options",
    "password",
    "domain",
    "port",
    "sudo",
    "default_shell",
    "tmp_dir",
    "stages",
    "default_stage",
    "sshkit_max",
    "stage",
    "runner",
    "admin_runner",
    "group_writable",
    "local_user",
];
/// Settings of how the code is fetched.
const OF_SOURCE: [&str; 16] = [
    "repo_url",
    "repository",
    "scm",
    "branch",
    "deploy_via",
    "repository_cache",
    "git_shallow_clone",
    "copy_exclude",
    "git_enable_submodules",
    "scm_username",
    "scm_passphrase",
    "scm_verbose",
    "copy_strategy",
    "repo_tree",
    "git_strategy",
    "remote_cache",
];
/// A task of a file.
struct Task<'t> {
    script: &'t Script<'t>,
    name: String,
    line: usize,
    body: Node<'t>,
}

struct Reading<'r, 't, 'c> {
    work: &'r mut Work<'c>,
    settings: Settings,
    tasks: Vec<Task<'t>>,
    /// Tasks that something runs: by name, with the place that says so.
    wanted: Vec<(String, Place)>,
    plugins: BTreeSet<&'static str>,
}

/// Reads the file into `work`.
pub(super) fn read(source: &Source<'_>, work: &mut Work<'_>) -> Result<(), Error> {
    let next = "correct the file; is it another tool's? Then say whose: --kind KIND";
    let refused = |mistake: Box<_>| source.refused(Kind::Capistrano, *mistake, next);
    let main = Script::parse(Language::Ruby, source.name, source.text).map_err(refused)?;
    if !is_capistranos(&main) {
        let message = "this is no deploy.rb of Capistrano: it sets no :application and no :repo_url";
        return Err(source.refused_at(Kind::Capistrano, 1, message, next));
    }
    let files = beside(source, work);
    let mut others = Vec::new();
    for (name, text) in &files {
        match Script::parse(Language::Ruby, name, text) {
            Ok(script) => others.push(script),
            Err(_) => {
                let why = "it is not Ruby as this program understands it";
                work.account.left(&Place::new(name, 1), name, why, "look at it by hand");
            }
        }
    }
    let mut reading = Reading {
        work,
        settings: Settings::default(),
        tasks: Vec::new(),
        wanted: Vec::new(),
        plugins: BTreeSet::new(),
    };
    let is_stage = |script: &Script<'_>| script.name.starts_with("config/deploy/");
    // The Capfile first: it names the plugins.
    let capfile = others.iter().filter(|script| script.name == "Capfile");
    let tasks = others.iter().filter(|script| script.name != "Capfile" && !is_stage(script));
    for script in capfile.chain(std::iter::once(&main)).chain(tasks) {
        reading.mistakes(script);
        reading.statements(script, script.root(), "", 0);
    }
    for script in others.iter().filter(|script| is_stage(script)) {
        reading.mistakes(script);
        reading.stage(script);
    }
    reading.plugins();
    reading.run_tasks();
    Ok(())
}

/// Whether it sets what every one of them sets.
fn is_capistranos(script: &Script<'_>) -> bool {
    let sets = |node: &Node<'_>| {
        matches!(method(script, *node), Some("set" | "server" | "role" | "append" | "lock"))
    };
    let mut open: Vec<(Node<'_>, usize)> = vec![(script.root(), 0)];
    while let Some((node, depth)) = open.pop() {
        if sets(&node) {
            return true;
        }
        if depth < 6 {
            open.extend(children(node).into_iter().map(|child| (child, depth + 1)));
        }
    }
    false
}

/// The Capfile, the stages, and tasks of the repository's own.
fn beside(source: &Source<'_>, work: &Work<'_>) -> Vec<(String, String)> {
    let mut names = vec!["Capfile".to_owned()];
    names.extend(work.checkout.list("config/deploy").into_iter().map(|name| format!("config/deploy/{name}")));
    names.extend(
        work.checkout
            .list("lib/capistrano/tasks")
            .into_iter()
            .map(|name| format!("lib/capistrano/tasks/{name}")),
    );
    let is_ruby =
        |name: &String| name == "Capfile" || [".rb", ".rake", ".cap"].iter().any(|end| name.ends_with(end));
    let names = names.into_iter().filter(|name| is_ruby(name) && name != source.name);
    names.filter_map(|name| Some((name.clone(), work.checkout.read(&name)?))).collect()
}

impl<'t> Reading<'_, 't, '_> {
    fn at(&self, script: &Script<'_>, node: Node<'_>) -> Place {
        Place::new(script.name, script.line(node))
    }

    fn mistakes(&mut self, script: &Script<'_>) {
        for line in script.mistakes() {
            let why = "it is not Ruby as this program understands it, and was passed over";
            let instead = "look at the line, and write what it does by hand";
            self.work.account.left(&Place::new(script.name, line), "a statement", why, instead);
        }
    }

    fn statements(&mut self, script: &'t Script<'t>, node: Node<'t>, namespace: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        for child in children(node) {
            self.statement(script, child, namespace, depth);
        }
    }

    fn statement(&mut self, script: &'t Script<'t>, node: Node<'t>, namespace: &str, depth: usize) {
        let Some(name) = method(script, node) else {
            // What an `if` decides is not decided here: both ways are read.
            if !matches!(node.kind(), "assignment" | "method" | "class" | "module") {
                self.statements(script, node, namespace, depth + 1);
            }
            return;
        };
        match name {
            "set" | "set_default" => self.set(script, node),
            "append" | "push" => self.append(script, node),
            "server" => self.server(script, node),
            "role" => self.role(script, node),
            "namespace" => {
                let inner = arguments(node).first().map(|one| symbol(script, *one)).unwrap_or_default();
                let inner = if namespace.is_empty() { inner } else { format!("{namespace}:{inner}") };
                if let Some(body) = block(node) {
                    self.statements(script, body, &inner, depth + 1);
                }
            }
            "task" | "remote_task" => {
                let Some(body) = block(node) else { return };
                let first = arguments(node).first().map(|one| symbol(script, *one)).unwrap_or_default();
                let name = if namespace.is_empty() { first } else { format!("{namespace}:{first}") };
                self.tasks.push(Task { script, name, line: script.line(node), body });
            }
            "before" | "after" => self.hook(script, node, namespace),
            "require" | "load" | "install_plugin" | "import" => self.require(script, node),
            "lock" | "desc" | "default_run_options" | "ask" | "load_paths" => {}
            "each" | "lambda" | "proc" | "new" | "instance_eval" => {}
            _ => {
                if let Some(body) = block(node) {
                    self.statements(script, body, namespace, depth + 1);
                }
            }
        }
    }

    fn set(&mut self, script: &'t Script<'t>, node: Node<'t>) {
        let arguments = arguments(node);
        let Some(name) = arguments.first().map(|one| symbol(script, *one)) else { return };
        let value = arguments.get(1).copied().or_else(|| block(node));
        let from = self.at(script, node);
        let Some(value) = value else { return };
        let said = text(script, value, &self.settings);
        let source = script.text(value);
        let what = if is_secret(&name) || name.contains("passphrase") {
            name.clone()
        } else {
            format!("{name} {source}")
        };
        if let Some(said) = &said {
            self.settings.set(&name, said);
        }
        match name.as_str() {
            "application" => match &said {
                Some(said) if !said.contains('$') && !said.is_empty() => {
                    self.work.name(said, &from);
                    self.work.account.carried(&from, what, "[application] name");
                }
                _ => self.left(&from, what, "its value is only known when Capistrano runs", "the same command with --app NAME"),
            },
            "keep_releases" => match said.and_then(|said| said.parse().ok()) {
                Some(number) => self.work.keep(number, &from, &what),
                None => self.left(&from, what, "its value is only known when Capistrano runs", "write [retention] releases"),
            },
            "linked_files" | "linked_dirs" | "shared_children" | "shared_files" | "symlinks" => {
                self.share(&name, &strings(script, value, &self.settings), &from);
            }
            "default_env" | "default_environment" => {
                let why = "each step and service has an environment of its own, and a clean one";
                let instead = "write `environment` there; what differs from host to host is a variable of the host";
                self.left(&from, what, why, instead);
            }
            "deploy_to" if said.as_deref().is_some_and(|said| self.is_our_place(said)) => {
                self.work.account.carried(&from, what, "the same place, by the name of the application");
            }
            "deploy_to" => {
                let why = "releases, `shared` and `current` lie in /srv/NAME, by the name of the application";
                self.left(&from, what, why, "another place is apps_dir in the host's agent.toml");
            }
            "rails_env" if said.as_deref() == Some("production") => {
                self.work.account.carried(&from, what, "RAILS_ENV of the steps and services");
            }
            name if OF_SOURCE.contains(&name) => self.left(
                &from,
                what,
                "no host knows the repository: the tag's tree is packed once, signed, and brought to each host",
                "ctl release TAG",
            ),
            name if OF_SSH.contains(&name) => {
                self.left(&from, what, "hosts pull what they run: nobody needs ssh for a release", "nothing");
            }
            name if self.of_plugin(name, &from, &what) => {}
            _ => {
                let why = "it is a variable of the file, and matters where it is used";
                self.left(&from, what, why, "nothing, if the parts that use it are carried over");
            }
        }
    }

    /// Whether a directory is the one that Landfall takes for the application anyway.
    fn is_our_place(&self, directory: &str) -> bool {
        let name = self.settings.get("application");
        name.is_some_and(|name| directory.strip_prefix("/srv/") == Some(name))
    }

    fn left(&mut self, from: &Place, what: impl Into<String>, why: &str, instead: &str) {
        self.work.account.left(from, what, why, instead);
    }

    fn append(&mut self, script: &'t Script<'t>, node: Node<'t>) {
        let arguments = arguments(node);
        let Some(name) = arguments.first().map(|one| symbol(script, *one)) else { return };
        let from = self.at(script, node);
        let values: Vec<String> =
            arguments[1..].iter().flat_map(|one| strings(script, *one, &self.settings)).collect();
        self.share(&name, &values, &from);
    }

    fn share(&mut self, name: &str, paths: &[String], from: &Place) {
        let is_directory = match name {
            "linked_dirs" | "shared_children" => true,
            "linked_files" | "shared_files" => false,
            _ => {
                return self.left(
                    from,
                    format!("{name} {}", paths.join(" ")),
                    "a definition has no such list",
                    "nothing",
                );
            }
        };
        for path in paths {
            self.work.share(path, is_directory, from);
        }
    }

    fn server(&mut self, script: &'t Script<'t>, node: Node<'t>) {
        let from = self.at(script, node);
        let host = arguments(node).first().map(|one| script.text(*one).to_owned()).unwrap_or_default();
        self.host(&from, format!("server {host}"));
    }

    fn role(&mut self, script: &'t Script<'t>, node: Node<'t>) {
        let from = self.at(script, node);
        let words: Vec<&str> = arguments(node).into_iter().map(|one| script.text(one)).collect();
        self.host(&from, format!("role {}", words.join(", ")));
    }

    fn host(&mut self, from: &Place, what: String) {
        let why = "no file lists hosts: each joins with a token, and carries its own labels";
        let instead = "for each: ctl hosts token --name HOST --label role=ROLE, then landfall-agent join TOKEN there; hosts \
                       of a role that runs something else are another application (docs/from/capistrano.md)";
        self.left(from, what, why, instead);
    }

    /// `config/deploy/NAME.rb`: an environment of that name.
    fn stage(&mut self, script: &'t Script<'t>) {
        self.statements(script, script.root(), "", 0);
        let stage = shell::base(script.name).trim_end_matches(".rb");
        let Ok(name) = EnvName::new(stage) else { return };
        let from = Place::new(script.name, 1);
        self.work.account.carried(&from, format!("stage {stage}"), format!("[environment.{name}]"));
        let note = format!("From {}: how a rollout there goes is Landfall's default.", script.name);
        let section = Section::environment(name.as_str(), &note).key("canary", 1).key("batch", "25%");
        self.work.draft.add(section);
    }

    /// `after "deploy:published", "puma:restart"`, or with a block.
    fn hook(&mut self, script: &'t Script<'t>, node: Node<'t>, namespace: &str) {
        let from = self.at(script, node);
        let named: Vec<String> = arguments(node).iter().map(|one| symbol(script, *one)).collect();
        if let Some(body) = block(node) {
            let name = format!("{} {}", method(script, node).unwrap_or_default(), named.join(" "));
            let name = format!("{namespace}:{name}");
            self.wanted.push((name.clone(), from));
            self.tasks.push(Task { script, name, line: script.line(node), body });
            return;
        }
        for name in named.into_iter().skip(1) {
            // As Rake looks a task up: in the namespace first.
            let inside = format!("{namespace}:{name}");
            self.wanted.push((if namespace.is_empty() { name } else { inside }, from.clone()));
        }
    }
}

/// A call that no shell made.
fn said(words: Vec<String>) -> Call {
    Call { words, pipe: Vec::new(), directory: None, environment: BTreeMap::new(), line: 0 }
}
