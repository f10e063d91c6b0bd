//! Fabric's `fabfile.py`, of Fabric 2 and of Fabric 1: the commands that its tasks run on hosts and locally.
//!
//! The file is parsed and not run: values that are written down are followed, through variables, formats and `with cd(…)`;
//! others show as `${name}`. What a branch or a loop decides is not decided here.

mod text;

use std::collections::{BTreeMap, BTreeSet};

use super::account::Place;
use super::deed::Deed;
use super::script::{Language, MAX_DEPTH, Node, Script, children};
use super::shell::{self, Call};
use super::work::{Work, is_secret};
use super::{Kind, Source};
use crate::error::Error;
use text::{Scope, is_text, resolve};

/// What runs a shell command, and is given it first.
const RUNS: [&str; 7] = ["run", "sudo", "local", "_run", "run_cmd", "system", "run_as_root"];
/// What moves files.
const MOVES: [&str; 8] =
    ["put", "get", "rsync_project", "upload_project", "upload_template", "rsync", "transfer", "files_upload"];
/// What the names of tasks that deploy begin with.
const DEPLOYS: [&str; 7] = ["deploy", "release", "publish", "ship", "update", "push", "upgrade"];
/// Tasks that choose where the others run: the one whose values are meant where a value is chosen.
const PRODUCTION: [&str; 4] = ["production", "prod", "live", "prd"];
/// Variables that hold the application's name.
const NAMES: [&str; 9] = [
    "project_name",
    "app_name",
    "application",
    "project",
    "application_name",
    "site_name",
    "app",
    "proj_name",
    "appname",
];
/// Variables that hold the directory it was in.
const ROOTS: [&str; 12] = [
    "root",
    "deploy_to",
    "project_root",
    "project_path",
    "project_dir",
    "deploy_path",
    "app_path",
    "app_dir",
    "path",
    "code_dir",
    "site_root",
    "remote_path",
];

/// How deep functions call one another in a script that somebody can read.
const MAX_CALLS: usize = 12;
/// How many calls are followed.
const MAX_FOLLOWED: usize = 500;

/// A function of the file.
struct Function<'t> {
    line: usize,
    body: Node<'t>,
    parameters: Vec<String>,
    defaults: Scope,
    is_task: bool,
}

struct Reading<'r, 't, 'c> {
    script: &'t Script<'t>,
    work: &'r mut Work<'c>,
    functions: BTreeMap<String, Function<'t>>,
    globals: Scope,
    /// Functions that were looked into.
    seen: BTreeSet<String>,
    /// The same with the arguments that they were given.
    followed: BTreeSet<String>,
    /// How many calls deep it is read.
    stack: usize,
}

/// Reads the file into `work`.
pub(super) fn read(source: &Source<'_>, work: &mut Work<'_>) -> Result<(), Error> {
    let next = "correct the file; is it another tool's? Then say whose: --kind KIND";
    let script = Script::parse(Language::Python, source.name, source.text)
        .map_err(|mistake| source.refused(Kind::Fabric, *mistake, next))?;
    let mut reading = Reading {
        script: &script,
        work,
        functions: BTreeMap::new(),
        globals: Scope::default(),
        seen: BTreeSet::new(),
        followed: BTreeSet::new(),
        stack: 0,
    };
    reading.declarations(script.root(), 0);
    let is_fabric = source.text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("from fab") || line.starts_with("import fab") || line.starts_with("from invoke")
    });
    if !is_fabric || reading.functions.is_empty() {
        let message = "this is no fabfile.py: it imports nothing of Fabric, or defines no task";
        return Err(source.refused_at(Kind::Fabric, 1, message, next));
    }
    reading.mistakes();
    reading.settings();
    reading.choose();
    reading.tasks();
    Ok(())
}

impl<'t> Reading<'_, 't, '_> {
    fn at(&self, node: Node<'_>) -> Place {
        Place::new(self.script.name, self.script.line(node))
    }

    fn mistakes(&mut self) {
        for line in self.script.mistakes() {
            let from = Place::new(self.script.name, line);
            let why = "it is not Python as this program understands it, and was passed over";
            self.work.account.left(
                &from,
                "a statement",
                why,
                "look at the line, and write what it does by hand",
            );
        }
    }

