//! What runs, by what restarted it.

use std::collections::BTreeSet;

use super::super::account::Account;
use super::super::deed::Deed;
use super::super::draft::{Section, Table, literal, one_line};
use super::super::shell::base;
use super::{Found, Work};

impl Work<'_> {
    pub(super) fn services(&mut self, found: &[Found], has_python: bool) {
        let mut units: Vec<(&str, &Found, bool)> = Vec::new();
        let mut programs: Vec<(&str, &Found)> = Vec::new();
        for one in found {
            match &one.deed {
                Deed::Unit { names, is_reload } => {
                    for name in names {
                        if name.contains(['$', '{', '%', '*', '@']) {
                            self.unknown_service(one, name);
                        } else {
                            units.push((name, one, *is_reload));
                        }
                    }
                }
                Deed::Supervised(names) => {
                    for name in names {
                        if name.contains(['$', '{', '%']) || name == "all" {
                            self.unknown_service(one, name);
                        } else {
                            programs.push((name, one));
                        }
                    }
                }
                Deed::Passenger => self.passenger(one),
                Deed::Serve { command } => self.served(one, command, found),
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

    /// An application server whose way of starting is known. Where it listens a probe tells, or nobody.
    fn served(&mut self, one: &Found, command: &[String], found: &[Found]) {
        let probe = found.iter().find_map(|one| match &one.deed {
            Deed::Probe(url) => url.strip_prefix("http://")?.split_once('/'),
            _ => None,
        });
        let probe = probe.filter(|(address, path)| address.contains(':') && !path.contains('?'));
        let name = self.draft.name("web");
        self.account.carried(&one.from, one.call.text(), format!("[[service]] {name}"));
        let question = match probe {
            Some(_) => "config/puma.rb has to take the socket that is held (docs/recipes/puma.md)",
            None => {
                "the address that it is to listen on, and a path for `ready`; config/puma.rb has to take the socket that is \
                 held (docs/recipes/puma.md)"
            }
        };
        self.account.open(Some(&one.from), format!("[[service]] {name}"), question);
        let section = Section::new(Table::Service, &one.from, &one.call.text())
            .decide_above(question)
            .key("name", name)
            .key("driver", "process")
            .command("command", command)
            .raw("environment = { RAILS_ENV = \"production\", RAILS_LOG_TO_STDOUT = \"1\" }");
        let section = match probe {
            Some((address, path)) => section
                .key("listen", address)
                .raw(&format!("ready = {{ http = {} }}", one_line(&literal(&format!("/{path}")).into()))),
            None => section.key("listen", "127.0.0.1:8000").raw("ready = { alive = \"5s\" }"),
        };
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
        let is_worker = ["sidekiq", "celery", "jobs:work", "resque", "rq"];
        let worker = is_worker.into_iter().find(|word| command.iter().any(|one| base(one) == *word));
        let section = Section::new(Table::Service, &one.from, &one.call.text())
            .decide_above(&question)
            .key("name", if worker.is_some() { "worker" } else { "web" })
            .key("driver", "process")
            .command("command", &command);
        let section = match worker {
            Some(_) => section,
            None => section.key("listen", "127.0.0.1:8000").raw("ready = { http = \"/healthz\" }"),
        };
        self.draft.add(section.commented_out());
    }
}
