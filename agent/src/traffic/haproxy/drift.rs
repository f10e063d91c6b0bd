//! What HAProxy says of the servers of a backend, what its state file keeps, and what its configuration says, beside
//! what was applied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_agent_core::drift::beside::Things;
use landfall_agent_core::drift::beside::proxy::{self, Backend, Configured, Must, State};
use landfall_common::manifest::traffic::Slot;
use landfall_common::report::Failure;

use super::configuration;
use super::{Haproxy, Server, expand, servers};
use crate::drivers::Seen;
use crate::engine::task::Endpoint;

/// No configuration, nor state of servers, is larger.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// HAProxy's name for the files that it was started with, separated by semicolons.
const FILES: &str = "HAPROXY_CFGFILES";

impl Haproxy<'_> {
    /// In what the backend differs from what was applied to lead requests there.
    ///
    /// # Errors
    /// [`Failure`] if HAProxy cannot be asked.
    pub(in crate::traffic) async fn differs(
        &self,
        to: &Endpoint,
        applied: Option<&Things>,
    ) -> Result<Seen, Failure> {
        let must = self.must(to)?;
        if must.is_empty() {
            return Ok(Seen::default());
        }
        let table = self.ask(&format!("show servers state {}", self.backend)).await?;
        let known = |table: &str| -> BTreeMap<String, proxy::Server> {
            servers(table, self.backend).into_iter().map(|(name, server)| (name, server.into())).collect()
        };
        let kept = self.settings.state_file.as_ref().map(|path| {
            let text = read(path);
            (path.clone(), text.map(|text| known(&text)))
        });
        let backend = Backend {
            name: self.backend,
            socket: &self.settings.socket,
            servers: known(&table),
            kept,
            configured: self.configured().await?,
        };
        let findings = proxy::findings(&must, &backend, applied);
        let applied = backend.configured.map(|configured| configured.section).unwrap_or_default();
        Ok(Seen { findings, applied })
    }

    /// The servers that the agent leads requests to, or away from.
    fn must(&self, to: &Endpoint) -> Result<Vec<Must>, Failure> {
        let gate = |server: &str, takes| -> Result<Vec<Must>, Failure> {
            Ok(vec![Must { server: expand(server, self.context)?, address: None, takes }])
        };
        match (to, self.server, self.addresses) {
            (Endpoint::Open, Some(server), _) => gate(server, true),
            (Endpoint::Nowhere, Some(server), _) => gate(server, false),
            (Endpoint::At { slot: Some(slot), .. }, None, Some((blue, green))) => {
                let server = |(name, address): (Slot, &str)| {
                    let address = Some(expand(address, self.context)?);
                    Ok(Must { server: name.as_str().to_owned(), address, takes: name == *slot })
                };
                [(Slot::Blue, blue), (Slot::Green, green)].into_iter().map(server).collect()
            }
            // Whoever leads requests there, it is not this backend.
            _ => Ok(Vec::new()),
        }
    }

    /// The backend in the configuration of a HAProxy of this host, where the agent may read it.
    async fn configured(&self) -> Result<Option<Configured>, Failure> {
        if !self.settings.socket.starts_with('/') {
            return Ok(None);
        }
        let answer = self.ask(&format!("show env {FILES}")).await?;
        let files = answer.lines().find_map(|line| line.strip_prefix(&format!("{FILES}=")));
        let files = files.unwrap_or_default().split(';').map(PathBuf::from);
        let mut found = files.filter(|file| file.is_absolute()).filter_map(|file| {
            let section = configuration::backend(&read(&file)?, self.backend)?;
            let configuration::Section { servers, is_whole, things: section } = section;
            Some(Configured { file, servers, is_whole, section })
        });
        Ok(found.next())
    }
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

impl From<Server> for proxy::Server {
    fn from(server: Server) -> Self {
        // By an administrator, or as a server that it follows.
        const MAINTENANCE: u32 = 0x01 | 0x02;
        const DRAIN: u32 = 0x08 | 0x10;
        let state = if server.admin & MAINTENANCE != 0 {
            State::Maintenance
        } else if server.admin & DRAIN != 0 {
            State::Drain
        } else {
            State::Ready
        };
        let is_path = server.address.contains('/');
        let address = if is_path { server.address } else { format!("{}:{}", server.address, server.port) };
        Self { address, state, weights: server.weights }
    }
}
