//! The example's releases that go wrong, on PostgreSQL and under load: what catches each, and what is said.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfall_e2e::load::Load;
use landfall_e2e::postgres::Postgres;
use landfall_e2e::stage::{Said, Stage, token_in};

const HOSTS: [&str; 2] = ["web-1", "web-2"];

/// Of both hosts: v1.7 takes 0.4 s for each, and a host has four threads for them.
const REQUESTS_PER_S: u32 = 8;

struct World {
    // Ended in this order: the services before their database.
    stage: Stage,
    database: Postgres,
    repository: PathBuf,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let database = Postgres::start().unwrap();
        let directory = tempfile::Builder::new().prefix("landfall-e2e-").tempdir().unwrap();
        let repository = directory.path().join("tenants");
        let history = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tenants/make-history.sh");
        let made = Command::new("sh").arg(history).arg(&repository).output().unwrap();
        Said::from(made).expect_code(0).unwrap();

        let mut stage = Stage::new(directory.path(), bin).unwrap();
        let token = stage.init_controller().unwrap();
        stage.start_controller().unwrap();
        let address = stage.address.clone();
        let run = |stage: &Stage, arguments: &[&str]| {
            stage.ctl_in(&repository, arguments).unwrap().expect_code(0).unwrap()
        };
        run(&stage, &["login", &token, "--controller", &address]);
        run(&stage, &["init"]);
        for name in HOSTS {
            let host = stage.add_host(name, "tenants").unwrap();
            let settings = format!(
                "DATABASE_URL={}\nDJANGO_SECRET_KEY=of-a-test\nTENANTS_SAMPLE_DATA=1\n",
                database.url()
            );
            fs::write(host.srv.join("shared/.env"), settings).unwrap();
            let token = run(&stage, &["hosts", "token", "--env", "production", "--name", name]);
            stage.join(name, &token_in(&token).unwrap()).unwrap();
        }
        Self { stage, database, repository, _directory: directory }
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        self.stage.ctl_in(&self.repository, arguments).unwrap()
    }

    /// Releases a tag, with this exit code and these words.
    #[track_caller]
    fn release(&self, tag: &str, code: i32, words: &[&str]) -> Said {
        let said = self.ctl(&["release", tag, "--yes"]);
        let last_words = || {
            let agents = HOSTS.map(|host| self.stage.agent_log(host));
            format!("{}\n{}", self.stage.controller_log(), agents.join("\n"))
        };
        assert_eq!(said.code, code, "{}\n{}\n{}", said.out, said.err, last_words());
        let all = format!("{}{}", said.out, said.err);
        let missing: Vec<_> = words.iter().filter(|word| !all.contains(**word)).collect();
        assert!(missing.is_empty(), "no {missing:?} in\n{all}");
        said
    }

    /// The migrations that the database has taken.
    fn migrations(&self) -> Vec<String> {
        self.database.query("SELECT name FROM django_migrations WHERE app = 'housing' ORDER BY id").unwrap()
    }

    /// What of the words is not in what a command prints.
    #[track_caller]
    fn says(&self, arguments: &[&str], words: &[&str]) {
        let said = self.ctl(arguments).expect_code(0).unwrap();
        let missing: Vec<_> = words.iter().filter(|word| !said.out.contains(**word)).collect();
        assert!(missing.is_empty(), "no {missing:?} in\n{}", said.out);
    }
}

#[test]
fn a_failing_migration_touches_nothing_that_runs_and_a_slow_release_is_released() {
    let world = World::new();
    world.release("v1.4", 0, &["succeeded: v1.4 runs on all 2 hosts"]);
    assert_eq!(world.migrations(), ["0001_initial", "0002_charge_paid_on"]);

    let targets = HOSTS.map(|host| format!("127.0.0.1:{}", world.stage.hosts[host].port)).to_vec();
    let load = Load::start(targets, "/", REQUESTS_PER_S).unwrap();

    // v1.6: the first of its migrations is taken, the second one fails on a file that was never committed.
    let words = [
        "web-1 failed: step migrate, exit code 1",
        "FileNotFoundError",
        "accounts.csv",
        "failed: v1.6 runs on 0 of 2 hosts of tenants in production",
        "the migration failed on web-1: step migrate exited with code 1; nothing was activated",
        "next: ctl status r",
        "then ctl release v1.6 again; or correct it and release it under a new name",
    ];
    let said = world.release("v1.6", 1, &words);
    // It would take the release away that runs, and well.
    assert!(!said.out.contains("ctl rollback"), "{}", said.out);
    assert_eq!(world.migrations().len(), 3, "{:?}", world.migrations());
    world.says(&["status"], &["v1.4 on 2", "v1.6 failed", "the migration failed on web-1"]);
    let counts = load.take();
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    let by: Vec<_> = counts.by_release.keys().collect();
    assert_eq!(by, ["v1.4"], "the old release on the schema of the new one: {counts:?}");

    // v1.7 starts and answers slowly: its checks pass, and so it is released, without a request lost.
    world.release("v1.7", 0, &["v1.4 -> v1.7", "succeeded: v1.7 runs on all 2 hosts"]);
    let counts = load.stop();
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    assert!(counts.by_release.contains_key("v1.7"), "{counts:?}");
    assert_eq!(world.migrations().len(), 4, "{:?}", world.migrations());
    let unbooked = "SELECT count(*) FROM housing_charge WHERE account = ''";
    assert_eq!(world.database.query(unbooked).unwrap(), ["0"]);
    world.says(&["status"], &["v1.7 on 2", "v1.7 succeeded"]);
    world.says(&["log"], &["v1.4 -> v1.6", "failed", "v1.4 -> v1.7", "succeeded"]);
    world.says(&["log", "--all"], &["web-1: the migration of v1.6 failed: step migrate exited with code 1"]);
}
