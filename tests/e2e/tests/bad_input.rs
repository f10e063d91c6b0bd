//! Input that must not be accepted: each refusal names the thing, the reason and what to do next, ends with
//! the exit code that `ctl help exit-codes` promises, and leaves the host as it is.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use landfall_common::Sha256;
use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Said, Stage, token_in};

const PATIENCE: Duration = Duration::from_secs(30);

/// An application without a service: what is tested is who refuses what, not how it is served.
const DEFINITION: &str = r#"[application]
name = "site"

[[check]]
name = "there"
exec = ["test", "-f", "release.txt"]
interval = "200ms"
timeout = "1s"

[environment.production]
min_healthy = "500ms"
healthy_deadline = "4s"
"#;

/// A scene with one host that runs v1, which came from a tag of a repository.
struct World {
    scene: Scene,
    repository: PathBuf,
}

impl World {
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let scene = Scene::new(bin, &["web-1"]).unwrap();
        let world = Self { repository: scene.path("repository"), scene };
        fs::create_dir(&world.repository).unwrap();
        world.git(&["init", "--quiet", "--initial-branch=main"]);
        world.tag("v1", &[("landfall.toml", DEFINITION), ("release.txt", "v1")]);
        let said = world.ctl(&["release", "v1", "--yes"]);
        assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
        world
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.current_dir(&self.repository).args(["-c", "user.name=A", "-c", "user.email=a@example.org"]);
        let said = Said::from(command.args(arguments).output().unwrap());
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    }

    /// Commits these files and tags the commit.
    fn tag(&self, name: &str, files: &[(&str, &str)]) {
        for (file, content) in files {
            fs::write(self.repository.join(file), content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", name]);
        self.git(&["tag", "--annotate", name, "--message", name]);
    }

    /// Runs `ctl` in the repository.
    fn ctl(&self, arguments: &[&str]) -> Said {
        self.scene.stage.ctl_in(&self.repository, arguments).unwrap()
    }

    /// A directory with v1's definition after `edit`, and a file that differs from release to release.
    fn artifact(&self, release: &str, edit: impl FnOnce(String) -> String) -> PathBuf {
        let artifact = self.scene.path("artifacts").join(release);
        fs::create_dir_all(&artifact).unwrap();
        fs::write(artifact.join("landfall.toml"), edit(DEFINITION.to_owned())).unwrap();
        fs::write(artifact.join("release.txt"), release).unwrap();
        artifact
    }

    fn release(&self, release: &str, artifact: &Path, more: &[&str]) -> Said {
        self.scene.release_command(release, artifact, more).output().unwrap().into()
    }

    /// Turns bytes around in an object that the controller has.
    fn tamper(&self, digest: &str) {
        let named = |file: &PathBuf| file.to_string_lossy().contains(digest);
        let objects = self.scene.stage.controller_state().join("objects");
        let file = files_below(&objects).into_iter().find(named).expect("the object among the others");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&file, bytes).unwrap();
    }

    /// Refused with this exit code and these words; the host has what it had.
    #[track_caller]
    fn refused(&self, what: &str, said: &Said, code: i32, words: &[&str]) {
        self.refused_and_runs(what, said, code, words, "v1");
    }

    #[track_caller]
    fn refused_and_runs(&self, what: &str, said: &Said, code: i32, words: &[&str], release: &str) {
        assert_eq!(said.code, code, "{what}: {said:?}\n{}", self.scene.last_words());
        let all = format!("{}{}", said.out, said.err);
        for word in words {
            assert!(all.contains(word), "{what}: no {word:?} in:\n{all}");
        }
        assert!(!all.contains("panicked"), "{what}: {all}");
        assert_eq!(self.scene.stage.current("web-1"), release, "{what}");
    }
}

