//! Whether a request may be carried out: decided here, from bytes, by the runner for itself. Pure.

use landfall_common::manifest::{Manifest, Step};
use landfall_common::{ReleaseName, StepName};
use landfall_trust::TrustedStore;
use landfall_trust::offline::{self, NotVouched, Seen};

use super::Request;
use super::pin::Pin;
use crate::error::chain;

/// Why a request is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody vouches for the release.
    #[error(
        "release {release} is not signed for this host: {reason}. If this host was enrolled anew, \
         `landfall-agent setup-steps --replace` (as root) pins the root of the new enrolment"
    )]
    NotSigned {
        /// Which.
        release: ReleaseName,
        /// Why not, with all causes.
        reason: String,
    },
    /// The manifest is not the one that is vouched for.
    #[error("the manifest of release {release} on this disk is not the one that its signers list: {reason}")]
    Altered {
        /// Of which release.
        release: ReleaseName,
        /// What differs.
        reason: String,
    },
    /// The manifest has no such step.
    #[error("the signed manifest of release {release} has no such step: {step} ({kind:?})")]
    NoStep {
        /// The release.
        release: ReleaseName,
        /// The step.
        step: StepName,
        /// As what it was asked for.
        kind: super::Kind,
    },
    /// The unit has another access to the network than the manifest gives the step.
    #[error("step {step} of release {release} {signed} by its signed manifest, and was started {actual}")]
    Network {
        /// The release.
        release: ReleaseName,
        /// The step.
        step: StepName,
        /// What the manifest gives it.
        signed: &'static str,
        /// What its unit has.
        actual: &'static str,
    },
}

/// What may be carried out.
#[derive(Debug, Clone)]
pub struct Approval {
    /// The step as it is signed.
    pub step: Step,
    /// The manifest that it is from: it says what the files of the release must be.
    pub manifest: Manifest,
    /// What to keep of the metadata.
    pub seen: Seen,
}

/// What a request may have carried out. `network` is what the unit has.
///
/// # Errors
/// [`Refusal`].
pub fn approve(
    pin: &Pin,
    seen: &Seen,
    request: &Request,
    manifest: &[u8],
    network: bool,
) -> Result<Approval, Refusal> {
    let release = || request.release.clone();
    let files = request.metadata.iter().map(|(name, text)| (name.clone(), text.clone().into_bytes()));
    let store = TrustedStore::from_files(files);
    let (app, env) = (&pin.application, &pin.environment);
    let vouched = offline::vouch(pin.root.as_bytes(), &store, seen, app, env, &request.release);
    let not_signed = |error: NotVouched| Refusal::NotSigned { release: release(), reason: chain(&error) };
    let vouched = vouched.map_err(not_signed)?;
    let altered = |reason: String| Refusal::Altered { release: release(), reason };
    vouched.target.check(manifest).map_err(|error| altered(chain(&error)))?;
    let manifest = Manifest::from_bytes(manifest).map_err(|error| altered(chain(&error)))?;
    if manifest.application != pin.application || manifest.release != request.release {
        let reason = format!("it is that of {} {}", manifest.application, manifest.release);
        return Err(altered(reason));
    }
    let (step, kind) = (request.step.clone(), request.kind);
    let Some(step) = request.pick(&manifest.program) else {
        return Err(Refusal::NoStep { release: release(), step, kind });
    };
    let signed = kind.has_network(&step);
    if signed != network {
        let words = |has, yes, no| if has { yes } else { no };
        return Err(Refusal::Network {
            release: release(),
            step: step.name,
            signed: words(signed, "has the network", "has no network"),
            actual: words(network, "with it", "without it"),
        });
    }
    Ok(Approval { step, manifest, seen: vouched.seen })
}
