//! Kamal's `config/deploy.yml`: the image stays, and the driver `docker` runs it.
//!
//! Kamal's own proxy is replaced by nginx with two slots, as docs/from/kamal.md does it by hand. The registry is done
//! without: a build step writes the image into the release, which is the one thing that can be known from the file alone.

mod container;
mod erb;
mod roles;

use std::collections::BTreeMap;

use landfall_common::time::{Duration, human};

use super::account::Place;
use super::draft::{Section, Table};
use super::shell;
use super::work::Work;
use super::yaml::{self, Entry, Node};
use super::{Kind, Source};
use crate::error::Error;
use erb::Template;
use roles::Role;

/// Where Kamal asks a container how it is, unless it is said.
const HEALTH: &str = "/up";
/// The port of a container, unless it is said: of Kamal 2, and of Kamal 1.
const PORTS: [u16; 2] = [80, 3000];
/// Landfall's `min_healthy`: a shorter `boot.wait` is no wait at all.
const MIN_HEALTHY_S: u64 = 10;

/// What the file says of the application, until all of it is read.
#[derive(Default)]
struct App {
    service: String,
    port: Option<u16>,
    health: Option<String>,
    interval_s: Option<u64>,
    timeout_s: Option<u64>,
    deploy_s: Option<u64>,
    drain_s: Option<u64>,
    stop_s: Option<u64>,
    settle_s: Option<u64>,
    log_driver: Option<String>,
    is_first_version: bool,
    environment: BTreeMap<String, String>,
    volumes: Vec<String>,
    secrets: Vec<(String, Place)>,
    roles: Vec<Role>,
    /// Whether `proxy: false` was said.
    is_unproxied: bool,
    build: Vec<String>,
    built_at: Option<Place>,
}

/// One reading of a file.
struct Reading<'r, 'c> {
    source: &'r Source<'r>,
    template: Template,
    work: &'r mut Work<'c>,
    app: App,
}

/// Reads the file into `work`.
pub(super) fn read(source: &Source<'_>, work: &mut Work<'_>) -> Result<(), Error> {
    let next = "correct the file; is it another tool's? Then say whose: --kind KIND";
    let template = erb::read(source.text);
    let root = yaml::parse(source.name, &template.text)
        .map_err(|mistake| source.refused(Kind::Kamal, *mistake, next))?;
    check(source, &root)?;
    let mut reading = Reading { source, template, work, app: App::default() };
    reading.code();
    reading.app.is_first_version = root.get("traefik").is_some() || root.get("healthcheck").is_some();
    root.entries().iter().for_each(|entry| reading.entry(entry));
    reading.secrets();
    reading.container();
    reading.traffic();
    reading.destinations();
    reading.around();
    Ok(())
}

fn check(source: &Source<'_>, root: &Node) -> Result<(), Error> {
    let is_named = root.get("service").is_some_and(|entry| entry.node.text().is_some());
    if is_named && ["image", "servers", "proxy"].iter().any(|key| root.get(key).is_some()) {
        return Ok(());
    }
    let message = "Kamal's file has `service`, and `image` or `servers`; this one has not";
    let next = "name the file that Kamal reads, or say whose it is: --kind KIND";
    Err(source.refused_at(Kind::Kamal, 1, message, next))
}

impl Reading<'_, '_> {
    /// Where an entry stands.
    fn at(&self, line: usize) -> Place {
        self.source.at(line)
    }

