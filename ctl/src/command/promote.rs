//! `ctl promote`: the batch after a proven canary, or a release from one environment to the next.

use landfall_common::ReleaseName;

use super::{Session, control, if_held, release};
use crate::cli;
use crate::client::{Control, Intent, Overrides};
use crate::error::{Error, Exit};

const HOW: &str = "ctl promote RELEASE --from ENVIRONMENT --to ENVIRONMENT";

pub(super) async fn run(session: &Session, arguments: &cli::Promote) -> Result<Exit, Error> {
    let (Some(from), Some(to)) = (&arguments.from, &arguments.to) else {
        only_with_both(&arguments.held, &arguments.follow)?;
        let (rollout, reason) = (arguments.what.clone(), arguments.reason.clone());
        let control = cli::Control { rollout, environment: arguments.environment.clone(), reason };
        return control::run(session, &control, Control::Promote).await;
    };
    let name = arguments.what.clone().unwrap_or_default();
    let wrong = |error: landfall_common::ids::InvalidName| Error::usage(error.to_string(), HOW);
    if from == to {
        return Err(Error::usage(format!("{from} is brought nothing from {from}"), HOW));
    }
    let (_, client) = session.connect().await?;
    let intent = Intent {
        application: session.application(&client).await?,
        environment: to.clone(),
        release: ReleaseName::new(name).map_err(wrong)?,
        overrides: Overrides::default(),
        no_way_back: arguments.no_way_back,
        if_held: if_held(&arguments.held),
        outside_window: arguments.held.outside_window.clone(),
        proven_in: Some(from.clone()),
        unproven: arguments.held.unproven.clone(),
        without_evidence: arguments.held.without_evidence.clone(),
    };
    let how = release::How { yes: arguments.yes, plan_id: None, follow: &arguments.follow };
    release::roll_out(session, &client, &intent, how).await
}

/// What is about the release, and says nothing of a canary.
fn only_with_both(held: &cli::Held, follow: &cli::Follow) -> Result<(), Error> {
    let given = [
        ("--queue", held.queue),
        ("--supersede", held.supersede),
        ("--outside-window", !held.outside_window.is_empty()),
        ("--unproven", !held.unproven.is_empty()),
        ("--without-evidence", !held.without_evidence.is_empty()),
        ("--detach", follow.detach),
        ("--wait", follow.wait.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::usage(
            format!("{flag} is about a release that is brought from one environment to another"),
            HOW,
        )),
    }
}
