//! `ctl exclude` and `include`, `ctl hosts cordon` and `uncordon`: hosts that a rollout, or all of them, leave alone.

use std::collections::BTreeSet;

use super::{Session, follow, hosts};
use crate::cli::{Exclude, Include};
use crate::client::Client;
use crate::error::{Error, Exit};
use crate::view::{Host, LeftOut, Rollout};

pub(super) async fn exclude(session: &Session, arguments: &Exclude) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let Exclude { hosts, rollout, reason } = arguments;
    let rollout = client.exclude(hosts, rollout.as_deref(), reason.clone()).await?;
    let Some(rollout) = rollout else { return Err(Error::Answer("it names no rollout".to_owned())) };
    let output = session.output;
    output.line(follow::describe(&output, &rollout));
    for left_out in rollout.left_out.iter().filter(|left_out| left_out.touched) {
        output.line(format!(
            "{} was let go already: what it began it ends, and it stays with what comes of that; ctl why {0}",
            left_out.host
        ));
    }
    output.line(next(&rollout));
    output.json("rollout", &rollout);
    Ok(Exit::Succeeded)
}

fn next(rollout: &Rollout) -> String {
    let id = &rollout.id;
    match rollout.status {
        crate::view::Status::Paused => format!("next: ctl resume {id}, which is paused"),
        crate::view::Status::Waiting => format!("next: ctl why {id}, which waits for somebody"),
        _ => format!("next: ctl status --watch {id}"),
    }
}

pub(super) async fn include(session: &Session, arguments: &Include) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let rollout = client.include(&arguments.hosts, arguments.reason.clone()).await?;
    let output = session.output;
    let named: Vec<&str> = arguments.hosts.iter().map(|host| host.as_str()).collect();
    let (named, takes) = (named.join(", "), if named.len() == 1 { "takes" } else { "take" });
    match &rollout {
        Some(rollout) if !rollout.status.has_ended() => {
            output.line(follow::describe(&output, rollout));
            output.line(format!("{named} {takes} part in rollout {}", rollout.id));
            output.line(next(rollout));
        }
        _ => {
            output.line(format!("{named} {takes} what is in force"));
            output.line("next: ctl status");
        }
    }
    output.json("rollout", &rollout);
    Ok(Exit::Succeeded)
}

pub(super) async fn cordoned(session: &Session, client: &Client, hosts: &[Host]) -> Result<Exit, Error> {
    let output = session.output;
    for host in hosts {
        let words = host.cordon.as_ref().map(hosts::cordoned).unwrap_or_default();
        output.line(format!("{} of {} in {} is {words}", host.id, host.application, host.environment));
    }
    under_way(session, client, hosts).await?;
    output.line("next: ctl hosts uncordon HOST, once it may be touched again");
    output.json("hosts", &hosts);
    Ok(Exit::Succeeded)
}

/// What is under way has left them out with that.
pub(super) async fn under_way(session: &Session, client: &Client, hosts: &[Host]) -> Result<(), Error> {
    let places: BTreeSet<(&str, &str)> =
        hosts.iter().map(|host| (&*host.application, &*host.environment)).collect();
    for environment in client.environments(None, None).await? {
        let is_here = places.contains(&(&*environment.application, &*environment.environment));
        if let Some(rollout) = environment.rollout.filter(|_| is_here) {
            session.output.line(format!(
                "rollout {rollout} is under way, and leaves it out from now on; ctl why {rollout}"
            ));
        }
    }
    Ok(())
}

pub(super) fn uncordoned(session: &Session, hosts: &[Host]) -> Result<Exit, Error> {
    let output = session.output;
    for host in hosts {
        output.line(format!(
            "{} of {} in {} is not cordoned; next: ctl why {0}",
            host.id, host.application, host.environment
        ));
    }
    output.json("hosts", &hosts);
    Ok(Exit::Succeeded)
}

/// `web-7 excluded by ana: its disk is broken; it was let go before that`.
pub(super) fn describe(left_out: &LeftOut) -> String {
    let touched = if left_out.touched { "; it was let go before that" } else { "" };
    format!("{} {} by {}: {}{touched}", left_out.host, left_out.how, left_out.by, left_out.reason)
}
