//! What a run of the planner costs, from a hundred hosts to ten thousand: `PART=planner make bench`, or with other sizes
//! `cargo run --release -p landfall-controller-core --example plan_cost -- 500 5000`. The fleet stands in the middle of a
//! rollout, where each run looks at every host.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use landfall_common::assignment::ReleaseRef;
use landfall_common::manifest::Origin;
use landfall_common::report::{Active, Health, HostReport, Outcome, OutcomeKind, Phase, Traffic};
use landfall_common::strategy::{Amount, Strategy};
use landfall_common::{
    AppName, EnvName, Generation, HostId, ReleaseCounter, ReleaseName, RequestId, RolloutId, Sha256,
    Timestamp,
};
use landfall_controller_core::command::{Action, Command, RollRequest};
use landfall_controller_core::log::Actor;
use landfall_controller_core::observation::Observation;
use landfall_controller_core::record::{Content, HostRecord, Place, ReleaseRecord};
use landfall_controller_core::{Output, State, decide, plan};

const HEAD: &str = "\
| hosts | everybody is to stage | growth | half of them done | growth | a report is taken |
| --- | --- | --- | --- | --- | --- |";

#[expect(clippy::print_stdout, reason = "it exists to print a table")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut sizes: Vec<usize> =
        std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    if sizes.is_empty() {
        sizes = vec![100, 1_000, 10_000];
    }
    println!("{HEAD}");
    let mut before: Option<(usize, [Duration; 3])> = None;
    for hosts in sizes {
        let measured @ [stage, half, report] = measure(hosts)?;
        let growth = |at: usize| match before {
            Some((fewer, times)) => format!("{:.2}", growth((fewer, times[at]), (hosts, measured[at]))),
            None => "–".to_owned(),
        };
        let (of_stage, of_half) = (growth(0), growth(1));
        println!("| {hosts} | {stage:.3?} | {of_stage} | {half:.3?} | {of_half} | {report:.3?} |");
        before = Some((hosts, measured));
    }
    Ok(())
}

/// By how much longer a run takes than n log n allows for so many more hosts: 1 is just that, less is better.
#[expect(clippy::cast_precision_loss, reason = "numbers of hosts")]
fn growth((fewer, before): (usize, Duration), (more, after): (usize, Duration)) -> f64 {
    let n_log_n = |n: usize| n as f64 * (n as f64).ln();
    after.as_secs_f64() / before.as_secs_f64() / (n_log_n(more) / n_log_n(fewer))
}

fn commit(state: &mut State, output: &Output) {
    output.changes.iter().for_each(|change| state.apply(change));
}

fn measure(hosts: usize) -> Result<[Duration; 3], Box<dyn std::error::Error>> {
    let now = Timestamp::from_ms(1_800_000_000_000);
    let place = Place { application: AppName::new("a")?, environment: EnvName::new("production")? };
    let release = |counter: u64| -> Result<ReleaseRef, Box<dyn std::error::Error>> {
        let name = ReleaseName::new(format!("v{counter}"))?;
        let digest = Sha256::of(name.as_str().as_bytes());
        Ok(ReleaseRef { name, counter: ReleaseCounter(counter), digest, length: 1 })
    };
    let strategy =
        Strategy { batch: Amount::Percent(25), max_unavailable: Amount::Percent(25), ..Strategy::default() };
    let mut state = State::new(now);
    let mut requests = 0;
    let mut ask = |state: &mut State, action: Action| -> Result<(), Box<dyn std::error::Error>> {
        requests += 1;
        let command = Command {
            request: RequestId::new(format!("q{requests}"))?,
            by: Actor::Controller,
            origin: String::new(),
            fresh: RolloutId::new(format!("r{requests}"))?,
            action,
        };
        commit(state, &decide(state, &command, now)?.output);
        Ok(())
    };
    let published = ReleaseRecord {
        application: place.application.clone(),
        release: release(2)?,
        published_at: now,
        by: Actor::Controller,
        origin: Origin::Artifact { commit: None },
        notes: None,
        migration: None,
        contract: None,
        environments: [(place.environment.clone(), strategy)].into(),
        checks: Vec::new(),
        services: Vec::new(),
        metrics: Vec::new(),
        hosts_keep: 0,
        follows: None,
        content: Content::Here,
    };
    ask(&mut state, Action::Publish { release: Box::new(published), signed_by: Vec::new() })?;
    let ids: Vec<HostId> =
        (0..hosts).map(|number| HostId::new(format!("web-{number:05}"))).collect::<Result<_, _>>()?;
    for id in &ids {
        let host = HostRecord {
            id: id.clone(),
            place: place.clone(),
            labels: BTreeMap::new(),
            enrolled_at: now,
            cordon: None,
            drain: None,
            led_away: None,
        };
        ask(&mut state, Action::Enrol { host, token: String::new() })?;
        let connection = 1;
        let _ = state.observe(Observation::Connected { host: id.clone(), connection }, now);
        observe(&mut state, id, 1, report(1, release(1)?, Generation(0), None, true), now);
    }
    let request =
        RollRequest::new(place.application.clone(), place.environment.clone(), ReleaseName::new("v2")?);
    ask(&mut state, Action::Roll(Box::new(request)))?;
    let stage = median(|| plan(&state, now));
    let planned = plan(&state, now);
    commit(&mut state, &planned.output);
    // Everybody has staged; then the first half has committed, until the gate of the last batch is awaited.
    let mut sequence = 2;
    for round in 0..6 {
        for id in &ids {
            let asked = state.host(id).and_then(|host| host.issued.assignment.clone());
            let Some(asked) = asked else { continue };
            let activated = matches!(asked.order, landfall_common::assignment::Order::Activate { .. });
            let result = if activated { OutcomeKind::Committed } else { OutcomeKind::Staged };
            let runs = release(if activated { 2 } else { 1 })?;
            let young = round == 5;
            let report = report(sequence, runs, asked.generation, Some(result), !young);
            observe(&mut state, id, 1, report, now);
        }
        sequence += 1;
        let planned = plan(&state, now);
        commit(&mut state, &planned.output);
    }
    let half = median(|| plan(&state, now));
    let mut next = (sequence + 1..).zip(ids.iter().cycle());
    let taken = median(|| {
        let Some((sequence, id)) = next.next() else { return };
        let report = release(2).map(|runs| report(sequence, runs, Generation(1), None, true));
        if let Ok(report) = report {
            observe(&mut state, id, 1, report, now);
        }
    });
    Ok([stage, half, taken])
}

fn observe(state: &mut State, id: &HostId, connection: u64, report: HostReport, now: Timestamp) {
    let report = Box::new(report);
    let _ = state.observe(Observation::Reported { host: id.clone(), connection, report }, now);
}

fn report(
    sequence: u64,
    release: ReleaseRef,
    generation: Generation,
    result: Option<OutcomeKind>,
    healthy: bool,
) -> HostReport {
    HostReport {
        incarnation: 1,
        sequence,
        at: Timestamp::from_ms(0),
        generation,
        phase: Phase::Idle,
        active: Some(Active { release, proven: true }),
        outcome: result.map(|result| Outcome { generation, result }),
        health: Health::Healthy {
            period: landfall_common::Duration::from_secs(if healthy { 60 } else { 1 }),
        },
        restarts: true,
        traffic: Traffic::Led,
    }
}

fn median<T>(mut run: impl FnMut() -> T) -> Duration {
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(run());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}
