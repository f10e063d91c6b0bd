//! `ctl pause`, `resume`, `promote`, `abort`, `retry` and `migration resolve`: a word to a rollout under way.

use super::{Session, follow};
use crate::cli;
use crate::client::Control;
use crate::error::{Error, Exit};
use crate::view::{Rollout, Status};

pub(super) async fn run(
    session: &Session,
    arguments: &cli::Control,
    control: Control,
) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let env = arguments.environment.env.as_ref();
    let id = arguments.rollout.as_deref();
    let is_retry = matches!(control, Control::RetryFailed);
    let rollout = match is_retry {
        true => session.newest_rollout(&client, id, env).await?,
        false => session.running_rollout(&client, id, env).await?,
    };
    let rollout = client.control(&rollout.id, control, arguments.reason.clone()).await?;
    if is_retry && rollout.status.has_ended() {
        // How the rollout ended stays as it is; the hosts are brought to what is in force.
        let Rollout { application, environment, .. } = &rollout;
        session.output.line(format!("{application} in {environment}: the hosts that failed are tried again"));
        session.output.line("next: ctl status");
        session.output.json("rollout", &rollout);
        return Ok(Exit::Succeeded);
    }
    show(session, &rollout);
    Ok(Exit::Succeeded)
}

pub(super) async fn migration(session: &Session, arguments: &cli::Migration) -> Result<Exit, Error> {
    let cli::Migration::Resolve { rollout, environment, applied, not_applied: _, reason } = arguments;
    let (_, client) = session.connect().await?;
    let rollout = session.running_rollout(&client, rollout.as_deref(), environment.env.as_ref()).await?;
    let rollout = client.resolve_migration(&rollout.id, *applied, reason.clone()).await?;
    show(session, &rollout);
    Ok(Exit::Succeeded)
}

fn show(session: &Session, rollout: &Rollout) {
    session.output.line(follow::describe(&session.output, rollout));
    match rollout.status {
        // Whatever was said to it, it stays where it is until then.
        Status::Paused => session.output.line(format!("next: ctl resume {}", rollout.id)),
        status if status.has_ended() => {}
        _ => session.output.line(format!("next: ctl status --watch {}", rollout.id)),
    }
    session.output.json("rollout", rollout);
}
