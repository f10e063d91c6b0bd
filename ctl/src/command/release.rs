//! `ctl release`: from a tag (or an artifact) to healthy hosts.
//!
//! Content is made or found, the missing objects are uploaded, the manifest is signed and published, and a
//! rollout is begun and followed. Everything up to the rollout can be repeated without harm.

mod content;
mod preflight;
mod publish;

use landfall_common::Sha256;
use serde_json::json;

use super::plan::show_plan;
use super::{Session, follow, if_held, overrides};
use crate::cli::{Follow, Release};
use crate::client::{Client, Intent};
use crate::error::{Error, Exit};
use crate::git::Repository;
use crate::view;

pub(super) async fn run(session: &Session, arguments: &Release) -> Result<Exit, Error> {
    let output = session.output;
    let (profile, client) = session.connect().await?;
    let who = preflight::asked(session, arguments, &client).await?;
    let content = content::obtain(session, arguments, &profile, (&client, &who)).await?;
    let manifest = content.manifest();
    let application = manifest.application.clone();
    let environment =
        session.environment(arguments.environment.env.as_ref(), manifest.environments.keys())?;

    let is_new = matches!(content, content::Content::New(_));
    if let content::Content::New(new) = &content {
        publish::publish(session, &profile, &client, new).await?;
    } else {
        output.note(format!("{} is published already and used as it is", arguments.name));
    }
    if arguments.publish_only {
        let published = client.release(&application, &arguments.name).await?.map(|(release, _)| release);
        output.line(format!("published {application} {}", arguments.name));
        output.json("release", &published);
        return Ok(Exit::Succeeded);
    }
    let intent = Intent {
        application,
        environment,
        release: arguments.name.clone(),
        overrides: overrides(&arguments.knobs),
        no_way_back: arguments.no_way_back,
        if_held: if_held(&arguments.held),
        outside_window: arguments.held.outside_window.clone(),
        proven_in: None,
        unproven: arguments.held.unproven.clone(),
        without_evidence: arguments.held.without_evidence.clone(),
    };
    let how = How { yes: arguments.yes, plan_id: arguments.plan_id, follow: &arguments.follow };
    let exit = roll_out(session, &client, &intent, how).await;
    exit.map_err(|error| if is_new { error.after_publishing(&arguments.name) } else { error })
}

/// How a rollout is begun and followed.
pub(super) struct How<'a> {
    /// Whether nobody is asked.
    pub yes: bool,
    /// The plan that was seen.
    pub plan_id: Option<Sha256>,
    /// How it is followed.
    pub follow: &'a Follow,
}

/// Begins a rollout of what is published, and follows it.
pub(super) async fn roll_out(
    session: &Session,
    client: &Client,
    intent: &Intent,
    how: How<'_>,
) -> Result<Exit, Error> {
    let output = session.output;
    let Some(rollout) = begin(session, client, intent, &how).await? else {
        return Ok(Exit::Succeeded);
    };
    if how.follow.detach {
        let does = if rollout.in_line { "stands in line" } else { "has begun" };
        output.line(format!("rollout {} {does}; to follow it: ctl status --watch {0}", rollout.id));
        output.json("rollout", &rollout);
        return Ok(Exit::Succeeded);
    }
    follow::follow(client, output, rollout, how.follow.wait).await
}

/// Shows the plan, asks, and begins; none if there is nothing to do.
async fn begin(
    session: &Session,
    client: &Client,
    intent: &Intent,
    arguments: &How<'_>,
) -> Result<Option<view::Rollout>, Error> {
    let output = session.output;
    let mut plan = client.plan(intent).await?;
    asks_for_the_proof(intent, &plan)?;
    let changes = changes(session, client, intent, &plan).await;
    if let Some(id) = &arguments.plan_id {
        return client.start(intent, &id.to_string(), changes).await.map(Some);
    }
    loop {
        show_plan(output, intent, &plan, &changes);
        if !plan.refusals.is_empty() || arguments.yes {
            // What refuses says so itself, with its reason and exit code; if the world has moved on to the
            // better meanwhile, that is not the plan that was shown.
            let id = if plan.refusals.is_empty() { "" } else { plan.plan_id.as_str() };
            return client.start(intent, id, changes).await.map(Some);
        }
        let look = format!(
            "look at it with `ctl plan {} --env {}`, then repeat the command with --yes",
            intent.release, intent.environment
        );
        output.confirm_or(&format!("release {} to {}?", intent.release, intent.environment), &look)?;
        match client.start(intent, &plan.plan_id, changes.clone()).await {
            Err(Error::Refused(refusal)) if refusal.reason == "PLAN_CHANGED" => {
                output.note("the plan has changed meanwhile:");
                plan = client.plan(intent).await?;
            }
            other => return other.map(Some),
        }
    }
}

/// A controller that is older than this program does not look whether a release is proven anywhere, and says nothing
/// of it.
fn asks_for_the_proof(intent: &Intent, plan: &view::Plan) -> Result<(), Error> {
    let Some(from) = &intent.proven_in else { return Ok(()) };
    if plan.proofs.iter().any(|proof| proof.environment == from.as_str()) {
        return Ok(());
    }
    Err(Error::Missing {
        what: format!("the controller does not look whether {} is proven in {from}", intent.release),
        next: "upgrade the controller, which comes before ctl (`ctl doctor` shows its version)".to_owned(),
    })
}

/// The commits since the environment's release, for the log; empty where they cannot be known.
async fn changes(session: &Session, client: &Client, intent: &Intent, plan: &view::Plan) -> Vec<String> {
    let commit_of = async |name: &str| {
        let name = landfall_common::ReleaseName::new(name).ok()?;
        let (release, _) = client.release(&intent.application, &name).await.ok()??;
        Some(release.commit).filter(|commit| !commit.is_empty())
    };
    let Some(to) = commit_of(intent.release.as_str()).await else { return Vec::new() };
    let from = match &plan.from {
        Some(from) => commit_of(from).await,
        None => None,
    };
    let Ok(repository) = Repository::discover(&session.directory) else { return Vec::new() };
    repository.changes(from.as_deref(), &to).unwrap_or_default()
}

/// The plan and the changes as JSON, for `ctl plan`.
#[must_use]
pub(super) fn plan_value(intent: &Intent, plan: &view::Plan) -> serde_json::Value {
    json!({ "application": intent.application, "environment": intent.environment, "plan": plan })
}
