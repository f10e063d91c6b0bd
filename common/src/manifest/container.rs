//! Containers: what a service with the driver `docker` runs in.
//!
//! Everything that a container may be is here; what is not (capabilities, devices, the namespaces of the host
//! other than its network) cannot be asked for. What of it a host grants is said by its own `agent.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Driver, Program};
use crate::Sha256;
use crate::time::{Duration, duration_ms};

/// A container, as a release defines it. Texts hold the words of [`Step`](super::Step) where it is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// What it is made of.
    pub image: Image,
    /// Instead of the image's own command, with words; empty for the image's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Added to the image's own environment, with words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Ports that are reached by addresses of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Port>,
    /// What outlives the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// A network of the host's Docker, `host` for the host's own; Docker's default bridge where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `user` or `user:group`, names of the image or numbers, instead of the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The most memory that it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most processor time that it gets, in thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_milli: Option<u32>,
    /// How many processes and threads it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Without any of Docker's fences. A host refuses it unless its `agent.toml` grants it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Who keeps what it writes.
    pub log_driver: LogDriver,
    /// A container whose image has no `HEALTHCHECK` must have stayed up for so long.
    #[serde(rename = "settle_ms", with = "duration_ms")]
    pub settle: Duration,
    /// How long a container whose image has a `HEALTHCHECK` may take to be healthy.
    #[serde(rename = "timeout_ms", with = "duration_ms")]
    pub timeout: Duration,
    /// How long it may finish its requests after the image's `STOPSIGNAL` before SIGKILL.
    #[serde(rename = "stop_timeout_ms", with = "duration_ms")]
    pub stop_timeout: Duration,
}

/// Where an image comes from. Either way its content is settled by a digest in the signed manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Image {
    /// A registry. Whatever it answers is held against the digest.
    Registry {
        /// The name, with the registry where it is not Docker's own, and without a tag.
        name: String,
        /// The digest of the image's manifest, or of its list of manifests for several platforms.
        digest: Sha256,
    },
    /// A file of the release, as `docker save` writes it.
    File {
        /// Relative to the release.
        path: String,
        /// The digest of the file. The definition leaves it open: it takes the files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Sha256>,
    },
}

/// A port of a container, reached by an address of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// `ip:port`, with words.
    pub host: String,
    /// The port in the container.
    pub container: u16,
    /// Of which kind.
    pub protocol: Protocol,
}

/// The kind of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name, as Docker writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Something that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// What.
    pub source: VolumeSource,
    /// Where in the container: an absolute path.
    pub target: String,
    /// The container cannot write to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum VolumeSource {
    /// A file or directory of the host.
    Path {
        /// Absolute, with words.
        path: String,
    },
    /// A volume of Docker's, made when it is absent and never removed.
    Named {
        /// Its name.
        name: String,
    },
}

/// Who keeps what a container writes. Each is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Docker, in its own form; gone with the container.
    Local,
    /// Docker, as lines of JSON that other programs read; gone with the container.
    JsonFile,
    /// The host's journal, which outlives the container.
    Journald,
}

impl LogDriver {
    /// Its name, as Docker writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::JsonFile => "json-file",
            Self::Journald => "journald",
        }
    }
}

impl Program {
    /// The files of the release that hold images: path and digest of each.
    pub fn image_files_mut(&mut self) -> impl Iterator<Item = (&str, &mut Option<Sha256>)> {
        self.services.iter_mut().filter_map(|service| match &mut service.driver {
            Driver::Docker(container) => match &mut container.image {
                Image::File { path, digest } => Some((path.as_str(), digest)),
                Image::Registry { .. } => None,
            },
            _ => None,
        })
    }
}
