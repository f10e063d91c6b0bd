//! A disk that is full at each step of an apply: the release is refused or goes back with a sentence that says
//! so, the old one serves on, and once there is room the very same release succeeds.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_e2e::load::Load;
use landfall_e2e::process;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::Said;

/// What stands for the host's disk: enough for some small releases.
const DISK: &str = "size=4m";

/// A host whose `/srv`, `/var/lib/landfall` and `/var/log/landfall` lie on a small disk of their own.
struct World {
    scene: Scene,
    disk: PathBuf,
    mounts: Vec<PathBuf>,
}

impl World {
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let mut scene = Scene::new(bin, &[]).unwrap();
        let home = scene.prepare("web-1").unwrap();
        let disk = scene.path("disk");
        fs::create_dir(&disk).unwrap();
        let mut world = Self { disk: disk.clone(), mounts: Vec::new(), scene };
        world.mount(&["-t", "tmpfs", "-o", DISK, "tmpfs"], &disk);
        for part in ["srv", "state", "logs"] {
            let (on_disk, place) = (disk.join(part), home.join(part));
            fs::create_dir_all(&place).unwrap();
            // What is there already is the directory of the application with its shared files.
            assert!(Command::new("cp").arg("-a").args([&place, &on_disk]).status().unwrap().success());
            world.mount(&["--bind", on_disk.to_str().unwrap()], &place);
        }
        world.scene.join("web-1").unwrap();
        let said = world.scene.release("v1").unwrap();
        assert_eq!(said.code, 0, "{said:?}\n{}", world.scene.last_words());
        world
    }

    fn mount(&mut self, what: &[&str], place: &Path) {
        let said = Said::from(Command::new("mount").args(what).arg(place).output().unwrap());
        said.expect_code(0).unwrap();
        self.mounts.push(place.to_owned());
    }

    fn ballast(&self) -> PathBuf {
        self.disk.join("ballast")
    }

    /// Fills the disk until this many bytes are left.
    fn fill(&self, but_bytes: usize) {
        let mut file = File::create(self.ballast()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(but_bytes as u64)).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.scene.stage.end();
        for place in self.mounts.iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(place).status();
        }
    }
}

/// A release, when the disk is full, and how that ends.
struct Case {
    release: &'static str,
    /// How much is left before it begins; not filled by the test if absent.
    room: Option<usize>,
    /// What its definition has more; `{fill}` is a shell command that fills the disk.
    more: &'static str,
    code: i32,
    words: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        release: "no-room-at-all",
        room: Some(0),
        more: "",
        code: 1,
        words: &["web-1 failed: step trust: disk full", "nothing that runs was touched"],
    },
    Case {
        release: "no-room-for-its-files",
        room: Some(64 * 1024),
        more: "",
        code: 1,
        words: &["web-1 failed: step fetch", "disk full", "nothing that runs was touched"],
    },
    Case {
        release: "full-while-it-prepares",
        room: None,
        more: "[[prepare]]\nname = \"build\"\ncommand = [\"sh\", \"-c\", \"{fill} && echo built\"]\n",
        code: 1,
        words: &["step build", "No space left on device", "nothing that runs was touched"],
    },
    Case {
        release: "full-while-it-migrates",
        room: None,
        more: "[migrate]\ncommand = [\"sh\", \"-c\", \"{fill} && echo migrated\"]\ntimeout = \"1m\"\nlease = \"2m\"\ncompatible_with_previous = true\nfiles = [\"release.txt\"]\n",
        code: 1,
        words: &["the migration failed on web-1", "No space left on device", "nothing was activated"],
    },
    Case {
        release: "full-when-it-starts",
        room: None,
        more: "[[smoke]]\nname = \"front\"\ncommand = [\"sh\", \"-c\", \"{fill} && echo served\"]\n",
        code: 3,
        words: &["web-1 reverted: step front", "No space left on device"],
    },
    Case {
        release: "full-when-it-is-checked",
        room: None,
        more: "[[check]]\nname = \"writes\"\nexec = [\"sh\", \"-c\", \"{fill} && echo wrote\"]\ninterval = \"200ms\"\ntimeout = \"10s\"\n",
        code: 3,
        words: &["web-1 reverted: step writes", "No space left on device"],
    },
];

#[test]
fn a_full_disk_refuses_a_release_and_harms_nothing() {
    if !process::is_root() {
        eprintln!("NOT RUN: only root can mount a small disk; sudo --preserve-env=PATH,HOME make test");
        return;
    }
    let world = World::new();
    let host = &world.scene.stage.hosts["web-1"];
    let load = Load::start(vec![format!("127.0.0.1:{}", host.port)], "/", 40).unwrap();
    let mut before = "v1".to_owned();
    for case in &CASES {
        let fill = format!("head -c 100000000 /dev/zero > {}", world.ballast().display());
        // It has a deadline that a full disk is not to stretch.
        let edit =
            |text: String| text.replace("\"30s\"", "\"8s\"") + "\n" + &case.more.replace("{fill}", &fill);
        let artifact = world.scene.artifact(case.release, edit).unwrap();
        fs::write(artifact.join("large"), noise(300 * 1024, case.release)).unwrap();
        if let Some(room) = case.room {
            world.fill(room);
        }
        let release = || {
            Said::from(
                world.scene.release_command(case.release, &artifact, &["--wait", "2m"]).output().unwrap(),
            )
        };
        let said = release();
        let what = format!("{}: {said:?}\n{}", case.release, world.scene.last_words());
        assert_eq!(said.code, case.code, "{what}");
        let all = format!("{}{}", said.out, said.err);
        let missing: Vec<_> = case.words.iter().filter(|word| !all.contains(**word)).collect();
        assert!(missing.is_empty(), "no {missing:?} in {what}");
        assert_eq!(world.scene.stage.current("web-1"), before, "{what}");
        let counts = load.take();
        assert_eq!(counts.failed, 0, "{what}: of {}: {:?}", counts.sent, counts.failures);

        // Somebody makes room.
        fs::remove_file(world.ballast()).unwrap();
        if case.more.is_empty() {
            let said = release();
            assert_eq!(said.code, 0, "{}: {said:?}\n{}", case.release, world.scene.last_words());
            case.release.clone_into(&mut before);
        }
        assert_eq!(world.scene.stage.current("web-1"), before);
    }
    assert_eq!(load.stop().failed, 0);
}

/// Bytes that do not compress.
fn noise(length: usize, seed: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    let mut digest = landfall_common::Sha256::of(seed.as_bytes());
    while bytes.len() < length {
        digest = landfall_common::Sha256::of(digest.to_string().as_bytes());
        bytes.extend_from_slice(digest.to_string().as_bytes());
    }
    bytes
}
