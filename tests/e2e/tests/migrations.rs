//! A migration that is killed under way: what became of it is known, or a person is asked. It never runs a
//! second time by itself (P7).
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use landfall_e2e::process::{self, wait_until};
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::Said;

const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the file at `{database}` when it begins and ends, and does not end before there is a file `go`.
const MIGRATION: &str = r#"
[migrate]
command = ["sh", "-c", "echo began $LANDFALL_RELEASE >> {database}; while [ ! -e {go} ]; do sleep 0.05; done; echo ended $LANDFALL_RELEASE >> {database}"]
timeout = "5m"
lease = "6m"
compatible_with_previous = true
files = ["schema"]
"#;

/// A scene whose hosts run v1, and whose database knows each migration.
struct World {
    scene: Scene,
    database: PathBuf,
    go: PathBuf,
}

impl World {
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let scene = Scene::new(bin, &["web-1", "web-2"]).unwrap();
        let world = Self { database: scene.path("database"), go: scene.path("go"), scene };
        fs::write(&world.go, "").unwrap();
        let said = world.begin("v1").end();
        assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
        world
    }

    /// Begins to release `name`, which needs a migration of its own, and follows it.
    fn begin(&self, name: &str) -> Release {
        let migration = MIGRATION
            .replace("{database}", self.database.to_str().unwrap())
            .replace("{go}", self.go.to_str().unwrap());
        let artifact = self.scene.artifact(name, |text| text + &migration).unwrap();
        fs::write(artifact.join("schema"), name).unwrap();
        let told = self.scene.path(&format!("{name}.told"));
        let mut command = self.scene.release_command(name, &artifact, &[]);
        command.stdout(Stdio::piped()).stderr(File::create(&told).unwrap());
        Release { command: command.spawn().unwrap(), told }
    }

    /// How often the migration of a release began, and how often it ended.
    fn runs(&self, release: &str) -> (usize, usize) {
        let database = fs::read_to_string(&self.database).unwrap_or_default();
        let count = |what: &str| database.lines().filter(|line| *line == format!("{what} {release}")).count();
        (count("began"), count("ended"))
    }

    fn until(&self, what: &str, condition: impl Fn() -> bool) {
        wait_until(what, PATIENCE, condition)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.scene.last_words()));
    }

    /// Releases `name` without letting its migration end, and waits until that has begun on web-1.
    fn in_the_middle_of(&self, name: &str) -> Release {
        fs::remove_file(&self.go).unwrap();
        let release = self.begin(name);
        self.until("the migration has begun", || self.runs(name) == (1, 0));
        let status = self.ctl(&["status"]);
        assert!(status.out.contains("migrate  web-1 runs it, since 2"), "{status:?}");
        release
    }

    /// Kills the agent of web-1, and what supervises its migration as well if `all`.
    fn kill(&mut self, all: bool) {
        let agent = self.scene.stage.agent_id("web-1").unwrap();
        let runner = process::children(agent)
            .into_iter()
            .find(|id| process::command_line(*id).contains("step-runner"));
        let runner = runner.expect("a migration runs below a process of its own");
        self.scene.stage.kill_agent("web-1").unwrap();
        if all {
            process::signal(runner, "KILL");
        }
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        self.scene.ctl(arguments).unwrap()
    }

    fn status(&self) -> String {
        let status = self.scene.json(&["status"]).unwrap();
        status["rollouts"][0]["status"].as_str().unwrap().to_owned()
    }

    /// Refused, with these words.
    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let said = self.ctl(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        let missing: Vec<_> = words.iter().filter(|word| !said.err.contains(**word)).collect();
        assert!(missing.is_empty(), "{arguments:?}: no {missing:?} in {said:?}");
    }
}

/// `ctl release`, while it follows.
struct Release {
    command: Child,
    /// The file that its standard error goes to.
    told: PathBuf,
}

impl Release {
    /// What it has told so far.
    fn told(&self) -> String {
        fs::read_to_string(&self.told).unwrap()
    }

    fn end(self) -> Said {
        let told = self.told.clone();
        let mut said = Said::from(self.command.wait_with_output().unwrap());
        said.err = fs::read_to_string(told).unwrap();
        said
    }
}

#[test]
fn a_migration_of_unknown_outcome_waits_for_a_person_and_is_not_run_again_by_itself() {
    let mut world = World::new();

    // Only the agent dies: its migration goes on, and the agent that comes back finds out how it ended.
    let release = world.in_the_middle_of("v2");
    world.kill(false);
    world.scene.stage.start_agent("web-1").unwrap();
    fs::write(&world.go, "").unwrap();
    let said = release.end();
    assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
    assert_eq!(world.runs("v2"), (1, 1));

    // What supervises it dies too: nobody can know.
    let release = world.in_the_middle_of("v3");
    world.kill(true);
    world.scene.stage.start_agent("web-1").unwrap();
    world.until("the rollout waits", || world.status() == "waiting");
    let status = world.ctl(&["status"]);
    for word in ["nobody knows whether the migration on web-1 took effect", "--applied", "--not-applied"] {
        assert!(status.out.contains(word), "no {word:?} in {status:?}");
    }
    world.until("who follows is told, and the reason with it", || {
        release.told().contains("waiting: 2 staged; nobody knows")
    });
    // Nothing else can happen meanwhile, and everything says what has to come first.
    for arguments in [&["rollback", "--yes"][..], &["abort"]] {
        let words = ["nobody knows whether the migration", "took effect on web-1", "ctl migration resolve"];
        world.refused(arguments, 1, &words);
    }
    world.refused(&["retry"], 1, &["nothing to try again"]);
    world.refused(&["migration", "resolve"], 2, &["--applied", "--not-applied"]);
    assert_eq!(world.runs("v3"), (1, 0));

    // It did not take effect: then it runs once more, because somebody said so.
    let said = world.ctl(&["migration", "resolve", "--not-applied", "--reason", "no such column"]);
    assert_eq!(said.code, 0, "{said:?}");
    world.until("it runs again", || world.runs("v3").0 == 2);
    fs::write(&world.go, "").unwrap();
    let said = release.end();
    assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
    assert_eq!(world.runs("v3"), (2, 1));

    // It did: then it does not run again, and the release goes on.
    let release = world.in_the_middle_of("v4");
    world.kill(true);
    world.scene.stage.start_agent("web-1").unwrap();
    world.until("the rollout waits", || world.status() == "waiting");
    let said = world.ctl(&["migration", "resolve", "--applied", "--reason", "the column is there"]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = release.end();
    assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
    assert_eq!(world.runs("v4"), (1, 0));
    for host in ["web-1", "web-2"] {
        assert_eq!(world.scene.stage.current(host), "v4");
    }
    world.refused(&["migration", "resolve", "--applied"], 2, &["no rollout", "under way"]);

    let log = world.ctl(&["log", "--all"]).out;
    for line in [
        "web-1: the migration of v2 succeeded",
        "web-1: the migration of v3 ended without a known outcome",
        "was declared not applied: no such column",
        "was declared applied: the column is there",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    assert!(world.ctl(&["log", "verify"]).code == 0);
}
