//! `ctl rollback`: back to an older release, and followed until it is.

use super::{Session, follow};
use crate::cli::Rollback;
use crate::error::{Error, Exit};
use crate::view::Status;

pub(super) async fn run(session: &Session, arguments: &Rollback) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let environment = session.local_environment(arguments.environment.env.as_ref())?;
    // What was never published is another mistake than what was never proven, which the controller tells.
    if let Some(name) = &arguments.name
        && matches!(client.release(&application, name).await, Ok(None))
    {
        return Err(Error::usage(
            format!("{application} has no release {name}"),
            "ctl releases shows what there is",
        ));
    }
    if !arguments.yes {
        let aim = arguments.name.as_ref().map_or("the last proven release".to_owned(), ToString::to_string);
        output.confirm(&format!("take {application} in {environment} back to {aim}?"))?;
    }
    let rollout = client
        .rollback(&application, &environment, arguments.name.as_ref(), arguments.reason.clone())
        .await?;
    if arguments.follow.detach {
        output.line(format!("rollout {} goes back; to follow it: ctl status --watch {0}", rollout.id));
        output.json("rollout", &rollout);
        return Ok(Exit::Succeeded);
    }
    let (id, own) = (rollout.id.clone(), rollout.is_rollback);
    let exit = follow::follow(&client, output, rollout, arguments.follow.wait).await?;
    // A rollout under way that was told to go back has done what was asked; a rollback that itself was
    // rolled back has not.
    if exit == Exit::RolledBack && !own && client.rollout(&id).await?.status == Status::RolledBack {
        return Ok(Exit::Succeeded);
    }
    Ok(exit)
}
