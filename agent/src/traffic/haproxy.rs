//! HAProxy: the state of its servers, set over the runtime socket.
//!
//! What is set there is forgotten when HAProxy is reloaded, unless it reads it back from a file
//! (`server-state-file` and `load-server-state-from-file global`): after each change that file is written
//! anew, so that a reload by whomever leads requests to where they went before.

mod configuration;
mod drift;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::settings::Haproxy as Settings;
use super::{Goal, Proxy, expand, failure, replace};
use crate::steps::StepContext;

/// HAProxy answers at once; one that does not for this long is stuck.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A server that is made ready has to pass HAProxy's own checks before requests are taken from the other.
const UP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often that is asked.
const POLL: Duration = Duration::from_millis(50);

/// An answer of more is no answer: the state of ten thousand servers fits.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// A backend of a HAProxy.
pub(super) struct Haproxy<'a> {
    pub settings: &'a Settings,
    pub backend: &'a str,
    /// Where the servers `blue` and `green` must be, if it has slots.
    pub addresses: Option<(&'a str, &'a str)>,
    /// The server that this host is, if it has none.
    pub server: Option<&'a str>,
    pub context: &'a StepContext,
}

#[async_trait]
impl Proxy for Haproxy<'_> {
    async fn lead(&self, to: &Goal) -> Result<(), Failure> {
        match (to, self.server) {
            (Goal::At { slot: Some(slot), .. }, None) => self.switch(*slot).await?,
            (Goal::Open, Some(server)) => {
                let server = expand(server, self.context)?;
                self.set(&server, "ready").await?;
                self.until_up(&server).await?;
            }
            (Goal::Nowhere { drain }, Some(server)) => {
                let server = expand(server, self.context)?;
                self.set(&server, "drain").await?;
                self.drained(&server, *drain).await?;
                // Sessions that go on are not cut by this; new ones of known clients come no more.
                self.set(&server, "maint").await?;
            }
            (Goal::At { slot: None, address, .. }, _) => {
                return Err(failure(format!(
                    "HAProxy's backend {} has the servers blue and green, and {address} is neither; lead \
                     requests there in haproxy.cfg",
                    self.backend
                )));
            }
            (Goal::At { .. }, Some(_)) | (Goal::Open | Goal::Nowhere { .. }, None) => {
                return Err(failure("the definition leads HAProxy to what it does not have"));
            }
        }
        self.keep().await
    }
}

