//! Steps in units: what the runner refuses, and what the agent makes of what systemd and the notes tell. The units
//! themselves are tested on a server with systemd (`tests/hosts`).
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use landfall_agent::steps::cage::pin::Pin;
use landfall_agent::steps::cage::{Cage, Kind, Places, Request, RunId, Started, Trouble, Units, approve};
use landfall_agent::steps::{Cause, Identity, StepContext, StepFailure, Words};
use landfall_common::disk::RealDisk;
use landfall_common::manifest::{FORMAT, Manifest, Migration, Origin, Program, Step, WayBack};
use landfall_common::{AppName, ReleaseCounter, ReleaseName, Sha256, Timestamp};
use landfall_trust::metadata::{Root, TOP_LEVEL, Targets, file_name};
use landfall_trust::offline::Seen;
use landfall_trust::policy::{ReleaseCustom, app_role};
use landfall_trust::{Envelope, KeyPair};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

fn step(name: &str, network: Option<bool>) -> Step {
    Step {
        name: name.parse().unwrap(),
        command: vec!["true".to_owned()],
        environment: BTreeMap::new(),
        timeout: Duration::from_secs(10),
        network,
    }
}

fn manifest(release: &str) -> Manifest {
    let migrate = Migration {
        step: step("migrate", None),
        lease: Duration::from_secs(20),
        way_back: WayBack::Reversible { down: step("migrate-down", None) },
        idempotent: false,
        schema: None,
        names: Vec::new(),
    };
    Manifest {
        format: FORMAT,
        application: "shop".parse().unwrap(),
        release: release.parse().unwrap(),
        origin: Origin::Artifact { commit: None },
        tree: Sha256::of(b"tree"),
        file_count: 0,
        total_bytes: 0,
        program: Program {
            prepare: vec![step("install", None), step("download", Some(true))],
            migrate: Some(migrate),
            smoke: vec![step("ask", None)],
            ..Program::default()
        },
        environments: BTreeMap::new(),
    }
}

/// The signers of an application, and what they have signed.
struct Signers(KeyPair);

impl Signers {
    fn new(seed: u8) -> Self {
        Self(KeyPair::from_seed(&[seed; 32]).unwrap())
    }

    fn sign(&self, body: &impl Serialize) -> String {
        let mut envelope = Envelope::unsigned(body).unwrap();
        envelope.sign(&self.0).unwrap();
        String::from_utf8(envelope.to_bytes()).unwrap()
    }

    fn pin(&self) -> Pin {
        let mut root = Root::first(Timestamp::from_ms(1));
        for role in TOP_LEVEL {
            root.set_role(role, &[self.0.public().clone()], 1);
        }
        let (application, environment) = ("shop".parse().unwrap(), "production".parse().unwrap());
        Pin { application, environment, root: self.sign(&root) }
    }

    /// The metadata that lists these manifests.
    fn metadata(&self, manifests: &[&Manifest]) -> BTreeMap<String, String> {
        let app: AppName = "shop".parse().unwrap();
        let mut targets = Targets::first(Timestamp::from_ms(1));
        targets.delegate_app(&app, &[self.0.public().clone()], 1);
        let mut releases = Targets::first(Timestamp::from_ms(1));
        for (number, manifest) in (1..).zip(manifests) {
            let custom = ReleaseCustom {
                app: app.clone(),
                release: manifest.release.clone(),
                counter: ReleaseCounter(number),
                environments: None,
            };
            releases.add_release(&manifest.to_bytes().unwrap(), &custom).unwrap();
        }
        [
            ("targets.json".to_owned(), self.sign(&targets)),
            (file_name(&app_role(&app), None), self.sign(&releases)),
        ]
        .into()
    }
}

fn request(kind: Kind, step: &str, metadata: BTreeMap<String, String>) -> Request {
    let (release, step) = ("v2".parse().unwrap(), step.parse().unwrap());
    Request { release, kind, step, slot: None, deadline_ms: None, metadata }
}

#[test]
fn a_step_runs_as_it_was_signed_with_the_network_that_it_was_given() {
    let (signers, manifest) = (Signers::new(1), manifest("v2"));
    let bytes = manifest.to_bytes().unwrap();
    for (kind, name, network) in [
        (Kind::Prepare, "install", false),
        (Kind::Prepare, "download", true),
        (Kind::Migrate, "migrate", true),
        (Kind::MigrateDown, "migrate-down", true),
        (Kind::Smoke, "ask", true),
    ] {
        let request = request(kind, name, signers.metadata(&[&manifest]));
        let approved = approve(&signers.pin(), &Seen::new(), &request, &bytes, network).unwrap();
        assert_eq!(approved.step.name.as_str(), name);
        let error =
            approve(&signers.pin(), &approved.seen, &request, &bytes, !network).unwrap_err().to_string();
        assert!(error.contains("by its signed manifest, and was started with"), "{error}");
    }
}

