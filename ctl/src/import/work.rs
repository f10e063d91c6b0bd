//! The commands of a deployment, put where a definition has a place for them.
//!
//! They are gathered first, since one says how another is written: a virtualenv which program migrates.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::time::{Duration, human};
use landfall_common::words;

use super::account::{Account, Place};
use super::checkout::Checkout;
use super::deed::{Deed, Framework, Migration};
use super::draft::{Draft, Section, Table, literal};
use super::shell::{self, Call, base};

/// What is being made: the definition and the account of it.
pub struct Work<'c> {
    /// The definition.
    pub draft: Draft,
    /// The account.
    pub account: Account,
    /// Where other files of the repository are.
    pub checkout: &'c Checkout,
    /// A name for the application, where it was found, and whether that is what it is there for.
    pub name: Option<(String, Place, bool)>,
    /// Links into each release, and where each was found.
    shared: BTreeMap<(bool, String), Place>,
    /// The files that name Python's packages.
    requirements: Vec<String>,
    found: Vec<Found>,
}

/// A command and where it stands.
struct Found {
    from: Place,
    call: Call,
    deed: Deed,
    timeout_s: Option<u64>,
}

/// The words on a command that only the host's administrator should give.
const HOST: &str = "it sets up the host, and a release brings only the application";
/// What to do about those.
const HOST_INSTEAD: &str = "leave it to what sets up your hosts, such as Ansible";

impl<'c> Work<'c> {
    /// Nothing yet.
    #[must_use]
    pub fn new(checkout: &'c Checkout) -> Self {
        Self {
            draft: Draft::default(),
            account: Account::default(),
            checkout,
            name: None,
            shared: BTreeMap::new(),
            requirements: Vec::new(),
            found: Vec::new(),
        }
    }

    /// What may be the application's name, unless one was found before.
    pub fn guess_name(&mut self, name: &str, from: &Place) {
        if self.name.is_none() {
            self.name = Some((name.to_owned(), from.clone(), false));
        }
    }

    /// The application's name.
    pub fn name(&mut self, name: &str, from: &Place) {
        self.name = Some((name.to_owned(), from.clone(), true));
    }

    /// A command whose purpose is known.
    pub fn deed(&mut self, from: Place, call: Call, deed: Deed, timeout_s: Option<u64>) {
        self.found.push(Found { from, call, deed, timeout_s });
    }

    /// Something that outlives a release.
    pub fn share(&mut self, path: &str, is_directory: bool, from: &Place) {
        let path = path.trim_start_matches("./").trim_matches('/');
        let good = !path.is_empty()
            && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            && !path.contains(|c: char| c.is_control() || "$<>*".contains(c));
        if !good {
            let why = "it is not a plain path inside the release";
            self.account.left(from, format!("shared {path:?}"), why, "add it to [shared] as it is");
            return;
        }
        // One inside of another would be two links at one place: the outer one stays.
        let inside =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        if let Some((_, other)) = self.shared.keys().find(|(_, other)| inside(path, other) || path == other) {
            let to = format!("[shared] {other}");
            self.account.carried(from, format!("shared {path}"), to);
            return;
        }
        self.shared.retain(|(_, other), _| !inside(other, path));
        let key = if is_directory { "directories" } else { "files" };
        self.account.carried(from, format!("shared {path}"), format!("[shared] {key}"));
        self.shared.insert((is_directory, path.to_owned()), from.clone());
    }

    /// Writes down all that was gathered.
    pub fn settle(&mut self) {
        let found = std::mem::take(&mut self.found);
        let has_python = found.iter().any(|one| matches!(one.deed, Deed::Pip { .. } | Deed::Virtualenv));
        self.packages(&found);
        self.builds(&found);
        self.statics(&found, has_python);
        self.migration(&found, has_python);
        self.services(&found, has_python);
        self.checks(&found);
        self.retention(&found);
        self.sharing(&found);
        self.rest(&found);
        self.account.settle();
    }

