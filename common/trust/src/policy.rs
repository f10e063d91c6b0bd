//! Which releases an application accepts: what a release says of itself, and the signed floor.
//!
//! A release is the target `APP/RELEASE`, vouched for by the role `apps/APP`; its file is the manifest, and its
//! `custom` is a [`ReleaseCustom`]. The floor of an application is the target `_policy/APP`, vouched for by the
//! role `policy` (no application can be called `_policy`); its file is the canonical JSON of its `custom`, a
//! [`AppPolicy`], so that a client has it without a further fetch.

use std::collections::BTreeSet;

use landfall_common::{AppName, EnvName, ReleaseCounter, ReleaseName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrustError;
use crate::updater::Target;

/// The delegated role that holds the floors.
pub const POLICY_ROLE: &str = "policy";

/// The paths that the policy role is trusted for.
pub const POLICY_PATHS: &str = "_policy/*";

/// The delegated role of an application's release signers.
#[must_use]
pub fn app_role(app: &AppName) -> String {
    format!("apps/{app}")
}

/// The paths that an application's role is trusted for.
#[must_use]
pub fn app_paths(app: &AppName) -> String {
    format!("{app}/*")
}

/// The target path of a release's manifest.
#[must_use]
pub fn release_path(app: &AppName, release: &ReleaseName) -> String {
    format!("{app}/{release}")
}

/// The target path of an application's floor.
#[must_use]
pub fn policy_path(app: &AppName) -> String {
    format!("_policy/{app}")
}

/// What the signers say about a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCustom {
    /// The application.
    pub app: AppName,
    /// The release's name.
    pub release: ReleaseName,
    /// Its place in the sequence of the application's releases; the first is 1.
    pub counter: ReleaseCounter,
    /// The environments that it may go to; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<BTreeSet<EnvName>>,
}

/// What the policy role says about an application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPolicy {
    /// Releases below this are refused everywhere, also as the aim of a rollback.
    pub min_release_counter: ReleaseCounter,
}

impl AppPolicy {
    /// Reads the floor out of what a search for [`policy_path`] found. No such target means no floor.
    ///
    /// # Errors
    /// [`TrustError::Invalid`] if there is one whose custom data is missing, [`TrustError::Malformed`] if it
    /// cannot be read, or if it was not the policy role that vouched.
    pub fn of(target: Option<&Target>) -> Result<Self, TrustError> {
        let Some(target) = target else { return Ok(Self::default()) };
        if target.role != POLICY_ROLE {
            let reason = format!("role {} vouches for it, not {POLICY_ROLE}", target.role);
            return Err(TrustError::invalid(&target.path, reason));
        }
        let custom = target.file.custom.as_ref();
        let custom = custom.ok_or_else(|| TrustError::invalid(&target.path, "it has no custom data"))?;
        Self::deserialize(custom)
            .map_err(|source| TrustError::Malformed { what: target.path.clone(), source })
    }
}

/// Why a release is not accepted on a host.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The signers' data cannot be read.
    #[error("what the signers of {app} say about the release cannot be read")]
    Malformed {
        /// The host's application.
        app: AppName,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The role or the path does not fit the application.
    #[error(
        "{path} is vouched for by role {role}; a release of {app} must be {expected_path} by role {expected_role}"
    )]
    WrongRole {
        /// The host's application.
        app: AppName,
        /// The target's path.
        path: String,
        /// The role that vouches for it.
        role: String,
        /// The path that it should have.
        expected_path: String,
        /// The role that should vouch.
        expected_role: String,
    },
    /// It is a release of something else.
    #[error("release {release} is one of application {found}, and this host runs {app}")]
    WrongApplication {
        /// The host's application.
        app: AppName,
        /// The release.
        release: ReleaseName,
        /// The application that the release is of.
        found: AppName,
    },
    /// It is not meant for this environment.
    #[error("release {release} of {app} is signed for {allowed}, and this host is in {env}")]
    WrongEnvironment {
        /// The host's application.
        app: AppName,
        /// The release.
        release: ReleaseName,
        /// The host's environment.
        env: EnvName,
        /// Those that the release is signed for, comma-separated.
        allowed: String,
    },
    /// It is below the signed floor.
    #[error(
        "release {release} of {app} is number {counter}, and the signed policy refuses everything below {floor}"
    )]
    BelowFloor {
        /// The application.
        app: AppName,
        /// The release.
        release: ReleaseName,
        /// Its number.
        counter: ReleaseCounter,
        /// The lowest number accepted.
        floor: ReleaseCounter,
    },
}

