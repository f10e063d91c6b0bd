//! `ctl status`: the newest rollout of each environment, or one of them in full; `--watch` follows it.

use std::collections::BTreeMap;

use super::place::{self, Asked, LOOK_BACK};
use super::{Session, current, drill, follow, lock};
use crate::cli::Status;
use crate::client::Client;
use crate::error::{Error, Exit};
use crate::output::{Tone, format};
use crate::view::{Environment, Rollout};

pub(super) async fn run(session: &Session, arguments: &Status) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    if arguments.watch {
        let rollout = watched(session, &client, arguments).await?;
        if rollout.status.has_ended() {
            follow::conclude(output, &rollout);
            return Ok(follow::exit(&rollout));
        }
        return follow::follow(&client, output, rollout, arguments.wait).await;
    }
    if let Some(id) = &arguments.rollout {
        let rollout = client.rollout(id).await?;
        output.line(follow::describe(&output, &rollout));
        output.json("rollouts", &[rollout]);
        return Ok(Exit::Succeeded);
    }
    let application = session.known_application()?;
    let environment = arguments.env.as_ref();
    let rollouts = client.rollouts(application.as_ref(), environment, LOOK_BACK).await?;
    let mut newest: BTreeMap<(String, String), Rollout> = BTreeMap::new();
    let mut in_line: BTreeMap<(String, String), Vec<Rollout>> = BTreeMap::new();
    for rollout in rollouts {
        // They come newest first.
        let place = (rollout.application.clone(), rollout.environment.clone());
        if rollout.in_line {
            in_line.entry(place).or_default().insert(0, rollout);
        } else {
            // The one under way, whoever was asked for later; else the one that ended last.
            let rank = |rollout: &Rollout| (!rollout.status.has_ended(), rollout.ended);
            match newest.get(&place) {
                Some(known) if rank(known) >= rank(&rollout) => {}
                _ => drop(newest.insert(place, rollout)),
            }
        }
    }
    for (place, waiting) in &mut in_line {
        // The first one ever may wait for a lock.
        if !newest.contains_key(place) {
            newest.insert(place.clone(), waiting.remove(0));
        }
    }
    let environments = client.environments(application.as_ref(), environment).await?;
    if newest.is_empty() {
        let asked = Asked { noun: "rollout", application: application.as_ref(), environment };
        let nothing = place::nothing_in(session, &client, asked).await?;
        output.line(format!("{nothing} yet; next: ctl release TAG"));
    }
    let hosts = client.hosts(application.as_ref(), environment).await?;
    let mut blocks = Vec::new();
    for ((application, environment), rollout) in &newest {
        let here: Vec<_> =
            hosts.iter().filter(|h| h.application == *application && h.environment == *environment).collect();
        let mut releases: BTreeMap<&str, usize> = BTreeMap::new();
        for host in &here {
            *releases.entry(host.active.as_deref().unwrap_or("nothing")).or_default() += 1;
        }
        let mut releases: Vec<_> =
            releases.iter().map(|(release, count)| format!("{release} on {count}")).collect();
        if here.is_empty() {
            releases.push("no host; next: ctl hosts token".to_owned());
        }
        let gone = here.iter().filter(|host| !host.connected).count();
        let unhealthy = here.iter().filter(|host| host.health == "unhealthy").count();
        let mut line = format!("{application} in {environment}: {}", releases.join(", "));
        let cordoned = here.iter().filter(|host| host.cordon.is_some() && host.drain.is_none()).count();
        if cordoned > 0 {
            line.push_str(&format!(", {}", output.paint(Tone::Warning, &format!("{cordoned} cordoned"))));
        }
        let away = here.iter().filter(|host| host.is_led_away() || host.drain.is_some()).count();
        if away > 0 {
            line.push_str(&format!(", {}", output.paint(Tone::Warning, &format!("{away} drained"))));
        }
        if unhealthy > 0 {
            line.push_str(&format!(", {}", output.paint(Tone::Bad, &format!("{unhealthy} unhealthy"))));
        }
        let drifted =
            here.iter().filter(|host| host.drift.as_ref().is_some_and(|drift| drift.total > 0)).count();
        if drifted > 0 {
            let mark = format!("{drifted} drifted (ctl drift)");
            line.push_str(&format!(", {}", output.paint(Tone::Warning, &mark)));
        }
        if gone > 0 {
            line.push_str(&format!(", {}", output.paint(Tone::Warning, &format!("{gone} not connected"))));
        }
        let last = if rollout.status.has_ended() {
            let ended = rollout.ended.map(format::time).unwrap_or_default();
            let reason = rollout.reasons.first().map(|reason| format!(": {reason}")).unwrap_or_default();
            let what = rollout.restart.as_ref().map(|it| format!("{} of {}, ", it.kind.as_str(), it.names()));
            let to = format!("{}{}", what.unwrap_or_default(), rollout.to);
            let status = rollout.status.words();
            format!(
                "last rollout {}: {to} {status} at {ended}, by {}{reason}",
                rollout.id, rollout.started_by
            )
        } else {
            follow::describe(&output, rollout)
        };
        let mut block = vec![line];
        let here = |it: &&Environment| it.application == *application && it.environment == *environment;
        let known = environments.iter().find(here);
        let lock = known.and_then(|environment| environment.lock.as_ref());
        let closed = known.and_then(|environment| environment.closed.as_ref());
        block.extend(closed.map(|closed| output.paint(Tone::Warning, &closed.why)));
        block.extend(lock.map(|lock| output.paint(Tone::Warning, &lock::describe(lock))));
        block.push(last);
        let reasons = known.map(|environment| environment.reasons.as_slice()).unwrap_or_default();
        block.extend(reasons.iter().map(|reason| output.paint(Tone::Warning, &format!("awaited: {reason}"))));
        block.extend(known.and_then(|environment| environment.rehearsed.as_ref()).map(drill::describe));
        let waiting = in_line.get(&(application.clone(), environment.clone())).into_iter().flatten();
        block.extend(waiting.map(|waiting| format!("in line: {}", waiting.reasons.join("; "))));
        blocks.push(block.join("\n"));
    }
    if !blocks.is_empty() {
        output.line(blocks.join("\n\n"));
    }
    let shown: Vec<Rollout> = newest.into_values().chain(in_line.into_values().flatten()).collect();
    output.json("rollouts", &shown);
    Ok(Exit::Succeeded)
}

/// The rollout to follow: the one named, or the newest.
async fn watched(session: &Session, client: &Client, arguments: &Status) -> Result<Rollout, Error> {
    if let Some(id) = &arguments.rollout {
        return client.rollout(id).await;
    }
    let application = session.known_application()?;
    let environment = arguments.env.as_ref();
    let rollouts = client.rollouts(application.as_ref(), environment, LOOK_BACK).await?;
    let running = current(&rollouts).unwrap_or(0);
    if let Some(rollout) = rollouts.into_iter().nth(running) {
        return Ok(rollout);
    }
    let asked = Asked { noun: "rollout", application: application.as_ref(), environment };
    let nothing = place::nothing_in(session, client, asked).await?;
    Err(Error::usage(format!("{nothing} yet, so that there is nothing to watch"), "ctl release TAG"))
}