    /// The wheels are built once, the virtualenv on each host: a host asks no index.
    fn packages(&mut self, found: &[Found]) {
        let mut what: Vec<String> = Vec::new();
        let mut first: Option<&Found> = None;
        for one in found {
            match &one.deed {
                Deed::Virtualenv => {
                    first = first.or(Some(one));
                    self.account.carried(&one.from, one.call.text(), "[[prepare]] virtualenv");
                }
                Deed::Pip { what: more } => {
                    first = first.or(Some(one));
                    let to = "[[build]] wheels, [[prepare]] packages";
                    self.account.carried(&one.from, one.call.text(), to);
                    let mut is_file = false;
                    for word in more {
                        let word = if is_file {
                            self.relative(word, one.call.directory.as_deref())
                        } else {
                            word.clone()
                        };
                        is_file = word == "-r";
                        what.push(word);
                    }
                }
                _ => {}
            }
        }
        let Some(first) = first else { return };
        let install = found.iter().find(|one| matches!(one.deed, Deed::Pip { .. })).unwrap_or(first);
        let unknown = what.iter().any(|word| word.contains(['$', '{', '`']) || word.starts_with("git+ssh"));
        what = once(&what);
        if what.is_empty() || unknown {
            let known = self.checkout.has("requirements.txt") || unknown || what.is_empty();
            what = if known { vec!["-r".into(), "requirements.txt".into()] } else { what };
            let question = "which packages the application needs: requirements.txt is a guess";
            self.account.open(Some(&first.from), "[[build]] wheels", question);
        }
        let wheel = ["python3", "-m", "pip", "wheel", "--quiet", "--wheel-dir", "wheels"];
        let name = self.draft.name("wheels");
        let wheels = Section::new(Table::Build, &install.from, &install.call.text())
            .note("Built once, where `ctl release` runs: the same Python and distribution as on the hosts are needed there.")
            .key("name", name)
            .command("command", &chain(&wheel, &what));
        self.draft.add(wheels);
        let name = self.draft.name("virtualenv");
        let environment = Section::new(Table::Prepare, &first.from, &first.call.text())
            .note("A release is read-only: what a host makes goes below {prepared}.")
            .key("name", name)
            .command("command", &["python3", "-m", "venv", "{prepared}/venv"]);
        self.draft.add(environment);
        let pip = ["{prepared}/venv/bin/pip", "install", "--quiet", "--no-index", "--find-links", "wheels"];
        let name = self.draft.name("packages");
        let packages = Section::new(Table::Prepare, &install.from, &install.call.text())
            .key("name", name)
            .command("command", &chain(&pip, &what))
            .maybe("timeout", install.timeout_s.map(seconds));
        self.draft.add(packages);
        self.requirements =
            what.windows(2).filter(|pair| pair[0] == "-r").map(|pair| pair[1].clone()).collect();
    }

    /// What is the same on every host is made once.
    fn builds(&mut self, found: &[Found]) {
        let mut seen = BTreeSet::new();
        for one in found {
            let Deed::Build { name, command } = &one.deed else { continue };
            let said = self.in_subdirectory(command, &one.call);
            if !is_plain(&said) {
                let why = "it depends on variables that only its shell knows";
                let instead = "write it as a [[build]] step: builds run once, in a clean tree of the tag";
                self.account.left(&one.from, one.call.text(), why, instead);
                continue;
            }
            if !seen.insert(said.clone()) {
                self.account.carried(&one.from, one.call.text(), format!("[[build]] {name}, as above"));
                continue;
            }
            let name = self.draft.name(name);
            self.account.carried(&one.from, one.call.text(), format!("[[build]] {name}"));
            let environment = plain_environment(&one.call.environment);
            let section = Section::new(Table::Build, &one.from, &one.call.text())
                .key("name", name.as_str())
                .command("command", &said)
                .maybe("timeout", one.timeout_s.map(seconds))
                .maybe("environment", environment_value(&environment, false));
            let rails = command.iter().any(|word| word == "assets:precompile") && environment.is_empty();
            let section = if rails {
                section.raw("environment = { RAILS_ENV = \"production\", SECRET_KEY_BASE_DUMMY = \"1\" }")
            } else {
                section
            };
            self.draft.add(section);
        }
    }

    fn statics(&mut self, found: &[Found], has_python: bool) {
        let mut is_first = true;
        for one in found.iter().filter(|one| one.deed == Deed::Collectstatic) {
            if is_first {
                let name = self.draft.name("static");
                let command = self.managed(&one.call, has_python, "collectstatic");
                let question = "settings.py has to read STATIC_ROOT from the environment, and whoever serves the \
                                files has to look below {prepared}";
                self.account.open(Some(&one.from), format!("[[prepare]] {name}"), question);
                let section = Section::new(Table::Prepare, &one.from, &one.call.text())
                    .decide_above(question)
                    .key("name", name)
                    .command("command", &command)
                    .raw("environment = { STATIC_ROOT = \"{prepared}/static\" }");
                self.draft.add(section);
            }
            self.account.carried(&one.from, one.call.text(), "[[prepare]] static");
            is_first = false;
        }
    }

