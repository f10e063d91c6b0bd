//! What builds, prepares and migrates.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::words;

use super::super::deed::{Deed, Framework, Migration, is_manage};
use super::super::draft::{Section, Table, literal};
use super::super::shell::{self, Call, base};
use super::{Found, Work, environment_value, is_secret, seconds};

impl Work<'_> {
    /// The wheels are built once, the virtualenv on each host: a host asks no index.
    pub(super) fn packages(&mut self, found: &[Found]) {
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
    pub(super) fn builds(&mut self, found: &[Found]) {
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

    pub(super) fn statics(&mut self, found: &[Found], has_python: bool) {
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

    pub(super) fn migration(&mut self, found: &[Found], has_python: bool) {
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
                files.extend(self.requirements.iter().filter(|file| is_file(file)).cloned());
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
        let at = call.words.iter().position(|word| is_manage(word));
        let python = if has_python { "{prepared}/venv/bin/python" } else { "python3" };
        let script = at.map_or("manage.py", |at| &call.words[at]);
        let script = if script.starts_with('$') { "manage.py" } else { script };
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

    /// A path of the script as one of the release: absolute ones name the place where it used to lie.
    #[must_use]
    pub(super) fn relative(&self, path: &str, directory: Option<&str>) -> String {
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
        // Above the root there is nothing of the release.
        if path.split('/').any(|part| part == "..") {
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

/// The variables that mean the same wherever they are set.
fn plain_environment(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let plain = |(name, value): &(&String, &String)| {
        !value.contains(['$', '`']) && !name.starts_with("LANDFALL_") && !is_secret(name)
    };
    environment.iter().filter(plain).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a path can stand for itself among globs.
fn is_file(path: &str) -> bool {
    !path.contains(['*', '?', '[', '{', '\\']) && path.split('/').all(|part| !part.is_empty() && part != "..")
}
