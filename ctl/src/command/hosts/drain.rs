//! `ctl hosts drain` and `undrain`: requests are led away from a host, and back to it.

use super::super::{Session, leave_out};
use crate::client::Client;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::view::Host;

pub(super) async fn drained(session: &Session, client: &Client, hosts: &[Host]) -> Result<Exit, Error> {
    let output = session.output;
    for host in hosts {
        let word = told(host).unwrap_or_default();
        output.line(format!("{} of {} in {}: {word}", host.id, host.application, host.environment));
    }
    leave_out::under_way(session, client, hosts).await?;
    output.line(
        "next: ctl hosts, which says `drained` once no request is under way; then ctl hosts undrain HOST",
    );
    output.json("hosts", &hosts);
    Ok(Exit::Succeeded)
}

pub(super) fn undrained(session: &Session, hosts: &[Host]) -> Result<Exit, Error> {
    let output = session.output;
    for host in hosts {
        // Of one that is not heard of it is not known whether it has been told.
        let was_not = host.connected && matches!(host.traffic.as_str(), "led" | "ungated");
        let what = if was_not { "is not drained" } else { "gets requests again once it is healthy" };
        output.line(format!(
            "{} of {} in {} {what}; next: ctl why {0}",
            host.id, host.application, host.environment
        ));
    }
    output.json("hosts", &hosts);
    Ok(Exit::Succeeded)
}

/// `drained by ana since 2026-11-22 18:00:00: a new disk`, and where the host is with it; nothing of one that is not.
pub(crate) fn told(host: &Host) -> Option<String> {
    let Some(word) = &host.drain else {
        return host.is_led_away().then(|| match host.traffic.as_str() {
            "returning" => "requests come back once it is healthy".to_owned(),
            // By a rollout that goes by two groups of hosts.
            _ => format!("no request is led there; `ctl why {}` says until when", host.id),
        });
    };
    let how = match host.traffic.as_str() {
        // What it has done about it since, nobody knows.
        _ if !host.connected => "it cannot be heard of, and may not have been told",
        "drained" => "no request is led there",
        "draining" => "its requests are ending",
        "led" | "returning" => "it is to be told",
        "ungated" => {
            "requests may come all the same, for what runs there has no `[traffic]` that leads them away"
        }
        _ => "requests may come all the same, for its agent is of an older version",
    };
    let since = word.since.map(|since| format!(" since {}", format::time(since))).unwrap_or_default();
    Some(format!("drained by {}{since}: {}; {how}", word.by, word.reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Cordon;
    use landfall_proto::v1;

    #[test]
    fn where_a_host_is_with_its_requests_is_told() {
        let mut host = Host::from(v1::Host::default());
        host.id = "web-7".to_owned();
        assert_eq!(told(&host), None);
        let mut said = Vec::new();
        let word = Cordon { by: "ana".into(), reason: "a new disk".into(), since: None };
        for drain in [Some(word), None] {
            host.drain = drain;
            for (traffic, connected) in [
                ("led", true),
                ("draining", true),
                ("drained", true),
                ("drained", false),
                ("returning", true),
                ("ungated", true),
                ("unknown", true),
            ] {
                (host.traffic, host.connected) = (traffic.to_owned(), connected);
                said.push(told(&host).unwrap_or_default());
            }
        }
        insta::assert_snapshot!(said.join("\n"), @r"
        drained by ana: a new disk; it is to be told
        drained by ana: a new disk; its requests are ending
        drained by ana: a new disk; no request is led there
        drained by ana: a new disk; it cannot be heard of, and may not have been told
        drained by ana: a new disk; it is to be told
        drained by ana: a new disk; requests may come all the same, for what runs there has no `[traffic]` that leads them away
        drained by ana: a new disk; requests may come all the same, for its agent is of an older version

        no request is led there; `ctl why web-7` says until when
        no request is led there; `ctl why web-7` says until when
        no request is led there; `ctl why web-7` says until when
        requests come back once it is healthy
        ");
    }
}