    fn migration(&mut self, found: &[Found], has_python: bool) {
        let mut is_first = true;
        for one in found {
            let Deed::Migrate(migration) = &one.deed else { continue };
            if !is_first {
                let what = one.call.text();
                self.account.carried(&one.from, what, "[migrate], which runs once for the whole rollout");
                continue;
            }
            is_first = false;
            let (command, files) = self.migrate_command(migration, &one.call, has_python);
            let question = "may the release before run on the new schema? Then add `compatible_with_previous = true`; \
                            without it, and without `down`, ctl release asks for --no-way-back";
            self.account.open(Some(&one.from), "[migrate] compatible_with_previous", question);
            let mut section = Section::new(Table::Migrate, &one.from, &one.call.text())
                .note("Once for the whole rollout, on one host, under a lease.")
                .decide_above(question)
                .command("command", &command);
            let environment = match migration.of {
                Framework::Rails if one.call.environment.is_empty() => {
                    BTreeMap::from([("RAILS_ENV".to_owned(), "production".to_owned())])
                }
                _ => plain_environment(&one.call.environment),
            };
            section = section.maybe("environment", environment_value(&environment, true));
            if let Some(timeout) = one.timeout_s {
                section = section.key("timeout", seconds(timeout)).key("lease", seconds(timeout + 60));
            }
            section = if files.is_empty() {
                let question =
                    "name the files that define the schema as `files`; without them every release migrates";
                self.account.open(Some(&one.from), "[migrate] files", question);
                section.decide(question)
            } else {
                section.key("files", files)
            };
            let unknown = command.iter().any(|word| word.contains(['$', '`', '*', '\0']));
            if unknown {
                let question = "the command depends on variables that only its shell knows: write it out";
                self.account.open(Some(&one.from), "[migrate] command", question);
                section = section.decide(question).commented_out();
            }
            self.account.carried(
                &one.from,
                one.call.text(),
                if unknown { "[migrate], as a comment" } else { "[migrate]" },
            );
            self.draft.add(section);
        }
    }

    fn migrate_command(
        &self,
        migration: &Migration,
        call: &Call,
        has_python: bool,
    ) -> (Vec<String>, Vec<String>) {
        match migration.of {
            Framework::Django => {
                // Packages bring migrations of their own.
                let mut files = vec!["**/migrations/*.py".to_owned()];
                files.extend(
                    self.requirements.iter().filter(|file| !file.contains(['*', '[', '{', '\\'])).cloned(),
                );
                (self.managed(call, has_python, "migrate"), files)
            }
            Framework::Rails => {
                let command = ["bundle", "exec", "rails", "db:migrate"].map(str::to_owned).to_vec();
                (command, vec!["db/migrate/*.rb".to_owned()])
            }
            Framework::Laravel => {
                let command = ["php", "artisan", "migrate", "--force"].map(str::to_owned).to_vec();
                (command, vec!["database/migrations/*.php".to_owned()])
            }
            Framework::Other => {
                let mut command: Vec<String> = migration.command.iter().map(|word| literal(word)).collect();
                let program = command.first().map_or("", |word| base(word)).to_owned();
                if has_python && matches!(program.as_str(), "alembic" | "flask" | "python" | "python3") {
                    command[0] = format!("{{prepared}}/venv/bin/{program}");
                }
                (command, Vec::new())
            }
        }
    }

    /// A command of Django's, by the virtualenv of the release.
    fn managed(&self, call: &Call, has_python: bool, verb: &str) -> Vec<String> {
        let at = call.words.iter().position(|word| base(word) == "manage.py");
        let python = if has_python { "{prepared}/venv/bin/python" } else { "python3" };
        let script = at.map_or("manage.py", |at| &call.words[at]);
        let mut command = vec![python.to_owned(), self.relative(script, call.directory.as_deref())];
        if at.is_none() {
            command =
                vec![if has_python { "{prepared}/venv/bin/django-admin" } else { "django-admin" }.to_owned()];
        }
        let rest = call
            .words
            .iter()
            .skip_while(|word| !matches!(word.as_str(), "migrate" | "syncdb" | "collectstatic"));
        command.push(verb.to_owned());
        command.extend(rest.skip(1).filter(|word| !word.contains('$')).map(|word| literal(word)));
        if !command.iter().any(|word| matches!(word.as_str(), "--noinput" | "--no-input")) {
            command.push("--noinput".to_owned());
        }
        command
    }

