//! Servers of HAProxy's: what it says of them over its socket, what it would take from its state file at a reload, and
//! what its configuration says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::setting::{Things, differences};
use crate::drift::finding::{Finding, Kind, Remedy};

/// A server that the agent leads requests to, or away from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Must {
    /// Its name.
    pub server: String,
    /// Where it is, `HOST:PORT` or `unix:/PATH`, where the definition says so.
    pub address: Option<String>,
    /// Whether it takes requests.
    pub takes: bool,
}

/// A server, as HAProxy tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is, in the words of the definition.
    pub address: String,
    /// Whether somebody has taken it out, and how.
    pub state: State,
    /// Its weight now and the one that it was configured with; `None` where its own agent sets it.
    pub weights: Option<(u32, u32)>,
}

/// What the administrators of a server have set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes requests, if it is well.
    Ready,
    /// It takes none but those of clients that it knows.
    Drain,
    /// It takes none.
    Maintenance,
}

impl State {
    fn takes(self) -> bool {
        self == Self::Ready
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maint",
        }
    }
}

/// A backend, and all that is known of it.
#[derive(Debug, Clone)]
pub struct Backend<'a> {
    /// Its name.
    pub name: &'a str,
    /// The socket by which it is told.
    pub socket: &'a str,
    /// Its servers by name, as it tells.
    pub servers: BTreeMap<String, Server>,
    /// The file from which a reload takes the state of its servers, and what of this backend is in it: `None` if that
    /// cannot be read.
    pub kept: Option<(PathBuf, Option<BTreeMap<String, Server>>)>,
    /// Its configuration, where that can be read.
    pub configured: Option<Configured>,
}

/// A backend in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// The file.
    pub file: PathBuf,
    /// The addresses of its servers by name; `None` where it is made up at the start.
    pub servers: BTreeMap<String, Option<String>>,
    /// Whether these are all of its servers: one line may make many, by names that it does not hold.
    pub is_whole: bool,
    /// The section by its lines, for the record.
    pub section: Things,
}

const LEFT: &str =
    "put it back, then `systemctl reload haproxy`; the next release that becomes active takes it as it is";

/// Whether HAProxy's word for an address is the definition's.
fn is_at(seen: &str, must: &str) -> bool {
    if let Some(path) = must.strip_prefix("unix:") {
        return seen.strip_prefix("unix:").unwrap_or(seen).trim_start_matches("unix@").ends_with(path);
    }
    match (seen.rsplit_once(':'), must.rsplit_once(':')) {
        (Some((seen_host, seen_port)), Some((host, port))) => {
            let bare = |host: &str| host.trim_matches(['[', ']']).to_owned();
            let is_local = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "::1");
            let (seen_host, host) = (bare(seen_host), bare(host));
            let same = seen_host == host
                || (host == "localhost" || seen_host == "localhost")
                    && is_local(&host)
                    && is_local(&seen_host);
            same && seen_port == port
        }
        _ => seen == must,
    }
}

/// In what a backend differs from what was applied: `applied` is the section as it was, if that is on record.
#[must_use]
pub fn findings(must: &[Must], backend: &Backend<'_>, applied: Option<&Things>) -> Vec<Finding> {
    let mut found = Vec::new();
    for wanted in must {
        of_runtime(wanted, must, backend, &mut found);
    }
    of_state_file(must, backend, &mut found);
    of_configuration(must, backend, applied, &mut found);
    found
}

