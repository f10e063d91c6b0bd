//! Why a rollout or a host is as it is.

use landfall_common::{HostId, Rights, RolloutId, Timestamp};
use landfall_controller_core::explain::{self, Deadline, HostAccount, Next, RolloutAccount, Runs};
use landfall_controller_core::record::Place;
use landfall_proto::v1 as pb;
use pb::explain_response::Account;

use super::admission::looks_only;
use super::{hosts, rollouts, shown};
use crate::error::{ControllerError, Reason};
use crate::reactor::View;
use crate::rpc::live::Live;
use crate::rpc::{Caller, Context, convert};

/// So many names that begin alike are told.
const ALIKE: usize = 5;

pub(super) async fn explain(
    context: &Context,
    caller: &Caller,
    request: pb::ExplainRequest,
) -> Result<pb::ExplainResponse, ControllerError> {
    let subject = request.subject;
    // What a name may not hold no host and no rollout is called.
    let (rollout, host) = (RolloutId::new(subject.clone()).ok(), HostId::new(subject.clone()).ok());
    let changes = match &rollout {
        Some(rollout) => rollouts::changes(context, rollout).await?,
        None => Vec::new(),
    };
    let (live, rights) = (context.live.clone(), caller.rights());
    let name = caller.certificate.identity.name().to_owned();
    let look = move |view: &View<'_>| {
        let seen = |place: &Place| rights.see(&place.application, &place.environment);
        let rollout = rollout.and_then(|id| {
            view.state.rollout(&id).filter(|rollout| seen(&rollout.place))?;
            let account = explain::rollout(view.state, view.report, &id, view.now)?;
            Some(Account::Rollout(of_rollout(view, &id, account, changes)?))
        });
        let host = || {
            let id = host?;
            view.state.host(&id).filter(|host| seen(&host.record.place))?;
            let account = explain::host(view.state, view.report, &id, view.now)?;
            Some(Account::Host(of_host(view, &id, account, &live)?))
        };
        rollout.or_else(host).ok_or_else(|| unknown(view, (&name, &rights), &subject))
    };
    let account = context.reactor.read(look).await??;
    Ok(pb::ExplainResponse { account: Some(account) })
}

/// Names what begins alike: an id is long, and mostly copied in part.
fn unknown(view: &View<'_>, who: (&str, &Rights), subject: &str) -> ControllerError {
    let seen = |place: &Place| who.1.see(&place.application, &place.environment);
    let alike = |name: &str| !subject.is_empty() && name.starts_with(subject);
    let hosts = view.state.all_hosts().filter(|host| seen(&host.record.place));
    let hosts = hosts.map(|host| host.record.id.as_str());
    let mut rollouts: Vec<&_> = view.state.rollouts().filter(|rollout| seen(&rollout.place)).collect();
    rollouts.sort_by_key(|rollout| std::cmp::Reverse((rollout.requested_at, &rollout.id)));
    let rollouts = rollouts.iter().map(|rollout| rollout.id.as_str());
    let found: Vec<&str> = hosts.chain(rollouts).filter(|name| alike(name)).collect();
    let mut message = format!("neither a host nor a rollout is called {subject:?}");
    match &found[..] {
        [] => message.push_str("; `ctl hosts` lists hosts, `ctl status` the newest rollouts"),
        [first, rest @ ..] => {
            let others = rest.iter().take(ALIKE - 1).map(|name| format!(", {name}")).collect::<String>();
            let more = found.len().saturating_sub(ALIKE);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            message.push_str(&format!("; there is {first}{others}{more}"));
        }
    }
    if !who.1.see_everything() {
        message.push_str(&looks_only(who));
    }
    ControllerError::refused(Reason::NotFound, message)
}

fn of_rollout(
    view: &View<'_>,
    id: &RolloutId,
    account: RolloutAccount,
    changes: Vec<String>,
) -> Option<pb::RolloutAccount> {
    let RolloutAccount { since, waits, deadlines, failed, failed_besides, runs, next } = account;
    Some(pb::RolloutAccount {
        rollout: Some(shown::rollout(view, view.state.rollout(id)?, changes)),
        since_ms: since.ms(),
        waits,
        deadlines: deadlines.into_iter().map(deadline).collect(),
        first_failure: failed.map(|failed| pb::FirstFailure {
            host: failed.host.to_string(),
            at_ms: failed.at.map_or(0, Timestamp::ms),
            failure: Some(convert::failure_message(&failed.failure)),
        }),
        failed_besides: failed_besides as u64,
        runs: runs.into_iter().map(on_hosts).collect(),
        next: next.into_iter().map(command).collect(),
    })
}

fn of_host(view: &View<'_>, id: &HostId, account: HostAccount, live: &Live) -> Option<pb::HostAccount> {
    let HostAccount { should, part, waits, deadlines, asked, failed, next } = account;
    Some(pb::HostAccount {
        host: Some(hosts::message(view.state.host(id)?, live)),
        should_run: should.release.as_ref().map(convert::release_ref),
        should_why: should.why,
        rollout: part.as_ref().map(|part| part.rollout.to_string()).unwrap_or_default(),
        batch: part.as_ref().map_or(0, |part| part.batch),
        batches: part.as_ref().map_or(0, |part| part.of),
        rollout_ended: part.as_ref().is_some_and(|part| part.ended),
        waits,
        deadlines: deadlines.into_iter().map(deadline).collect(),
        asked: asked.map(|asked| pb::LastOrder {
            what: asked.what,
            generation: asked.generation.0,
            at_ms: asked.at.ms(),
            rollout: asked.rollout.to_string(),
            answer: asked.answer,
        }),
        failed: failed.map(|failed| pb::LastFailure {
            release: failed.release.map(|release| release.name.to_string()).unwrap_or_default(),
            at_ms: failed.at.map_or(0, Timestamp::ms),
            current: failed.current,
            failure: Some(convert::failure_message(&failed.failure)),
        }),
        next: next.into_iter().map(command).collect(),
    })
}

fn deadline(deadline: Deadline) -> pb::Deadline {
    pb::Deadline {
        name: deadline.name.to_owned(),
        host: deadline.host.map(|host| host.to_string()).unwrap_or_default(),
        at_ms: deadline.at.ms(),
        then: deadline.then,
    }
}

pub(super) fn on_hosts(runs: Runs) -> pb::ReleaseOnHosts {
    pb::ReleaseOnHosts {
        release: runs.release.map(|release| release.to_string()).unwrap_or_default(),
        proven: runs.proven,
        hosts: runs.hosts.iter().map(ToString::to_string).collect(),
        fresh: runs.fresh as u64,
    }
}

pub(super) fn command(next: Next) -> pb::NextCommand {
    pb::NextCommand { command: next.command, does: next.does }
}