    fn services(&mut self, found: &[Found], has_python: bool) {
        let mut units: Vec<(&str, &Found, bool)> = Vec::new();
        let mut programs: Vec<(&str, &Found)> = Vec::new();
        for one in found {
            match &one.deed {
                Deed::Unit { name, is_reload } if !name.contains(['$', '{', '%', '*', '@']) => {
                    units.push((name, one, *is_reload));
                }
                Deed::Supervised(name) if !name.contains(['$', '{', '%']) && name != "all" => {
                    programs.push((name, one));
                }
                Deed::Unit { name, .. } | Deed::Supervised(name) => self.unknown_service(one, name),
                Deed::Passenger => self.passenger(one),
                Deed::Run(command) => self.process(one, command, has_python),
                Deed::Container => {
                    let why = "how the container runs is not written in one line that can be carried over";
                    let instead = "describe it as a [[service]] with driver \"docker\" (docs/reference/landfall-toml.md, \
                                   Services of Docker)";
                    self.account.left(&one.from, one.call.text(), why, instead);
                }
                _ => {}
            }
        }
        let mut seen = BTreeSet::new();
        let mut is_first = |name: &str, one: &Found, account: &mut Account| {
            let is_first = seen.insert(name.to_owned());
            if !is_first {
                account.carried(&one.from, one.call.text(), "[[service]], as above");
            }
            is_first
        };
        units.retain(|(name, one, _)| is_first(name, one, &mut self.account));
        programs.retain(|(name, one)| is_first(name, one, &mut self.account));
        let is_only = units.len() + programs.len() == 1;
        for (unit, one, is_reload) in units {
            let stem = unit.trim_end_matches(".service");
            let unit = if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
            let name = self.draft.name(if is_only { "web" } else { stem });
            let how = if is_reload { "reload" } else { "restart" };
            self.account.carried(&one.from, one.call.text(), format!("[[service]] {name}, unit {unit}"));
            let question = format!(
                "{unit} has to start in /srv/{{application}}/current, and is down while it restarts; for none to wait, let \
                 the driver `process` hold the socket (docs/recipes)"
            );
            let question = question.replace("{application}", "NAME");
            self.account.open(Some(&one.from), format!("[[service]] {name}"), &question);
            let section = Section::new(Table::Service, &one.from, &one.call.text())
                .decide_above(&question)
                .key("name", name)
                .key("driver", "systemd")
                .key("unit", unit)
                .key("how", how);
            self.draft.add(section);
        }
        for (program, one) in programs {
            let (key, value) = match program.strip_suffix(":*").or_else(|| program.strip_suffix(':')) {
                Some(group) => ("group", group),
                None => ("program", program),
            };
            let name = self.draft.name(if is_only { "web" } else { value });
            self.account.carried(&one.from, one.call.text(), format!("[[service]] {name}, {key} {value}"));
            let question = format!(
                "{value} has `directory` /srv/NAME/current, and the agent may use Supervisor's socket \
                 (docs/reference/landfall-toml.md, Services of Supervisor)"
            );
            self.account.open(Some(&one.from), format!("[[service]] {name}"), &question);
            let section = Section::new(Table::Service, &one.from, &one.call.text())
                .decide_above(&question)
                .key("name", name)
                .key("driver", "supervisor")
                .key(key, value);
            self.draft.add(section);
        }
    }

    fn unknown_service(&mut self, one: &Found, name: &str) {
        let driver = if matches!(one.deed, Deed::Unit { .. }) { "systemd" } else { "supervisor" };
        let why = format!("which one {name:?} stands for is decided where the command runs");
        let instead = format!("add a [[service]] with driver {driver:?} for each that the application needs");
        self.account.left(&one.from, one.call.text(), why, instead);
    }

    /// As the plugins for Passenger do it.
    fn passenger(&mut self, one: &Found) {
        self.account.carried(&one.from, one.call.text(), "[[service]] web, by passenger-config");
        if self.draft.has(Table::Service) {
            return;
        }
        let name = self.draft.name("web");
        let question = "Passenger has to serve /srv/NAME/current, and passenger-config must be allowed to the agent's user";
        self.account.open(Some(&one.from), format!("[[service]] {name}"), question);
        let section = Section::new(Table::Service, &one.from, &one.call.text())
            .note("A release is read-only: its tmp/restart.txt cannot be touched.")
            .decide_above(question)
            .key("name", name)
            .key("driver", "exec")
            .command(
                "restart",
                &["passenger-config", "restart-app", "{current}", "--ignore-app-not-running"],
            );
        self.draft.add(section);
    }

