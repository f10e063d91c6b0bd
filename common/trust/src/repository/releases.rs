//! Landfall's use of targets metadata: a role per application, a target per release, a floor per application.

use landfall_common::{AppName, ReleaseCounter, ReleaseName, canonical};

use crate::key::PublicKey;
use crate::metadata::{TargetFile, Targets};
use crate::policy::{
    AppPolicy, POLICY_PATHS, POLICY_ROLE, ReleaseCustom, app_paths, app_role, policy_path, release_path,
};

/// Why a release or a floor cannot be written into metadata.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A published name is never given to something else.
    #[error("release {release} of {app} is published already, with other content; choose another name")]
    NameTaken {
        /// The application.
        app: AppName,
        /// The release.
        release: ReleaseName,
    },
    /// A release's number must be above all earlier ones.
    #[error("release {release} of {app} cannot have number {counter}: {highest} is taken already")]
    CounterTaken {
        /// The application.
        app: AppName,
        /// The release.
        release: ReleaseName,
        /// The number that it was to have.
        counter: ReleaseCounter,
        /// The highest number so far.
        highest: ReleaseCounter,
    },
    /// A floor only rises.
    #[error("the floor of {app} is {current} and cannot be lowered to {asked}")]
    FloorLowered {
        /// The application.
        app: AppName,
        /// What it is.
        current: ReleaseCounter,
        /// What was asked for.
        asked: ReleaseCounter,
    },
}

impl Targets {
    /// In the top-level role: trusts these keys with an application's releases, and nothing else. Keys given
    /// before for the application are replaced.
    pub fn delegate_app(&mut self, app: &AppName, keys: &[PublicKey], threshold: usize) {
        self.delegate(&app_role(app), &[app_paths(app)], keys, threshold);
    }

    /// In the top-level role: trusts these keys with the floors of all applications.
    pub fn delegate_policy(&mut self, keys: &[PublicKey], threshold: usize) {
        self.delegate(POLICY_ROLE, &[POLICY_PATHS.to_owned()], keys, threshold);
    }

    /// In an application's role: adds a release with these manifest bytes. Returns whether anything changed;
    /// adding the same release again does not.
    ///
    /// # Errors
    /// [`PublishError::NameTaken`], [`PublishError::CounterTaken`].
    pub fn add_release(&mut self, manifest: &[u8], custom: &ReleaseCustom) -> Result<bool, PublishError> {
        let (app, release) = (custom.app.clone(), custom.release.clone());
        let path = release_path(&app, &release);
        let value = serde_json::to_value(custom).expect("plain data with text keys");
        let file = TargetFile::of(manifest, Some(value));
        match self.targets.get(&path) {
            Some(current) if current.hashes == file.hashes && current.custom == file.custom => {
                return Ok(false);
            }
            Some(_) => return Err(PublishError::NameTaken { app, release }),
            None => {}
        }
        let highest = self.highest_counter();
        if custom.counter <= highest {
            return Err(PublishError::CounterTaken { app, release, counter: custom.counter, highest });
        }
        self.targets.insert(path, file);
        Ok(true)
    }

    /// In an application's role: the highest number of a release so far; 0 if there is none. Removed releases
    /// are not remembered here, so keep the newest one listed.
    #[must_use]
    pub fn highest_counter(&self) -> ReleaseCounter {
        let counters =
            self.targets.values().filter_map(|file| file.custom.as_ref()?.get("counter")?.as_u64());
        ReleaseCounter(counters.max().unwrap_or(0))
    }

    /// In an application's role: what the signers say about every release, oldest first.
    #[must_use]
    pub fn releases(&self) -> Vec<ReleaseCustom> {
        let customs = self.targets.values().filter_map(|file| file.custom.clone());
        let mut all: Vec<ReleaseCustom> =
            customs.filter_map(|value| serde_json::from_value(value).ok()).collect();
        all.sort_by_key(|custom| custom.counter);
        all
    }

    /// In the policy role: raises the floor of an application. Returns the bytes of the target file, to be
    /// kept beside the metadata for clients that fetch it; Landfall's own read the custom data.
    ///
    /// # Errors
    /// [`PublishError::FloorLowered`].
    pub fn set_floor(&mut self, app: &AppName, floor: ReleaseCounter) -> Result<Vec<u8>, PublishError> {
        let path = policy_path(app);
        let current = self
            .targets
            .get(&path)
            .and_then(|file| file.custom.as_ref()?.get("min_release_counter")?.as_u64());
        if let Some(current) = current.map(ReleaseCounter).filter(|current| *current > floor) {
            return Err(PublishError::FloorLowered { app: app.clone(), current, asked: floor });
        }
        let policy = AppPolicy { min_release_counter: floor };
        let bytes = canonical::to_vec(&policy).expect("one whole number");
        let custom = serde_json::to_value(policy).expect("one whole number");
        self.targets.insert(path, TargetFile::of(&bytes, Some(custom)));
        Ok(bytes)
    }
}
