//! What a record is called in the store.

use std::fmt;

use landfall_common::{AppName, HostId, ReleaseName, RequestId, RolloutId};
use serde::{Deserialize, Serialize};

use super::Place;
use crate::evidence::Said;

/// Names one durable record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// An enrolled host.
    Host(HostId),
    /// A published release.
    Release(AppName, ReleaseName),
    /// What is known of a place.
    Place(Place),
    /// A rollout.
    Rollout(RolloutId),
    /// A host's part in a rollout.
    Member(RolloutId, HostId),
    /// What was last asked of a host.
    Issued(HostId),
    /// An answered request.
    Request(RequestId),
    /// What CI has said of a commit.
    Evidence(AppName, Said),
}

/// How the keys of each kind of record begin in the store. Whoever reads the state back reads all of these.
pub const RECORDS: [&str; 8] =
    ["host/", "release/", "place/", "rollout/", "member/", "issued/", "request/", "evidence/"];

impl Key {
    /// How the keys of its kind begin: one of [`RECORDS`], which a new kind has to make longer.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Host(_) => RECORDS[0],
            Self::Release(..) => RECORDS[1],
            Self::Place(_) => RECORDS[2],
            Self::Rollout(_) => RECORDS[3],
            Self::Member(..) => RECORDS[4],
            Self::Issued(_) => RECORDS[5],
            Self::Request(_) => RECORDS[6],
            Self::Evidence(..) => RECORDS[7],
        }
    }
}

/// The store's form: `member/ROLLOUT/HOST`. No name holds a slash.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::Host(host) | Self::Issued(host) => write!(f, "{host}"),
            Self::Release(application, release) => write!(f, "{application}/{release}"),
            Self::Place(place) => write!(f, "{}/{}", place.application, place.environment),
            Self::Rollout(rollout) => write!(f, "{rollout}"),
            Self::Member(rollout, host) => write!(f, "{rollout}/{host}"),
            Self::Request(request) => write!(f, "{request}"),
            Self::Evidence(application, Said { commit, name, key }) => {
                write!(f, "{application}/{commit}/{name}/{key}")
            }
        }
    }
}