    /// A process that was started by hand has no keeper: the driver `process` would be it.
    fn process(&mut self, one: &Found, command: &[String], has_python: bool) {
        let question = format!(
            "how the application is run in the foreground, and where it listens: {:?} started it so far (docs/recipes)",
            one.call.text()
        );
        self.account.open(Some(&one.from), "[[service]] web", &question);
        self.account.carried(&one.from, one.call.text(), "[[service]], as a comment");
        let mut command: Vec<String> = command.iter().map(|word| literal(word)).collect();
        let program = base(&command[0]).to_owned();
        let of_python =
            ["gunicorn", "uwsgi", "uvicorn", "daphne", "hypercorn", "celery", "flask", "python", "python3"];
        if has_python && of_python.contains(&program.as_str()) {
            command[0] = format!("{{prepared}}/venv/bin/{program}");
        }
        let section = Section::new(Table::Service, &one.from, &one.call.text())
            .decide_above(&question)
            .key("name", "web")
            .key("driver", "process")
            .command("command", &command)
            .key("listen", "127.0.0.1:8000")
            .raw("ready = { http = \"/healthz\" }")
            .commented_out();
        self.draft.add(section);
    }

    fn checks(&mut self, found: &[Found]) {
        let mut seen = BTreeSet::new();
        for one in found {
            let Deed::Probe(url) = &one.deed else { continue };
            let last = url.splitn(4, '/').nth(3).unwrap_or_default();
            let last = base(last.split('?').next().unwrap_or_default());
            if !seen.insert(url) {
                self.account.carried(&one.from, one.call.text(), "[[check]], as above");
                continue;
            }
            let name = self.draft.name(if last.is_empty() { "front-page" } else { last });
            self.account.carried(&one.from, one.call.text(), format!("[[check]] {name}"));
            let http = toml::Table::from_iter([("url".to_owned(), toml::Value::from(literal(url)))]);
            let section =
                Section::new(Table::Check, &one.from, &one.call.text()).key("name", name).key("http", http);
            self.draft.add(section);
        }
    }

    fn retention(&mut self, found: &[Found]) {
        for one in found {
            let Deed::Retain(number) = one.deed else { continue };
            self.keep(number, &one.from, &one.call.text());
        }
    }

    /// So many releases stay on a host.
    pub fn keep(&mut self, releases: u32, from: &Place, what: &str) {
        if self.draft.has(Table::Retention) {
            return self.account.carried(from, what, "[retention], as above");
        }
        let kept = releases.clamp(2, 1000);
        self.account.carried(from, what, format!("[retention] releases = {kept}"));
        let mut section = Section::new(Table::Retention, from, what);
        if kept != releases {
            section = section.note("Between 2 and 1000: the active one and the last good one always stay.");
        }
        self.draft.add(section.key("releases", i64::from(kept)));
    }

    fn sharing(&mut self, found: &[Found]) {
        for one in found {
            let Deed::Share { path } = &one.deed else { continue };
            // As far as a name tells: files have an extension, or are dotfiles.
            let is_directory = !base(path).contains('.');
            self.share(path, is_directory, &one.from);
        }
        if self.shared.is_empty() {
            return;
        }
        let places: BTreeSet<String> = self.shared.values().map(ToString::to_string).collect();
        let places: Vec<String> = places.into_iter().collect();
        let of = |kind: bool| -> Option<Vec<String>> {
            let paths: Vec<String> =
                self.shared.keys().filter(|(is, _)| *is == kind).map(|(_, path)| path.clone()).collect();
            (!paths.is_empty()).then_some(paths)
        };
        let section = Section::noted(Table::Shared, &format!("From {}.", places.join(", ")))
            .maybe("directories", of(true))
            .maybe("files", of(false));
        self.draft.add(section);
    }

    /// What has no place in a definition, with the reason.
    fn rest(&mut self, found: &[Found]) {
        for one in found {
            let (why, instead) = match one.deed {
                Deed::Other => (
                    "nothing here says what it is for",
                    "what prepares files belongs into [[build]] or [[prepare]], what proves the release into [[smoke]]",
                ),
                Deed::Fetch => (
                    "no host fetches the code: the tag's tree is packed once, signed, and brought to each host",
                    "nothing, if it brings the application's own files; others belong to what sets up your hosts",
                ),
                Deed::Copy => (
                    "a release is read-only, and complete when it is staged",
                    "make files in [[build]], or below {prepared} in [[prepare]]; what a host keeps goes into [shared], \
                     what belongs to the system is for what sets up your hosts",
                ),
                Deed::Switch => ("`current` is changed by rename(2), as a step of its own", "nothing"),
                Deed::Stop => (
                    "what ran before is ended by the service's driver, once the new release serves",
                    "nothing, if it is the application's own process",
                ),
                Deed::Host => (HOST, HOST_INSTEAD),
                Deed::ProbeElsewhere => (
                    "a check asks the service on its own host, over plain HTTP, and without data",
                    "ask it from a script in [[smoke]]",
                ),
                _ => continue,
            };
            self.account.left(&one.from, one.call.text(), why, instead);
        }
    }