    /// Functions and variables of the module, in classes too.
    fn declarations(&mut self, node: Node<'t>, depth: usize) {
        if depth > 4 {
            return;
        }
        for child in children(node) {
            match child.kind() {
                "function_definition" => self.function(child, false),
                "decorated_definition" => {
                    if let Some(definition) = child.child_by_field_name("definition") {
                        let is_task = children(child)
                            .iter()
                            .any(|one| one.kind() == "decorator" && self.script.text(*one).contains("task"));
                        match definition.kind() {
                            "function_definition" => self.function(definition, is_task),
                            _ => self.declarations(child, depth + 1),
                        }
                    }
                }
                "expression_statement" => {
                    for one in children(child) {
                        self.globals.assign(self.script, one);
                    }
                }
                "class_definition" | "block" | "if_statement" | "try_statement" | "else_clause" => {
                    self.declarations(child, depth + 1);
                }
                _ => {}
            }
        }
    }

    fn function(&mut self, definition: Node<'t>, is_task: bool) {
        let name = definition.child_by_field_name("name").map(|name| self.script.text(name).to_owned());
        let (Some(name), Some(body)) = (name, definition.child_by_field_name("body")) else { return };
        let (mut parameters, mut defaults) = (Vec::new(), Scope::default());
        for parameter in definition.child_by_field_name("parameters").map(children).unwrap_or_default() {
            let named = parameter.child_by_field_name("name").unwrap_or(parameter);
            parameters.push(self.script.text(named).split(':').next().unwrap_or_default().trim().to_owned());
            let value = parameter.child_by_field_name("value");
            if let (Some(name), Some(value)) = (parameter.child_by_field_name("name"), value) {
                defaults.define(self.script, name, value);
            }
        }
        let line = self.script.line(definition);
        self.functions.insert(name, Function { line, body, parameters, defaults, is_task });
    }

    /// What the module says of hosts and of the application.
    fn settings(&mut self) {
        let known: Vec<_> =
            self.globals.all().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        for wanted in [&NAMES[..], &ROOTS[..]] {
            for (name, value) in &known {
                let bare = name.strip_prefix("env.").unwrap_or(name).to_lowercase();
                let Some(text) = value.text.as_deref().filter(|text| !text.contains('$')) else { continue };
                if wanted.contains(&bare.as_str()) {
                    let last = shell::base(text);
                    if !super::appspec::ANYBODYS.contains(&last) {
                        let from = Place::new(self.script.name, value.line);
                        self.work.guess_name(last, &from);
                    }
                }
            }
        }
        for (name, value) in &known {
            let from = Place::new(self.script.name, value.line);
            let bare = name.strip_prefix("env.").unwrap_or(name).to_lowercase();
            let is_of_env = name.starts_with("env.");
            let about_hosts = ["hosts", "host", "roledefs", "servers", "host_string", "hosts_list"]
                .contains(&bare.as_str());
            let about_ssh = is_of_env
                && [
                    "user",
                    "key_filename",
                    "forward_agent",
                    "password",
                    "port",
                    "use_ssh_config",
                    "gateway",
                    "passwords",
                    "sudo_password",
                    "disable_known_hosts",
                    "parallel",
                    "shell",
                    "warn_only",
                    "keepalive",
                ]
                .contains(&bare.as_str());
            if about_hosts {
                let why = "no file lists hosts: each joins with a token, and carries its own labels";
                let instead = "for each: ctl hosts token --name HOST, then landfall-agent join TOKEN there";
                self.work.account.left(&from, format!("{name} = {}", value.source), why, instead);
            } else if about_ssh {
                let what = if is_secret(name) { name.clone() } else { format!("{name} = {}", value.source) };
                let why = "hosts pull what they run: nobody needs ssh for a release";
                self.work.account.left(&from, what, why, "nothing");
            }
        }
    }

