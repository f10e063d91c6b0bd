//! `ctl releases`: what is published, newest first.

use super::Session;
use crate::error::{Error, Exit};
use crate::git;
use crate::output::format;
use crate::view::Release;

pub(super) async fn run(session: &Session) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let releases = client.releases(&application).await?;
    if releases.is_empty() {
        output.line(format!("{application} has no release yet; next: ctl release TAG"));
    } else {
        let rows = releases.iter().map(row).collect();
        let header = ["release", "published", "by", "commit", "size", "active in", "proven in", "subject"];
        output.table(&header, rows);
        if let Some(gone) = releases.iter().find(|release| release.removed.is_some()) {
            output.line(format!(
                "(removed): its files are gone from the controller; to go back to it all the same: ctl release {0} \
                 --publish-only, then ctl rollback {0}",
                gone.name
            ));
        }
    }
    output.json("releases", &releases);
    Ok(Exit::Succeeded)
}

fn row(release: &Release) -> Vec<String> {
    let size = match release.removed {
        None => format::bytes(release.total_bytes),
        Some(_) => "(removed)".to_owned(),
    };
    vec![
        release.name.clone(),
        format::or_dash(release.published.map(format::time)),
        release.published_by.clone(),
        format::or_dash(Some(git::short(&release.commit).to_owned())),
        size,
        format::or_dash(Some(release.active_in.join(", "))),
        format::or_dash(Some(release.proven_in.join(", "))),
        release.subject.clone(),
    ]
}
