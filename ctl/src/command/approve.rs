//! `ctl approve` and `ctl reject`: yes and no to what somebody else wants to roll out.

use super::{Session, follow};
use crate::cli;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::view::Rollout;

/// Commits that are shown before somebody says yes; `ctl diff` shows all.
const COMMITS: usize = 20;

pub(super) async fn approve(session: &Session, arguments: &cli::Approve) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let rollout = client.rollout(&arguments.rollout).await?;
    let content = rollout.approvals.as_ref().map(|approvals| approvals.content.clone()).unwrap_or_default();
    if content.is_empty() {
        let (id, to, status) = (&rollout.id, &rollout.to, rollout.status.words());
        let message = format!("rollout {id} of {to} is {status}, and needs no approval");
        return Err(Error::usage(message, format!("ctl status {id}")));
    }
    output.note(question(&rollout));
    if !arguments.yes {
        output.confirm("approve this?")?;
    }
    let approved = client.approve(&rollout.id, content, arguments.reason.clone()).await?;
    output.line(follow::describe(&output, &approved));
    output.line(format!("next: ctl status --watch {}", approved.id));
    output.json("rollout", &approved);
    Ok(Exit::Succeeded)
}

pub(super) async fn reject(session: &Session, arguments: &cli::Reject) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let rejected = client.reject(&arguments.rollout, arguments.reason.clone()).await?;
    session.output.line(follow::describe(&session.output, &rejected));
    session.output.json("rollout", &rejected);
    Ok(Exit::Succeeded)
}

/// What is approved, as it is shown before somebody says yes.
fn question(rollout: &Rollout) -> String {
    let Rollout { id, application, environment, to, to_digest, started_by, .. } = rollout;
    let from = rollout.from.as_deref().unwrap_or("nothing");
    let mut lines = vec![
        format!("rollout {id}: {from} -> {to}, {application} in {environment}, asked for by {started_by}"),
        format!("  {:<9} {to_digest}", "digest"),
    ];
    let approvals = rollout.approvals.as_ref();
    lines.extend(
        approvals.iter().flat_map(|approvals| &approvals.terms).map(|t| format!("  {:<9} {t}", "with")),
    );
    lines.extend(rollout.changes.iter().take(COMMITS).map(|change| format!("  {:<9} {change}", "commit")));
    let more = rollout.changes.len().saturating_sub(COMMITS);
    if more > 0 {
        lines.push(format!("  {:<9} and {} more", "", format::count(more as u64, "commit")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_proto::v1;

    #[test]
    fn who_approves_sees_what() {
        let release = |name: &str, digest: &str| v1::ReleaseRef {
            name: name.to_owned(),
            digest: digest.to_owned(),
            ..v1::ReleaseRef::default()
        };
        let rollout = Rollout::from(v1::Rollout {
            id: "r-7".into(),
            application: "shop".into(),
            environment: "production".into(),
            from: Some(release("v1.3", "aa")),
            to: Some(release("v1.4", "9f86d081884c7d65")),
            started_by: "ana".into(),
            in_line: true,
            changes: vec!["abc1234 a new page".into(); 22],
            approvals: Some(v1::RolloutApprovals {
                needed: 2,
                content: "c0".into(),
                terms: vec!["batch = 50%".into(), "a migration without a way back is accepted".into()],
                ..v1::RolloutApprovals::default()
            }),
            ..v1::Rollout::default()
        });
        let shown = question(&rollout);
        let lines: Vec<&str> = shown.lines().collect();
        insta::assert_snapshot!([&lines[..5], &lines[23..]].concat().join("\n"), @r"
        rollout r-7: v1.3 -> v1.4, shop in production, asked for by ana
          digest    9f86d081884c7d65
          with      batch = 50%
          with      a migration without a way back is accepted
          commit    abc1234 a new page
          commit    abc1234 a new page
                    and 2 commits more
        ");
    }
}