impl Haproxy<'_> {
    /// The new one serves before the old one is left alone.
    async fn switch(&self, slot: Slot) -> Result<(), Failure> {
        let servers = self.servers().await?;
        let (blue, green) = self.addresses.unwrap_or_default();
        for (name, address) in [("blue", blue), ("green", green)] {
            let Some(server) = servers.get(name) else {
                let reason = format!("HAProxy's backend {} has no server {name}", self.backend);
                return Err(failure(format!("{reason}; it needs `server blue …` and `server green …`")));
            };
            let address = expand(address, self.context)?;
            if !server.is_at(&address) {
                return Err(failure(format!(
                    "HAProxy's server {}/{name} is at {}:{}, and landfall.toml says {address}; correct one of \
                     the two",
                    self.backend, server.address, server.port
                )));
            }
        }
        self.set(slot.as_str(), "ready").await?;
        if let Err(late) = self.until_up(slot.as_str()).await {
            self.set(slot.as_str(), "maint").await?;
            return Err(late);
        }
        self.set(slot.other().as_str(), "drain").await
    }

    async fn set(&self, server: &str, state: &str) -> Result<(), Failure> {
        super::check(server)?;
        super::check(self.backend)?;
        let name = format!("{}/{server}", self.backend);
        let said = self.ask(&format!("set server {name} state {state}")).await?;
        if said.trim().is_empty() {
            return Ok(());
        }
        Err(failure(format!("HAProxy does not set server {name} to {state}: {}", said.trim())))
    }

    /// Until HAProxy's own checks, if it makes any, have found a server well.
    async fn until_up(&self, server: &str) -> Result<(), Failure> {
        let until = Instant::now() + UP_TIMEOUT;
        loop {
            let servers = self.servers().await?;
            let found = servers.get(server);
            if found.is_some_and(Server::is_up) {
                return Ok(());
            }
            if Instant::now() >= until {
                let name = format!("{}/{server}", self.backend);
                let secs = UP_TIMEOUT.as_secs();
                return Err(failure(format!(
                    "HAProxy's checks do not find server {name} up within {secs} s"
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Until a server has no session, or until the time is over.
    async fn drained(&self, server: &str, drain: Duration) -> Result<(), Failure> {
        let until = Instant::now() + drain;
        loop {
            let open = self.sessions(server).await?;
            if open == 0 {
                return Ok(());
            }
            if Instant::now() >= until {
                tracing::warn!(
                    backend = self.backend,
                    server,
                    sessions = open,
                    "sessions did not end within the drain; the change goes on and cuts them"
                );
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn sessions(&self, server: &str) -> Result<u64, Failure> {
        let table = self.ask("show stat").await?;
        sessions(&table, self.backend, server).ok_or_else(|| {
            failure(format!("HAProxy's statistics do not name server {}/{server}", self.backend))
        })
    }

    async fn servers(&self) -> Result<BTreeMap<String, Server>, Failure> {
        let table = self.ask(&format!("show servers state {}", self.backend)).await?;
        let servers = servers(&table, self.backend);
        if servers.is_empty() {
            return Err(failure(format!(
                "HAProxy has no servers in backend {}: {}",
                self.backend,
                table.trim()
            )));
        }
        Ok(servers)
    }

    /// Writes what a reload is to find.
    async fn keep(&self) -> Result<(), Failure> {
        let Some(path) = &self.settings.state_file else { return Ok(()) };
        let table = self.ask("show servers state").await?;
        replace(path, table.trim_start().as_bytes()).map_err(failure)
    }

    async fn ask(&self, command: &str) -> Result<String, Failure> {
        let socket = &self.settings.socket;
        let exchange = async {
            let mut answer = String::new();
            let line = format!("{command}\n");
            if socket.starts_with('/') {
                let mut stream = UnixStream::connect(socket).await?;
                stream.write_all(line.as_bytes()).await?;
                stream.take(MAX_BYTES).read_to_string(&mut answer).await?;
            } else {
                let mut stream = TcpStream::connect(socket).await?;
                stream.write_all(line.as_bytes()).await?;
                stream.take(MAX_BYTES).read_to_string(&mut answer).await?;
            }
            Ok::<_, std::io::Error>(answer)
        };
        let reason = match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(Ok(answer)) if answer.contains("Permission denied") => {
                "its socket needs `level admin`".to_owned()
            }
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        Err(failure(format!("HAProxy cannot be asked on {socket}: {reason}")))
    }
}

/// What HAProxy says of a server.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    address: String,
    port: String,
    /// 2 is running.
    operational: u32,
    /// Whether somebody has taken it out.
    admin: u32,
    /// Its weight and the configured one, unless an agent of the server's own sets it.
    weights: Option<(u32, u32)>,
}

impl Server {
    fn is_up(&self) -> bool {
        const RUNNING: u32 = 2;
        // Says only that haproxy.cfg has it `disabled`, which was overruled since.
        const DISABLED_IN_CONFIGURATION: u32 = 0x04;
        self.operational == RUNNING && self.admin & !DISABLED_IN_CONFIGURATION == 0
    }

    fn is_at(&self, address: &str) -> bool {
        match address.strip_prefix("unix:") {
            Some(path) => self.address.ends_with(path),
            None => address.rsplit_once(':').is_some_and(|(host, port)| {
                port == self.port && (host == self.address || host == "localhost")
            }),
        }
    }
}

/// The servers of a backend in an answer to `show servers state`, by their names.
fn servers(table: &str, backend: &str) -> BTreeMap<String, Server> {
    let mut lines = table.lines();
    let Some(header) = lines.find_map(|line| line.strip_prefix("# ")) else { return BTreeMap::new() };
    let columns: Vec<&str> = header.split(' ').collect();
    let rows = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| columns.iter().copied().zip(line.split(' ')).collect::<BTreeMap<_, _>>());
    // Of the bits of `srv_agent_state`, the one that says that there is an agent (HAProxy's management guide, 9.3).
    const HAS_AGENT: u32 = 0x02;
    rows.filter(|row| row.get("be_name") == Some(&backend))
        .filter_map(|row| {
            let text = |column: &str| row.get(column).map(|value| (*value).to_owned());
            let number = |column: &str| row.get(column)?.parse::<u32>().ok();
            let is_its_own = number("srv_agent_state").is_some_and(|state| state & HAS_AGENT != 0);
            let weights = number("srv_uweight").zip(number("srv_iweight")).filter(|_| !is_its_own);
            let server = Server {
                address: text("srv_addr")?,
                port: text("srv_port").unwrap_or_default(),
                operational: number("srv_op_state")?,
                admin: number("srv_admin_state")?,
                weights,
            };
            Some((text("srv_name")?, server))
        })
        .collect()
}

/// The current sessions of a server in an answer to `show stat`.
fn sessions(table: &str, backend: &str, server: &str) -> Option<u64> {
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.find_map(|line| line.strip_prefix("# "))?.split(',').collect();
    let at = |name: &str| columns.iter().position(|column| *column == name);
    let (proxy, name, current) = (at("pxname")?, at("svname")?, at("scur")?);
    lines.map(|line| line.split(',').collect::<Vec<_>>()).find_map(|row| {
        let is_it = row.get(proxy) == Some(&backend) && row.get(name) == Some(&server);
        is_it.then(|| row.get(current)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_haproxy_are_read_by_their_headers() {
        let state = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n\
                     3 shop 1 blue 127.0.0.1 2 0 8001\n3 shop 2 green 127.0.0.1 2 12 8002\n\
                     3 shop 3 web 127.0.0.1 2 4 8003\n";
        let servers = servers(state, "shop");
        assert!(servers["blue"].is_up() && servers["web"].is_up() && !servers["green"].is_up());
        assert!(servers["green"].is_at("127.0.0.1:8002") && !servers["blue"].is_at("127.0.0.1:8002"));
        let stat = "# pxname,svname,qcur,qmax,scur,smax\nshop,blue,0,0,7,9\nshop,BACKEND,0,0,8,9\n";
        assert_eq!(sessions(stat, "shop", "blue"), Some(7));
        assert_eq!(sessions(stat, "shop", "green"), None);
    }
}
