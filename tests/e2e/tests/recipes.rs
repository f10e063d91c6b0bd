//! The recipes of `docs/recipes`, each released for real under a constant load, as its page shows it.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use landfall_common::definition::Definition;
use landfall_e2e::load::{Counts, Load};
use landfall_e2e::process::wait_until;
use landfall_e2e::scene::{APPLICATION, Scene};
use landfall_e2e::stage::Said;
use landfall_e2e::{python, recipe};

const HOSTS: [&str; 2] = ["web-1", "web-2"];

/// To both hosts; half of it on kept-alive connections.
const REQUESTS_PER_S: u32 = 40;

/// How long the servers of the recipes give a client that is silent; `LINGER_S` and `LINGER_MS` of the pages.
const LINGER: Duration = Duration::from_secs(5);

/// For anything, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the pages leave to the defaults, shorter; and a test that v4 does not pass once it serves.
const ROLLOUT: &str = r#"
[[smoke]]
name = "front-page"
command = ["sh", "-c", "test $LANDFALL_RELEASE != v4"]

[environment.production]
canary = 1
batch = 1
max_unavailable = 1
min_healthy = "1s"
"#;

/// A recipe's application in its repository, and the hosts that it is released to.
struct Trial {
    scene: Scene,
    repository: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    /// Whether it was built elsewhere.
    is_artifact: bool,
}

impl Trial {
    /// The files of the page, and what the application itself is.
    fn new(recipe: &str, application: &[(&str, &str)]) -> Self {
        let bin = Path::new(env!("CARGO_BIN_EXE_demo")).parent().unwrap();
        let scene = Scene::new(bin, &HOSTS).unwrap();
        let repository = scene.path("repository");
        recipe::write(recipe, &repository).unwrap();
        for (name, text) in application {
            fs::write(repository.join(name), text).unwrap();
        }
        let definition = repository.join("landfall.toml");
        let shown = fs::read_to_string(&definition).unwrap();
        fs::write(&definition, shown + ROLLOUT).unwrap();
        let trial = Self { scene, repository, environment: Vec::new(), is_artifact: false };
        trial.git(&["init", "--quiet", "--initial-branch=main", "."]);
        trial
    }

    /// Of an application in Python, whose packages come from a directory below `target/`.
    fn in_python(recipe: &str, application: &str) -> Self {
        let mut trial = Self::new(recipe, &[("app.py", application)]);
        let requirements = trial.repository.join("requirements.txt");
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        let wheels = python::wheels(&target, &requirements).unwrap();
        trial.environment = vec![("PIP_NO_INDEX", "1".into()), ("PIP_FIND_LINKS", wheels)];
        trial
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.current_dir(&self.repository);
        command.args(["-c", "user.name=Ada Keller", "-c", "user.email=ada@site.example"]).args(arguments);
        Said::from(command.output().unwrap()).expect_code(0).unwrap();
    }

    /// Tags what stands as `release`, and gives the command that releases it.
    fn release_command(&self, release: &str) -> Command {
        fs::write(self.repository.join("release.txt"), release).unwrap();
        if self.is_artifact {
            return self.scene.release_command(release, &self.repository, &[]);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", release]);
        self.git(&["tag", "--annotate", "--message", release, release]);
        let mut command = self.scene.stage.ctl();
        command.current_dir(&self.repository).args(["release", release, "--yes"]);
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn ended(&self, said: &Said, code: i32, words: &[&str]) {
        assert_eq!(said.code, code, "{}\n{}\n{}", said.out, said.err, self.last_words());
        let all = format!("{}{}", said.out, said.err);
        let missing: Vec<_> = words.iter().filter(|word| !all.contains(**word)).collect();
        assert!(missing.is_empty(), "no {missing:?} in\n{all}");
    }

    #[track_caller]
    fn release(&self, release: &str, code: i32, words: &[&str]) {
        let said = self.release_command(release).output().unwrap().into();
        self.ended(&said, code, words);
    }

    /// What the programs wrote last, the services among them.
    fn last_words(&self) -> String {
        let logs = HOSTS.map(|host| {
            let log = self.scene.path("hosts").join(host).join(format!("logs/{APPLICATION}.web.log"));
            landfall_e2e::process::tail(&log, 40)
        });
        format!("{}\n--- services\n{}", self.scene.last_words(), logs.join("\n---\n"))
    }

    fn address(&self, host: &str) -> String {
        format!("127.0.0.1:{}", self.scene.stage.hosts[host].port)
    }

    fn shared(&self, host: &str) -> PathBuf {
        self.scene.stage.hosts[host].srv.join("shared")
    }

    /// Whether the holder on a host has asked a process to end, and it has not ended yet.
    fn is_ending(&self, host: &str) -> bool {
        let socket = self.scene.path("hosts").join(host).join(format!("run/holders/{APPLICATION}.web.sock"));
        let asked = || {
            let mut holder = UnixStream::connect(&socket)?;
            holder.write_all(b"{\"type\":\"status\"}\n")?;
            let status: serde_json::Value = serde_json::from_reader(holder)?;
            std::io::Result::Ok(status["ending"].as_array().is_some_and(|ending| !ending.is_empty()))
        };
        asked().unwrap_or(false)
    }

    fn wait(&self, what: &str, condition: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, condition)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.last_words()));
    }

    /// Begins a request that takes until it is told to end, and waits until the application works on it.
    fn begin_long_request(&self, host: &str) -> JoinHandle<String> {
        let mut client = Client::new(&self.address(host));
        let handle = std::thread::spawn(move || client.get("/long").unwrap());
        let begun = self.shared(host).join("long-has-begun");
        self.wait("the long request has begun", || begun.exists());
        handle
    }

    fn load(&self) -> Load {
        let targets = HOSTS.iter().map(|host| self.address(host)).collect();
        Load::start(targets, "/", REQUESTS_PER_S).unwrap()
    }

    /// The counts so far; nothing was lost. Then only `release` answers.
    #[track_caller]
    fn settled(&self, load: &Load, release: &str) -> Counts {
        let counts = load.take();
        assert_eq!(counts.failed, 0, "of {}: {:?}\n{}", counts.sent, counts.failures, self.last_words());
        // A request that was under way when the counts were taken may have been answered by another one.
        let mut last = Counts::default();
        self.wait("a second's worth of answers", || {
            last.add(&load.take());
            last.sent > u64::from(REQUESTS_PER_S)
        });
        last = Counts::default();
        self.wait("a second's worth of answers", || {
            last.add(&load.take());
            last.sent > u64::from(REQUESTS_PER_S)
        });
        let by: Vec<_> = last.by_release.keys().collect();
        assert_eq!(by, [release], "{last:?}");
        assert_eq!(last.failed, 0, "{last:?}");
        counts
    }
}

