//! Who is asked, which keys sign online, when things expire.

use std::sync::atomic::Ordering;

use landfall_common::AppName;
use landfall_proto::v1 as pb;

use crate::identity::Identity;
use crate::rpc::{Caller, Context, convert};

pub(super) fn get(context: &Context, caller: &Caller) -> pb::GetInfoResponse {
    let summary = context.repository.summary();
    let rights = caller.rights();
    let sees = |application: &AppName| rights.see_some_of(application);
    // Of roles below targets, those of applications.
    let sees_role = |role: &str| match role.strip_prefix("apps/") {
        Some(name) => AppName::new(name).is_ok_and(|name| sees(&name)),
        None => true,
    };
    let sees_damaged = |release: &String| {
        let application = release.split_once(' ').map(|(application, _)| AppName::new(application));
        rights.see_everything() || application.is_some_and(|name| name.is_ok_and(|name| sees(&name)))
    };
    let (operator, role) = match &caller.certificate.identity {
        Identity::Operator { name, rights } => (name.to_string(), rights.to_string()),
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
        role_expires_ms: summary
            .expiries
            .into_iter()
            .filter(|(role, _)| sees_role(role))
            .map(|(role, time)| (role, time.ms()))
            .collect(),
        ca_expires_ms: context.authority.not_after().ms(),
        server_certificate_expires_ms: context.server_expires_ms.load(Ordering::Relaxed),
        applications: summary
            .applications
            .iter()
            .filter(|name| sees(name))
            .map(ToString::to_string)
            .collect(),
        objects: context.usage.get().map(|usage| pb::ObjectsUsage {
            counted_ms: usage.counted.ms(),
            kept: usage.swept.kept,
            kept_bytes: usage.swept.kept_bytes,
            freeable_bytes: usage.swept.freeable_bytes,
            releases: usage.releases,
            damaged_releases: usage.damaged.into_iter().filter(sees_damaged).collect(),
            held_up: usage.held_up.filter(sees_damaged).unwrap_or_default(),
            keep_releases: context.retention.releases as u64,
            grace_ms: u64::try_from(context.retention.grace.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}