#[test]
fn what_ctl_refuses_before_anything_is_published() {
    let world = World::new();

    let said = world.ctl(&["release", "v9", "--yes"]);
    world.refused("no such tag", &said, 2, &["there is no tag \"v9\"", "next:", "git tag -a v9"]);

    let misspelt = DEFINITION.replace("min_healthy", "min_healty");
    world.tag("typo", &[("landfall.toml", &misspelt)]);
    let said = world.ctl(&["release", "typo", "--yes"]);
    let words = ["landfall.toml", "min_healty", "min_healthy", "next:", "tag that commit"];
    world.refused("an unknown key", &said, 2, &words);

    let broken = format!(
        "{DEFINITION}\n[[build]]\nname = \"styles\"\ncommand = [\"sh\", \"-c\", \"seq 1 500; echo no such colour; exit 7\"]\n"
    );
    world.tag("broken", &[("landfall.toml", &broken)]);
    let said = world.ctl(&["release", "broken", "--yes"]);
    let words = ["build step styles failed", "exit code 7", "| no such colour", "| 500", "next:", "less /"];
    world.refused("a build that fails", &said, 1, &words);

    fs::remove_file(world.repository.join("landfall.toml")).unwrap();
    world.tag("bare", &[]);
    let said = world.ctl(&["release", "bare", "--yes"]);
    world.refused("no definition", &said, 2, &["has no landfall.toml", "next:", "ctl init"]);

    let odd = world.artifact("odd", |text| text);
    fs::write(odd.join(OsStr::from_bytes(b"caf\xe9.css")), "").unwrap();
    fs::write(odd.join("two\nlines"), "").unwrap();
    let said = world.release("odd", &odd, &[]);
    let words = ["2 problems", "caf", "UTF-8", "two\\nlines", "next:", "exclude"];
    world.refused("names that cannot be carried", &said, 1, &words);

    // The tag is moved: the name stands for what was published, forever.
    world.tag("v2", &[("landfall.toml", DEFINITION), ("release.txt", "v2")]);
    world.git(&["tag", "--force", "v1", "--annotate", "--message", "again"]);
    let said = world.ctl(&["release", "v1", "--yes"]);
    world.refused("a moved tag", &said, 1, &["release v1 exists already", "commit", "next:", "another name"]);

    // What is not committed is not released, and it is said so.
    fs::write(world.repository.join("release.txt"), "not committed").unwrap();
    let said = world.ctl(&["release", "v2", "--yes"]);
    let words = ["not committed", "released is the tag v2"];
    world.refused_and_runs("a dirty tree", &said, 0, &words, "v2");
    let file = world.scene.stage.hosts["web-1"].srv.join("current/release.txt");
    assert_eq!(fs::read_to_string(file).unwrap(), "v2");

    let releases = world.scene.json(&["releases"]).unwrap().to_string();
    for name in ["typo", "broken", "bare", "odd"] {
        assert!(!releases.contains(&format!("\"{name}\"")), "{releases}");
    }
}

