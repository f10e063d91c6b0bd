//! `ctl plan`: what a release would do.

use super::{Session, if_held, overrides, release};
use crate::cli::{Knobs, Plan};
use crate::client::{IfHeld, Intent};
use crate::error::{Error, Exit};
use crate::output::{Output, Tone, format};
use crate::view;

/// How many hosts of a batch are named where a plan is asked whether it shall be carried out.
const NAMED: usize = 8;

/// How many hosts are named in a line.
const IN_A_LINE: usize = 8;

pub(super) async fn run(session: &Session, arguments: &Plan) -> Result<Exit, Error> {
    let (_, client) = session.connect().await?;
    let application = session.application(&client).await?;
    let environment = session.local_environment(arguments.environment.env.as_ref())?;
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
    let plan = client.plan(&intent).await.map_err(|error| unpublished(error, &intent))?;
    session.output.line(text(&session.output, &intent, &plan, &[], usize::MAX));
    if plan.refusals.is_empty() {
        session.output.line(format!(
            "next: ctl release {} --env {} --plan-id {}{}",
            intent.release,
            intent.environment,
            plan.plan_id,
            flags(&intent, &arguments.knobs)
        ));
    }
    session.output.json("plan", &release::plan_value(&intent, &plan));
    Ok(if plan.refusals.is_empty() { Exit::Succeeded } else { Exit::Failed })
}

/// What has to be said again for the plan to be carried out as it was asked for.
fn flags(intent: &Intent, knobs: &Knobs) -> String {
    let held = match intent.if_held {
        IfHeld::Refuse => "",
        IfHeld::Queue => " --queue",
        IfHeld::Supersede => " --supersede",
    };
    let no_way_back = if intent.no_way_back { " --no-way-back" } else { "" };
    let because = |flag: &str, reason: &str| match reason.replace('\'', "'\\''") {
        reason if reason.is_empty() => String::new(),
        reason => format!(" --{flag} '{reason}'"),
    };
    let outside = because("outside-window", &intent.outside_window);
    let unproven = because("unproven", &intent.unproven);
    let without = because("without-evidence", &intent.without_evidence);
    let is_plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.,=%".contains(c));
    let quoted = |word: String| match is_plain(&word) {
        true => format!(" {word}"),
        false => format!(" '{}'", word.replace('\'', "'\\''")),
    };
    let knobs: String = knobs.words().into_iter().map(quoted).collect();
    format!("{knobs}{held}{no_way_back}{outside}{unproven}{without}")
}

/// Only what is published can be planned: says how it gets there.
fn unpublished(error: Error, intent: &Intent) -> Error {
    match error {
        Error::Refused(mut refusal) if refusal.reason == "NOT_FOUND" => {
            let release = &intent.release;
            refusal.next = Some(format!("ctl release {release} --publish-only, then ctl plan {release}"));
            Error::Refused(refusal)
        }
        other => other,
    }
}

/// Shows a plan on the way to a rollout.
pub(super) fn show_plan(output: Output, intent: &Intent, plan: &view::Plan, changes: &[String]) {
    output.note(text(&output, intent, plan, changes, NAMED));
}