    /// A plain text: not one that Ruby makes while Kamal reads the file.
    fn text<'n>(&self, node: &'n Node) -> Option<&'n str> {
        node.text().filter(|text| !self.template.is_made(text))
    }

    /// A node in a few words, as it stands in the file.
    fn brief(&self, node: &Node) -> String {
        self.template.restored(&node.brief())
    }

    fn left(&mut self, entry: &Entry, why: &str, instead: &str) {
        let what = match self.brief(&entry.node) {
            text if text.is_empty() => entry.key.clone(),
            text => format!("{}: {text}", entry.key),
        };
        let from = self.at(entry.line);
        self.work.account.left(&from, what, why, instead);
    }

    fn carried(&mut self, entry: &Entry, to: impl Into<String>) {
        let what = format!("{}: {}", entry.key, self.brief(&entry.node));
        let from = self.at(entry.line);
        self.work.account.carried(&from, what, to);
    }

    /// A number of seconds.
    fn seconds(&mut self, entry: &Entry, to: &str) -> Option<u64> {
        let text = self.text(&entry.node).map(|text| text.trim_end_matches('s'));
        match text.and_then(|text| text.parse::<u64>().ok()).filter(|number| (1..=86_400).contains(number)) {
            Some(number) => {
                self.carried(entry, to);
                Some(number)
            }
            None => {
                self.left(entry, "it is no number of seconds", "write it into the definition by hand");
                None
            }
        }
    }

    /// Code between `<%` and `%>` runs when Kamal reads the file, and not here.
    fn code(&mut self) {
        for (line, code) in self.template.code.clone() {
            let from = self.at(line);
            let why = "Ruby runs it when Kamal reads the file, and nothing of the file is executed here";
            let instead = "look at what `kamal config` shows, and write that into the definition";
            self.work.account.left(&from, code, why, instead);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        match entry.key.as_str() {
            "service" => {
                let from = self.at(entry.line);
                if let Some(name) = self.text(&entry.node).map(str::to_owned) {
                    self.work.name(&name, &from);
                    self.app.service = name;
                    self.carried(entry, "[application] name");
                } else {
                    self.left(entry, MADE, MADE_INSTEAD);
                }
            }
            "image" => {
                self.app.built_at = Some(self.at(entry.line));
                self.carried(entry, "[[build]] image, image_file of the services");
            }
            "servers" => self.servers(entry),
            "env" => self.environment(entry, None),
            "volumes" => self.volumes(entry),
            "proxy" => self.proxy(entry),
            "healthcheck" => self.healthcheck(entry),
            "builder" => self.builder(entry),
            "boot" => self.boot("production", entry),
            "retain_containers" => match self.text(&entry.node).and_then(|text| text.parse().ok()) {
                Some(number) => {
                    let from = self.at(entry.line);
                    self.work.keep(number, &from, &format!("retain_containers: {number}"));
                }
                None => self.left(entry, "it is no number", "write [retention] releases by hand"),
            },
            "deploy_timeout" => self.app.deploy_s = self.seconds(entry, "[traffic] slots.warm_up_timeout"),
            "drain_timeout" => {
                self.app.drain_s = self.seconds(entry, "[traffic] drain, and stop_timeout of the services");
            }
            "stop_wait_time" => self.app.stop_s = self.seconds(entry, "stop_timeout of the services"),
            "readiness_delay" => self.app.settle_s = self.seconds(entry, "settle of the services"),
            "logging" => self.logging(entry),
            "accessories" => self.accessories(entry),
            "asset_path" => self.left(
                entry,
                "each release has its own files, and no other's",
                "let nginx serve the assets of both slots, or keep those of the release before in the image",
            ),
            "registry" => self.left(
                entry,
                "no registry is needed: the image is a file of the release, and a host fetches what it lacks of it",
                "to keep it, write `image = \"NAME@sha256:…\"` with the digest that docker push prints, and `credentials` \
                 below [docker] of each host's agent.toml",
            ),
            "ssh" | "sshkit" => self.left(
                entry,
                "hosts pull what they run: nobody needs ssh for a release",
                "nothing; ctl hosts token lets a host join",
            ),
            "traefik" => self.left(entry, PROXY, PROXY_INSTEAD),
            "labels" => self.left(
                entry,
                "containers have Landfall's own labels alone",
                "nothing, if they were for Traefik; what reads others can read landfall.*",
            ),
            "aliases" => self.left(
                entry,
                "Landfall runs what is signed, at the time that the definition says, and no command by hand",
                "docker exec on the host, by ssh",
            ),
            key if key.starts_with("x-") => {}
            "primary_role" | "minimum_version" | "require_destination" | "allow_empty_roles" | "hooks_path"
            | "secrets_path" | "run_directory" | "error_pages_path" | "retries" | "output" => {
                self.left(entry, "it is about Kamal itself", "nothing");
            }
            _ => self.left(entry, "Kamal does not know it, or not yet", "nothing, if it had no effect"),
        }
    }

    fn proxy(&mut self, entry: &Entry) {
        if entry.node.text() == Some("false") {
            self.app.is_unproxied = true;
            return self.carried(entry, "no port is published");
        }
        for entry in entry.node.entries() {
            match entry.key.as_str() {
                "app_port" => {
                    match self.text(&entry.node).and_then(|text| text.parse().ok()).filter(|port| *port > 0) {
                        Some(port) => {
                            self.app.port = Some(port);
                            self.carried(entry, "publish of the service, and the ports of its slots");
                        }
                        None => self.left(entry, "it is no port", "write `publish` by hand"),
                    }
                }
                "healthcheck" => self.healthcheck(entry),
                "response_timeout" => self.left(entry, PROXY, "proxy_read_timeout of nginx"),
                "ssl" | "host" | "hosts" | "ssl_redirect" | "tls" => self.left(entry, PROXY, PROXY_INSTEAD),
                _ => self.left(entry, PROXY, PROXY_INSTEAD),
            }
        }
    }

    fn healthcheck(&mut self, entry: &Entry) {
        for entry in entry.node.entries() {
            match entry.key.as_str() {
                "path" => match self.text(&entry.node).filter(|path| is_path(path)).map(str::to_owned) {
                    Some(path) => {
                        self.app.health = Some(path);
                        self.carried(entry, "[[check]] http.url, [traffic] slots.warm_up");
                    }
                    None => self.left(
                        entry,
                        "it is no plain path",
                        "write it into [[check]] and `warm_up` by hand",
                    ),
                },
                "port" => {
                    match self.text(&entry.node).and_then(|text| text.parse().ok()).filter(|port| *port > 0) {
                        Some(port) => {
                            self.app.port = self.app.port.or(Some(port));
                            self.carried(entry, "publish of the service");
                        }
                        None => self.left(entry, "it is no port", "write `publish` by hand"),
                    }
                }
                "interval" => self.app.interval_s = self.seconds(entry, "[[check]] interval"),
                "timeout" => self.app.timeout_s = self.seconds(entry, "[[check]] timeout"),
                _ => self.left(
                    entry,
                    "a check asks over HTTP until `healthy_deadline`, and goes on afterwards",
                    "a command can be a check as well: [[check]] exec, on the host",
                ),
            }
        }
    }

    fn boot(&mut self, environment: &str, entry: &Entry) {
        let from = self.at(entry.line);
        let mut section = Section::environment(environment, &format!("From {from}: boot")).key("canary", 1);
        for entry in entry.node.entries() {
            match (entry.key.as_str(), self.text(&entry.node).map(str::to_owned)) {
                ("limit", Some(limit)) if amount(&limit).is_some() => {
                    section = section.maybe("batch", amount(&limit));
                    self.carried(entry, format!("[environment.{environment}] batch"));
                }
                ("wait", Some(wait)) if wait.parse::<u64>().is_ok_and(|wait| wait <= MIN_HEALTHY_S) => {
                    let to = format!("min_healthy, which is {MIN_HEALTHY_S} s");
                    self.carried(entry, to);
                }
                ("wait", Some(wait)) if wait.parse::<u64>().is_ok_and(|wait| wait < 240) => {
                    let wait: u64 = wait.parse().unwrap_or(MIN_HEALTHY_S);
                    section = section.key("min_healthy", duration(wait));
                    self.carried(entry, format!("[environment.{environment}] min_healthy"));
                }
                _ => self.left(
                    entry,
                    "a rollout has no such knob",
                    "[environment.NAME] has `batch` and `min_healthy`",
                ),
            }
        }
        self.work.draft.add(section);
    }

    fn logging(&mut self, entry: &Entry) {
        for entry in entry.node.entries() {
            match (entry.key.as_str(), self.text(&entry.node)) {
                ("driver", Some(driver)) if ["local", "json-file", "journald"].contains(&driver) => {
                    self.app.log_driver = Some(driver.to_owned());
                    self.carried(entry, "log_driver of the services");
                }
                _ => self.left(
                    entry,
                    "logs are bounded, and can be read back: `local` and `json-file` keep 16 MB of each container",
                    "log_driver = \"journald\" gives them to the host's journal, which sends them on",
                ),
            }
        }
    }

    fn accessories(&mut self, entry: &Entry) {
        for accessory in entry.node.entries() {
            let image = accessory.node.get("image").map(|entry| self.brief(&entry.node)).unwrap_or_default();
            let from = self.at(accessory.line);
            self.work.account.left(
                &from,
                format!("accessory {}: {image}", accessory.key),
                "a database, a cache are not released with the application",
                "leave it running as it is, and take it into what sets up your hosts",
            );
        }
    }

    /// `deploy.staging.yml` beside `deploy.yml`: an environment of that name.
    fn destinations(&mut self) {
        let (directory, name) = self.source.name.rsplit_once('/').unwrap_or(("", self.source.name));
        let Some(stem) = name.strip_suffix(".yml").or_else(|| name.strip_suffix(".yaml")) else { return };
        for file in self.work.checkout.list(directory) {
            let rest = file.strip_prefix(stem).and_then(|rest| rest.strip_prefix('.'));
            let Some(destination) = rest.and_then(|rest| rest.strip_suffix(".yml")) else { continue };
            let path = if directory.is_empty() { file.clone() } else { format!("{directory}/{file}") };
            let from = Place::new(&path, 1);
            let Ok(name) = landfall_common::EnvName::new(destination) else { continue };
            let what = format!("destination {destination}");
            self.work.account.carried(&from, &what, format!("[environment.{name}]"));
            let why = "one release goes to every environment: what differs there is not part of it";
            let instead = "make it a file or a variable of the host ([shared] files, [variables] of agent.toml); how its \
                           rollouts go is [environment.NAME]";
            self.work.account.left(&from, what, why, instead);
            if name.as_str() != "production" {
                let note = format!("From {path}: how a rollout there goes is Landfall's default.");
                self.work
                    .draft
                    .add(Section::environment(name.as_str(), &note).key("canary", 1).key("batch", "25%"));
            }
        }
    }

    /// What Kamal finds beside its file: hooks, and an entrypoint that migrates.
    fn around(&mut self) {
        for hook in self.work.checkout.list(".kamal/hooks") {
            if hook.ends_with(".sample") {
                continue;
            }
            let from = Place::new(&format!(".kamal/hooks/{hook}"), 1);
            let why = "nothing runs on the operator's machine around a release but its [[build]] steps";
            let instead = "what builds goes into [[build]], what proves a release into [[smoke]], a migration into \
                           [migrate]; a pipeline can run the rest before and after ctl release";
            self.work.account.left(&from, format!("hook {hook}"), why, instead);
        }
        let mut from = None;
        for file in ["bin/docker-entrypoint", "docker-entrypoint.sh", "entrypoint.sh", "Dockerfile"] {
            let Some(text) = self.work.checkout.read(file) else { continue };
            let line =
                text.lines().position(|line| line.contains("db:prepare") || line.contains("db:migrate"));
            from = from.or(line.map(|line| Place::new(file, line + 1)));
        }
        let question = "what migrates the schema? Each container does, if its entrypoint does; for once in a rollout, take it \
                        out there and give [migrate] a command, which runs on the host";
        self.work.account.open(from.as_ref(), "[migrate]", question);
        let note = format!("DECIDE: {question}");
        let section = match &from {
            Some(from) => Section::new(Table::Migrate, from, "the entrypoint of every container").note(&note),
            None => Section::noted(Table::Migrate, &note),
        };
        self.work.draft.add(section.command("command", &["sh", "deploy/migrate.sh"]).commented_out());
    }
}

