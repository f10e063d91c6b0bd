//! What every part of Landfall agrees on: names, digests, times, the manifest of a release and the
//! definition of an application.
//!
//! Nothing here talks to a network or knows the wire format; `common` never imports `proto`.

pub mod assignment;
pub mod canonical;
pub mod definition;
pub mod digest;
pub mod disk;
pub mod evidence;
pub mod ids;
pub mod journal;
pub mod manifest;
pub mod merkle;
pub mod printable;
pub mod report;
pub mod rights;
pub mod strategy;
pub mod time;
pub mod token;
pub mod words;

pub use digest::Sha256;
pub use ids::{
    AppName, EnvName, EvidenceName, GateName, Generation, HostId, LabelKey, MetricName, OperatorName,
    ReleaseCounter, ReleaseName, RequestId, RolloutId, ServiceName, StepName,
};
pub use rights::{Right, Rights, Role, Scope};
pub use time::{Duration, Timestamp};
pub use token::Token;
