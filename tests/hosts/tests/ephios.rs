//! An application that nobody here wrote: ephios, from 0.26.1 to 0.27.1, as its packages stand on PyPI. Twelve
//! migrations whose authors promise nothing about the release before, two servers, nginx and PostgreSQL.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use landfall_e2e::process::wait_until;
use landfall_e2e::stage::Said;
use landfall_hosts::host::Host;
use landfall_hosts::installed::Installed;
use landfall_hosts::{fetched, repository};

const SERVERS: [&str; 2] = ["web-1", "web-2"];

/// nginx and PostgreSQL.
const FRONT: &str = "front";

const LOGIN: &str = "/accounts/login/";

const HEALTH: &str = "/healthcheck/";

/// From one page to the next.
const LOOKS: Duration = Duration::from_millis(100);

/// A machine that is busy is slow, and no less well.
const PATIENCE: Duration = Duration::from_secs(120);

fn example() -> PathBuf {
    repository().join("examples/ephios")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(example().join("servers").join(name)).unwrap()
}

struct Team {
    landfall: Installed,
}

impl Team {
    /// What the team has, and Landfall installed on it; nothing is released yet.
    fn begin() -> Self {
        let packages = fetched::of_ephios().unwrap();
        let mut landfall = Installed::with_application(&SERVERS, &[FRONT], |tree| {
            let mut history = Command::new("sh");
            history.arg(example().join("make-history.sh")).arg(tree);
            Said::from(history.output()?).expect_code(0).map(|_| ())
        })
        .unwrap();
        landfall.environment = packages;
        let team = Self { landfall };
        team.front();
        SERVERS.iter().for_each(|name| team.server(name));
        team
    }

    fn host(&self, name: &str) -> &Host {
        self.landfall.fleet.host(name)
    }

