//! Restarting and reloading services of the release in force.

use std::collections::BTreeSet;

use landfall_common::assignment::RestartKind;
use landfall_common::manifest::{MAX_MANIFEST_BYTES, Manifest, Program};
use landfall_common::{Role, ServiceName};
use landfall_controller_core::Refusal;
use landfall_controller_core::command::Action;
use landfall_controller_core::record::Place;
use landfall_controller_core::restart::RestartRequest;
use landfall_proto::v1 as pb;

use super::rollouts::{above_floor, answered, command};
use crate::error::ControllerError;
use crate::reactor::{Along, View};
use crate::rpc::{Caller, Context, convert};

pub(super) async fn start(
    context: &Context,
    caller: &Caller,
    request: pb::StartRestartRequest,
) -> Result<pb::Rollout, ControllerError> {
    let kind = match request.kind() {
        // A kind that this program does not know is no restart.
        pb::RestartKind::Unspecified => {
            return Err(ControllerError::invalid("kind is neither restart nor reload"));
        }
        pb::RestartKind::Restart => RestartKind::Restart,
        pb::RestartKind::Reload => RestartKind::Reload,
    };
    let place = convert::place(&request.application, &request.environment)?;
    let named = request.services.iter().map(|name| convert::service_name(name));
    let named = named.collect::<Result<BTreeSet<_>, _>>()?;
    let overrides = convert::overrides(request.overrides)?;
    let reason = convert::text("reason", request.reason)?;
    let outside_window = convert::text("outside_window", request.outside_window)?.trim().to_owned();
    if !outside_window.is_empty() {
        caller.must_be(Role::Manager, &place, "to begin outside of a release window")?;
    }
    let asked = place.clone();
    let in_force = move |view: &View<'_>| {
        let in_force = view.state.place(&asked).and_then(|record| record.in_force());
        in_force.map(|proven| proven.release.clone())
    };
    let refusal = |reason: String| {
        ControllerError::from(Refusal::NoRestart { kind, place: Box::new(place.clone()), reason })
    };
    let Some(release) = context.reactor.read(in_force).await? else {
        return Err(refusal("no release was ever proven there; `ctl release` brings one".to_owned()));
    };
    let bytes = context.depot.read(release.digest, MAX_MANIFEST_BYTES).await?;
    let manifest = Manifest::from_bytes(&bytes).map_err(|error| refusal(error.in_full()))?;
    let services = chosen(&manifest.program, kind, named).map_err(refusal)?;
    let aimed: (Place, _) = (place.clone(), release.clone());
    above_floor(context, move |_| Some(aimed)).await?;
    let wanted =
        RestartRequest { place, release: release.digest, kind, services, reason, overrides, outside_window };
    let command = command(context, caller, &request.request_id, Action::Restart(Box::new(wanted)))?;
    let done = context.reactor.command(command, Along::default()).await?;
    answered(context, done.answer).await
}

/// The services that are meant: those that are named, or else all; of reloads, all that have one.
fn chosen(
    program: &Program,
    kind: RestartKind,
    named: BTreeSet<ServiceName>,
) -> Result<BTreeSet<ServiceName>, String> {
    let slotted = program.slots().map(|slots| &slots.service);
    let mut chosen = BTreeSet::new();
    for name in &named {
        if !program.services.iter().any(|service| service.name == *name) {
            let known: Vec<&str> = program.services.iter().map(|service| service.name.as_str()).collect();
            return Err(format!("the release in force has no service {name}; it has {}", known.join(", ")));
        }
    }
    for service in &program.services {
        if !named.is_empty() && !named.contains(&service.name) {
            continue;
        }
        match service.driver.renews(kind, slotted == Some(&service.name)) {
            Ok(()) => {
                chosen.insert(service.name.clone());
            }
            Err(_) if named.is_empty() && kind == RestartKind::Reload => {}
            Err(why) => return Err(format!("{}: {why}", service.name)),
        }
    }
    if chosen.is_empty() && !program.services.is_empty() {
        return Err("no service of the release in force has a reload; `ctl restart` restarts them".to_owned());
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::definition::Definition;

    const DEFINITION: &str = r#"
[application]
name = "shop"

[[service]]
name = "web"
driver = "systemd"
unit = "shop-web.service"
how = "reload"

[[service]]
name = "worker"
driver = "systemd"
unit = "shop-worker.service"
"#;

    fn program() -> Program {
        Definition::parse("landfall.toml", DEFINITION).unwrap().program
    }

    fn names(all: &[&str]) -> BTreeSet<ServiceName> {
        all.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn without_names_all_are_meant_and_of_reloads_those_that_have_one() {
        let program = program();
        let chosen = |kind, named: &[&str]| chosen(&program, kind, names(named));
        assert_eq!(chosen(RestartKind::Restart, &[]), Ok(names(&["web", "worker"])));
        assert_eq!(chosen(RestartKind::Reload, &[]), Ok(names(&["web"])));
        assert_eq!(chosen(RestartKind::Restart, &["web"]), Ok(names(&["web"])));
        let refused = chosen(RestartKind::Reload, &["web", "worker"]).unwrap_err();
        assert!(refused.starts_with("worker: its definition has no reload"), "{refused}");
        let refused = chosen(RestartKind::Restart, &["db"]).unwrap_err();
        assert_eq!(refused, "the release in force has no service db; it has web, worker");
    }

    #[test]
    fn what_stands_in_a_slot_is_restarted_there_only_by_its_holder() {
        let mut program = program();
        let web = &program.services[0].driver;
        assert!(web.renews(RestartKind::Restart, true).unwrap_err().contains("one of two slots"));
        assert!(web.renews(RestartKind::Reload, true).is_ok());
        program.services.remove(0);
        let refused = chosen(&program, RestartKind::Reload, BTreeSet::new()).unwrap_err();
        assert_eq!(refused, "no service of the release in force has a reload; `ctl restart` restarts them");
        assert_eq!(chosen(&Program::default(), RestartKind::Restart, BTreeSet::new()), Ok(BTreeSet::new()));
    }
}