#[test]
fn what_the_controller_refuses() {
    let mut world = World::new();
    let address = world.scene.stage.address.clone();

    // Tokens are for once, and for whom they were made.
    let arguments = ["operators", "token", "eve", "--role", "viewer"];
    let token = token_in(&world.ctl(&arguments).expect_code(0).unwrap()).unwrap();
    let login = |token: &str| {
        let mut command = world.scene.stage.ctl();
        command.env("LANDFALL_CONFIG_DIR", world.scene.path("eve"));
        Said::from(command.args(["login", token, "--controller", &address]).output().unwrap())
    };
    login(&token).expect_code(0).unwrap();
    let words = ["token", "used", "next:", "ctl operators token"];
    world.refused("a used token", &login(&token), 6, &words);
    for garbage in ["hello", "lft1_AAAA", "lft1_!"] {
        world.refused("garbage for a token", &login(garbage), 2, &["token", "next:", "lft1_"]);
    }
    let eve = |arguments: &[&str]| {
        let mut command = world.scene.stage.ctl();
        command.current_dir(&world.repository).env("LANDFALL_CONFIG_DIR", world.scene.path("eve"));
        Said::from(command.args(arguments).output().unwrap())
    };
    world.refused("too low a role", &eve(&["rollback", "--yes"]), 6, &["viewer", "next:"]);

    // An operator of another controller: it has another authority, and shows another one's certificate.
    let elsewhere = world.scene.path("elsewhere");
    let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
    let mut other = Stage::new(&elsewhere, bin).unwrap();
    let token = other.init_controller().unwrap();
    other.start_controller().unwrap();
    let theirs = other.address.clone();
    other.run_ctl(&["login", &token, "--controller", &theirs]).unwrap().expect_code(0).unwrap();
    let config = elsewhere.join("operator/config/landfall");
    let text = fs::read_to_string(config.join("config.toml")).unwrap();
    fs::write(config.join("config.toml"), text.replace(&theirs, &address)).unwrap();
    let said = other.run_ctl(&["hosts", "--app", "site"]).unwrap();
    let words = [&*address, "authority", "next:", "ctl context show"];
    world.refused("another controller than the pinned one", &said, 7, &words);
    // It trusts the right controller, and shows what another one's authority has signed.
    let contexts = Path::new("contexts/default");
    let own = world.scene.path("operator/config/landfall").join(contexts);
    fs::copy(own.join("ca.pem"), config.join(contexts).join("ca.pem")).unwrap();
    let said = other.run_ctl(&["hosts", "--app", "site"]).unwrap();
    world.refused(
        "a foreign certificate",
        &said,
        7,
        &[&address, "refuses this client's certificate", "next:"],
    );
    other.end();

    // The place is taken.
    let slow = world.artifact("slow", |text| text.replace("\"500ms\"", "\"8s\"").replace("\"4s\"", "\"2m\""));
    let said = world.release("slow", &slow, &["--min-healthy", "5m"]);
    world.refused(
        "knobs that contradict each other",
        &said,
        2,
        &["min_healthy (5m)", "healthy_deadline (2m)"],
    );
    world.release("slow", &slow, &["--detach"]).expect_code(0).unwrap();
    let second = world.artifact("second", |text| text);
    let said = world.release("second", &second, &[]);
    assert_eq!(said.code, 5, "{said:?}");
    for word in ["slow", "begun by admin at 2", "next:", "ctl status --watch"] {
        assert!(said.err.contains(word), "no {word:?} in {said:?}");
    }
    let said = world.ctl(&["rollback", "--yes"]);
    assert!([0, 3].contains(&said.code), "{said:?}");
    assert_eq!(world.scene.stage.current("web-1"), "v1");

    // A second controller on the same port, and then none.
    let said = second_controller(&world, &address);
    assert_ne!(said.code, 0, "{said:?}");
    for word in [&*address, "in use"] {
        assert!(said.err.contains(word), "no {word:?} in {said:?}");
    }
    world.scene.stage.stop_controller().unwrap();
    let said = world.ctl(&["release", "v1", "--yes"]);
    world.refused(
        "no controller",
        &said,
        7,
        &[&address, "nothing listens there", "next:", "systemctl status landfall-controller"],
    );
}

