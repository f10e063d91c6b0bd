//! `ctl restart`, `ctl reload`: services go on with the same release, and it is followed until it is over.

use landfall_common::assignment::RestartKind;

use super::{Session, follow, overrides};
use crate::cli::Restart;
use crate::client::Anew;
use crate::error::{Error, Exit};

pub(super) async fn run(session: &Session, arguments: &Restart, kind: RestartKind) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let environment = session.local_environment(arguments.environment.env.as_ref())?;
    let verb = kind.as_str();
    if !arguments.yes {
        let names: Vec<&str> = arguments.services.iter().map(|service| service.as_str()).collect();
        let what = match kind {
            _ if !names.is_empty() => names.join(", "),
            RestartKind::Restart => "all services".to_owned(),
            RestartKind::Reload => "all services that have a reload".to_owned(),
        };
        output.confirm(&format!("{verb} {what} of {application} in {environment}, batch by batch?"))?;
    }
    let anew = Anew {
        application,
        environment,
        kind,
        services: arguments.services.clone(),
        reason: arguments.reason.clone(),
        overrides: overrides(&arguments.knobs),
        outside_window: arguments.outside_window.clone(),
    };
    let rollout = client.restart(&anew).await?;
    if arguments.follow.detach {
        output.line(format!("{verb} {} has begun; to follow it: ctl status --watch {0}", rollout.id));
        output.json("rollout", &rollout);
        return Ok(Exit::Succeeded);
    }
    follow::follow(&client, output, rollout, arguments.follow.wait).await
}