    /// PostgreSQL for both, and nginx in front. It may not cover up for a server: what one does not answer is not
    /// asked of the other.
    fn front(&self) {
        let front = self.host(FRONT);
        front
            .sh("version=$(ls /etc/postgresql)
                 cd /etc/postgresql/$version/main
                 echo \"listen_addresses = '*'\" >>postgresql.conf
                 echo 'host ephios ephios 10.77.0.0/24 scram-sha-256' >>pg_hba.conf
                 systemctl start postgresql@$version-main
                 cd /
                 runuser -u postgres -- psql -q -c \"CREATE ROLE ephios LOGIN PASSWORD 'of-a-test'\" \\
                     -c 'CREATE DATABASE ephios OWNER ephios'
                 rm -f /etc/nginx/sites-enabled/default")
            .unwrap();
        let conf = file("front.conf").replace(":80;", ":80 max_fails=0;");
        let conf = conf.replace("location / {", "location / {\n        proxy_next_upstream off;");
        front.put("/etc/nginx/conf.d/ephios.conf", conf.as_bytes(), 0o644).unwrap();
        front.sh("nginx -t -q; systemctl start nginx").unwrap();
    }

    /// What the administrator does on a server, once.
    fn server(&self, name: &str) {
        let server = self.host(name);
        let settings = file("env.example").replace("db.example.org", &self.host(FRONT).address().to_string());
        let settings = settings.replace("ephios.example.org", "*");
        server.put("/srv/ephios/shared/.env", settings.as_bytes(), 0o640).unwrap();
        server.put("/etc/nginx/conf.d/ephios.conf", file("nginx.conf").as_bytes(), 0o644).unwrap();
        server.sh("rm -f /etc/nginx/sites-enabled/default; nginx -t -q; systemctl start nginx").unwrap();
    }

    /// Runs `ctl`, which ends with this code and says these words.
    #[track_caller]
    fn ctl(&self, arguments: &[&str], code: i32, words: &[&str]) -> Said {
        let said = self.landfall.ctl(arguments).unwrap();
        let last_words = || self.landfall.fleet.last_words();
        assert_eq!(said.code, code, "{}\n{}\n{}", said.out, said.err, last_words());
        // A person reads it wrapped to the width of a line.
        let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let all = plain(&format!("{}{}", said.out, said.err));
        let missing: Vec<_> = words.iter().filter(|word| !all.contains(&plain(word))).collect();
        assert!(missing.is_empty(), "no {missing:?} in\n{}{}", said.out, said.err);
        said
    }

    /// Each server serves this release, and nothing else of the application runs on it.
    #[track_caller]
    fn all_run(&self, release: &str) {
        for name in SERVERS {
            let server = self.host(name);
            assert_eq!(self.landfall.current(name).unwrap(), release, "{name}");
            assert_eq!(get(server.address(), LOGIN).unwrap().release, release, "{name}");
            // Each process shows by its working directory where it was started.
            let directories = server
                .sh("for id in $(pgrep -u landfall -f 'gunicorn --config'); do readlink /proc/$id/cwd; done | sort -u")
                .unwrap();
            assert_eq!(directories.trim(), format!("/srv/ephios/releases/{release}"), "{name}");
        }
    }

    /// What the database has taken.
    fn migrations(&self) -> BTreeSet<String> {
        let query = "SELECT app || '.' || name FROM django_migrations";
        let query = format!("runuser -u postgres -- psql -d ephios -XAtc \"{query}\"");
        self.host(FRONT).sh(&query).unwrap().lines().map(str::to_owned).collect()
    }

    /// Puts the database back to a backup, which is on the server that migrated.
    fn restore(&self, name: &str) {
        let path = format!("/srv/ephios/shared/data/backups/{name}");
        let backups: Vec<_> = SERVERS.iter().filter_map(|server| self.host(server).get(&path).ok()).collect();
        assert_eq!(backups.len(), 1, "one of the servers has migrated");
        let front = self.host(FRONT);
        front.put("/tmp/backup", &backups[0], 0o644).unwrap();
        front
            .sh("cd /
                 runuser -u postgres -- dropdb --force ephios
                 runuser -u postgres -- createdb --owner ephios ephios
                 runuser -u postgres -- pg_restore --no-owner --role ephios --dbname ephios /tmp/backup")
            .unwrap();
    }
}

/// An answer of nginx on a server.
struct Answer {
    status: u16,
    release: String,
    body: String,
}

/// What the server at an address answers to somebody on this machine.
fn get(server: Ipv4Addr, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect((server, 80))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept-Language: en\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let release = head.lines().find_map(|line| line.strip_prefix("X-Release: ")).unwrap_or_default();
    Ok(Answer { status, release: release.to_owned(), body: body.to_owned() })
}

/// People who come one after another for as long as this lives: to log in, and to look at its health, through the
/// machine in front; and one whose browser asks *each* server for the files that a page names: behind a balancer it
/// may be any of them.
///
/// Each waits for his answer before he asks again, so that a machine that is slow has no more to do than it can.
struct People {
    seen: Arc<Seen>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    gone: AtomicBool,
    /// How often each of them was through with what he does.
    rounds: [AtomicUsize; 3],
    /// How many answers came from each release, and what was no answer.
    answers: Mutex<(BTreeMap<String, usize>, Vec<String>)>,
}

impl Seen {
    /// Asks, counts, and gives the page if it is one.
    fn ask(&self, server: Ipv4Addr, path: &str) -> Option<Answer> {
        let answer = get(server, path);
        let mut answers = self.answers.lock().unwrap();
        match answer {
            Ok(answer) if answer.status == 200 && !answer.body.is_empty() => {
                // Files are nginx's, and of no release.
                if !answer.release.is_empty() {
                    *answers.0.entry(answer.release.clone()).or_default() += 1;
                }
                return Some(answer);
            }
            Ok(answer) => answers.1.push(format!("{path} on {server}: status {}", answer.status)),
            Err(error) => answers.1.push(format!("{path} on {server}: {error}")),
        }
        None
    }

    /// Opens the page of each server, and all that it names on both.
    fn browse(&self, servers: [Ipv4Addr; 2]) {
        for page in servers.into_iter().filter_map(|server| self.ask(server, LOGIN)) {
            let files = static_files(&page.body);
            if files.len() < 3 {
                self.answers.lock().unwrap().1.push(format!("a page without its files: {}", page.body));
            }
            for file in &files {
                servers.into_iter().for_each(|server| drop(self.ask(server, file)));
            }
        }
    }
}

impl People {
    fn come(team: &Team) -> Self {
        let seen = Arc::new(Seen::default());
        let front = team.host(FRONT).address();
        let servers = SERVERS.map(|name| team.host(name).address());
        let go_on = |number: usize, visit: Box<dyn Fn(&Seen) + Send>| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                while !seen.gone.load(Ordering::Relaxed) {
                    visit(&seen);
                    seen.rounds[number].fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(LOOKS);
                }
            })
        };
        let threads = vec![
            go_on(0, Box::new(move |seen| drop(seen.ask(front, LOGIN)))),
            go_on(1, Box::new(move |seen| drop(seen.ask(front, HEALTH)))),
            go_on(2, Box::new(move |seen| seen.browse(servers))),
        ];
        Self { seen, threads }
    }

    /// Each has had what he came for, from these releases and no other.
    #[track_caller]
    fn all_were_answered(&self, releases: &[&str]) {
        // Whoever asked before now may have had the release before.
        let before = self.seen.rounds.each_ref().map(|rounds| rounds.load(Ordering::Relaxed));
        wait_until("each of them came again", PATIENCE, || {
            let now = self.seen.rounds.each_ref().map(|rounds| rounds.load(Ordering::Relaxed));
            now.iter().zip(before).all(|(now, before)| *now >= before + 2)
        })
        .unwrap();
        let (answers, failures) = std::mem::take(&mut *self.seen.answers.lock().unwrap());
        assert_eq!(failures, [""; 0], "beside {answers:?}");
        assert_eq!(answers.keys().map(String::as_str).collect::<Vec<_>>(), releases, "{answers:?}");
    }

    fn leave(self) {
        self.seen.gone.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Style sheets, scripts and pictures that a page names.
fn static_files(page: &str) -> BTreeSet<String> {
    let quoted = page.split('"').filter(|text| text.starts_with("/static/"));
    quoted.map(str::to_owned).collect()
}

#[test]
fn an_application_of_others_is_upgraded_without_a_request_lost_and_a_bad_release_of_it_goes_back() {
    let team = Team::begin();
    team.ctl(&["release", "0.26.1", "--yes"], 0, &["succeeded: 0.26.1 runs on all 2 hosts"]);
    team.all_run("0.26.1");
    let before = team.migrations();

    // Nobody promises that 0.26.1 runs on the new schema: it takes the operator's word, before anything changes.
    let words = ["there is no way back from 0.27.1", "accept it with --no-way-back"];
    team.ctl(&["release", "0.27.1", "--yes"], 1, &words);
    assert_eq!(team.migrations(), before);
    team.all_run("0.26.1");

    let people = People::come(&team);
    let words = ["succeeded: 0.27.1 runs on all 2 hosts"];
    team.ctl(&["release", "0.27.1", "--no-way-back", "--yes"], 0, &words);
    team.all_run("0.27.1");
    people.all_were_answered(&["0.26.1", "0.27.1"]);
    let after = team.migrations();
    assert_eq!((after.difference(&before).count(), before.difference(&after).count()), (12, 0), "{after:?}");

    // A setting that does not start: its migrations are those of 0.27.1, so it goes back by itself.
    let words = ["No module named 'gevent'", "0.27.1-gevent rolled back: "];
    team.ctl(&["release", "0.27.1-gevent", "--yes"], 3, &words);
    team.all_run("0.27.1");

    // Before the migrations there is no way by code alone, and it is said what there is.
    let words = [
        "cannot go back to 0.26.1: the migration of 0.27.1 cannot be undone",
        "publish a release that mends 0.27.1, or restore a backup of the database from before it and publish the \
         content of 0.26.1 anew under another name",
    ];
    team.ctl(&["rollback", "0.26.1", "--yes"], 1, &words);
    team.all_run("0.27.1");
    people.all_were_answered(&["0.27.1"]);
    people.leave();

    // Which is what is done: the backup that its migration made, and the old content under another name.
    team.restore("before-0.27.1.dump");
    assert_eq!(team.migrations(), before);
    team.landfall.git(&["tag", "-a", "0.26.1-again", "-m", "Back, with the backup", "0.26.1^{}"]).unwrap();
    let words = ["succeeded: 0.26.1-again runs on all 2 hosts"];
    team.ctl(&["release", "0.26.1-again", "--no-way-back", "--yes"], 0, &words);
    team.all_run("0.26.1-again");
    assert_eq!(team.migrations(), before);
}