    /// A path of the script as one of the release: absolute ones name the place where it used to lie.
    #[must_use]
    pub fn relative(&self, path: &str, directory: Option<&str>) -> String {
        let joined = match directory {
            Some(directory) if !path.starts_with(['/', '~', '$', '{']) => format!("{directory}/{path}"),
            _ => path.to_owned(),
        };
        let parts: Vec<&str> =
            joined.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..").collect();
        // The longest end of it that is there is meant; where nothing is, its own words have to do.
        for from in 0..parts.len() {
            let end = parts[from..].join("/");
            if !end.contains(['$', '{', '~']) && self.checkout.has(&end) {
                return end;
            }
        }
        if path.starts_with(['/', '~', '$', '{']) {
            return base(path).to_owned();
        }
        path.trim_start_matches("./").to_owned()
    }

    /// A command that ran in a directory of the repository below its root runs there.
    fn in_subdirectory(&self, command: &[String], call: &Call) -> Vec<String> {
        let marker = match call.program() {
            "npm" | "npx" | "yarn" | "pnpm" | "gulp" | "grunt" | "webpack" | "bower" => "package.json",
            "composer" => "composer.json",
            "bundle" => "Gemfile",
            _ => return command.to_vec(),
        };
        let Some(directory) = call.directory.as_deref().filter(|_| !self.checkout.has(marker)) else {
            return command.to_vec();
        };
        let found = self.relative(&format!("{directory}/{marker}"), None);
        let Some((below, _)) = found.rsplit_once('/').filter(|_| self.checkout.has(&found)) else {
            return command.to_vec();
        };
        let script = format!("cd {} && exec {}", shell::script(&[below.to_owned()]), shell::script(command));
        vec!["sh".to_owned(), "-ec".to_owned(), script]
    }
}

/// Whether no word waits for a shell to fill it in, nor would be taken for one of Landfall's.
fn is_plain(command: &[String]) -> bool {
    let is_shell = command.first().is_some_and(|program| program == "sh");
    let waits = |word: &String| word.contains(['$', '`', '*', '\0']);
    !command.iter().any(|word| words::names(word).any(|name| words::KNOWN.contains(&name)))
        && (is_shell || !command.iter().any(waits))
}

/// Each `-r FILE` and each package once, in order.
fn once(what: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    let mut words = what.iter();
    while let Some(word) = words.next() {
        let pair = if word == "-r" {
            vec![word.clone(), words.next().cloned().unwrap_or_default()]
        } else {
            vec![word.clone()]
        };
        if seen.insert(pair.clone()) {
            out.extend(pair);
        }
    }
    out
}

fn chain(command: &[&str], more: &[String]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).chain(more.iter().cloned()).collect()
}

/// A duration as the definition writes it.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    human::format(Duration::from_secs(seconds.clamp(1, 24 * 60 * 60)))
}

/// The variables that mean the same wherever they are set.
fn plain_environment(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let plain = |(name, value): &(&String, &String)| {
        !value.contains(['$', '`']) && !name.starts_with("LANDFALL_") && !is_secret(name)
    };
    environment.iter().filter(plain).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a variable's name promises that its value is nobody else's business.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    [
        "SECRET",
        "PASSWORD",
        "TOKEN",
        "PASS",
        "CREDENTIAL",
        "PRIVATE",
        "ACCESS_KEY",
        "API_KEY",
        "MASTER_KEY",
        "DSN",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// An environment as a value, if there is anything in it.
#[must_use]
pub fn environment_value(environment: &BTreeMap<String, String>, on_host: bool) -> Option<toml::Value> {
    if environment.is_empty() {
        return None;
    }
    let text = |value: &String| if on_host { literal(value) } else { value.clone() };
    let entries = environment.iter().map(|(name, value)| (name.clone(), toml::Value::from(text(value))));
    Some(toml::Value::Table(entries.collect()))
}