/// Decides whether a host of this application and environment may run the release with this custom data.
///
/// # Errors
/// [`PolicyError`], naming release, application, environment and floor.
pub fn accept_release(
    custom: &Value,
    floor: ReleaseCounter,
    app: &AppName,
    env: &EnvName,
) -> Result<ReleaseCustom, PolicyError> {
    let custom = ReleaseCustom::deserialize(custom)
        .map_err(|source| PolicyError::Malformed { app: app.clone(), source })?;
    let release = custom.release.clone();
    if custom.app != *app {
        return Err(PolicyError::WrongApplication { app: app.clone(), release, found: custom.app });
    }
    if let Some(allowed) = custom.environments.as_ref().filter(|allowed| !allowed.contains(env)) {
        let allowed = match allowed.is_empty() {
            true => "no environment".to_owned(),
            false => allowed.iter().map(EnvName::as_str).collect::<Vec<_>>().join(", "),
        };
        return Err(PolicyError::WrongEnvironment { app: app.clone(), release, env: env.clone(), allowed });
    }
    if custom.counter < floor {
        let (app, counter) = (app.clone(), custom.counter);
        return Err(PolicyError::BelowFloor { app, release, counter, floor });
    }
    Ok(custom)
}

/// [`accept_release`] for a target that a search found: besides, the role and the path must be those of the
/// application, so that no other delegate can speak for it.
///
/// # Errors
/// [`PolicyError`].
pub fn accept_target(
    target: &Target,
    floor: ReleaseCounter,
    app: &AppName,
    env: &EnvName,
) -> Result<ReleaseCustom, PolicyError> {
    let custom = accept_release(target.file.custom.as_ref().unwrap_or(&Value::Null), floor, app, env)?;
    let (expected_path, expected_role) = (release_path(app, &custom.release), app_role(app));
    if target.path != expected_path || target.role != expected_role {
        let (path, role) = (target.path.clone(), target.role.clone());
        return Err(PolicyError::WrongRole { app: app.clone(), path, role, expected_path, expected_role });
    }
    Ok(custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::TargetFile;
    use serde_json::json;

    #[test]
    fn a_release_is_accepted_only_where_and_when_it_was_signed_for() {
        let app = AppName::new("shop").unwrap();
        let env = EnvName::new("production").unwrap();
        let custom = |extra: Value| {
            let mut custom = json!({"app": "shop", "release": "v1.4", "counter": 4});
            custom.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            custom
        };
        for (custom, floor, expected) in [
            (custom(json!({})), 0, None),
            (custom(json!({})), 4, None),
            (custom(json!({"environments": ["production", "staging"]})), 4, None),
            (
                custom(json!({})),
                5,
                Some("release v1.4 of shop is number 4, and the signed policy refuses everything below 5"),
            ),
            (
                custom(json!({"app": "blog"})),
                0,
                Some("release v1.4 is one of application blog, and this host runs shop"),
            ),
            (
                custom(json!({"environments": ["staging", "test"]})),
                0,
                Some("release v1.4 of shop is signed for staging, test, and this host is in production"),
            ),
            (
                custom(json!({"environments": []})),
                0,
                Some("release v1.4 of shop is signed for no environment, and this host is in production"),
            ),
            (
                custom(json!({"counter": -1})),
                0,
                Some("what the signers of shop say about the release cannot be read"),
            ),
            (json!(null), 0, Some("what the signers of shop say about the release cannot be read")),
        ] {
            let result = accept_release(&custom, ReleaseCounter(floor), &app, &env);
            assert_eq!(result.err().map(|error| error.to_string()).as_deref(), expected, "{custom}");
        }
    }

    #[test]
    fn another_role_cannot_speak_for_the_application() {
        let app = AppName::new("shop").unwrap();
        let env = EnvName::new("production").unwrap();
        let custom = json!({"app": "shop", "release": "v1.4", "counter": 4});
        let target = |path: &str, role: &str| Target {
            path: path.to_owned(),
            role: role.to_owned(),
            file: TargetFile::of(b"", Some(custom.clone())),
        };
        let floor = ReleaseCounter(0);
        assert!(accept_target(&target("shop/v1.4", "apps/shop"), floor, &app, &env).is_ok());
        assert!(accept_target(&target("shop/v1.4", "targets"), floor, &app, &env).is_err());
        assert!(accept_target(&target("shop/v1.3", "apps/shop"), floor, &app, &env).is_err());
    }

    #[test]
    fn a_floor_must_come_from_the_policy_role() {
        let target = |role: &str, custom: Option<Value>| Target {
            path: "_policy/shop".to_owned(),
            role: role.to_owned(),
            file: TargetFile::of(b"", custom),
        };
        assert_eq!(AppPolicy::of(None).unwrap().min_release_counter, ReleaseCounter(0));
        let good = target("policy", Some(json!({"min_release_counter": 3})));
        assert_eq!(AppPolicy::of(Some(&good)).unwrap().min_release_counter, ReleaseCounter(3));
        for bad in [
            target("apps/shop", Some(json!({"min_release_counter": 3}))),
            target("policy", None),
            target("policy", Some(json!({"min_release_counter": "3"}))),
        ] {
            assert!(AppPolicy::of(Some(&bad)).is_err());
        }
    }
}