#[test]
fn what_is_mistyped_is_told_before_anything_is_done() {
    let world = World::new();
    let marker = world.scene.path("built");
    let builds = format!("{DEFINITION}\n[[build]]\nname = \"mark\"\ncommand = [\"touch\", {marker:?}]\n");
    world.tag("v2", &[("landfall.toml", &builds)]);

    let said = world.ctl(&["plan", "v2"]);
    let words = ["site has no release v2", "next:", "ctl release v2 --publish-only, then ctl plan v2"];
    world.refused("a plan of what is not published", &said, 2, &words);

    let some_plan = "0".repeat(64);
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--yes", "--env", "prodction"], &["no environment \"prodction\"", "landfall.toml has production"]),
        (&["--yes", "--batch", "0"], &["no host would ever change"]),
        (&["--yes", "--min-healthy", "20m"], &["min_healthy (20m)", "healthy_deadline (4s)", "next:"]),
        (&["--plan-id", "abc"], &["not the id of a plan"]),
        (&["--plan-id", &some_plan], &["v2 is not published yet", "next:", "ctl plan v2"]),
        (&[], &["nobody to say yes", "next:", "ctl release v2 --publish-only, then ctl plan v2"]),
    ];
    for (more, words) in cases {
        let said = world.ctl(&[&["release", "v2"], more].concat());
        world.refused(&format!("{more:?}"), &said, 2, words);
    }
    assert!(!marker.exists(), "nothing was built for what is refused");
    let said = world.ctl(&["release", "v2", "--artifact", "nodir", "--yes"]);
    world.refused("no artifact", &said, 2, &["there is no nodir", "next:", "a directory or of a tar"]);

    // A role that does not do, and keys that nobody trusts, are no reason to build either.
    for (role, code, words) in [
        ("viewer", 6, ["this needs the role deployer", "next:"]),
        (
            "deployer",
            1,
            ["no release key of this machine may sign releases of site", "ctl trust change release"],
        ),
    ] {
        let token = token_in(&world.ctl(&["operators", "token", role, "--role", role])).unwrap();
        let config = world.scene.path(role);
        let theirs = |arguments: &[&str]| -> Said {
            let mut command = world.scene.stage.ctl();
            command.env("LANDFALL_CONFIG_DIR", &config).current_dir(&world.repository);
            command.args(arguments).output().unwrap().into()
        };
        theirs(&["login", &token, "--controller", &world.scene.stage.address]).expect_code(0).unwrap();
        theirs(&["trust", "key", "release"]).expect_code(0).unwrap();
        let said = theirs(&["release", "v2", "--yes"]);
        world.refused(role, &said, code, &words);
    }
    assert!(!marker.exists(), "nothing was built for what is refused");

    // A place that nobody knows is no empty fleet.
    for (arguments, words) in [
        (&["status", "--env", "prodction"][..], "no rollout of site in prodction; there are: production"),
        (
            &["status", "--watch", "--env", "prodction"],
            "no rollout of site in prodction; there are: production",
        ),
        (&["log", "--env", "prodction"], "no rollout of site in prodction; there are: production"),
        (&["hosts", "--env", "prodction"], "no host of site in prodction; there are: production"),
        (&["status", "--app", "nope"], "no rollout of nope; there are: site in production"),
        (&["hosts", "token", "--env", "prodction"], "has no environment \"prodction\", only production"),
        (&["rollback", "v9", "--yes"], "site has no release v9"),
    ] {
        let said = world.ctl(arguments);
        world.refused(&format!("{arguments:?}"), &said, 2, &[words, "next:"]);
    }
    world.ctl(&["hosts", "token", "--env", "prodction", "--yes"]).expect_code(0).unwrap();

    // Whoever names the place does not need a definition that is being edited.
    fs::write(world.repository.join("landfall.toml"), "[application").unwrap();
    let said = world.ctl(&["status"]);
    world.refused("a broken definition", &said, 2, &["landfall.toml:1", "next:", "--app NAME", "--env NAME"]);
    assert!(!said.err.contains("tag that commit"), "{said:?}");
    let place = ["--app", "site", "--env", "production"];
    world.ctl(&[&["status"], &place[..]].concat()).expect_code(0).unwrap();
    world.ctl(&[&["hosts"], &place[..]].concat()).expect_code(0).unwrap();
    let said = world.ctl(&[&["rollback", "--yes"], &place[..]].concat());
    world.refused("no definition is read", &said, 1, &["nothing to go back to"]);
}

