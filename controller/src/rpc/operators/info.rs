//! Who is asked, which keys sign online, when things expire.

use std::sync::atomic::Ordering;

use landfall_proto::v1 as pb;

use crate::identity::Identity;
use crate::rpc::{Caller, Context, convert};

pub(super) fn get(context: &Context, caller: &Caller) -> pb::GetInfoResponse {
    let summary = context.repository.summary();
    let (operator, role) = match &caller.certificate.identity {
        Identity::Operator { name, role } => (name.to_string(), role.to_string()),
        Identity::Host(host) => (host.to_string(), String::new()),
    };
    pb::GetInfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now_ms: context.clock.now().ms(),
        operator,
        role,
        certificate_expires_ms: caller.certificate.not_after.ms(),
        snapshot_key: convert::key(context.keys.snapshot.public()),
        timestamp_key: convert::key(context.keys.timestamp.public()),
        director_key: convert::key(context.keys.director.public()),
        log_key: convert::key(context.keys.log.public()),
        root_version: summary.root_version,
        role_expires_ms: summary.expiries.into_iter().map(|(role, time)| (role, time.ms())).collect(),
        ca_expires_ms: context.authority.not_after().ms(),
        server_certificate_expires_ms: context.server_expires_ms.load(Ordering::Relaxed),
        applications: summary.applications.iter().map(ToString::to_string).collect(),
        objects: context.usage.get().map(|usage| pb::ObjectsUsage {
            counted_ms: usage.counted.ms(),
            kept: usage.swept.kept,
            kept_bytes: usage.swept.kept_bytes,
            freeable_bytes: usage.swept.freeable_bytes,
            releases: usage.releases,
            damaged_releases: usage.damaged,
            held_up: usage.held_up.unwrap_or_default(),
            keep_releases: context.retention.releases as u64,
            grace_ms: u64::try_from(context.retention.grace.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}