fn of_runtime(wanted: &Must, must: &[Must], backend: &Backend<'_>, found: &mut Vec<Finding>) {
    let name = format!("{}/{}", backend.name, wanted.server);
    let mut find = |kind, detail: String, remedy| {
        found.push(super::finding(format!("haproxy {name}"), kind, detail, remedy));
    };
    let Some(server) = backend.servers.get(&wanted.server) else {
        let what = format!(
            "`server {} …` belongs into the section `backend {}` of haproxy.cfg; then `systemctl reload haproxy`",
            wanted.server, backend.name
        );
        return find(Kind::Missing, "HAProxy has no such server".to_owned(), by_hand(what));
    };
    if let Some(address) = wanted.address.as_ref().filter(|address| !is_at(&server.address, address)) {
        let detail = format!("it is at {} instead of {address}", server.address);
        let what = match address.rsplit_once(':').filter(|_| !address.starts_with("unix:")) {
            Some((host, port)) => tell(backend, &format!("set server {name} addr {host} port {port}")),
            None => "`systemctl reload haproxy`".to_owned(),
        };
        find(Kind::Changed, detail, by_hand(what));
    }
    match (wanted.takes, server.state.takes()) {
        (true, false) => {
            let detail =
                format!("it takes no requests ({}), and they are to be led there", server.state.word());
            find(Kind::Changed, detail, Remedy::Lead);
        }
        (false, true) => {
            let to = must.iter().find(|other| other.takes).map(|other| &*other.server);
            let detail = match to {
                Some(to) => format!("it takes requests, and only {to} is to"),
                None => "it takes requests, and is not to".to_owned(),
            };
            find(Kind::Changed, detail, Remedy::Lead);
        }
        (true, true) | (false, false) => {}
    }
    if let Some((now, configured)) = server.weights.filter(|(now, configured)| now != configured) {
        let detail = format!("its weight is {now} instead of {configured}");
        find(
            Kind::Changed,
            detail,
            by_hand(tell(backend, &format!("set server {name} weight {configured}"))),
        );
    }
}

fn of_state_file(must: &[Must], backend: &Backend<'_>, found: &mut Vec<Finding>) {
    let Some((path, kept)) = &backend.kept else { return };
    let mut find =
        |kind, detail| found.push(Finding { path: path.clone(), kind, detail, remedy: Remedy::Lead });
    let Some(kept) = kept else {
        return find(Kind::Missing, "a reload of HAProxy would forget where requests are led".to_owned());
    };
    let wrong = must.iter().find_map(|wanted| {
        let takes = kept.get(&wanted.server).map(|server| server.state.takes());
        let server = format!("{}/{}", backend.name, wanted.server);
        match (takes, wanted.takes) {
            (None, _) => Some(format!("it does not name {server}")),
            (Some(true), false) => Some(format!("after a reload of HAProxy {server} would take requests")),
            (Some(false), true) => Some(format!("after a reload of HAProxy {server} would take no requests")),
            (Some(true), true) | (Some(false), false) => None,
        }
    });
    if let Some(detail) = wrong {
        find(Kind::Changed, detail);
    }
}

fn of_configuration(
    must: &[Must],
    backend: &Backend<'_>,
    applied: Option<&Things>,
    found: &mut Vec<Finding>,
) {
    let Some(configured) = &backend.configured else { return };
    let name = backend.name;
    let wrong = must.iter().find_map(|wanted| {
        let server = &wanted.server;
        match (configured.servers.get(server), &wanted.address) {
            (None, _) if configured.is_whole => {
                Some(format!("its section `backend {name}` has no server {server}"))
            }
            (Some(Some(seen)), Some(address)) if !is_at(seen, address) => {
                Some(format!("its server {name}/{server} is at {seen} instead of {address}"))
            }
            _ => None,
        }
    });
    let is_as_applied = applied.is_none_or(|applied| {
        let pairs = applied.iter().map(|(what, then)| (then, configured.section.get(what)));
        pairs.into_iter().all(|(then, now)| now.is_some_and(|now| differences(then, now).is_empty()))
    });
    let changed =
        || format!("its section `backend {name}` is not what it was when the release became active");
    if let Some(detail) = wrong.or_else(|| (!is_as_applied).then(changed)) {
        let remedy = by_hand(LEFT.to_owned());
        found.push(Finding { path: configured.file.clone(), kind: Kind::Changed, detail, remedy });
    }
}

/// The command that says something to HAProxy.
fn tell(backend: &Backend<'_>, command: &str) -> String {
    let to = match backend.socket.strip_prefix('/') {
        Some(_) => backend.socket.to_owned(),
        None => format!("tcp:{}", backend.socket),
    };
    format!("`echo \"{command}\" | socat stdio {to}`")
}

fn by_hand(what: String) -> Remedy {
    Remedy::ByHand { what: what.into() }
}