fn second_controller(world: &World, address: &str) -> Said {
    let directory = world.scene.path("second-controller");
    fs::create_dir(&directory).unwrap();
    let config = directory.join("controller.toml");
    fs::write(&config, format!("listen = \"{address}\"\nstate_dir = {:?}\n", directory.join("state")))
        .unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap().join("landfall-controller");
    let run = |more: &[&str]| {
        Said::from(Command::new(&program).arg("--config").arg(&config).args(more).output().unwrap())
    };
    run(&["init"]).expect_code(0).unwrap();
    run(&[])
}

#[test]
fn what_a_host_refuses() {
    let world = World::new();

    // The object store is somebody else's now: bytes of a published file are turned around.
    let tampered = world.artifact("tampered", |text| text);
    let page = "<h1>a page that nobody has tampered with</h1>".repeat(50);
    fs::write(tampered.join("page.html"), &page).unwrap();
    world.release("tampered", &tampered, &["--publish-only"]).expect_code(0).unwrap();
    let digest = Sha256::of(page.as_bytes()).to_string();
    world.tamper(&digest);
    let said = world.release("tampered", &tampered, &["--wait", "40s"]);
    world.refused(
        "a tampered object",
        &said,
        1,
        &["web-1", &digest, "damaged", "uploads it again", "nothing that runs was touched", "next:"],
    );
    // Whoever releases it again repairs it.
    let said = world.release("tampered", &tampered, &["--publish-only"]).expect_code(0).unwrap();
    assert!(said.err.contains("uploaded 1 of"), "{said:?}");

    // The same for what the controller itself has to read: its disk is at fault, and not who asks.
    let unreadable = world.artifact("unreadable", |text| text);
    world.release("unreadable", &unreadable, &["--publish-only"]).expect_code(0).unwrap();
    let listed = world.scene.json(&["releases"]).unwrap();
    let release =
        listed["releases"].as_array().unwrap().iter().find(|release| release["name"] == "unreadable");
    let manifest =
        release.and_then(|release| release["digest"].as_str()).unwrap_or_else(|| panic!("{listed}"));
    world.tamper(manifest);
    let diff = || world.scene.ctl(&["diff", "tampered", "unreadable"]).unwrap();
    world.refused("a tampered manifest", &diff(), 2, &[manifest, "damaged", "next:", "--publish-only"]);
    world.release("unreadable", &unreadable, &["--publish-only"]).expect_code(0).unwrap();
    diff().expect_code(0).unwrap();

    // A step that floods: its end is told, the agent keeps the last lines only.
    let flood = world.artifact("flood", |text| {
        format!("{text}\n[[prepare]]\nname = \"flood\"\ncommand = [\"sh\", \"-c\", \"yes flooded | head -c 100000000; echo drowned; exit 4\"]\n")
    });
    let said = world.release("flood", &flood, &[]);
    world.refused(
        "a step that floods",
        &said,
        1,
        &["step flood", "exit code 4", "| drowned", "nothing that runs was touched", "next:"],
    );
    assert!(said.out.len() + said.err.len() < 100_000, "ctl repeats the flood");
    let log = fs::metadata(world.scene.path("hosts/web-1/log")).unwrap().len();
    assert!(log < 1_000_000, "the agent's log has {log} bytes");

    // A check that never answers: not healthy in time, so that the old one comes back.
    let deaf = world
        .artifact("deaf", |text| text.replace("\"test\", \"-f\", \"release.txt\"", "\"sleep\", \"1000\""));
    let began = Instant::now();
    let said = world.release("deaf", &deaf, &[]);
    world.refused(
        "a check that never answers",
        &said,
        3,
        &["web-1 at there", "no answer within 1s", "back on v1", "next:"],
    );
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());

    // And the host is none the worse for all of it.
    let good = world.artifact("good", |text| text);
    let said = world.release("good", &good, &[]);
    world.refused_and_runs("a good release", &said, 0, &["good"], "good");
    wait_until("the host is idle", PATIENCE, || {
        world.scene.json(&["hosts"]).unwrap()["hosts"][0]["phase"] == "idle"
    })
    .unwrap();
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
