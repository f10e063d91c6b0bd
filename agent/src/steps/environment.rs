//! The words of a command and the clean environment that it runs in. Pure; which characters make a word is
//! said once, in [`landfall_common::words`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_common::{AppName, EnvName, ReleaseName, words};
use serde::{Deserialize, Serialize};

use crate::layout;

/// The `PATH` of every step and service, unless its own environment sets another.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whose step or service something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `LANDFALL_APPLICATION`.
    pub application: AppName,
    /// `LANDFALL_ENVIRONMENT`.
    pub environment: EnvName,
    /// `LANDFALL_RELEASE`.
    pub release: ReleaseName,
}

/// What the words in commands, environments, addresses and URLs stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// `{release}`: the release's own directory.
    pub release: String,
    /// `{prepared}`: what its preparation made.
    pub prepared: String,
    /// `{shared}`: what outlives releases.
    pub shared: String,
    /// `{current}`: the link to the active release.
    pub current: String,
    /// The host's own variables.
    pub variables: BTreeMap<String, String>,
}

/// A word that stands for nothing on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{{{word}}} in {text:?} stands for nothing on this host; known are {known}. Set it in the agent's [variables], or correct landfall.toml"
)]
pub struct UnknownWord {
    /// The word, without braces.
    pub word: String,
    /// Where it was met.
    pub text: String,
    /// Those that could have been used.
    pub known: String,
}

impl Words {
    /// Those of a release, below the directory of its application.
    #[must_use]
    pub fn of(app_dir: &Path, release: &ReleaseName, variables: BTreeMap<String, String>) -> Self {
        let text = |path: PathBuf| app_dir.join(path).to_string_lossy().into_owned();
        Self {
            release: text(layout::release(release)),
            prepared: text(layout::prepared(release)),
            shared: text(layout::SHARED.into()),
            current: text(layout::CURRENT.into()),
            variables,
        }
    }

    /// Replaces every word of a text.
    ///
    /// # Errors
    /// [`UnknownWord`] for the first that has no value.
    pub fn expand(&self, text: &str) -> Result<String, UnknownWord> {
        words::expand(text, |name| self.value(name)).map_err(|word| UnknownWord {
            word,
            text: text.to_owned(),
            known: self.known(),
        })
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "release" => Some(self.release.clone()),
            "prepared" => Some(self.prepared.clone()),
            "shared" => Some(self.shared.clone()),
            "current" => Some(self.current.clone()),
            _ => self.variables.get(name).cloned(),
        }
    }

    fn known(&self) -> String {
        let names = words::KNOWN.into_iter().chain(self.variables.keys().map(String::as_str));
        names.map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ")
    }

    /// Replaces the words of each argument; an argument stays one argument.
    ///
    /// # Errors
    /// [`UnknownWord`].
    pub fn command(&self, command: &[String]) -> Result<Vec<String>, UnknownWord> {
        command.iter().map(|argument| self.expand(argument)).collect()
    }

    /// The whole environment of a step or service, and nothing of the agent's own.
    ///
    /// # Errors
    /// [`UnknownWord`] in a value.
    pub fn environment(
        &self,
        identity: &Identity,
        home: &Path,
        own: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, UnknownWord> {
        let mut all: BTreeMap<String, String> = [
            ("PATH", PATH.to_owned()),
            ("HOME", home.to_string_lossy().into_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("LANDFALL_APPLICATION", identity.application.to_string()),
            ("LANDFALL_ENVIRONMENT", identity.environment.to_string()),
            ("LANDFALL_RELEASE", identity.release.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        for (name, value) in own {
            all.insert(name.clone(), self.expand(value)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            release: "/srv/t/releases/v1".into(),
            prepared: "/srv/t/prepared/v1".into(),
            shared: "/srv/t/shared".into(),
            current: "/srv/t/current".into(),
            variables: [("port".to_owned(), "80 01".to_owned())].into(),
        }
    }

    #[test]
    fn an_unknown_word_is_refused_and_the_known_ones_are_named() {
        let error = words().expand("{relase}/manage.py").unwrap_err().to_string();
        for part in ["{relase}", "{release}", "{prepared}", "{shared}", "{current}", "{port}"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_value_never_becomes_more_than_one_argument() {
        let command = words().command(&["{release}/x".into(), "--port={port}".into()]).unwrap();
        assert_eq!(command, ["/srv/t/releases/v1/x", "--port=80 01"]);
    }

    #[test]
    fn shell_braces_that_are_not_words_pass_through() {
        let script = "for f in {a,b}; do echo ${HOME} $f; done; awk '{ print $1 }'";
        assert_eq!(words().expand(script).unwrap(), script);
    }

    #[test]
    fn the_environment_is_clean_and_the_steps_own_values_win() {
        let identity = Identity {
            application: AppName::new("t").unwrap(),
            environment: EnvName::new("production").unwrap(),
            release: ReleaseName::new("v1").unwrap(),
        };
        let own = [("LANG".to_owned(), "pt".to_owned()), ("D".to_owned(), "{shared}/d".to_owned())].into();
        let all = words().environment(&identity, Path::new("/home/t"), &own).unwrap();
        let names: Vec<_> = all.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["D", "HOME", "LANDFALL_APPLICATION", "LANDFALL_ENVIRONMENT", "LANDFALL_RELEASE", "LANG", "PATH"]
        );
        assert_eq!((all["LANG"].as_str(), all["D"].as_str()), ("pt", "/srv/t/shared/d"));
    }
}