    /// Those that deploy, with all that they call; each of the others in a line.
    fn tasks(&mut self) {
        let names: Vec<String> = self.in_order();
        let exactly = |name: &&String| DEPLOYS.contains(&name.to_lowercase().as_str());
        let like = |name: &&String| DEPLOYS.iter().any(|prefix| name.to_lowercase().starts_with(prefix));
        let mut chosen: Vec<String> = names.iter().filter(|name| *name == "deploy").cloned().collect();
        if chosen.is_empty() {
            chosen = names.iter().filter(exactly).cloned().collect();
        }
        if chosen.is_empty() {
            chosen = names.iter().filter(like).cloned().collect();
        }
        if chosen.is_empty() {
            chosen = names.iter().filter(|name| !is_of_the_way_back(name)).cloned().collect();
        }
        for name in chosen {
            self.enter(&name, &Scope::default(), None, 0);
        }
        for name in names {
            let function = &self.functions[&name];
            let chooses = self.chooses(function.body);
            let is_one = function.is_task || chooses || self.runs_something(function.body, 0);
            if self.seen.contains(&name) || !is_one {
                continue;
            }
            let from = Place::new(self.script.name, function.line);
            let (why, instead) = if chooses {
                (
                    "where a release goes is an environment, for which hosts were enrolled",
                    "ctl hosts token --env NAME for its hosts, ctl release TAG --env NAME, and [environment.NAME] for how \
                     its rollouts go",
                )
            } else if is_of_the_way_back(&name) {
                ("the way back is Landfall's own", "ctl rollback: to the last release that was proven good")
            } else {
                (
                    "no task that deploys calls it, and Landfall runs what is signed, at the time that the definition says",
                    "ssh is still there for what is run by hand, and what sets up hosts for the rest",
                )
            };
            self.work.account.left(&from, format!("task {name}"), why, instead);
        }
    }

    /// Whether a task is there to set `env.hosts` and the like.
    fn chooses(&self, body: Node<'t>) -> bool {
        let mut scope = Scope::default();
        self.assignments(body, &mut scope, 0);
        scope.all().any(|(name, _)| matches!(name, "env.hosts" | "env.roledefs" | "env.host_string"))
    }

    fn assignments(&self, node: Node<'t>, scope: &mut Scope, depth: usize) {
        for child in children(node) {
            match child.kind() {
                "expression_statement" => {
                    for one in children(child) {
                        scope.assign(self.script, one);
                    }
                }
                _ if depth < 6 => self.assignments(child, scope, depth + 1),
                _ => {}
            }
        }
    }

    /// Where a task chooses, production is meant.
    fn choose(&mut self) {
        let chosen = PRODUCTION.iter().find_map(|name| self.functions.get(*name));
        let Some(body) = chosen.map(|function| function.body) else { return };
        let mut scope = Scope::default();
        self.assignments(body, &mut scope, 0);
        scope.extend(&self.globals);
        self.globals = scope;
    }

    fn in_order(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.functions.iter().map(|(name, function)| (function.line, name.clone())).collect();
        names.sort();
        names.into_iter().map(|(_, name)| name).collect()
    }

    fn runs_something(&self, node: Node<'t>, depth: usize) -> bool {
        if depth > MAX_DEPTH {
            return false;
        }
        let is_run =
            node.kind() == "call" && callee(self.script, node).is_some_and(|name| RUNS.contains(&name));
        is_run || children(node).into_iter().any(|child| self.runs_something(child, depth + 1))
    }

    /// Follows a function, once with the same arguments.
    fn enter(&mut self, name: &str, outer: &Scope, directory: Option<&str>, depth: usize) {
        if self.stack >= MAX_CALLS || self.followed.len() >= MAX_FOLLOWED || is_of_the_way_back(name) {
            return;
        }
        let given = outer.all().map(|(name, value)| format!(" {name}={:?}", value.text)).collect::<String>();
        if !self.followed.insert(format!("{name}{given}")) {
            return;
        }
        self.seen.insert(name.to_owned());
        let Some(function) = self.functions.get(name) else { return };
        let (body, mut scope) = (function.body, self.globals.clone());
        scope.extend(&function.defaults);
        scope.extend(outer);
        self.stack += 1;
        self.block(body, &mut scope, directory, depth);
        self.stack -= 1;
    }

    /// What a call gives a function, as far as it is written down.
    fn given(&self, name: &str, call: Node<'t>, scope: &Scope) -> Scope {
        let mut given = Scope::default();
        let Some(function) = self.functions.get(name) else { return given };
        for (parameter, argument) in function.parameters.iter().zip(arguments(call)) {
            given.bind(self.script, parameter, argument, scope);
        }
        for one in call.child_by_field_name("arguments").map(children).unwrap_or_default() {
            let named = one.child_by_field_name("name").filter(|_| one.kind() == "keyword_argument");
            if let (Some(named), Some(value)) = (named, one.child_by_field_name("value")) {
                given.bind(self.script, self.script.text(named), value, scope);
            }
        }
        given
    }

