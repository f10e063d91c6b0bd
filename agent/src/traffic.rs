//! Traffic: who leads requests to the application on this host, and how they are led around a change.
//!
//! Each kind of proxy is a file of its own with one type that implements [`Proxy`], and [`of`] is the one
//! place that knows them all. Which release gets requests when is decided by the machine; here they are led
//! there, and it is seen to that they arrive. What a proxy runs stands in `agent.toml`, which the host's
//! administrator keeps, or in the signed manifest: an assignment can name neither.

mod ask;
pub mod command;
pub mod connections;
pub mod haproxy;
pub mod nginx;
pub mod settings;
pub mod warm_up;

use std::path::Path;

use async_trait::async_trait;
use landfall_agent_core::drift::beside::Things;
use landfall_agent_core::drift::{Finding, Remedy};
use landfall_common::manifest::traffic::{Gate, Slot, Switch};
use landfall_common::manifest::{Traffic, traffic};
use landfall_common::report::Failure;
use landfall_common::{Duration, ReleaseName, StepName};

use crate::drivers::Seen;
use crate::engine::standing::Led;
use crate::engine::task::Endpoint;
use crate::steps::StepContext;
pub use settings::Settings;

/// Where requests are to go, with all words replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// To an address.
    At {
        /// `host:port` or `unix:/path`.
        address: String,
        /// The slot that it is, if it is one.
        slot: Option<Slot>,
        /// What it is called in files and messages: `green v2`.
        label: String,
    },
    /// To this host.
    Open,
    /// Not to this host: returns once the requests that are under way have ended, or have run out of time.
    Nowhere {
        /// How long they may take.
        drain: Duration,
    },
}

/// Something that leads requests.
#[async_trait]
pub trait Proxy: Send + Sync {
    /// Leads new requests there, and returns once they go there; changes nothing if they do already. After a
    /// failure they go where they went before, unless the reason says that this is not known.
    ///
    /// # Errors
    /// [`Failure`] with the proxy's own words.
    async fn lead(&self, to: &Goal) -> Result<(), Failure>;
}

/// The proxy of a release's traffic.
#[must_use]
pub fn of<'a>(settings: &'a Settings, traffic: &'a Traffic, context: &'a StepContext) -> Box<dyn Proxy + 'a> {
    match &traffic.proxy {
        traffic::Proxy::Slots { slots, switch } => match switch {
            Switch::Nginx { upstream } => {
                Box::new(nginx::Nginx { settings: &settings.nginx, upstream, context })
            }
            Switch::Haproxy { backend } => {
                let addresses = Some((slots.blue.as_str(), slots.green.as_str()));
                Box::new(haproxy::Haproxy {
                    settings: &settings.haproxy,
                    backend,
                    addresses,
                    server: None,
                    context,
                })
            }
            Switch::Command { switch } => Box::new(command::Switching { switch, context }),
        },
        traffic::Proxy::Gate { gate } => match gate {
            Gate::Haproxy { backend, server } => {
                let server = Some(server.as_str());
                Box::new(haproxy::Haproxy {
                    settings: &settings.haproxy,
                    backend,
                    addresses: None,
                    server,
                    context,
                })
            }
            Gate::Command { drain, undrain } => Box::new(command::Gating { drain, undrain, context }),
        },
    }
}

/// Leads requests to an endpoint, once somebody listens there.
///
/// # Errors
/// [`Failure`].
pub async fn lead(
    settings: &Settings,
    traffic: &Traffic,
    to: &Endpoint,
    context: &StepContext,
) -> Result<(), Failure> {
    let goal = match to {
        Endpoint::At { address, slot, release } => {
            let address = expand(address, context)?;
            check(&address)?;
            // Whatever has happened since it was started: requests are not led to where nobody listens.
            ask::connect(&address).await.map_err(|reason| {
                failure(format!("requests are not led to {address}, for nobody listens there: {reason}"))
            })?;
            let label = label(*slot, release);
            Goal::At { address, slot: *slot, label }
        }
        Endpoint::Open => Goal::Open,
        Endpoint::Nowhere => Goal::Nowhere { drain: traffic.drain },
    };
    of(settings, traffic, context).lead(&goal).await
}

/// In what a proxy differs from what the agent told it to lead requests where they are to go: nginx by its file, HAProxy
/// also by what it says. A signed command keeps what it keeps.
///
/// # Errors
/// [`Failure`] if it cannot be asked.
pub async fn differs(
    settings: &Settings,
    led: &Led,
    context: &StepContext,
    applied: Option<&Things>,
) -> Result<Seen, Failure> {
    match &led.traffic.proxy {
        traffic::Proxy::Slots { switch: Switch::Nginx { upstream }, .. } => {
            let Endpoint::At { address, slot, release } = &led.to else { return Ok(Seen::default()) };
            let nginx = nginx::Nginx { settings: &settings.nginx, upstream, context };
            let differs = nginx.differs(&expand(address, context)?, &label(*slot, release));
            let finding = |(path, kind, detail)| Finding { path, kind, detail, remedy: Remedy::Lead };
            Ok(Seen { findings: differs.map(finding).into_iter().collect(), applied: Things::new() })
        }
        traffic::Proxy::Slots { slots, switch: Switch::Haproxy { backend } } => {
            let addresses = Some((slots.blue.as_str(), slots.green.as_str()));
            let settings = &settings.haproxy;
            haproxy::Haproxy { settings, backend, addresses, server: None, context }
                .differs(&led.to, applied)
                .await
        }
        traffic::Proxy::Gate { gate: Gate::Haproxy { backend, server } } => {
            let (settings, server) = (&settings.haproxy, Some(server.as_str()));
            haproxy::Haproxy { settings, backend, addresses: None, server, context }
                .differs(&led.to, applied)
                .await
        }
        traffic::Proxy::Slots { switch: Switch::Command { .. }, .. }
        | traffic::Proxy::Gate { gate: Gate::Command { .. } } => Ok(Seen::default()),
    }
}

/// What an address is called in files and messages.
fn label(slot: Option<Slot>, release: &ReleaseName) -> String {
    slot.map_or_else(|| format!("plain {release}"), |slot| format!("{slot} {release}"))
}

fn expand(text: &str, context: &StepContext) -> Result<String, Failure> {
    context.words.expand(text).map_err(|error| failure(error.to_string()))
}

/// A proxy's configuration is written out of it, and the environment of units: signed or not, an address may be nothing but an address.
pub(crate) fn check(address: &str) -> Result<(), Failure> {
    let known = |c: char| c.is_ascii_alphanumeric() || ".:-_/[]".contains(c);
    if !address.is_empty() && address.chars().all(known) {
        return Ok(());
    }
    Err(failure(format!("{address:?} is not an address that a proxy or a unit can be given")))
}

fn failure(reason: impl Into<String>) -> Failure {
    Failure::new(StepName::new("traffic").expect("a literal that is a valid name"), reason)
}

/// Replaces a file as a whole and durably: a reader sees the old one or the new one, whenever it looks.
fn replace(path: &Path, content: &[u8]) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(format!("{} is not the path of a file", path.display()));
    };
    std::fs::create_dir_all(directory).map_err(fail)?;
    // Hidden, so that no `include *.conf` takes it.
    let temporary = directory.join(format!(".{name}.new"));
    let write = || {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(directory)?.sync_all()
    };
    write().map_err(fail)
}
