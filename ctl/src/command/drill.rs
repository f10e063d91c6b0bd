//! `ctl drill`: the way back is rehearsed on the canary, and followed until it is over.

use super::{Session, follow};
use crate::cli::Drill;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::view::Rehearsal;

pub(super) async fn run(session: &Session, arguments: &Drill) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let environment = session.local_environment(arguments.environment.env.as_ref())?;
    if !arguments.yes {
        let aim = arguments.name.as_ref().map_or("the last proven release".to_owned(), ToString::to_string);
        output.confirm(&format!("take the canary of {application} in {environment} to {aim}, and back?"))?;
    }
    let rollout = client.drill(&application, &environment, arguments.name.as_ref()).await?;
    if arguments.follow.detach {
        output.line(format!("drill {} has begun; to follow it: ctl status --watch {0}", rollout.id));
        output.json("rollout", &rollout);
        return Ok(Exit::Succeeded);
    }
    follow::follow(&client, output, rollout, arguments.follow.wait).await
}

/// `rollback rehearsed at 2026-11-22 18:00: v1.3 and back to v1.4 on 1 host, back in 12s`.
pub(super) fn describe(rehearsal: &Rehearsal) -> String {
    let Rehearsal { release, back_to, hosts, back_ms, .. } = rehearsal;
    let at = rehearsal.at.map(format::time).unwrap_or_default();
    let took = format::duration(std::time::Duration::from_millis(*back_ms));
    let hosts = format::count(*hosts, "host");
    format!("rollback rehearsed at {at}: {release} and back to {back_to} on {hosts}, back in {took}")
}
