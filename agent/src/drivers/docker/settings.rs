//! `[docker]` of `agent.toml`: where Docker is, and what its containers may have of this host.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The part of `agent.toml` with every key at its default.
pub const TEMPLATE: &str = r#"
# Docker, for services with driver = "docker". Whoever may use its socket is root on this host, and so is an agent in
# the group `docker`. Containers have their image, the default bridge, volumes of their own, and the application's
# directories (to write: {shared} alone); what they ask for beyond that is refused unless it stands here.
[docker]
socket = "/run/docker.sock"
# Directories of this host below which they may mount.
mounts = []
# Volumes of Docker's that Landfall has not made for the application itself.
volumes = []
# Networks of Docker's; "host" is this host's own.
networks = []
# Containers without any fence: root on this host.
privileged = false
# Who pulls from private registries: a file in the form of ~/.docker/config.json, with its "auths".
# credentials = "/etc/landfall/registries.json"
"#;

/// What this host's Docker is, and what it grants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The socket of the Engine API.
    pub socket: PathBuf,
    /// Directories below which containers may mount, beside the application's own.
    pub mounts: Vec<PathBuf>,
    /// Volumes that belong to somebody else.
    pub volumes: Vec<String>,
    /// Networks beside the default bridge.
    pub networks: Vec<String>,
    /// Whether containers may be without fences.
    pub privileged: bool,
    /// The file with the credentials of registries.
    pub credentials: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            socket: "/run/docker.sock".into(),
            mounts: Vec::new(),
            volumes: Vec::new(),
            networks: Vec::new(),
            privileged: false,
            credentials: None,
        }
    }
}

impl Settings {
    /// What cannot be meant.
    ///
    /// # Errors
    /// A sentence with the key and its value.
    pub fn check(&self) -> Result<(), String> {
        let paths = [("docker.socket", &self.socket)].into_iter();
        let paths = paths.chain(self.mounts.iter().map(|path| ("docker.mounts", path)));
        let paths = paths.chain(self.credentials.iter().map(|path| ("docker.credentials", path)));
        for (key, path) in paths {
            if !Path::new(path).is_absolute() {
                return Err(format!("{key}: {path:?} is not an absolute path"));
            }
        }
        Ok(())
    }
}
