//! What the containers are: the image, its environment and volumes, the services and the slots.

use std::collections::BTreeSet;

use super::super::account::Place;
use super::super::draft::{Section, Table, literal};
use super::super::work::{environment_value, is_secret};
use super::super::yaml::{Entry, Node, Value};
use super::roles::Role;
use super::{App, HEALTH, PORTS, Reading, duration, is_word, shell};

/// Where the image lies in the release.
const IMAGE_FILE: &str = "images/web.tar";
/// Why secrets stay out.
const SECRET: &str = "no secret passes through Landfall: the manifest is signed, and not secret";
/// What to do about them.
const SECRET_INSTEAD: &str = "keep it in a file of the host: [shared] files, and a volume \"{shared}/FILE:/PATH/FILE:ro\" \
                              for the application to read";
/// The secret that Rails has a file for.
const MASTER_KEY: (&str, &str) = ("RAILS_MASTER_KEY", "config/master.key");

impl Reading<'_, '_> {
    /// `env`: of the application, or of a role.
    pub(super) fn environment(&mut self, entry: &Entry, mut role: Option<&mut Role>) {
        let is_split = ["clear", "secret", "tags"].iter().any(|key| entry.node.get(key).is_some());
        let clear =
            if is_split { entry.node.get("clear").map(|entry| &entry.node) } else { Some(&entry.node) };
        for variable in clear.map(Node::entries).unwrap_or_default() {
            let name = &variable.key;
            let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && !name.starts_with("LANDFALL_");
            let value = match &variable.node.value {
                Value::Null => Some(String::new()),
                _ => self.text(&variable.node).map(str::to_owned),
            };
            if good && is_secret(name) {
                self.left(variable, SECRET, SECRET_INSTEAD);
                continue;
            }
            match value.filter(|value| good && !value.contains('\0')) {
                Some(value) => {
                    let into = role.as_mut().map_or(&mut self.app.environment, |role| &mut role.environment);
                    into.insert(name.clone(), value);
                    self.carried(variable, "environment of the service");
                }
                None if good => self.left(variable, super::MADE, super::MADE_INSTEAD),
                None => self.left(variable, "it is not the name of a variable", "rename it"),
            }
        }
        if let Some(secret) = entry.node.get("secret") {
            for item in secret.node.items() {
                let name = item.text().map(|text| self.template.restored(text)).unwrap_or_default();
                let from = self.at(item.line);
                self.app.secrets.push((name, from));
            }
        }
        if let Some(tags) = entry.node.get("tags") {
            let instead = "make it a variable of the host ([variables] of agent.toml): {name} stands for it";
            self.left(tags, "what differs from host to host is not part of a release", instead);
        }
    }

    /// Secrets stay on the hosts: the one that Rails has a file for can be mounted.
    pub(super) fn secrets(&mut self) {
        let is_rails = self.app.volumes.iter().any(|volume| volume.contains(":/rails/"))
            || self.work.checkout.has("config/application.rb");
        let (mut secrets, mut first) = (Vec::new(), None);
        for (name, from) in std::mem::take(&mut self.app.secrets) {
            let key = name.split(':').next().unwrap_or(&name);
            if key == MASTER_KEY.0 && is_rails {
                let volume = format!("{{shared}}/{0}:/rails/{0}:ro", MASTER_KEY.1);
                self.app.volumes.push(volume);
                let what = format!("secret {name}");
                self.work.account.carried(
                    &from,
                    what,
                    format!("[shared] files {}, and a volume", MASTER_KEY.1),
                );
                self.work.share(MASTER_KEY.1, false, &from);
                let question = "the image's WORKDIR is /rails, and the container's user can read the file";
                self.work.account.open(Some(&from), "[[service]] volumes", question);
                continue;
            }
            self.work.account.left(&from, format!("secret {name}"), SECRET, SECRET_INSTEAD);
            secrets.push(key.to_owned());
            first = first.or(Some(from));
        }
        if !secrets.is_empty() {
            let question = format!(
                "from where does the application read {}, if not from its environment?",
                secrets.join(", ")
            );
            self.work.account.open(first.as_ref(), "[[service]] volumes, [shared] files", question);
        }
    }