#[test]
fn what_is_not_signed_is_refused_with_a_sentence() {
    let (signers, thief, manifest) = (Signers::new(1), Signers::new(9), manifest("v2"));
    let good = signers.metadata(&[&manifest]);
    let bytes = manifest.to_bytes().unwrap();
    let mut evil = manifest.clone();
    evil.program.prepare[0].command = vec!["sh".to_owned(), "-c".to_owned(), "evil".to_owned()];
    let evil = evil.to_bytes().unwrap();
    let elsewhere = Pin { application: "blog".parse().unwrap(), ..signers.pin() };
    let install = |metadata: &BTreeMap<String, String>| request(Kind::Prepare, "install", metadata.clone());
    let other = Request { release: "v9".parse().unwrap(), ..install(&good) };
    for (pin, request, bytes, expected) in [
        (signers.pin(), install(&good), &evil, "is not the one that its signers list"),
        (
            signers.pin(),
            install(&thief.metadata(&[&manifest])),
            &bytes,
            "targets has 0 valid signature(s) of 1",
        ),
        (thief.pin(), install(&good), &bytes, "`landfall-agent setup-steps --replace`"),
        (signers.pin(), install(&BTreeMap::new()), &bytes, "the repository has no targets.json"),
        (signers.pin(), other, &bytes, "the release signers of shop list no release v9"),
        (elsewhere, install(&good), &bytes, "the release signers of blog list no release v2"),
        (
            signers.pin(),
            request(Kind::Prepare, "ask", good.clone()),
            &bytes,
            "has no such step: ask (Prepare)",
        ),
        (signers.pin(), request(Kind::Migrate, "install", good.clone()), &bytes, "has no such step: install"),
    ] {
        let error = approve(&pin, &Seen::new(), &request, bytes, false).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// What stands in for systemd: does what was written down for the next start.
#[derive(Default)]
struct Script {
    starts: Mutex<VecDeque<Start>>,
    /// How often a unit is still up when it is looked at.
    up: Mutex<u32>,
    listed: Vec<String>,
    /// Whether it cannot say which units there are.
    deaf: bool,
    asked: Mutex<Vec<String>>,
}

struct Start {
    note: Option<(PathBuf, String)>,
    answer: Result<(), Trouble>,
}

#[async_trait]
impl Units for Script {
    async fn start(&self, unit: &str, _: Duration) -> Result<(), Trouble> {
        self.asked.lock().unwrap().push(format!("start {unit}"));
        let start = self.starts.lock().unwrap().pop_front().expect("one start too many");
        if let Some((path, text)) = start.note {
            std::fs::write(path, text).unwrap();
        }
        start.answer
    }

    async fn stop(&self, unit: &str) -> Result<(), Trouble> {
        self.asked.lock().unwrap().push(format!("stop {unit}"));
        Ok(())
    }

    async fn is_up(&self, _: &str) -> Result<bool, Trouble> {
        let mut up = self.up.lock().unwrap();
        *up = up.saturating_sub(1);
        Ok(*up > 0)
    }

    async fn list(&self) -> Result<Vec<String>, Trouble> {
        match self.deaf {
            true => Err(Trouble::Unclear("the bus is gone".to_owned())),
            false => Ok(self.listed.clone()),
        }
    }

    async fn said(&self, _: &str, _: u64) -> Vec<String> {
        vec!["landfall-agent: no such file".to_owned()]
    }
}

struct Bench {
    directory: tempfile::TempDir,
    units: Arc<Script>,
}

impl Bench {
    fn new(units: Script) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for part in ["steps/requests", "steps/results", "state", "app/prepared/v2"] {
            std::fs::create_dir_all(directory.path().join(part)).unwrap();
        }
        Self { directory, units: Arc::new(units) }
    }

    fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    fn cage(&self) -> Cage {
        let places = Places { root: self.path("steps"), logs: self.path("logs") };
        let state = Arc::new(RealDisk::new(self.path("state")));
        Cage::new(self.units.clone(), places, state, self.path("app"))
    }

    fn note(&self, fence: u64) -> PathBuf {
        self.path("steps/results").join(format!("{}.json", RunId::migration(fence)))
    }

    async fn migrate(&self, fence: u64) -> Result<(), (bool, StepFailure)> {
        let what = Started {
            release: "v2".parse().unwrap(),
            kind: Kind::Migrate,
            step: step("migrate", None),
            slot: None,
        };
        self.cage().migrate(fence, &what, &context(self.directory.path())).await.map(drop)
    }

    fn asked(&self) -> Vec<String> {
        self.units.asked.lock().unwrap().clone()
    }
}

fn context(root: &Path) -> StepContext {
    StepContext {
        identity: Identity {
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
            release: "v2".parse().unwrap(),
        },
        words: Words::default(),
        directory: root.to_owned(),
        home: root.to_owned(),
        log: None,
        fence: None,
        group_note: None,
        deadline: None,
        cancel: CancellationToken::new(),
    }
}

fn ended(cause: &str) -> String {
    format!(
        r#"{{"type":"ended","step":"migrate","ended":{{"cause":{cause},"output":{{"first":"said\n","omitted_bytes":0,"last":""}},"took_ms":5}}}}"#
    )
}

fn begun() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    format!(
        r#"{{"type":"begun","step":"migrate","boot_id":"{}","pid":{},"started":1}}"#,
        boot.trim(),
        std::process::id()
    )
}

