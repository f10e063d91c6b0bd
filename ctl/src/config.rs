//! What `ctl` knows about its controllers: contexts, as kubectl has them, in one file.
//!
//! A context is a controller, the operator's certificate for it, the trusted root of its release
//! repository, and defaults. `$LANDFALL_CONFIG_DIR`, or `$XDG_CONFIG_HOME/landfall`, holds all of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_common::{AppName, EnvName};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::{self, Access};

/// The context that `ctl login` makes when none is named.
pub const DEFAULT_CONTEXT: &str = "default";

/// Where `ctl` keeps what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Keys, certificates, trust, contexts.
    pub config: PathBuf,
    /// What can be made again.
    pub cache: PathBuf,
}

impl Places {
    /// By the environment; `variable` reads it.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no home directory to be found.
    pub fn find(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, Error> {
        let variable = |name| variable(name).filter(|path: &PathBuf| path.is_absolute());
        let below_home = |part| variable("HOME").map(|home| home.join(part));
        let config = variable("LANDFALL_CONFIG_DIR")
            .or_else(|| variable("XDG_CONFIG_HOME").map(|base| base.join("landfall")))
            .or_else(|| below_home(".config/landfall"));
        let cache = variable("XDG_CACHE_HOME").or_else(|| below_home(".cache"));
        match (config, cache) {
            (Some(config), Some(cache)) => Ok(Self { config, cache: cache.join("landfall") }),
            _ => Err(Error::usage(
                "there is no home directory to keep keys and certificates in",
                "set HOME, or LANDFALL_CONFIG_DIR and XDG_CACHE_HOME, to absolute paths",
            )),
        }
    }

    /// The directory of private signing keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.config.join("keys")
    }
}

/// The configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The context in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All contexts, by name.
    #[serde(default, rename = "context")]
    pub contexts: BTreeMap<String, Context>,
}

/// One controller, and how to work with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `host:port`.
    pub controller: String,
    /// The application, where neither `--app` nor a `landfall.toml` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<AppName>,
    /// The environment, where `--env` does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvName>,
    /// Files with the keys that sign releases, relative to the directory of keys. All of them sign.
    #[serde(default = "default_release_keys")]
    pub release_keys: Vec<PathBuf>,
    /// Files with the keys that sign root and targets metadata.
    #[serde(default = "default_root_keys")]
    pub root_keys: Vec<PathBuf>,
}

fn default_release_keys() -> Vec<PathBuf> {
    vec!["release.pem".into()]
}

fn default_root_keys() -> Vec<PathBuf> {
    vec!["root.pem".into()]
}

impl Context {
    /// A context with the defaults.
    #[must_use]
    pub fn new(controller: String) -> Self {
        Self {
            controller,
            application: None,
            environment: None,
            release_keys: default_release_keys(),
            root_keys: default_root_keys(),
        }
    }
}

impl Config {
    fn path(places: &Places) -> PathBuf {
        places.config.join("config.toml")
    }

    /// Reads the file; an absent one is empty.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Io`].
    pub fn load(places: &Places) -> Result<Self, Error> {
        let path = Self::path(places);
        let Some(bytes) = files::read(&path)? else { return Ok(Self::default()) };
        let refuse = |reason: String| Error::Config { path: path.clone(), reason };
        let text = String::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8".to_owned()))?;
        toml::from_str(&text)
            .map_err(|error: toml::de::Error| refuse(error.to_string().trim_end().to_owned()))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, places: &Places) -> Result<(), Error> {
        let text = toml::to_string(self).expect("names, texts and paths can be written as TOML");
        files::write(&Self::path(places), text.as_bytes(), Access::Private)
    }

    /// The profile of a context: the named one, or the one in use.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is not there, [`Error::NoController`] if there is none at all.
    pub fn profile(&self, places: &Places, named: Option<&str>) -> Result<Profile, Error> {
        let Some(name) = named.or(self.current.as_deref()) else {
            return Err(Error::NoController);
        };
        let Some(context) = self.contexts.get(name) else {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            return Err(Error::usage(
                format!("there is no context {name:?}"),
                if known.is_empty() {
                    format!("ctl login TOKEN --controller HOST:PORT --context {name}")
                } else {
                    format!("known contexts: {}", known.join(", "))
                },
            ));
        };
        Ok(Profile::new(places, name, context.clone()))
    }
}

