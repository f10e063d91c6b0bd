//! Traffic: what stands in front of a service, and how a release changes places behind it.

use serde::{Deserialize, Serialize};

use super::{Check, Headers, Program, Service, Step};
use crate::ids::ServiceName;
use crate::time::{Duration, duration_ms};
use crate::words;

/// How requests reach the application on a host, and how they are led around a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Who leads them.
    pub proxy: Proxy,
    /// How long requests that are under way may take to end before what serves them is stopped all the same.
    #[serde(rename = "drain_ms", with = "duration_ms")]
    pub drain: Duration,
}

/// Who leads the requests, and where it can lead them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Proxy {
    /// To one of two slots: a release starts in the free one while the other serves.
    Slots {
        /// The slots.
        slots: Slots,
        /// What changes from the one to the other.
        switch: Switch,
    },
    /// To this host or not: it is out while its services are restarted.
    Gate {
        /// What takes it out, and in again.
        gate: Gate,
    },
}

/// Two places for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Which service of the release.
    pub service: ServiceName,
    /// Where it listens in the slot [`Slot::Blue`], `host:port` or `unix:/path`, with the words of [`Step`].
    pub blue: String,
    /// Where it listens in the slot [`Slot::Green`].
    pub green: String,
    /// How long the slot that served before goes on running: for so long the way back restarts nothing.
    #[serde(rename = "keep_ms", with = "duration_ms")]
    pub keep: Duration,
    /// Paths that a new process must have answered before a request is led to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warm_up: Vec<String>,
    /// Added to each of these requests.
    #[serde(default, skip_serializing_if = "Headers::is_empty")]
    pub warm_up_headers: Headers,
    /// How long all of them may take together.
    #[serde(rename = "warm_up_timeout_ms", with = "duration_ms")]
    pub warm_up_timeout: Duration,
}

/// What changes from one slot to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Switch {
    /// nginx on the same host: a file with one `upstream`, which the agent writes.
    Nginx {
        /// The name of the `upstream`.
        upstream: String,
    },
    /// HAProxy on the same host: two servers of a backend, called `blue` and `green`.
    Haproxy {
        /// The name of the backend.
        backend: String,
    },
    /// A command of the release, with the words `{slot}` and `{address}` for where requests are to go.
    Command {
        /// What runs. Running it again changes nothing.
        switch: Step,
    },
}

/// What takes a host out of its traffic, and in again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Gate {
    /// A server of a HAProxy.
    Haproxy {
        /// The name of the backend.
        backend: String,
        /// The name of the server, with the words of [`Step`].
        server: String,
    },
    /// Commands of the release.
    Command {
        /// Takes the host out, and returns when its requests have ended. Running it again changes nothing.
        drain: Step,
        /// Takes it in again.
        undrain: Step,
    },
}

/// One of two places for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// The first.
    Blue,
    /// The second.
    Green,
}

impl Slot {
    /// The one that this is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// Its name: `blue` or `green`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }

    /// What a service is called in it, on the host and among the checks: `web-green`.
    ///
    /// # Panics
    /// Never for a service that the definition has let pass: its name leaves room.
    #[must_use]
    pub fn instance(self, service: &ServiceName) -> ServiceName {
        let text = service.as_str();
        let stem = &text[..text.len().min(MAX_SLOTTED)];
        ServiceName::new(format!("{stem}-{self}")).expect("a short name with a suffix is a name")
    }
}

/// The longest name of a service with slots, in bytes: `-green` is added to it.
pub const MAX_SLOTTED: usize = 63 - "-green".len();

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Slots {
    /// Where the service listens in a slot; words are still in it.
    #[must_use]
    pub fn address(&self, slot: Slot) -> &str {
        match slot {
            Slot::Blue => &self.blue,
            Slot::Green => &self.green,
        }
    }
}

impl Traffic {
    /// The slots, if there are any.
    #[must_use]
    pub fn slots(&self) -> Option<&Slots> {
        match &self.proxy {
            Proxy::Slots { slots, .. } => Some(slots),
            Proxy::Gate { .. } => None,
        }
    }
}

impl Program {
    /// The slots of its traffic, if there are any.
    #[must_use]
    pub fn slots(&self) -> Option<&Slots> {
        self.traffic.as_ref().and_then(Traffic::slots)
    }