/// At most so many hosts of each batch are named.
fn text(output: &Output, intent: &Intent, plan: &view::Plan, changes: &[String], most: usize) -> String {
    let from = plan.from.as_deref().unwrap_or("nothing");
    let hosts: usize = plan.batches.iter().map(|batch| batch.hosts.len()).sum();
    let mut lines = vec![format!(
        "{from} -> {}, {} in {}: {}, {}",
        intent.release,
        intent.application,
        intent.environment,
        format::count(hosts as u64, "host"),
        if plan.batches.len() == 1 {
            "1 batch".to_owned()
        } else {
            format!("{} batches", plan.batches.len())
        }
    )];
    for (index, batch) in plan.batches.iter().enumerate() {
        let name = if batch.canary { "canary".to_owned() } else { format!("batch {}", index + 1) };
        let named: Vec<&str> = batch.hosts.iter().take(most).map(String::as_str).collect();
        let named: Vec<String> = named.chunks(IN_A_LINE).map(|names| names.join(", ")).collect();
        let named = named.join(&format!(",\n  {:<9} ", ""));
        let more = batch.hosts.len().saturating_sub(most);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let why = if batch.why.is_empty() { String::new() } else { format!(" ({})", batch.why) };
        lines.push(format!("  {name:<9} {named}{more}{why}"));
        if !batch.then.is_empty() {
            lines.push(format!("  {:<9} {}", "", batch.then));
        }
    }
    if !plan.migration.is_empty() {
        lines.push(format!("  {:<9} {}", "migration", plan.migration));
    }
    lines.extend(plan.migrations.iter().map(|name| format!("  {:<9}   {name}", "")));
    if plan.more_migrations > 0 {
        lines.push(format!("  {:<9}   and {} more", "", plan.more_migrations));
    }
    if !plan.migrations_note.is_empty() {
        lines.push(format!("  {:<9} ({})", "", plan.migrations_note));
    }
    if !plan.contract.is_empty() {
        lines.push(format!("  {:<9} {}", "contract", plan.contract));
    }
    if !plan.way_back.is_empty() {
        lines.push(format!("  {:<9} {}", "way back", plan.way_back));
    }
    if let Some(newest) = changes.first() {
        let count = format::count(changes.len() as u64, "commit");
        lines.push(format!("  {:<9} {count}, newest: {newest}", "changes"));
    }
    lines.extend(plan.proofs.iter().filter_map(|proof| {
        let (rollout, at) = (proof.rollout.as_deref()?, format::time(proof.at?));
        Some(format!("  {:<9} in {}, by rollout {rollout} at {at}", "proven", proof.environment))
    }));
    lines.extend(plan.evidence.iter().map(|piece| {
        let url = if piece.url.is_empty() { String::new() } else { format!(" ({})", piece.url) };
        let told = match piece.run {
            Some(run) => format!("{} passed in run {run}{url}", piece.name),
            // Somebody may have chosen to do without, and then nothing else says it.
            None => piece.why_not.clone(),
        };
        format!("  {:<9} {told}", "evidence")
    }));
    lines.extend(plan.notes.iter().map(|note| format!("  {:<9} {note}", "note")));
    let refused = output.paint(Tone::Bad, "refused");
    lines.extend(plan.refusals.iter().map(|refusal| format!("  {refused}   {refusal}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::{AppName, EnvName, ReleaseName};

    #[test]
    fn a_plan_reads_like_the_rollout_that_it_would_be() {
        let intent = Intent {
            application: AppName::new("tenants").unwrap(),
            environment: EnvName::new("production").unwrap(),
            release: ReleaseName::new("v1.4").unwrap(),
            overrides: crate::client::Overrides::default(),
            no_way_back: false,
            if_held: IfHeld::Refuse,
            outside_window: String::new(),
            proven_in: None,
            unproven: String::new(),
            without_evidence: String::new(),
        };
        let hosts = |range: std::ops::Range<u32>| range.map(|n| format!("web-{n}")).collect();
        let batch = |canary, range, why: &str, then: &str| view::PlannedBatch {
            canary,
            hosts: hosts(range),
            why: why.to_owned(),
            then: then.to_owned(),
        };
        let plan = view::Plan {
            plan_id: "p1".into(),
            from: Some("v1.3".into()),
            to: "v1.4".into(),
            batches: vec![
                batch(true, 1..2, "role=canary", "the next batch follows when somebody types `ctl promote`"),
                batch(false, 2..13, "", ""),
            ],
            migration: "runs once, on web-1".into(),
            migrations: vec!["housing.0002_full_name".into(), "housing.0003_index".into()],
            more_migrations: 0,
            migrations_note: "what v1.4 listed when it was built, and v1.3 did not".into(),
            contract: "runs once, after the last host".into(),
            way_back: "v1.3 runs on the new schema".into(),
            refusals: vec!["rollout r-1 of v1.2 is under way since 10:00, by ana".into()],
            notes: vec!["web-9 cannot be reached".into()],
            proofs: vec![
                view::Proof {
                    environment: "staging".into(),
                    rollout: Some("r-2".into()),
                    at: Some(landfall_common::Timestamp::from_ms(1_795_338_000_000)),
                    why_not: String::new(),
                },
                view::Proof {
                    environment: "qa".into(),
                    rollout: None,
                    at: None,
                    why_not: "v1.4 is not proven for tenants in qa".into(),
                },
            ],
            evidence: vec![
                view::PlannedEvidence {
                    name: "tests".into(),
                    run: Some(812),
                    key: "0a".repeat(32),
                    url: "https://ci/812".into(),
                    why_not: String::new(),
                },
                view::PlannedEvidence {
                    name: "load".into(),
                    run: None,
                    key: String::new(),
                    url: String::new(),
                    why_not: "v1.4 lacks the evidence load".into(),
                },
            ],
        };
        let changes = ["abc1234 a new page".to_owned()];
        let all = text(&Output::plain(), &intent, &plan, &changes, usize::MAX);
        insta::assert_snapshot!(all.lines().skip(3).take(2).collect::<Vec<_>>().join("\n"), @r"
        batch 2   web-2, web-3, web-4, web-5, web-6, web-7, web-8, web-9,
                  web-10, web-11, web-12
        ");
        insta::assert_snapshot!(text(&Output::plain(), &intent, &plan, &changes, NAMED), @r#"
    v1.3 -> v1.4, tenants in production: 12 hosts, 2 batches
      canary    web-1 (role=canary)
                the next batch follows when somebody types `ctl promote`
      batch 2   web-2, web-3, web-4, web-5, web-6, web-7, web-8, web-9 and 3 more
      migration runs once, on web-1
                  housing.0002_full_name
                  housing.0003_index
                (what v1.4 listed when it was built, and v1.3 did not)
      contract  runs once, after the last host
      way back  v1.3 runs on the new schema
      changes   1 commit, newest: abc1234 a new page
      proven    in staging, by rollout r-2 at 2026-11-22 09:00:00
      evidence  tests passed in run 812 (https://ci/812)
      evidence  v1.4 lacks the evidence load
      note      web-9 cannot be reached
      refused   rollout r-1 of v1.2 is under way since 10:00, by ana
    "#);
    }
}