/// Why a value that Ruby makes stays out.
const MADE: &str = "Ruby makes it when Kamal reads the file, and nothing of the file is executed here";
/// What to do about it.
const MADE_INSTEAD: &str = "look at what `kamal config` shows, and write that into the definition";
/// Why the proxy's settings stay out.
const PROXY: &str = "nginx takes the place of Kamal's proxy, and is the host's";
/// What to do about it.
const PROXY_INSTEAD: &str = "write it into nginx's configuration (docs/reference/landfall-toml.md, slots), with certificates \
                             from certbot or from what you have";

fn is_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(|c: char| c.is_whitespace() || c.is_control() || "{}".contains(c))
}

/// An amount of hosts, as the definition writes it.
fn amount(text: &str) -> Option<toml::Value> {
    if let Some(share) = text.strip_suffix('%') {
        let share: u32 = share.trim().parse().ok()?;
        return (1..=100).contains(&share).then(|| format!("{share}%").into());
    }
    let number: u32 = text.parse().ok()?;
    (number > 0).then(|| i64::from(number).into())
}

fn duration(seconds: u64) -> String {
    human::format(Duration::from_secs(seconds))
}

/// A word that a build can hold: none that Landfall would replace on a host.
fn is_word(text: &str) -> bool {
    !text.contains(|c: char| c.is_control()) && landfall_common::words::names(text).next().is_none()
}
