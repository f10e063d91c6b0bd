//! An ordinary day of a Django team: three servers as they have had them for years, Gunicorn under systemd on two
//! and under Supervisor on one, nginx and PostgreSQL on a machine in front; and `ctl release`.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::path::PathBuf;
use std::process::Command;

use landfall_e2e::load::{Counts, Load};
use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::Installed;
use landfall_hosts::{fetched, repository};

/// Under Supervisor, and one of the first two that change.
const SUPERVISED: &str = "web-1";

/// Under systemd. The first of them is among the first two, the last one changes last.
const UNITS: [&str; 2] = ["web-2", "web-3"];

/// nginx and PostgreSQL.
const FRONT: &str = "front";

const REQUESTS_PER_S: u32 = 30;

fn example() -> PathBuf {
    repository().join("examples/tenants")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(example().join("servers").join(name)).unwrap()
}

struct Day {
    landfall: Installed,
}

impl Day {
    /// What the team has, and Landfall installed on it; nothing is released yet.
    fn begin() -> Self {
        let packages = fetched::of_django(&example()).unwrap();
        let servers = [&[SUPERVISED][..], &UNITS].concat();
        let mut landfall = Installed::with_application(&servers, &[FRONT], |tree| {
            let mut history = Command::new("sh");
            history.arg(example().join("make-history.sh")).arg("--servers").arg(tree);
            Said::from(history.output()?).expect_code(0)?;
            // v1.5 never gets healthy; it need not be waited for as long as an application that might.
            let impatient = "git checkout -q v1.5
                 sed -i 's/^healthy_deadline = .*/healthy_deadline = \"20s\"/' landfall.toml
                 git commit -qam 'Wait for a shorter time'
                 git tag -f -a v1.5 -m v1.5
                 git checkout -q main";
            let mut git = Command::new("sh");
            git.args(["-e", "-c", impatient]).current_dir(tree);
            Said::from(git.output()?).expect_code(0).map(|_| ())
        })
        .unwrap();
        landfall.environment = packages;
        let day = Self { landfall };
        day.front();
        for name in servers {
            day.server(name);
        }
        day
    }

    fn host(&self, name: &str) -> &Host {
        self.landfall.fleet.host(name)
    }