/// A client with one connection, which it keeps.
struct Client {
    address: String,
    stream: TcpStream,
}

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { address: address.to_owned(), stream }
    }

    /// The head of the answer, in small letters.
    fn get(&mut self, path: &str) -> std::io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        // All answers end alike.
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&buffer[..count]);
        }
        Ok(String::from_utf8_lossy(&answer).to_lowercase())
    }
}

/// What becomes of a connection that its client keeps, when the old process is asked to end.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    /// The server closes each connection with its answer, and says so.
    Never,
    /// The old process closes idle connections without a word, and its page says to keep none.
    ByNobody,
    /// The old process goes on answering until it has said that this was the last time.
    UntilTold {
        /// How long it gives a client that is silent.
        linger: Duration,
    },
}

/// A client that goes on asking on one connection to the old process, until that tells it to come no more.
struct Visitor {
    host: &'static str,
    client: Client,
    linger: Duration,
    answered: Instant,
    is_told: bool,
}

impl Visitor {
    fn new(trial: &Trial, host: &'static str, kept: Kept) -> Self {
        let mut client = Client::new(&trial.address(host));
        let answer = client.get("/").unwrap();
        assert!(answer.contains("x-release: v1"), "{answer}");
        assert_eq!(answer.contains("connection: close"), kept == Kept::Never, "{answer}");
        let (linger, is_told) = match kept {
            Kept::Never | Kept::ByNobody => (Duration::ZERO, true),
            Kept::UntilTold { linger } => (linger, false),
        };
        Self { host, client, linger, answered: Instant::now(), is_told }
    }

    /// Asks once more. A connection that is closed without a word is a request that may be lost.
    #[track_caller]
    fn ask(&mut self, trial: &Trial) {
        if self.is_told {
            return;
        }
        match self.client.get("/") {
            Ok(answer) => {
                assert!(answer.contains("x-release: v1"), "{answer}");
                self.is_told = answer.contains("connection: close");
                self.answered = Instant::now();
            }
            Err(error) if self.answered.elapsed() < self.linger => {
                let host = self.host;
                panic!("{host}: a kept connection was closed without a word: {error}\n{}", trial.last_words())
            }
            // Nothing can be said of a visitor that was itself silent for longer, since the machine was slow.
            Err(_) => self.is_told = true,
        }
    }
}