/// A context with its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What the configuration says.
    pub context: Context,
    directory: PathBuf,
    keys: PathBuf,
}

impl Profile {
    /// The profile of a context by that name.
    #[must_use]
    pub fn new(places: &Places, name: &str, context: Context) -> Self {
        let directory = places.config.join("contexts").join(name);
        Self { name: name.to_owned(), context, directory, keys: places.keys() }
    }

    /// The CA certificate that the controller's must chain to (PEM).
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// The operator's certificate and its key (PEM, one file, so that both change together).
    #[must_use]
    pub fn identity_file(&self) -> PathBuf {
        self.directory.join("operator.pem")
    }

    /// The trusted metadata of the release repository.
    #[must_use]
    pub fn trust_directory(&self) -> PathBuf {
        self.directory.join("trust")
    }

    /// The newest checkpoint of the log that this operator has verified, and the key that signed it.
    #[must_use]
    pub fn checkpoint_file(&self) -> PathBuf {
        self.directory.join("log-checkpoint.json")
    }

    /// The files of the keys that sign releases.
    #[must_use]
    pub fn release_key_files(&self) -> Vec<PathBuf> {
        self.context.release_keys.iter().map(|path| self.keys.join(path)).collect()
    }

    /// The files of the keys that sign root and targets.
    #[must_use]
    pub fn root_key_files(&self) -> Vec<PathBuf> {
        self.context.root_keys.iter().map(|path| self.keys.join(path)).collect()
    }
}

/// Checks the name of a context: it becomes the name of a directory.
///
/// # Errors
/// [`Error::Usage`].
pub fn check_context_name(name: &str) -> Result<(), Error> {
    let checked = EnvName::new(name).map(|_| ());
    checked.map_err(|error| {
        Error::usage(format!("context name {name:?}: {}", error.reason), "choose another name")
    })
}

/// The definition of the application in whose working tree a directory lies: the path of the nearest
/// `landfall.toml` at or above it.
#[must_use]
pub fn nearest_definition(directory: &Path) -> Option<PathBuf> {
    let file = |directory: &Path| directory.join(landfall_common::definition::FILE_NAME);
    directory.ancestors().map(file).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_environment() {
        let find = |pairs: &[(&str, &str)]| {
            Places::find(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into()))
        };
        let home = find(&[("HOME", "/home/ana")]).unwrap();
        assert_eq!(home.config, Path::new("/home/ana/.config/landfall"));
        assert_eq!(home.cache, Path::new("/home/ana/.cache/landfall"));
        let all = [("HOME", "/h"), ("XDG_CONFIG_HOME", "/c"), ("XDG_CACHE_HOME", "/k")];
        assert_eq!(find(&all).unwrap().config, Path::new("/c/landfall"));
        assert!(find(&[("HOME", "relative")]).is_err());
    }

    #[test]
    fn a_configuration_reads_back_and_a_wrong_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let places = Places { config: home.path().join("config"), cache: home.path().join("cache") };
        assert_eq!(Config::load(&places).unwrap(), Config::default());
        let mut config = Config { current: Some("work".into()), ..Config::default() };
        config.contexts.insert("work".into(), Context::new("10.0.0.1:7443".into()));
        config.save(&places).unwrap();
        assert_eq!(Config::load(&places).unwrap(), config);
        assert_eq!(config.profile(&places, None).unwrap().context.controller, "10.0.0.1:7443");
        assert!(matches!(config.profile(&places, Some("x")), Err(Error::Usage { .. })));
        assert!(matches!(Config::default().profile(&places, None), Err(Error::NoController)));
        std::fs::write(Config::path(&places), "current = 3").unwrap();
        assert!(matches!(Config::load(&places), Err(Error::Config { .. })));
    }
}