    /// PostgreSQL for all of them, and nginx in front. It may not cover up for a server: what one does not answer
    /// is not asked of another.
    fn front(&self) {
        let front = self.host(FRONT);
        front
            .sh("version=$(ls /etc/postgresql)
                 cd /etc/postgresql/$version/main
                 echo \"listen_addresses = '*'\" >>postgresql.conf
                 echo 'host tenants tenants 10.77.0.0/24 scram-sha-256' >>pg_hba.conf
                 systemctl start postgresql@$version-main
                 cd /
                 runuser -u postgres -- psql -q -c \"CREATE ROLE tenants LOGIN PASSWORD 'of-a-test'\" \\
                     -c 'CREATE DATABASE tenants OWNER tenants'
                 rm -f /etc/nginx/sites-enabled/default")
            .unwrap();
        let conf = file("nginx.conf").replace(":8000;", ":8000 max_fails=0;");
        let conf = conf.replace("location / {", "location / {\n        proxy_next_upstream off;");
        front.put("/etc/nginx/conf.d/tenants.conf", conf.as_bytes(), 0o644).unwrap();
        front.sh("nginx -t -q; systemctl start nginx").unwrap();
    }

    /// What the administrator does on a server, once.
    fn server(&self, name: &str) {
        let server = self.host(name);
        server
            .sh("useradd --system tenants; usermod -aG tenants landfall; usermod -aG tenants landfall-step
                 install -d -o landfall -g landfall /srv/tenants/shared")
            .unwrap();
        let settings = format!(
            "DATABASE_URL=postgres://tenants:of-a-test@{}/tenants\nDJANGO_SECRET_KEY=of-a-test\n\
             DJANGO_ALLOWED_HOSTS=*\nTENANTS_SAMPLE_DATA=1\n",
            self.host(FRONT).address()
        );
        server.put("/srv/tenants/shared/.env", settings.as_bytes(), 0o640).unwrap();
        server.sh("chown root:tenants /srv/tenants/shared/.env").unwrap();
        if name == SUPERVISED {
            let conf = file("supervisor.conf");
            server.put("/etc/supervisor/conf.d/tenants-web.conf", conf.as_bytes(), 0o644).unwrap();
            server
                .sh("sed -i 's/^chmod=.*/chmod=0770\\nchown=root:landfall/' /etc/supervisor/supervisord.conf
                     systemctl enable --now supervisor")
                .unwrap();
        } else {
            for unit in ["tenants-web.socket", "tenants-web@.service"] {
                server.put(&format!("/etc/systemd/system/{unit}"), file(unit).as_bytes(), 0o644).unwrap();
            }
            server
                .sh("sed -i 's/^var units = \\[/&\"tenants-web@*.service\", \"tenants-web.socket\",/' \\
                         /etc/polkit-1/rules.d/40-landfall-units.rules
                     systemctl daemon-reload")
                .unwrap();
        }
        server.sh("systemctl enable landfall-agent").unwrap();
        self.says_what_it_is(name, if name == SUPERVISED { "supervisor" } else { "systemd" });
    }

    /// What stands in the agent's configuration, as of now.
    fn says_what_it_is(&self, name: &str, init: &str) {
        self.host(name)
            .sh(&format!(
                "sed -i '/^init = /d; s/^\\[variables\\]/&\\ninit = \"{init}\"/' /etc/landfall/agent.toml
                 systemctl restart landfall-agent"
            ))
            .unwrap();
    }

    /// Runs `ctl`, which ends with this code and says these words.
    #[track_caller]
    fn ctl(&self, arguments: &[&str], code: i32, words: &[&str]) -> Said {
        let said = self.landfall.ctl(arguments).unwrap();
        let last_words = || self.landfall.fleet.last_words();
        assert_eq!(said.code, code, "{}\n{}\n{}", said.out, said.err, last_words());
        let all = format!("{}{}", said.out, said.err);
        let missing: Vec<_> = words.iter().filter(|word| !all.contains(**word)).collect();
        assert!(missing.is_empty(), "no {missing:?} in\n{all}");
        said
    }

    /// Each server serves this release, and nothing else of the application runs on it.
    #[track_caller]
    fn all_run(&self, release: &str) {
        for name in &self.landfall.servers {
            let server = self.host(name);
            assert_eq!(self.landfall.current(name).unwrap(), release, "{name}");
            assert_eq!(serves(server), release, "{name}");
            // Each process shows by its working directory where it was started.
            let directories = server
                .sh("for id in $(pgrep -x gunicorn -u tenants); do readlink /proc/$id/cwd; done | sort -u")
                .unwrap();
            assert_eq!(directories.trim(), format!("/srv/tenants/releases/{release}"), "{name}");
        }
        for name in UNITS {
            let units = "systemctl list-units --plain --no-legend --state=active 'tenants-web@*'";
            assert_eq!(self.host(name).sh(units).unwrap().lines().count(), 1, "{name}");
        }
    }

    fn load(&self) -> Load {
        let front = format!("{}:80", self.host(FRONT).address());
        Load::start(vec![front], "/", REQUESTS_PER_S).unwrap()
    }

    /// What the database says, a line for each row.
    fn sql(&self, query: &str) -> Vec<String> {
        let said = self.host(FRONT).sh(&format!("runuser -u postgres -- psql -d tenants -XAtc \"{query}\""));
        said.unwrap().lines().map(str::to_owned).collect()
    }

    fn migrations(&self) -> Vec<String> {
        self.sql("SELECT name FROM django_migrations WHERE app = 'housing' ORDER BY id")
    }
}

/// The release that a server's Gunicorn answers for.
fn serves(server: &Host) -> String {
    let said = server
        .exec(&["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-D", "-", "http://127.0.0.1:8000/"])
        .unwrap();
    let line = said.out.lines().find_map(|line| line.strip_prefix("X-Release: "));
    line.map_or_else(|| format!("{said:?}"), |release| release.trim().to_owned())
}

#[track_caller]
fn nothing_lost(counts: &Counts, releases: &[&str]) {
    assert_eq!(counts.failed, 0, "of {}: {:?}", counts.sent, counts.failures);
    let served: Vec<_> = counts.by_release.keys().map(String::as_str).collect();
    assert_eq!(served, releases, "{counts:?}");
}

#[test]
fn a_team_with_systemd_and_supervisor_releases_and_goes_back_without_a_request_lost() {
    let day = Day::begin();

    // A server that does not say what it has is found out before anything changes.
    day.host("web-3")
        .sh("sed -i '/^init = /d' /etc/landfall/agent.toml; systemctl restart landfall-agent")
        .unwrap();
    let words = ["service web runs where init is \"systemd\"", "set it in [variables]"];
    day.ctl(&["release", "v1.3", "--yes"], 1, &words);
    assert_eq!(day.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), ["0"]);
    day.says_what_it_is("web-3", "systemd");

    day.ctl(&["release", "v1.3", "--yes"], 0, &["succeeded: v1.3 runs on all 3 hosts"]);
    day.all_run("v1.3");
    assert_eq!(day.migrations(), ["0001_initial"]);

    // A release with a migration, under load.
    let load = day.load();
    day.ctl(&["release", "v1.4", "--yes"], 0, &["succeeded: v1.4 runs on all 3 hosts"]);
    day.all_run("v1.4");
    assert_eq!(day.migrations(), ["0001_initial", "0002_charge_paid_on"]);
    nothing_lost(&load.take(), &["v1.3", "v1.4"]);

    // One whose health check fails goes back by itself, on a server of each kind; the third never sees it.
    let said = day.ctl(&["release", "v1.5", "--yes"], 3, &["canary    web-1, web-2", "check healthz fails"]);
    day.all_run("v1.4");
    nothing_lost(&load.take(), &["v1.4", "v1.5"]);
    let ended = |line: &str| line.contains("v1.5 rolled back: ") && line.ends_with(", 1 staged");
    assert!(said.out.lines().chain(said.err.lines()).any(ended), "{said:?}");

    // Back by hand: the old code on the new schema.
    day.ctl(&["rollback", "v1.3", "--yes"], 0, &["v1.3"]);
    day.all_run("v1.3");
    assert_eq!(day.migrations().len(), 2);
    nothing_lost(&load.stop(), &["v1.3", "v1.4"]);

    // Servers that boot serve what they served.
    for name in [SUPERVISED, UNITS[0]] {
        day.host(name).reboot().unwrap();
        day.host(name).wait_until("it serves v1.3", |server| Ok(serves(server) == "v1.3")).unwrap();
    }
    day.all_run("v1.3");
    day.ctl(&["status"], 0, &["v1.3 on 3"]);
}
