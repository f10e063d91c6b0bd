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
    }
}