    /// The program as it is with its service in a slot: that service under another name and listening on
    /// the slot's address, and the words `{slot}` and `{address}` replaced in it, in checks, metrics and smoke tests.
    /// Without slots, the program as it stands.
    #[must_use]
    pub fn in_slot(&self, slot: Slot) -> Self {
        let mut program = self.clone();
        let Some(slots) = self.slots() else { return program };
        let words = |name: &str| match name {
            "slot" => Some(slot.as_str()),
            "address" => Some(slots.address(slot)),
            _ => None,
        };
        for service in program.services.iter_mut().filter(|service| service.name == slots.service) {
            let mut placed: Service = filled(service, words);
            placed.name = slot.instance(&service.name);
            if let super::Driver::Process { listen, .. } = &mut placed.driver {
                *listen = Some(slots.address(slot).to_owned());
            }
            *service = placed;
        }
        for check in &mut program.checks {
            *check = filled::<Check>(check, words);
        }
        for metric in &mut program.metrics {
            metric.url = words::fill(&metric.url, words);
        }
        for test in &mut program.smoke {
            *test = filled::<Step>(test, words);
        }
        program
    }
}

/// The same value with these words replaced in all of its texts; every other word stays one.
#[must_use]
pub fn filled<'w, T>(value: &T, words: impl Fn(&str) -> Option<&'w str> + Copy) -> T
where
    T: Serialize + for<'de> Deserialize<'de>,
{
    let mut json = serde_json::to_value(value).expect("a part of a manifest is JSON");
    fill(&mut json, &|text| words::fill(text, words));
    serde_json::from_value(json).expect("names and kinds hold no words, and a text stays a text")
}

fn fill(value: &mut serde_json::Value, text: &dyn Fn(&str) -> String) {
    match value {
        serde_json::Value::String(old) => *old = text(old),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| fill(item, text)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| fill(field, text)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Driver, Probe, Ready};

    fn program() -> Program {
        let seconds = Duration::from_secs;
        let slots = Slots {
            service: "web".parse().unwrap(),
            blue: "127.0.0.1:{port}".into(),
            green: "127.0.0.1:{port_green}".into(),
            keep: seconds(600),
            warm_up: vec!["/".into()],
            warm_up_headers: Headers::default(),
            warm_up_timeout: seconds(30),
        };
        let service = |name: &str| Service {
            name: name.parse().unwrap(),
            on: Default::default(),
            driver: Driver::Process {
                command: vec!["run".into(), "{slot}".into(), "{release}/{{slot}}".into()],
                environment: [("BIND".to_owned(), "{address}".to_owned())].into(),
                listen: None,
                ready: Ready::Alive { period: seconds(2) },
                stop_timeout: seconds(30),
                hold: None,
            },
        };
        Program {
            services: vec![service("web"), service("worker")],
            checks: vec![Check {
                name: "healthz".parse().unwrap(),
                probe: Probe::Http {
                    url: "http://{address}/".into(),
                    status: 200,
                    contains: None,
                    headers: Headers::default(),
                },
                interval: seconds(1),
                timeout: seconds(1),
            }],
            traffic: Some(Traffic {
                proxy: Proxy::Slots { slots, switch: Switch::Nginx { upstream: "shop".into() } },
                drain: seconds(30),
            }),
            ..Program::default()
        }
    }

    #[test]
    fn a_program_in_a_slot_listens_there_and_all_else_is_as_it_was() {
        let placed = program().in_slot(Slot::Green);
        let [web, worker] = &placed.services[..] else { panic!() };
        assert_eq!(web.name.as_str(), "web-green");
        assert_eq!(worker, &program().services[1]);
        let Driver::Process { command, environment, listen, .. } = &web.driver else { panic!() };
        assert_eq!(command[1..], ["green", "{release}/{{slot}}"]);
        assert_eq!(environment["BIND"], "127.0.0.1:{port_green}");
        assert_eq!(listen.as_deref(), Some("127.0.0.1:{port_green}"));
        let Probe::Http { url, .. } = &placed.checks[0].probe else { panic!() };
        assert_eq!(url, "http://127.0.0.1:{port_green}/");
        assert_eq!(placed.traffic, program().traffic);
    }

    #[test]
    fn a_program_without_slots_is_the_same_in_each() {
        let plain = Program { traffic: None, ..program() };
        assert_eq!(plain.in_slot(Slot::Blue), plain);
    }

    #[test]
    fn the_longest_name_still_has_room_for_its_slot() {
        let longest = "w".repeat(MAX_SLOTTED).parse().unwrap();
        assert_eq!(Slot::Green.instance(&longest).as_str().len(), 63);
    }
}