#[tokio::test]
async fn a_migration_is_begun_once_whatever_is_asked() {
    for (left, expected) in
        [(ended("null"), "begun before"), (begun(), "begun before"), ("torn".to_owned(), "begun before")]
    {
        let bench = Bench::new(Script::default());
        std::fs::write(bench.note(7), left).unwrap();
        let (is_known, failure) = bench.migrate(7).await.unwrap_err();
        assert!(!is_known && failure.to_string().contains(expected), "{failure}");
        assert_eq!(bench.asked(), [""; 0]);
    }
}

#[tokio::test]
async fn how_a_migration_ended_is_what_its_note_says() {
    let bench = Bench::new(Script::default());
    let start = |text: Option<String>, answer| {
        let note = text.map(|text| (bench.note(7), text));
        bench.units.starts.lock().unwrap().push_back(Start { note, answer });
    };
    let unclear = || Err(Trouble::Unclear("the bus is gone".to_owned()));
    let refused = || Err(Trouble::Refused("polkit does not let the agent".to_owned()));
    for (text, answer, up, expected) in [
        (Some(ended("null")), Ok(()), 0, None),
        // The bus broke while it ran: the unit is ended, and what it noted counts.
        (Some(ended("null")), unclear(), 3, None),
        (None, unclear(), 0, Some((false, "did not say whether it was begun"))),
        (Some(ended(r#"{"type":"exited","code":3}"#)), Ok(()), 0, Some((true, "exited with code 3"))),
        (Some(ended(r#"{"type":"timed_out","after_ms":5}"#)), Ok(()), 0, Some((false, "ran out of time"))),
        (Some(ended(r#"{"type":"out_of_memory"}"#)), Ok(()), 0, Some((false, "MemoryMax"))),
        (Some(begun()), Ok(()), 2, Some((false, "unknown end"))),
        (Some("torn".to_owned()), Ok(()), 0, Some((false, "unknown end"))),
        (None, refused(), 0, Some((true, "polkit does not let the agent"))),
        (Some(begun()), refused(), 0, Some((false, "unknown end"))),
        (None, Ok(()), 0, Some((true, "landfall-step-net@m7.service`): landfall-agent: no such file"))),
    ] {
        start(text.clone(), answer);
        *bench.units.up.lock().unwrap() = up;
        let result = bench.migrate(7).await;
        match (&result, expected) {
            (Ok(()), None) => {}
            (Err((is_known, failure)), Some((expected_known, sentence))) => {
                assert_eq!(*is_known, expected_known, "{text:?}: {failure}");
                assert!(failure.to_string().contains(sentence), "{text:?}: {failure}");
            }
            _ => panic!("{text:?}: {result:?}"),
        }
        let _ = std::fs::remove_file(bench.note(7));
    }
}

#[tokio::test]
async fn an_agent_that_was_killed_waits_for_the_migration_that_it_had_begun() {
    let bench = Bench::new(Script { up: Mutex::new(3), ..Script::default() });
    let (migrate, never) = (step("migrate", None), CancellationToken::new());
    let (is_known, failure) = bench.cage().resume(7, &migrate.name, &never).await.unwrap_err();
    assert!(!is_known, "a note that is not there proves nothing: {failure}");
    std::fs::write(bench.note(7), ended("null")).unwrap();
    bench.cage().resume(7, &migrate.name, &never).await.unwrap();
    std::fs::write(bench.note(7), begun().replace("boot_id\":\"", "boot_id\":\"other-")).unwrap();
    let (is_known, failure) = bench.cage().resume(7, &migrate.name, &never).await.unwrap_err();
    assert!(!is_known && failure.to_string().contains("went down"), "{failure}");
    assert_eq!(bench.asked(), [""; 0], "it is neither begun again nor ended");
}

#[tokio::test]
async fn a_migration_whose_lease_is_long_over_is_ended() {
    let bench = Bench::new(Script { up: Mutex::new(u32::MAX), ..Script::default() });
    std::fs::write(bench.note(7), begun()).unwrap();
    let (migrate, over) = (step("migrate", None), CancellationToken::new());
    over.cancel();
    let cage = bench.cage();
    let resumed = cage.resume(7, &migrate.name, &over);
    let (result, ()) = tokio::join!(resumed, async {
        // It goes down once it is asked to.
        while bench.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        *bench.units.up.lock().unwrap() = 0;
    });
    let (is_known, failure) = result.unwrap_err();
    assert!(!is_known && failure.to_string().contains("unknown end"), "{failure}");
    // Whether it has the network is not asked: both would be it.
    assert_eq!(bench.asked(), ["stop landfall-step@m7.service", "stop landfall-step-net@m7.service"]);
}

#[tokio::test]
async fn the_note_of_an_older_lease_stays_while_its_unit_runs() {
    for (up, stays) in [(0, false), (u32::MAX, true)] {
        let bench = Bench::new(Script { up: Mutex::new(up), ..Script::default() });
        std::fs::write(bench.note(6), begun()).unwrap();
        std::fs::write(bench.note(7), begun()).unwrap();
        bench.migrate(7).await.unwrap_err();
        assert_eq!((bench.note(6).exists(), bench.note(7).exists()), (stays, true));
    }
}

#[tokio::test]
async fn nothing_is_begun_while_an_earlier_step_may_still_run() {
    let bench = Bench::new(Script { deaf: true, ..Script::default() });
    let what = Started {
        release: "v2".parse().unwrap(),
        kind: Kind::Prepare,
        step: step("install", None),
        slot: None,
    };
    let cage = bench.cage();
    let failure = cage.run(&what, &context(bench.directory.path())).await.unwrap_err();
    assert!(failure.to_string().contains("may still run: the bus is gone"), "{failure}");
    assert!(cage.end_left().await.is_err(), "it is asked again");
    assert_eq!(bench.asked(), [""; 0]);
}

#[tokio::test]
async fn what_an_agent_before_has_begun_is_ended_but_for_migrations() {
    let listed =
        ["landfall-step@s01.service", "landfall-step-net@sff.service", "landfall-step-net@m6.service"];
    let bench = Bench::new(Script { listed: listed.map(str::to_owned).to_vec(), ..Script::default() });
    for left in
        ["steps/requests/s01.json", "steps/results/s01.json.reserve", "steps/results/m6.json", "steps/README"]
    {
        std::fs::write(bench.path(left), "{}").unwrap();
    }
    let what = Started {
        release: "v2".parse().unwrap(),
        kind: Kind::Prepare,
        step: step("install", None),
        slot: None,
    };
    bench
        .units
        .starts
        .lock()
        .unwrap()
        .push_back(Start { note: None, answer: Err(Trouble::Refused("no".into())) });
    let cage = bench.cage();
    let failure = cage.run(&what, &context(bench.directory.path())).await.unwrap_err();
    assert_eq!(failure.cause, Cause::NotStarted { reason: "no".to_owned() });
    let asked = bench.asked();
    assert_eq!(asked[..2], ["stop landfall-step@s01.service", "stop landfall-step-net@sff.service"]);
    assert!(asked.len() == 3 && asked[2].starts_with("start landfall-step@s"), "{asked:?}");
    let left = |part: &str| {
        let names = std::fs::read_dir(bench.path(part)).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((left("steps/requests"), left("steps/results")), (vec![], vec!["m6.json".to_owned()]));
}

#[test]
fn a_release_name_that_is_no_name_never_becomes_a_request() {
    let good = serde_json::to_string(&request(Kind::Prepare, "install", BTreeMap::new())).unwrap();
    serde_json::from_str::<Request>(&good).unwrap();
    for bad in
        [good.replace("v2", "../v2"), good.replace("prepare", "shell"), good.replace("metadata", "argv")]
    {
        serde_json::from_str::<Request>(&bad).unwrap_err();
    }
    let _: ReleaseName = "v2".parse().unwrap();
}