    pub(super) fn volumes(&mut self, entry: &Entry) {
        for item in entry.node.items() {
            let from = self.at(item.line);
            let text = self.text(item).unwrap_or_default().to_owned();
            let what = format!("volume {}", self.brief(item));
            let parts: Vec<&str> = text.split(':').collect();
            let (source, target, options) = match parts[..] {
                [source, target] => (source, target, ""),
                [source, target, options] => (source, target, options),
                _ => ("", "", ""),
            };
            let target = target.trim_end_matches('/');
            let inside = target.strip_prefix('/').unwrap_or_default();
            let is_place = |path: &str| {
                path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && is_word(part))
            };
            let is_taken = self.app.volumes.iter().any(|volume| volume.split(':').nth(1) == Some(target));
            let is_named = is_place(source) && !source.contains('/') && !source.contains(['~', '$']);
            let is_path = source.strip_prefix('/').is_some_and(is_place) && !source.contains('$');
            if !is_place(inside) || is_taken || !(is_named || is_path) {
                let why = "it is no plain volume, or a second one at its place";
                self.work.account.left(&from, what, why, "write it into `volumes` of the service by hand");
                continue;
            }
            let suffix = if options.split(',').any(|option| option == "ro") { ":ro" } else { "" };
            if is_path {
                self.app.volumes.push(format!("{source}:{target}{suffix}"));
                self.work.account.carried(&from, &what, "volumes of the services");
                let question = format!(
                    "{source} is granted by `mounts` below [docker] of each host's agent.toml; or move it below {{shared}}"
                );
                self.work.account.open(Some(&from), "[[service]] volumes", question);
                continue;
            }
            let directory = shell::base(target);
            self.app.volumes.push(format!("{{shared}}/{directory}:{target}{suffix}"));
            self.work.account.carried(
                &from,
                &what,
                format!("volumes of the services, [shared] directories {directory}"),
            );
            self.work.share(directory, true, &from);
            let question = format!(
                "what Docker's volume {source} holds has to be moved to /srv/NAME/shared/{directory} of the host first"
            );
            self.work.account.open(Some(&from), "[shared] directories", question);
        }
    }

    pub(super) fn builder(&mut self, entry: &Entry) {
        for entry in entry.node.entries() {
            let text = self.text(&entry.node).map(str::to_owned).filter(|text| is_word(text));
            match (entry.key.as_str(), text) {
                ("dockerfile", Some(file)) => self.flag(entry, "--file", &file),
                ("target", Some(target)) => self.flag(entry, "--target", &target),
                ("arch", Some(arch)) => self.flag(entry, "--platform", &format!("linux/{arch}")),
                ("context", Some(context)) if !context.contains("://") => {
                    self.app.build.push(context);
                    self.carried(entry, "[[build]] image");
                }
                ("args", None) if matches!(entry.node.value, Value::Map(_)) => {
                    for argument in entry.node.entries() {
                        let value = self.text(&argument.node).filter(|text| is_word(text)).map(str::to_owned);
                        match value {
                            Some(value) => {
                                let value = format!("{}={value}", argument.key);
                                self.flag(argument, "--build-arg", &value);
                            }
                            None => self.left(argument, super::MADE, super::MADE_INSTEAD),
                        }
                    }
                }
                ("arch", _) => self.left(
                    entry,
                    "a release has one image, for one architecture",
                    "make an application of each, or add --platform to the [[build]] step",
                ),
                ("secrets", _) => self.left(
                    entry,
                    "a build has the environment of the operator's machine, and what it writes is released",
                    "add --secret to docker build in the [[build]] step",
                ),
                _ => self.left(
                    entry,
                    "the image is built where `ctl release` runs, by its Docker",
                    "nothing; or write what builds elsewhere into the [[build]] step",
                ),
            }
        }
    }

    fn flag(&mut self, entry: &Entry, flag: &str, value: &str) {
        // Before the context, which is the last.
        self.app.build.splice(0..0, [flag.to_owned(), value.to_owned()]);
        self.carried(entry, "[[build]] image");
    }

    /// The image, and a service for each role.
    pub(super) fn container(&mut self) {
        self.build();
        if self.app.roles.is_empty() {
            let place = self.app.built_at.clone().unwrap_or_else(|| self.at(1));
            self.app.roles.push(Role {
                name: "web".to_owned(),
                place,
                hosts: BTreeSet::new(),
                command: None,
                environment: std::collections::BTreeMap::new(),
                options: Vec::new(),
                is_proxied: None,
            });
        }
        let roles = std::mem::take(&mut self.app.roles);
        let primary = roles.iter().position(|role| role.name == "web").unwrap_or(0);
        for (index, role) in roles.iter().enumerate() {
            let is_elsewhere = index != primary && role.hosts != roles[primary].hosts;
            self.service(role, index == primary, is_elsewhere);
        }
        self.app.roles = roles;
    }

    fn build(&mut self) {
        let has_context = self.app.build.len() % 2 == 1;
        if !has_context {
            self.app.build.push(".".to_owned());
        }
        let tag = format!("landfall/{}", super::super::draft::tame(&self.app.service));
        let tag = if tag.ends_with('/') { format!("{tag}web") } else { tag };
        let command = ["docker", "build", "--tag", &tag].map(str::to_owned);
        let command: Vec<String> = command.into_iter().chain(std::mem::take(&mut self.app.build)).collect();
        let script =
            format!("{}; mkdir -p images; docker save --output {IMAGE_FILE} {tag}", shell::script(&command));
        let from = self.app.built_at.clone().unwrap_or_else(|| self.at(1));
        let name = self.work.draft.name("image");
        let section = Section::new(Table::Build, &from, "image")
            .note("The image becomes a file of the release: no registry is needed, Docker is, where `ctl release` runs.")
            .key("name", name)
            .command("command", &["sh", "-ec", &script]);
        self.work.draft.add(section);
    }

    fn service(&mut self, role: &Role, is_primary: bool, is_elsewhere: bool) {
        let name =
            self.work.draft.name(&super::super::draft::tame(&role.name).chars().take(40).collect::<String>());
        let to = format!("[[service]] {name}");
        self.work.account.carried(&role.place, format!("role {}", role.name), &to);
        let mut section = Section::new(Table::Service, &role.place, &format!("role {}", role.name))
            .key("name", name.as_str());
        if is_elsewhere {
            let question = format!(
                "set `role = {name:?}` below [variables] in agent.toml of the hosts that run it, and another value on the \
                 others. A service with slots runs on every host, on these too: if it must not, make {name} an \
                 application of its own (docs/from/kamal.md)"
            );
            self.work.account.open(Some(&role.place), format!("{to} on"), &question);
            section = section.decide(&question).raw(&format!("on = {{ role = {name:?} }}"));
        }
        section = section.key("driver", "docker").key("image_file", IMAGE_FILE);
        if let Some((command, from)) = &role.command {
            let words = self.command(command, from);
            section = section.command("command", &words);
        }
        let is_published = is_primary && !self.app.is_unproxied && role.is_proxied != Some(false);
        if is_published {
            section = section.key("publish", vec![format!("{{address}}:{}", self.app.port())]);
        } else if role.is_proxied == Some(true) {
            let why = "[traffic] leads requests to one service";
            let instead = "give the role an application of its own (docs/from/kamal.md)";
            self.work.account.left(&role.place, format!("proxy of role {}", role.name), why, instead);
        }
        let mut environment = self.app.environment.clone();
        environment.extend(role.environment.clone());
        section = section.maybe("environment", environment_value(&environment, true));
        if !self.app.volumes.is_empty() {
            section = section.key("volumes", self.app.volumes.clone());
        }
        for (key, value) in &role.options {
            section = section.key(key, value.clone());
        }
        let stop = self.app.stop_s.or(self.app.drain_s);
        let section = section
            .maybe("settle", self.app.settle_s.map(duration))
            .maybe("stop_timeout", stop.map(duration))
            .maybe("log_driver", self.app.log_driver.clone());
        self.work.draft.add(section);
    }

    /// A command of a role: Docker takes words, and what needs a shell gets one.
    fn command(&mut self, command: &str, from: &Place) -> Vec<String> {
        let calls = shell::calls(command);
        let is_plain = !command.contains(['$', '|', ';', '&', '<', '>', '`', '*', '\n', '=']);
        match &calls[..] {
            [call] if is_plain && call.directory.is_none() => {
                call.words.iter().map(|word| literal(word)).collect()
            }
            _ => {
                let question = "a shell has to be in the image: the command needs one";
                self.work.account.open(Some(from), "[[service]] command", question);
                vec!["sh".to_owned(), "-c".to_owned(), literal(command)]
            }
        }
    }

    /// Two slots behind nginx, and the question that is asked all the time.
    pub(super) fn traffic(&mut self) {
        let primary = self.app.roles.iter().find(|role| role.name == "web").or(self.app.roles.first());
        let Some(role) = primary.filter(|role| !self.app.is_unproxied && role.is_proxied != Some(false))
        else {
            return;
        };
        let (place, name) = (role.place.clone(), super::super::draft::tame(&role.name));
        let name: String = name.chars().take(40).collect();
        let name = if name.is_empty() { "step".to_owned() } else { name };
        let port = self.app.port();
        let (blue, green) = match port {
            1024..=65_000 => (port + 1, port + 2),
            _ => (8001, 8002),
        };
        let health = self.app.health.clone().unwrap_or_else(|| HEALTH.to_owned());
        if self.app.health.is_none() {
            let question =
                format!("{HEALTH} is where Kamal asks unless it is said: does the application answer there?");
            self.work.account.open(None, "[[check]] http.url, [traffic] slots.warm_up", question);
        }
        let question = format!(
            "nginx on each host has `proxy_pass` to the upstream that the agent writes, and ports {blue} and {green} are free \
             (docs/reference/landfall-toml.md, slots)"
        );
        self.work.account.open(Some(&place), "[traffic]", &question);
        let warm_up = toml::Value::from(health.as_str());
        let timeout =
            self.app.deploy_s.map(|s| format!(", warm_up_timeout = \"{}\"", duration(s))).unwrap_or_default();
        let traffic = Section::new(Table::Traffic, &place, "Kamal's proxy")
            .decide_above(&question)
            .key("proxy", "nginx")
            .maybe("drain", self.app.drain_s.map(duration))
            .raw(&format!(
                "slots = {{ service = \"{name}\", blue = \"127.0.0.1:{blue}\", green = \"127.0.0.1:{green}\", warm_up = \
                 [{warm_up}]{timeout} }}"
            ));
        self.work.draft.add(traffic);
        let check = self.work.draft.name(shell::base(&health));
        let url = toml::Value::from(format!("http://{{address}}{health}"));
        let section = Section::new(Table::Check, &place, "healthcheck")
            .key("name", check)
            .raw(&format!("http = {{ url = {url} }}"))
            .maybe("interval", self.app.interval_s.map(duration))
            .maybe("timeout", self.app.timeout_s.map(duration));
        self.work.draft.add(section);
    }
}

impl App {
    fn port(&self) -> u16 {
        self.port.unwrap_or(PORTS[usize::from(self.is_first_version)])
    }
}
