//! `PART=traffic make bench`: what a release does to requests, for each way of restarting a service.
//!
//! `traffic [WAY]...` as root; without any, all of them. ROUNDS (3), REQUESTS for each row (100000) RATE a second
//! (1000) and what is asked for, PAGE (/page), come from the environment.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints tables, and what it does meanwhile"
)]

use std::str::FromStr;

use anyhow::{Context as _, bail};
use landfall_benches::table::markdown;
use landfall_benches::traffic::figures::{Figures, HEAD, cells};
use landfall_benches::traffic::place::Place;
use landfall_benches::traffic::place::containers::{self, Containers};
use landfall_benches::traffic::place::server::Server;
use landfall_benches::traffic::trial::Trial;
use landfall_benches::traffic::ways::{self, DOCKER, Way, Who};

fn main() -> anyhow::Result<()> {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    let known = ways::all();
    if let Some(unknown) = wanted.iter().find(|key| !known.iter().any(|way| way.key == **key)) {
        bail!("no way {unknown}: {:?}", known.iter().map(|way| way.key).collect::<Vec<_>>());
    }
    let requests = setting("REQUESTS", 100_000)?;
    let size = Size {
        rounds: setting("ROUNDS", 3)?.max(1),
        requests,
        others: setting("OTHERS", requests)?,
        rate_per_s: setting("RATE", 1_000)?,
        path: std::env::var("PAGE").unwrap_or_else(|_| "/page".to_owned()),
    };
    for way in known.iter().filter(|way| wanted.is_empty() || wanted.iter().any(|key| key == way.key)) {
        measure(way, &size)?;
    }
    Ok(())
}

/// How much is measured.
struct Size {
    rounds: u32,
    requests: u64,
    others: u64,
    rate_per_s: u32,
    path: String,
}

fn setting<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    name: &str,
    default: T,
) -> anyhow::Result<T> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("{name}={text}")))
}

/// The rows of a way, in turn, as often as there are rounds.
fn measure(way: &Way, size: &Size) -> anyhow::Result<()> {
    // With the quiet times around it a change takes four seconds at least.
    let seconds = size.requests / u64::from(size.rate_per_s);
    let releases = 1 + usize::try_from(seconds / 4)? + 2 * usize::try_from(size.rounds)?;
    let mut place: Box<dyn Place> = if way.key != DOCKER {
        Box::new(Server::new(way, releases)?)
    } else if let Some(why) = containers::missing() {
        println!("\n### {}\n\nNot measured: {why}.", way.name);
        return Ok(());
    } else if containers::enter(way.key)? {
        return Ok(());
    } else {
        Box::new(Containers::new(way, releases)?)
    };
    let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); way.rows.len()];
    for round in 1..=size.rounds {
        for (row, runs) in way.rows.iter().zip(&mut runs) {
            let (port, requests) = match row {
                Who::Ours => (way.ports[0], size.requests),
                Who::Script { .. } => (way.ports[1], size.others),
            };
            let trial = Trial {
                target: place.address(port),
                path: size.path.clone(),
                rate_per_s: size.rate_per_s,
                requests: requests.div_ceil(u64::from(size.rounds)),
            };
            let figures = trial.run(|| match row {
                Who::Ours => place.release(),
                Who::Script { script, restart, .. } => place.by_hand(script, restart),
            })?;
            eprintln!("{} {round}: {} {figures:?}", way.key, name(row));
            runs.push(figures);
        }
    }
    let rows: Vec<_> = way
        .rows
        .iter()
        .zip(&runs)
        .map(|(row, runs)| [vec![name(row).to_owned()], cells(runs)].concat())
        .collect();
    println!("\n### {}, {} requests a second for {}\n", way.name, size.rate_per_s, size.path);
    println!("{}", markdown(&[&["by"][..], &HEAD].concat(), &rows));
    Ok(())
}

fn name(row: &Who) -> &'static str {
    match row {
        Who::Ours => "Landfall",
        Who::Script { name, .. } => name,
    }
}
