//! The configuration file, strictly read: an unknown key or an impossible value is refused with its line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use landfall_common::Duration;
use landfall_common::strategy::GateUrl;
use landfall_common::time::{duration_text, human};
use landfall_controller_core::timing::HISTORY;
use serde::Deserialize;

use crate::error::ControllerError;

/// What `landfall-controller --config FILE` reads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address and port for agents and operators, such as `0.0.0.0:7443`.
    #[serde(deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// The directory of everything that must be kept; absolute.
    pub state_dir: PathBuf,
    /// Where objects are kept; `objects` in the state directory when absent.
    #[serde(default)]
    pub objects: Option<PathBuf>,
    /// How long the files of releases stay.
    #[serde(default)]
    pub retention: Retention,
    /// Where gates may be asked by HTTP; nowhere when absent.
    #[serde(default)]
    pub gates: Vec<GateAccess>,
    /// How the program's own messages look.
    #[serde(default)]
    pub log: LogConfig,
}

fn listen<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let wanted = "it must be IP:PORT, such as 0.0.0.0:7443; names are not taken";
        serde::de::Error::custom(format!("listen is {text:?}, and {wanted}"))
    })
}

/// How long the files of releases stay that nobody is to be brought to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How many releases of each application, and how many proven ones of each environment, keep their files.
    pub releases: usize,
    /// What nobody needs stays for this long after it was last counted upon: an upload may take that long.
    #[serde(deserialize_with = "duration_text::deserialize")]
    pub grace: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { releases: 10, grace: Duration::from_secs(24 * 3600) }
    }
}

impl Retention {
    /// The one in force and the one before it, at least; no place remembers more than it does.
    const RELEASES: std::ops::RangeInclusive<usize> = 2..=HISTORY;
    /// Below an hour an ordinary upload could lose what it counts upon.
    const GRACE: std::ops::RangeInclusive<Duration> =
        Duration::from_secs(3600)..=Duration::from_secs(90 * 86_400);

    fn check(&self) -> Result<(), String> {
        let Self { releases, grace } = self;
        if !Self::RELEASES.contains(releases) {
            return Err(format!("retention.releases is {releases}, and must be from 2 to {HISTORY}"));
        }
        if !Self::GRACE.contains(grace) {
            let grace = human::format(*grace);
            return Err(format!("retention.grace is {grace}, and must be from 1h to 90d"));
        }
        Ok(())
    }
}

/// Where gates may be asked: a release says where its gates are, and whoever runs the controller whether it goes there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateAccess {
    /// There, and at what lies below.
    pub url: GateUrl,
    /// Holds the token that it shows there; absolute.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Holds the certificates of those who vouch for it, PEM; the system's when absent. Absolute.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl GateAccess {
    fn check(&self) -> Result<(), String> {
        let Self { url, token_file, ca_file } = self;
        if url.has_query() {
            return Err(format!("url {url} of gates has a query, and must end with its path"));
        }
        for (key, file) in [("token_file", token_file), ("ca_file", ca_file)] {
            if let Some(file) = file.as_ref().filter(|file| !file.is_absolute()) {
                let file = file.display();
                return Err(format!("{key} of gates below {url} is {file:?}, and must be an absolute path"));
            }
        }
        if token_file.is_some() && !url.is_secure() && !url.is_loopback() {
            return Err(format!(
                "gates below {url} have a token_file, and a token goes over https only, or to an address of this machine"
            ));
        }
        if ca_file.is_some() && !url.is_secure() {
            return Err(format!("gates below {url} have a ca_file, and are not asked over https"));
        }
        Ok(())
    }
}

