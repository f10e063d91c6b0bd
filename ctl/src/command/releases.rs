//! `ctl releases`: what is published, newest first.

use super::Session;
use crate::error::{Error, Exit};
use crate::git;
use crate::output::format;

pub(super) async fn run(session: &Session) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let releases = client.releases(&application).await?;
    if releases.is_empty() {
        output.line(format!("{application} has no release yet; next: ctl release TAG"));
    } else {
        let rows = releases
            .iter()
            .map(|release| {
                vec![
                    release.name.clone(),
                    format::or_dash(release.published.map(format::time)),
                    release.published_by.clone(),
                    format::or_dash(Some(git::short(&release.commit).to_owned())),
                    format::bytes(release.total_bytes),
                    format::or_dash(Some(release.active_in.join(", "))),
                    format::or_dash(Some(release.proven_in.join(", "))),
                    release.subject.clone(),
                ]
            })
            .collect();
        let header = ["release", "published", "by", "commit", "size", "active in", "proven in", "subject"];
        output.table(&header, rows);
    }
    output.json("releases", &releases);
    Ok(Exit::Succeeded)
}
