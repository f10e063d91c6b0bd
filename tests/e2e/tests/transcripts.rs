//! Each strategy as the page of transcripts has it: what is planned there is what is planned, it ends as it does there, and no
//! more hosts are under way at the same time than the plan says. With `LANDFALL_TRANSCRIPTS=write` the page is written anew.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, token_in};

/// A section of the page.
struct Transcript {
    /// What the environment has.
    knobs: String,
    /// What `ctl plan` prints, without the command that it names next, and then `ctl release`.
    printed: String,
    /// Where that stands on the page.
    at: std::ops::Range<usize>,
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/transcripts.md")
}

fn transcripts(page: &str) -> Vec<Transcript> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(toml) = page[from..].find("```toml\n[environment.production]\n") {
        let knobs = from + toml + "```toml\n[environment.production]\n".len();
        let end = knobs + page[knobs..].find("```\n").unwrap();
        let begin = end + page[end + 4..].find("```\n").unwrap() + 8;
        let until = begin + page[begin..].find("```").unwrap();
        found.push(Transcript {
            knobs: page[knobs..end].to_owned(),
            printed: page[begin..until].to_owned(),
            at: begin..until,
        });
        from = until + 3;
    }
    found
}

/// Four hosts, two in each zone, on v1.
fn scene() -> Scene {
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut scene = Scene::new(bin, &[]).unwrap();
    for (host, zone) in [("web-1", "a"), ("web-2", "a"), ("web-3", "b"), ("web-4", "b")] {
        scene.prepare(host).unwrap();
        let label = format!("zone={zone}");
        let token = ["hosts", "token", "--env", "production", "--name", host, "--label", &label];
        let said = scene.ctl(&token).unwrap().expect_code(0).unwrap();
        scene.stage.join(host, &token_in(&said).unwrap()).unwrap();
    }
    let said = scene.release("v1").unwrap();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    scene
}

/// What is printed where a release is planned and brought that has these knobs.
fn run(scene: &Scene, release: &str, knobs: &str) -> String {
    let with = |text: String| {
        let head = text.split("[environment").next().unwrap_or_default();
        let fast = "min_healthy = \"1s\"\nhealthy_deadline = \"30s\"";
        format!("{head}[environment.production]\n{fast}\n{knobs}")
    };
    let artifact = scene.artifact(release, with).unwrap();
    let published: Said =
        scene.release_command(release, &artifact, &["--publish-only"]).output().unwrap().into();
    assert_eq!(published.code, 0, "{published:?}");
    let mut printed = String::new();
    let plan = scene.ctl(&["plan", release]).unwrap().expect_code(0).unwrap();
    writeln!(printed, "$ ctl plan {release}").unwrap();
    for line in plan.out.lines().filter(|line| !line.starts_with("next:")) {
        writeln!(printed, "{line}").unwrap();
    }
    let said: Said = scene.release_command(release, &artifact, &[]).output().unwrap().into();
    assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
    writeln!(printed, "$ ctl release {release}").unwrap();
    // The plan is printed once more before the first line that has a time.
    let steps = said.err.lines().filter(|line| line.starts_with("20"));
    for line in steps.chain(said.out.lines()) {
        writeln!(printed, "{line}").unwrap();
    }
    printed
}

/// All but the steps, whose moments nobody knows, with no time in it.
fn lasting(printed: &str) -> Vec<String> {
    let steps = printed.lines().filter(|line| !line.starts_with("20"));
    let timeless = |line: &str| match (line.starts_with("succeeded"), line.rfind(" (")) {
        (true, Some(at)) => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    steps.map(timeless).collect()
}

/// How many hosts were seen to change at the same time at most.
fn most_under_way(printed: &str) -> u32 {
    let steps = printed.lines().filter(|line| line.starts_with("20"));
    let under_way = steps.map(|line| {
        let states = line.split(": ").nth(1).unwrap_or_default().split(", ");
        let changing = states.filter(|state| state.ends_with("proving") || state.ends_with("activating"));
        changing.filter_map(|state| state.split(' ').next()?.parse::<u32>().ok()).sum()
    });
    under_way.max().unwrap_or_default()
}

/// How many the plan lets be out.
fn most_out(printed: &str) -> u32 {
    let said = printed.split("at most ").nth(1).and_then(|rest| rest.split(' ').next());
    said.and_then(|number| number.parse().ok()).expect("the plan says how many may be out")
}

#[test]
fn each_strategy_runs_as_its_transcript_has_it() {
    let scene = scene();
    let mut text = std::fs::read_to_string(page()).unwrap();
    let all = transcripts(&text);
    assert_eq!(all.len(), 7, "sections of the page");
    let writes = std::env::var("LANDFALL_TRANSCRIPTS").is_ok_and(|does| does == "write");
    let mut ran = Vec::new();
    for (number, transcript) in (2..).zip(&all) {
        let printed = run(&scene, &format!("v{number}"), &transcript.knobs);
        if !writes {
            assert_eq!(lasting(&printed), lasting(&transcript.printed), "{printed}");
            let (now, may) = (most_under_way(&printed), most_out(&printed));
            assert!(now <= may, "{now} hosts changed at the same time, and {may} may: {printed}");
        }
        ran.push((transcript.at.clone(), printed));
    }
    if writes {
        ran.into_iter().rev().for_each(|(at, printed)| text.replace_range(at, &printed));
        std::fs::write(page(), text).unwrap();
    }
}