/// How the program's own messages look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// For people or for programs.
    #[serde(default)]
    pub format: LogFormat,
    /// What is written, in the form of `tracing`'s filters; `info` when absent.
    #[serde(default)]
    pub filter: Option<String>,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ControllerError::File`] if it cannot be read, [`ControllerError::Config`] with line and rule if it
    /// is not valid.
    pub fn read(path: &Path) -> Result<Self, ControllerError> {
        let text = std::fs::read_to_string(path).map_err(|source| ControllerError::File {
            doing: "read the configuration",
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ControllerError> {
        let invalid = |message: String| ControllerError::Config {
            path: path.to_owned(),
            message: message.trim().to_owned(),
        };
        let config: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        for (key, directory) in [("state_dir", Some(&config.state_dir)), ("objects", config.objects.as_ref())]
        {
            if let Some(directory) = directory.filter(|directory| !directory.is_absolute()) {
                let shown = directory.display();
                return Err(invalid(format!("{key} is {shown:?}, and must be an absolute path")));
            }
        }
        config.retention.check().map_err(&invalid)?;
        for (at, access) in config.gates.iter().enumerate() {
            access.check().map_err(&invalid)?;
            let same =
                |other: &&GateAccess| other.url.lies_below(&access.url) && access.url.lies_below(&other.url);
            if let Some(other) = config.gates[..at].iter().find(same) {
                return Err(invalid(format!(
                    "gates has {} and {}, which is the same",
                    other.url, access.url
                )));
            }
        }
        if let Some(filter) = &config.log.filter
            && let Err(error) = filter.parse::<tracing_subscriber::filter::EnvFilter>()
        {
            return Err(invalid(format!("log.filter is {filter:?}: {error}")));
        }
        Ok(config)
    }

    /// Where things are in the state directory.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let objects = self.objects.clone().unwrap_or_else(|| self.state_dir.join("objects"));
        Layout { state: self.state_dir.clone(), objects }
    }
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The state directory.
    pub state: PathBuf,
    /// The objects' directory.
    pub objects: PathBuf,
}

impl Layout {
    /// The certificate authority.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.state.join("ca")
    }
    /// The online keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.state.join("keys")
    }
    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }
    /// Held by the one controller that uses this directory.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }
    /// Where the running controller takes commands of its own host's administrator.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.state.join("admin.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("controller.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_smallest_configuration() {
        let config = parse("listen = \"127.0.0.1:7443\"\nstate_dir = \"/var/lib/landfall\"").unwrap();
        assert_eq!(config.log.format, LogFormat::Text);
        assert_eq!(config.layout().objects, Path::new("/var/lib/landfall/objects"));
        assert_eq!(config.retention, Retention { releases: 10, grace: Duration::from_secs(86_400) });
        let text =
            "listen = \"127.0.0.1:7443\"\nstate_dir = \"/x\"\n[retention]\nreleases = 3\ngrace = \"2h\"";
        let retention = parse(text).unwrap().retention;
        assert_eq!(retention, Retention { releases: 3, grace: Duration::from_secs(7200) });
    }

    fn gates(keys: &str) -> String {
        format!("listen = \"127.0.0.1:1\"\nstate_dir = \"/x\"\n[[gates]]\n{keys}")
    }

    #[test]
    fn gates_may_be_asked_where_it_says_so() {
        let text =
            gates("url = \"http://127.0.0.1:9000/\"\ntoken_file = \"/t\"\n[[gates]]\nurl = \"https://ci/\"");
        let gates = parse(&text).unwrap().gates;
        assert_eq!(gates.len(), 2);
        assert_eq!((gates[0].url.as_str(), gates[1].ca_file.as_ref()), ("http://127.0.0.1:9000/", None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("listen = \"127.0.0.1:7443\"", "state_dir"),
            ("listen = \"localhost\"\nstate_dir = \"/x\"", "listen"),
            (
                "listen = \"localhost:7443\"\nstate_dir = \"/x\"",
                "IP:PORT, such as 0.0.0.0:7443; names are not",
            ),
            ("listen = \"127.0.0.1:1\"\nstate_dir = \"x\"", "absolute"),
            ("listen = \"127.0.0.1:1\"\nstate_dir = \"/x\"\nstatedir = 1", "statedir"),
            ("listen = \"127.0.0.1:1\"\nstate_dir = \"/x\"\n[log]\nformat = \"xml\"", "xml"),
            ("listen = \"127.0.0.1:1\"\nstate_dir = \"/x\"\n[log]\nfilter = \"a=b=c\"", "log.filter"),
            ("listen = \"127.0.0.1:1\"\nstate_dir = \"/x\"\n[retention]\nreleases = 1", "from 2 to 50"),
            ("listen = \"127.0.0.1:1\"\nstate_dir = \"/x\"\n[retention]\ngrace = \"5m\"", "from 1h to 90d"),
            ("listen = \"127.0.0.1:1\"\nstate_dir = \"/x\"\n[retention]\ngrace = \"soon\"", "soon"),
            (&gates("url = \"ci.example.org\""), "it must look like https://ci.example.org/gates/slo"),
            (&gates("token_file = \"/t\""), "url"),
            (&gates("url = \"https://ci/\"\ntoken = \"secret\""), "token"),
            (&gates("url = \"https://ci/?a=b\""), "must end with its path"),
            (&gates("url = \"https://ci/\"\ntoken_file = \"t\""), "token_file of gates below https://ci/"),
            (&gates("url = \"http://ci/\"\ntoken_file = \"/t\""), "over https only"),
            (&gates("url = \"http://ci/\"\nca_file = \"/c\""), "not asked over https"),
            (&gates("url = \"https://ci/a\"\n[[gates]]\nurl = \"https://CI:443/a/\""), "which is the same"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
