//! `servers`: the roles, each with its hosts, its command, and what its containers get.

use std::collections::{BTreeMap, BTreeSet};

use super::super::account::Place;
use super::super::yaml::{Entry, Node, Value};
use super::Reading;

/// A role.
pub(super) struct Role {
    pub name: String,
    pub place: Place,
    pub hosts: BTreeSet<String>,
    pub command: Option<(String, Place)>,
    pub environment: BTreeMap<String, String>,
    /// Keys of the service, from `options`.
    pub options: Vec<(&'static str, toml::Value)>,
    /// Whether the proxy leads requests to it, if that is said.
    pub is_proxied: Option<bool>,
}

/// Why hosts are in no file.
const HOSTS: &str = "hosts join with a token and carry labels; nobody needs ssh";

impl Reading<'_, '_> {
    pub(super) fn servers(&mut self, servers: &Entry) {
        if let Value::List(_) | Value::Text(_) = &servers.node.value {
            let role = self.role("web", servers.line, &servers.node);
            return self.app.roles.push(role);
        }
        for entry in servers.node.entries() {
            let role = self.role(&entry.key, entry.line, &entry.node);
            self.app.roles.push(role);
        }
    }

    fn role(&mut self, name: &str, line: usize, node: &Node) -> Role {
        let place = self.at(line);
        let mut role = Role {
            name: name.to_owned(),
            place: place.clone(),
            hosts: BTreeSet::new(),
            command: None,
            environment: BTreeMap::new(),
            options: Vec::new(),
            is_proxied: None,
        };
        if let Value::Map(entries) = &node.value {
            for entry in entries {
                self.of_role(entry, &mut role);
            }
        } else {
            role.hosts = self.hosts(node);
        }
        let hosts = role.hosts.iter().cloned().collect::<Vec<_>>().join(", ");
        let instead = "for each: ctl hosts token --name HOST, then landfall-agent join TOKEN there";
        self.work.account.left(&place, format!("servers of {name}: {hosts}"), HOSTS, instead);
        role
    }

    /// Addresses, with or without tags.
    fn hosts(&self, node: &Node) -> BTreeSet<String> {
        let host = |item: &Node| match &item.value {
            Value::Map(entries) => entries.first().map(|entry| entry.key.clone()),
            _ => item.text().map(str::to_owned),
        };
        node.items().iter().filter_map(host).map(|text| self.template.restored(&text)).collect()
    }

    fn of_role(&mut self, entry: &Entry, role: &mut Role) {
        match entry.key.as_str() {
            "hosts" | "host" => role.hosts = self.hosts(&entry.node),
            "cmd" => match self.text(&entry.node) {
                Some(command) => {
                    role.command = Some((command.to_owned(), self.at(entry.line)));
                    self.carried(entry, format!("[[service]] {} command", role.name));
                }
                None => self.left(entry, super::MADE, super::MADE_INSTEAD),
            },
            "env" => self.environment(entry, Some(role)),
            "options" => self.options(entry, role),
            "proxy" | "traefik" => {
                let is_proxied = entry.node.text() != Some("false");
                role.is_proxied = Some(is_proxied);
                if matches!(entry.node.value, Value::Map(_)) {
                    self.proxy(entry);
                } else {
                    let to = if is_proxied { "[traffic] slots" } else { "no port is published" };
                    self.carried(entry, to);
                }
            }
            "stop_wait_time" => self.app.stop_s = self.seconds(entry, "stop_timeout of the services"),
            _ => self.left(
                entry,
                "a service has no such key",
                "docs/reference/landfall-toml.md names what there is",
            ),
        }
    }

    /// Options of `docker run`.
    fn options(&mut self, options: &Entry, role: &mut Role) {
        for entry in options.node.entries() {
            let text = self.text(&entry.node).unwrap_or_default().to_owned();
            let carried: Option<(&'static str, toml::Value)> = match entry.key.as_str() {
                "memory" | "m" => memory(&text).map(|memory| ("memory", memory.into())),
                "cpus" => cpus(&text).map(|cpus| ("cpus", cpus.into())),
                "pids-limit" => {
                    text.parse::<u32>().ok().filter(|n| *n > 0).map(|n| ("pids", i64::from(n).into()))
                }
                "user" | "u" if is_name(&text.replace(':', "")) && text.matches(':').count() < 2 => {
                    Some(("user", text.into()))
                }
                "network" | "net" if is_name(&text) && text != "host" => Some(("network", text.into())),
                _ => None,
            };
            match carried {
                Some((key, value)) => {
                    self.carried(entry, format!("[[service]] {} {key}", role.name));
                    if key == "network" {
                        let question = format!(
                            "Docker's network {} is granted by `networks` below [docker] of each host's agent.toml",
                            self.brief(&entry.node)
                        );
                        let from = self.at(entry.line);
                        self.work.account.open(Some(&from), format!("[[service]] {} network", role.name), question);
                    }
                    role.options.push((key, value));
                }
                None => self.left(
                    entry,
                    "a container gets no more of its host than the definition has a key for",
                    "docs/reference/landfall-toml.md, Services of Docker, says what there is, and what the host grants",
                ),
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// `512m`, as Docker writes it; at least what Docker gives.
fn memory(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    let text = text.trim_end_matches('b');
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().filter(|number| *number < 1 << 20)?;
    match unit {
        "m" | "mi" if number >= 6 => Some(format!("{number}MiB")),
        "g" | "gi" if number >= 1 => Some(format!("{number}GiB")),
        _ => None,
    }
}

fn cpus(text: &str) -> Option<String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text: &str| !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    let is_some = [whole, part].iter().any(|text| text.bytes().any(|b| b != b'0'));
    (number(whole) && number(part) && is_some).then(|| text.to_owned())
}
