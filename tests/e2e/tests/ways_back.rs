//! What becomes of a release that fails, by what its migration says of the way back; and of one in whose stead another is
//! asked for. With real processes.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::scene::{SERVER, Scene};
use landfall_e2e::stage::Said;

const HOSTS: [&str; 2] = ["web-1", "web-2"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A scene whose hosts run v1, and a file that stands for its database: each step adds a line.
struct World {
    scene: Scene,
    database: PathBuf,
    /// What runs is sick for as long as there is none.
    mended: PathBuf,
}

impl World {
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let scene = Scene::new(bin, &HOSTS).unwrap();
        let said = scene.release("v1").unwrap();
        assert_eq!(said.code, 0, "{said:?}\n{}", scene.last_words());
        Self { database: scene.path("database"), mended: scene.path("mended"), scene }
    }

    /// The artifact of v2, which is sick until it is mended, with a migration that goes on with these lines.
    fn sick(&self, migration: &str) -> PathBuf {
        let step = |word: &str| format!(r#"["sh", "-c", "echo {word} >> {}"]"#, self.database.display());
        let migration = format!(
            "\n[migrate]\ncommand = {}\nlease = \"1m\"\ntimeout = \"30s\"\nfiles = [\"schema\"]\n{}\n",
            step("up"),
            migration.replace("DOWN", &step("down"))
        );
        let text = |text: String| text.replace("\"30s\"", "\"4s\"") + &migration;
        let artifact = self.scene.artifact("v2", text).unwrap();
        let well = format!("return (200 if os.path.exists('{}') else 500), \"ok\\n\"", self.mended.display());
        let server = SERVER.replacen("return 200, \"ok\\n\"", &well, 1);
        assert_ne!(server, SERVER);
        fs::write(artifact.join("server.py"), server).unwrap();
        fs::write(artifact.join("schema"), "v2").unwrap();
        artifact
    }

    fn release(&self, artifact: &Path, more: &[&str]) -> Said {
        self.scene.release_command("v2", artifact, more).output().unwrap().into()
    }

    fn runs(&self) -> Vec<String> {
        HOSTS.iter().map(|host| self.scene.stage.current(host)).collect()
    }

    fn steps(&self) -> Vec<String> {
        let database = fs::read_to_string(&self.database).unwrap_or_default();
        database.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn until(&self, status: &str) {
        let is = || self.scene.json(&["status"]).unwrap()["rollouts"][0]["status"] == status;
        wait_until(status, PATIENCE, is)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.scene.last_words()));
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], words: &[&str]) {
        let said = self.scene.ctl(arguments).unwrap();
        let all = format!("{}{}", said.out, said.err);
        let told = all.split_whitespace().collect::<Vec<_>>().join(" ");
        let missing: Vec<_> = words.iter().filter(|word| !told.contains(**word)).collect();
        assert!(missing.is_empty(), "{arguments:?}: no {missing:?} in\n{all}");
    }
}

#[test]
fn hosts_that_fail_past_a_migration_without_a_way_back_stay_as_they_are_until_somebody_retries() {
    let world = World::new();
    let artifact = world.sick("");
    let said = world.release(&artifact, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("there is no way back from v2") && said.err.contains("--no-way-back"),
        "{said:?}"
    );
    assert_eq!(world.steps(), [""; 0]);

    // Accepted: the first host fails, keeps what it has, and nobody follows.
    let said = world.release(&artifact, &["--no-way-back"]);
    assert_eq!(said.code, 4, "{said:?}\n{}", world.scene.last_words());
    world.until("paused");
    assert_eq!(world.runs(), ["v2", "v1"]);
    assert_eq!(world.steps(), ["up"]);
    let why = [
        "web-1 at web",
        "it does not go back by itself",
        "the migration of v2 cannot be undone",
        "ctl retry",
    ];
    world.says(&["status"], &why);
    // Whoever types what would go back, or another release, is told why not.
    world.says(&["rollback", "--yes"], &["cannot go back to v1: the migration of v2 cannot be undone"]);
    let held = world.scene.release("v3").unwrap();
    assert_eq!(held.code, 5, "{held:?}");
    for words in ["is held by rollout", "now paused by controller", "it does not go back by itself"] {
        assert!(held.err.contains(words), "no {words:?} in {held:?}");
    }
    assert_eq!(world.runs(), ["v2", "v1"]);

    // Mended on the host, and tried again by somebody's word: the migration does not run once more.
    fs::write(&world.mended, "").unwrap();
    let said = world.scene.ctl(&["retry", "--reason", "the queue was full"]).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    world.until("succeeded");
    assert_eq!(world.runs(), ["v2", "v2"]);
    assert_eq!(world.steps(), ["up"]);
    world.says(&["log", "--all"], &["the queue was full"]);
}

#[test]
fn a_release_that_fails_takes_its_migration_back_by_itself_once_no_host_runs_it() {
    let world = World::new();
    let artifact = world.sick("down = DOWN");
    let said = world.release(&artifact, &[]);
    assert_eq!(said.code, 3, "{said:?}\n{}", world.scene.last_words());
    assert_eq!(world.runs(), ["v1", "v1"]);
    assert_eq!(world.steps(), ["up", "down"]);
    world.says(&["log", "--all"], &["the way back of the migration of v2 succeeded"]);
    // The same once more, mended: it is migrated anew.
    fs::write(&world.mended, "").unwrap();
    let said = world.release(&artifact, &[]);
    assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
    assert_eq!(world.steps(), ["up", "down", "up"]);
}

#[test]
fn a_release_takes_the_place_of_one_that_waits_for_a_word() {
    let world = World::new();
    let held = "canary = 1\nauto_promote = false";
    let artifact = world.scene.artifact("v2", |text| text.replace("canary = 1", held)).unwrap();
    let said = world.release(&artifact, &["--detach"]);
    assert_eq!(said.code, 0, "{said:?}");
    world.until("waiting");
    assert_eq!(world.runs(), ["v2", "v1"]);

    let artifact = world.scene.artifact("v3", |text| text).unwrap();
    let refused: Said = world.scene.release_command("v3", &artifact, &[]).output().unwrap().into();
    assert_eq!(refused.code, 5, "{refused:?}");
    for words in ["is held by rollout", "now waiting to be promoted", "--queue"] {
        assert!(refused.err.contains(words), "no {words:?} in {refused:?}");
    }
    let said: Said = world.scene.release_command("v3", &artifact, &["--supersede"]).output().unwrap().into();
    assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
    assert_eq!(world.runs(), ["v3", "v3"]);
    world.says(&["log"], &["superseded"]);
    // What was in force before both is where the way back leads.
    world.says(&["rollback", "--yes"], &["v1"]);
    assert_eq!(world.runs(), ["v1", "v1"]);
}
