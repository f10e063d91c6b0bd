//! How long what people sign stays in force, and when it is time to sign it anew.
//!
//! Whoever has taken the controller can go on serving the metadata of before, and so keep a revoked key or a raised
//! floor from the hosts, until that metadata expires. Who may sign releases, and what is refused, is therefore
//! signed for a season. The root itself revokes nothing of an application, and the list of an application's
//! releases only grows: both are signed for a year, so that a seldom released application does not stand still.

use std::time::Duration;

use landfall_common::Timestamp;
use landfall_trust::policy::POLICY_ROLE;

const DAY: Duration = Duration::from_secs(86_400);
/// Of the root, and of an application's releases.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// Of targets, which names the keys of every application, and of the floors.
const SEASON: Duration = Duration::from_secs(90 * 86_400);
/// By so much clocks of signers may differ.
const SLACK: Duration = DAY;

/// `ctl doctor` warns when less than this is left: people sign these roles, and need time for it.
pub const WARN_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// What has less left than this is signed anew by a command that has the keys at hand anyway.
pub const RENEW_BEFORE: Duration = Duration::from_secs(60 * 86_400);

/// How long a role is signed for.
#[must_use]
pub fn of(role: &str) -> Duration {
    match role {
        "targets" | POLICY_ROLE => SEASON,
        _ => YEAR,
    }
}

/// When a role expires that is signed now.
#[must_use]
pub fn until(role: &str, now: Timestamp) -> Timestamp {
    (now + of(role)).whole_seconds()
}

/// The latest expiry that somebody else's draft may have.
#[must_use]
pub fn latest(role: &str, now: Timestamp) -> Timestamp {
    now + of(role) + SLACK
}
