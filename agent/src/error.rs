//! What can keep the agent from acting. How a release fails is not an error but an outcome.

use std::path::PathBuf;

use landfall_common::Sha256;
use landfall_common::disk::DiskError;
use landfall_common::manifest::ManifestError;

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// A file could not be read or written.
    #[error("the agent's files cannot be used")]
    Disk(#[from] DiskError),
    /// Both copies of the ledger are damaged, or one is and the other is gone.
    #[error(
        "the ledger cannot be read ({first}; {second}), so that nobody knows what was under way on this host; \
         the agent does nothing. Look at `current` and at the services, put them right if need be, then run \
         `landfall-agent recover`, which takes over what is on the disk"
    )]
    LedgerLost {
        /// What is wrong with the one copy.
        first: String,
        /// What is wrong with the other.
        second: String,
    },
    /// The newest record is one that only a newer agent understands.
    #[error(
        "a newer landfall-agent has written this host's ledger ({slot}), and this one ({}) does not know what it says; \
         nothing was changed: install that version again",
        env!("CARGO_PKG_VERSION")
    )]
    LedgerNewer {
        /// Which copy, and what of it is not known.
        slot: String,
    },
    /// There is no ledger at all.
    #[error("there is no ledger in {}: enrol this host with `landfall-agent join`, or, if it was enrolled \
             and its ledger was removed, run `landfall-agent recover`", path.display())]
    NoLedger {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A first join of a host that has joined.
    #[error(
        "this host is enrolled already, as {host}; `landfall-agent join TOKEN --again` renews that with a new token \
         from `ctl hosts token`, and keeps its releases"
    )]
    Enrolled {
        /// As whom.
        host: String,
    },
    /// There is one already, where a new one was to be made.
    #[error("there is a ledger of host {host} already; this host is enrolled")]
    LedgerExists {
        /// Whose.
        host: String,
    },
    /// Another agent runs with the same directories.
    #[error("another landfall-agent holds {what}; only one may run on a state directory")]
    Locked {
        /// The lock.
        what: String,
    },
    /// Which services of a release run here is not known.
    #[error(transparent)]
    Unset(#[from] landfall_common::manifest::UnsetVariable),
    /// A manifest that was verified when it arrived is not what it was.
    #[error("the manifest of release {release} on this disk is damaged or gone (expected {digest})")]
    ManifestLost {
        /// Which.
        release: String,
        /// Its digest.
        digest: Sha256,
    },
    /// An object that arrived is not what its name says.
    #[error("object {wanted} is not what it should be: {reason}")]
    BadObject {
        /// What was asked for.
        wanted: Sha256,
        /// What came.
        reason: String,
    },
    /// The controller answers that it will not send what was asked for.
    #[error("the controller does not send what was asked for: {reason}")]
    NotSent {
        /// Its words.
        reason: String,
    },
    /// Bytes of the right digest that are no manifest or directory.
    #[error("what was signed cannot be used")]
    Manifest(#[from] ManifestError),
    /// A release cannot be laid out on this host.
    #[error("{0}")]
    Layout(String),
    /// `agent.toml` cannot be used.
    #[error("{} cannot be used: {reason}", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and text.
        reason: String,
    },
    /// A file that was written at enrolment cannot be used.
    #[error("{file} cannot be used: {reason}")]
    Identity {
        /// Which.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host was never enrolled.
    #[error("this host is not enrolled ({} is missing); run `landfall-agent join TOKEN --controller HOST:PORT`", path.display())]
    NotEnrolled {
        /// What is missing.
        path: PathBuf,
    },
    /// The text is no token for a host.
    #[error("the token cannot be used: {reason}; make one for this host with `ctl hosts token`")]
    Token {
        /// What is wrong with it.
        reason: String,
    },
    /// No connection to the controller.
    #[error("no connection to the controller: {reason}")]
    Connect {
        /// Why.
        reason: String,
    },
    /// The controller refused, or its answer cannot be used.
    #[error("the controller: {reason}")]
    Controller {
        /// In its words.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// Metadata is not trusted.
    #[error("the release metadata is not trusted")]
    Trust(#[source] landfall_trust::TrustError),
    /// There is not enough room.
    #[error("disk full: it needs {needs}, and there is {has}")]
    NoRoom {
        /// For people.
        needs: String,
        /// For people.
        has: String,
    },
}

/// Bytes as people read them: `1.5 MiB`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// An error with its causes, on one line; a full disk is named first, since room is what cures it.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    if is_full(error) {
        text = format!("disk full: {text}");
    }
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| error.downcast_ref::<DiskError>().is_some_and(DiskError::is_full))
}
