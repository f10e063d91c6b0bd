//! `ctl gate`: what others hold, before a batch begins.

use std::time::Duration;

use landfall_common::time::human;

use super::{Session, follow};
use crate::cli;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::view::{Gate, GateVerdict, Rollout};

pub(super) async fn run(session: &Session, arguments: &cli::Gate) -> Result<Exit, Error> {
    match arguments {
        cli::Gate::List { rollout, environment } => {
            let (_, client) = session.connect().await?;
            let env = environment.env.as_ref();
            let rollout = session.running_rollout(&client, rollout.as_deref(), env).await?;
            list(session, &rollout);
            Ok(Exit::Succeeded)
        }
        cli::Gate::Open(answer) => say(session, answer, GateVerdict::Open).await,
        cli::Gate::Close(answer) => say(session, answer, GateVerdict::Closed).await,
        cli::Gate::Fail(answer) => say(session, answer, GateVerdict::Failed).await,
    }
}

async fn say(session: &Session, answer: &cli::GateAnswer, verdict: GateVerdict) -> Result<Exit, Error> {
    let cli::GateAnswer { gate, rollout, environment, batch, reason } = answer;
    let (_, client) = session.connect().await?;
    let rollout = session.running_rollout(&client, rollout.as_deref(), environment.env.as_ref()).await?;
    let rollout = client.answer_gate(&rollout.id, gate, *batch, verdict, reason.clone()).await?;
    session.output.line(follow::describe(&session.output, &rollout));
    let next = match rollout.status {
        crate::view::Status::Paused => format!("next: ctl resume {}, which is paused", rollout.id),
        _ => format!("next: ctl status --watch {}", rollout.id),
    };
    session.output.line(next);
    session.output.json("rollout", &rollout);
    Ok(Exit::Succeeded)
}

fn list(session: &Session, rollout: &Rollout) {
    let output = session.output;
    let Rollout { id, to, application, environment, .. } = rollout;
    if rollout.gates.is_empty() {
        output.line(format!("rollout {id} of {to}, {application} in {environment}, has no gates"));
    }
    for gate in &rollout.gates {
        output.line(describe(gate));
    }
    if let Some(gate) = rollout.gates.iter().find(|gate| gate.waits_for_somebody()) {
        output.line(format!("next: ctl gate open {} --reason '…', or close, or fail", gate.name));
    }
    output.json("gates", &rollout.gates);
}

/// `qa-signoff before the second batch: batch 2 waits, no answer yet`.
pub(super) fn describe(gate: &Gate) -> String {
    let Gate { name, before, asked, watched, verdict, by, at, reason, deadline_ms, url, every_ms, error } =
        gate;
    let waits = match asked {
        Some(batch) => Some(format!("batch {batch}")),
        None => watched.then(|| "the end of the watch".to_owned()),
    };
    let stands = match (waits, verdict) {
        (None, _) => match url {
            None => "not asked now".to_owned(),
            Some(url) => format!("not asked now; the controller asks {url} then"),
        },
        (Some(_), None) if *watched && url.is_none() => {
            "nobody has shut it while the release is watched; `ctl gate fail` goes back".to_owned()
        }
        (Some(waits), None) => {
            let deadline = human::format(Duration::from_millis(*deadline_ms));
            let of = url.as_ref().map_or_else(String::new, |url| format!(" of {url}"));
            let error = if error.is_empty() { String::new() } else { format!(" ({error})") };
            format!(
                "{waits} waits, and there is no answer{of}{error}; after {deadline} without one the rollout pauses"
            )
        }
        (Some(waits), Some(verdict)) => {
            let at = at.map(format::time).unwrap_or_default();
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            match url {
                None => format!("{} for {waits}, by {by} at {at}{reason}", verdict.word()),
                Some(url) => {
                    let every = human::format(Duration::from_millis(*every_ms));
                    let error = if error.is_empty() {
                        String::new()
                    } else {
                        format!("; the last question: {error}")
                    };
                    format!(
                        "{} for {waits}, by {url} since {at}{reason}; asked every {every}{error}",
                        verdict.word()
                    )
                }
            }
        }
    };
    format!("{name} before {before}: {stands}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_proto::v1;

    #[test]
    fn a_gate_is_told_in_a_line() {
        let asked = v1::RolloutGate {
            name: "qa".into(),
            before: "the second batch".into(),
            asked: 2,
            deadline_ms: 600_000,
            ..v1::RolloutGate::default()
        };
        let said = v1::RolloutGate {
            verdict: v1::GateVerdict::Closed.into(),
            by: "ci".into(),
            at_ms: 1_795_255_200_000,
            reason: "the load test runs".into(),
            ..asked.clone()
        };
        let waits = v1::RolloutGate { asked: 0, ..asked.clone() };
        let by_http = |gate: &v1::RolloutGate| v1::RolloutGate {
            url: "https://ci/qa".into(),
            every_ms: 10_000,
            by: if gate.by.is_empty() { String::new() } else { "https://ci/qa".into() },
            ..gate.clone()
        };
        let in_vain = v1::RolloutGate { error: "it answered 503".into(), ..by_http(&asked) };
        let by_controller = [by_http(&waits), by_http(&asked), in_vain, by_http(&said)];
        let watched = |gate: &v1::RolloutGate| v1::RolloutGate { asked: 0, watched: true, ..gate.clone() };
        let in_the_watch =
            [watched(&asked), watched(&said), watched(&by_controller[1]), watched(&by_controller[3])];
        let all: Vec<String> = [waits, asked, said]
            .into_iter()
            .chain(by_controller)
            .chain(in_the_watch)
            .map(|gate| describe(&Gate::from(gate)))
            .collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        qa before the second batch: not asked now
        qa before the second batch: batch 2 waits, and there is no answer; after 10m without one the rollout pauses
        qa before the second batch: closed for batch 2, by ci at 2026-11-21 10:00:00: the load test runs
        qa before the second batch: not asked now; the controller asks https://ci/qa then
        qa before the second batch: batch 2 waits, and there is no answer of https://ci/qa; after 10m without one the rollout pauses
        qa before the second batch: batch 2 waits, and there is no answer of https://ci/qa (it answered 503); after 10m without one the rollout pauses
        qa before the second batch: closed for batch 2, by https://ci/qa since 2026-11-21 10:00:00: the load test runs; asked every 10s
        qa before the second batch: nobody has shut it while the release is watched; `ctl gate fail` goes back
        qa before the second batch: closed for the end of the watch, by ci at 2026-11-21 10:00:00: the load test runs
        qa before the second batch: the end of the watch waits, and there is no answer of https://ci/qa; after 10m without one the rollout pauses
        qa before the second batch: closed for the end of the watch, by https://ci/qa since 2026-11-21 10:00:00: the load test runs; asked every 10s
        ");
    }
}