    fn block(&mut self, node: Node<'t>, scope: &mut Scope, directory: Option<&str>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        for child in children(node) {
            match child.kind() {
                "expression_statement" => {
                    for one in children(child) {
                        self.expression(one, scope, directory, depth);
                        scope.assign(self.script, one);
                    }
                }
                "with_statement" => {
                    let mut directory = directory.map(str::to_owned);
                    self.with(child, scope, &mut directory);
                    self.block(child, scope, directory.as_deref(), depth + 1);
                }
                "function_definition" | "class_definition" | "lambda" => {}
                "call" => self.expression(child, scope, directory, depth),
                _ => self.block(child, scope, directory, depth + 1),
            }
        }
    }

    /// `with cd("…")`, `with lcd("…")`: where the commands inside run.
    fn with(&mut self, statement: Node<'t>, scope: &Scope, directory: &mut Option<String>) {
        let mut open: Vec<(Node<'t>, usize)> = children(statement)
            .into_iter()
            .filter(|child| child.kind() == "with_clause")
            .map(|c| (c, 0))
            .collect();
        while let Some((node, depth)) = open.pop() {
            if node.kind() != "call" {
                if depth < 8 {
                    open.extend(children(node).into_iter().map(|child| (child, depth + 1)));
                }
                continue;
            }
            if matches!(callee(self.script, node), Some("cd" | "lcd"))
                && let Some(argument) = arguments(node).first()
            {
                let to = resolve(self.script, *argument, scope);
                *directory = Some(match directory.as_deref() {
                    Some(from) if !to.starts_with(['/', '~', '$']) => format!("{from}/{to}"),
                    _ => to,
                });
            }
        }
    }

    fn expression(&mut self, node: Node<'t>, scope: &Scope, directory: Option<&str>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        if node.kind() != "call" {
            if !matches!(node.kind(), "string" | "lambda") {
                for child in children(node) {
                    self.expression(child, scope, directory, depth + 1);
                }
            }
            return;
        }
        let Some(name) = callee(self.script, node) else { return };
        let arguments = arguments(node);
        if RUNS.contains(&name) && !arguments.is_empty() {
            // `_run(c, "…")`: the first that is a text.
            let text = arguments.iter().find(|one| is_text(self.script, **one, scope));
            return self.command(node, *text.unwrap_or(&arguments[0]), scope, directory);
        }
        if MOVES.contains(&name) {
            let words = std::iter::once(name.to_owned());
            let words = words.chain(arguments.iter().take(2).map(|one| resolve(self.script, *one, scope)));
            let call = said(words.collect(), None);
            let place = self.at(node);
            return self.work.deed(place, call, Deed::Fetch, None);
        }
        if name == "execute" {
            for argument in &arguments {
                let name = self.script.text(*argument).trim_matches(['"', '\'']).to_owned();
                self.enter(&name, &Scope::default(), None, depth + 1);
            }
            return;
        }
        if self.functions.contains_key(name) {
            let given = self.given(name, node, scope);
            return self.enter(name, &given, directory, depth + 1);
        }
        // `c.run("…").stdout.strip()`, and what stands among the arguments.
        for child in children(node) {
            self.expression(child, scope, directory, depth + 1);
        }
    }

    /// `run("…")`: the commands of its text.
    fn command(&mut self, node: Node<'t>, argument: Node<'t>, scope: &Scope, directory: Option<&str>) {
        let place = self.at(node);
        let text = resolve(self.script, argument, scope);
        for mut call in shell::calls(&text) {
            call.directory = match (&call.directory, directory) {
                (Some(own), Some(outer)) if !own.starts_with(['/', '~', '$']) => {
                    Some(format!("{outer}/{own}"))
                }
                (None, Some(outer)) => Some(outer.to_owned()),
                (own, _) => own.clone(),
            };
            self.work.command(place.clone(), call, None);
        }
    }
}

/// Whether a function is about going back, or about taking down.
fn is_of_the_way_back(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("rollback") || name.contains("revert")
}

/// The last name of what is called: `run` of `c.run`.
fn callee<'s>(script: &Script<'s>, call: Node<'_>) -> Option<&'s str> {
    let function = call.child_by_field_name("function")?;
    match function.kind() {
        "identifier" => Some(script.text(function)),
        "attribute" => function.child_by_field_name("attribute").map(|name| script.text(name)),
        _ => None,
    }
}

/// The arguments without a name.
fn arguments(call: Node<'_>) -> Vec<Node<'_>> {
    let all = call.child_by_field_name("arguments").map(children).unwrap_or_default();
    all.into_iter().filter(|one| one.kind() != "keyword_argument").collect()
}

/// A call that no shell made.
fn said(words: Vec<String>, directory: Option<String>) -> Call {
    Call { words, pipe: Vec::new(), directory, environment: BTreeMap::new(), line: 0 }
}