/// v1 is installed, v2 replaces it, v3 cannot start, v4 starts and fails its smoke test.
#[track_caller]
#[expect(clippy::print_stderr, reason = "the figures of the recipes' table, shown by `--no-capture`")]
fn is_released_without_losing_a_request(trial: &Trial, kept: Kept) {
    trial.release("v1", 0, &["succeeded: v1 runs on all 2 hosts"]);
    let load = trial.load();
    let long = HOSTS.map(|host| trial.begin_long_request(host));
    trial.settled(&load, "v1");

    let mut release = trial.release_command("v2");
    let mut visitors: Vec<_> = HOSTS.iter().map(|host| Visitor::new(trial, host, kept)).collect();
    let release = release.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    trial.wait("each old process has been asked to end, and its visitor told", || {
        for visitor in &mut visitors {
            visitor.ask(trial);
        }
        visitors.retain(|visitor| {
            let may_end = visitor.is_told && trial.is_ending(visitor.host);
            if may_end {
                // The old process has been asked to end, and still works on this.
                fs::write(trial.shared(visitor.host).join("long-may-end"), "").unwrap();
            }
            !may_end
        });
        visitors.is_empty()
    });
    let said = release.wait_with_output().unwrap().into();
    trial.ended(&said, 0, &["v1 -> v2", "succeeded: v2 runs on all 2 hosts"]);
    for answer in long.map(|long| long.join().unwrap()) {
        assert!(answer.starts_with("http/1.1 200") && answer.contains("x-release: v1"), "{answer}");
    }
    let mut all = trial.settled(&load, "v2");

    trial.release("v3", 3, &["the settings of v3 name a database that is not there"]);
    let counts = trial.settled(&load, "v2");
    let by: Vec<_> = counts.by_release.keys().collect();
    assert_eq!(by, ["v2"], "v3 has answered: {counts:?}");
    all.add(&counts);

    trial.release("v4", 3, &["front-page"]);
    let counts = trial.settled(&load, "v2");
    assert!(counts.by_release.contains_key("v4"), "it has served, and gone: {counts:?}");
    all.add(&counts);
    let rest = load.stop();
    assert_eq!(rest.failed, 0, "of {}: {:?}", rest.sent, rest.failures);
    all.add(&rest);
    let p99 = all.latency(0.99).as_millis();
    eprintln!("{} requests, {} failed, {} repeated, p99 {p99} ms", all.sent, all.failed, all.repeated);
}

#[test]
fn gunicorn() {
    let trial = Trial::in_python("gunicorn", include_str!("../src/recipe/wsgi.py"));
    // STOP_KEEPALIVE_LINGER of its worker.
    is_released_without_losing_a_request(&trial, Kept::UntilTold { linger: Duration::from_secs(2) });
}

#[test]
fn uwsgi() {
    let trial = Trial::in_python("uwsgi", include_str!("../src/recipe/wsgi.py"));
    is_released_without_losing_a_request(&trial, Kept::Never);
}

#[test]
fn uvicorn() {
    let trial = Trial::in_python("uvicorn", include_str!("../src/recipe/asgi.py"));
    is_released_without_losing_a_request(&trial, Kept::UntilTold { linger: LINGER });
}

#[test]
fn node() {
    let trial = Trial::new("node", &[("app.mjs", include_str!("../src/recipe/app.mjs"))]);
    is_released_without_losing_a_request(&trial, Kept::UntilTold { linger: LINGER });
}

#[test]
fn puma() {
    let trial = Trial::new("puma", &[("config.ru", include_str!("../src/recipe/config.ru"))]);
    is_released_without_losing_a_request(&trial, Kept::ByNobody);
}

#[test]
fn a_server_in_go() {
    let application =
        [("app.go", include_str!("../src/recipe/app.go")), ("go.mod", "module site\n\ngo 1.19\n")];
    let mut trial = Trial::new("go", &application);
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/go");
    trial.environment = vec![("GOCACHE", std::path::absolute(cache).unwrap())];
    is_released_without_losing_a_request(&trial, Kept::UntilTold { linger: LINGER });
}

#[test]
fn a_server_in_rust() {
    let mut trial = Trial::new("rust", &[]);
    // The page's program, with the application of the test: it is built with the tests, so that the page's own
    // build command has nothing to do.
    let shown = recipe::shown("rust").unwrap();
    let program = shown.iter().find(|file| file.name == "src/main.rs").unwrap();
    assert_eq!(
        program.text,
        include_str!("../src/bin/recipe-rust/main.rs"),
        "the page shows another program"
    );
    fs::create_dir(trial.repository.join("bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_recipe-rust"), trial.repository.join("bin/site")).unwrap();
    trial.is_artifact = true;
    is_released_without_losing_a_request(&trial, Kept::UntilTold { linger: LINGER });
}

#[test]
fn every_definition_that_a_page_shows_is_accepted() {
    let index = fs::read_to_string(recipe::directory().join("README.md")).unwrap();
    let mut pages = Vec::new();
    for directory in [recipe::directory(), recipe::from_elsewhere()] {
        pages.extend(fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
    }
    pages.sort();
    for page in pages {
        let name = page.file_name().unwrap().to_string_lossy();
        if name == "README.md" {
            continue;
        }
        let is_named = !page.starts_with(recipe::directory()) || index.contains(&format!("({name})"));
        assert!(is_named, "README.md does not name {name}");
        let shown = recipe::shown_on(&page).unwrap();
        let definitions: Vec<_> = shown.iter().filter(|file| file.name == "landfall.toml").collect();
        assert!(!definitions.is_empty(), "{name} shows no landfall.toml");
        for definition in definitions {
            let file = format!("{name}, landfall.toml{}", definition.purpose);
            if let Err(problems) = Definition::parse(&file, &definition.text) {
                panic!("{file}: {problems:#?}");
            }
        }
    }
}
