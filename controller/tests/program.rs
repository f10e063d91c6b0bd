//! The program itself: what it prints, how it starts, stops and fails.

#![expect(clippy::unwrap_used, reason = "a test states what it expects with unwrap")]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

struct Place {
    directory: tempfile::TempDir,
    address: std::net::SocketAddr,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Free a moment ago; the program must be told a port, so that its agents find it again.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = Self { directory, address };
        place.configure(&place.state());
        place
    }

    fn configure(&self, state: &Path) {
        let text = format!("listen = \"{}\"\nstate_dir = {state:?}\n", self.address);
        std::fs::write(self.config(), text).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("controller.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall-controller"));
        command.arg("--config").arg(self.config()).args(arguments).env_remove("NOTIFY_SOCKET");
        command
    }

    /// The lock that a controller has before it answers.
    fn hold(&self) -> Box<dyn landfall_common::disk::DiskLock> {
        use landfall_common::disk::Disk as _;
        let disk = landfall_common::disk::RealDisk::new(self.state().join("store"));
        disk.try_lock(Path::new("lock")).unwrap().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(text.starts_with("landfall-controller: "), "{text}");
    text
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

/// A started controller that has said so to who waits for it, as systemd does.
struct Started {
    child: Child,
    notices: UnixDatagram,
}

impl Started {
    fn new(place: &Place) -> Self {
        let path = place.directory.path().join("notify");
        let _ = std::fs::remove_file(&path);
        let notices = UnixDatagram::bind(&path).unwrap();
        notices.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut command = place.command(&[]);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        let started = Self { child, notices };
        assert_eq!(started.notice(), "READY=1");
        started
    }

    fn notice(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.notices.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }

    fn stop(mut self, signal: rustix::process::Signal) -> std::process::ExitStatus {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }
}

#[test]
fn it_tells_systemd_that_it_is_ready_lives_and_stops() {
    use rustix::process::Signal;
    let place = Place::new();
    printed(&place.run(&["init"]));
    for signal in [Signal::TERM, Signal::INT] {
        let started = Started::new(&place);
        assert_eq!(started.notice(), "WATCHDOG=1");
        let notices = started.notices.try_clone().unwrap();
        assert!(started.stop(signal).success());
        let mut last = String::new();
        let mut buffer = [0; 256];
        notices.set_nonblocking(true).unwrap();
        while let Ok(length) = notices.recv(&mut buffer) {
            last = String::from_utf8_lossy(&buffer[..length]).trim().to_owned();
        }
        assert_eq!(last, "STOPPING=1");
        assert!(!place.state().join("admin.sock").exists());
    }
}

#[test]
fn tokens_and_backups_are_made_beside_a_running_controller_and_without_one() {
    let place = Place::new();
    let first = printed(&place.run(&["init", "--name", "alice"]));
    assert!(first.starts_with("lft1_") && !first.contains(char::is_whitespace), "{first}");
    let backup = |name: &str| place.directory.path().join(name);
    let make = |name: &str| place.run(&["backup", backup(name).to_str().unwrap()]);
    let token = || place.run(&["operator-token", "--name", "bob", "--role", "viewer"]);
    let running = Started::new(&place);
    assert!(printed(&token()).starts_with("lft1_"));
    printed(&make("running.tar"));
    // Killed, not stopped: the socket stays behind and must not confuse anybody.
    running.stop(rustix::process::Signal::KILL);
    assert!(place.state().join("admin.sock").exists());
    assert!(printed(&token()).starts_with("lft1_"));
    printed(&make("stopped.tar"));
    let text = refused(&make("stopped.tar"));
    assert!(text.contains("stopped.tar") && text.contains("choose another name"), "{text}");
    // One that failed is not in the way of the next.
    let elsewhere = place.directory.path().join("elsewhere");
    place.configure(&elsewhere);
    assert!(refused(&make("again.tar")).contains("init"));
    place.configure(&place.state());
    printed(&make("again.tar"));
    let text = refused(&place.run(&["operator-remove", "--name", "nobdy"]));
    assert!(text.contains("no operator nobdy") && text.contains("alice, bob"), "{text}");
    printed(&place.run(&["operator-remove", "--name", "bob"]));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(backup("running.tar")).unwrap().permissions().mode() & 0o777, 0o600);
    let text = refused(&place.run(&["restore", backup("running.tar").to_str().unwrap()]));
    assert!(text.contains("move it away"), "{text}");
    for name in ["running.tar", "stopped.tar"] {
        let state = place.directory.path().join(format!("from-{name}"));
        place.configure(&state);
        printed(&place.run(&["restore", backup(name).to_str().unwrap()]));
        Started::new(&place).stop(rustix::process::Signal::TERM);
    }
}

#[test]
fn what_hinders_it_is_said_with_what_to_do() {
    let place = Place::new();
    assert!(refused(&place.run(&[])).contains("init"));
    printed(&place.run(&["init"]));
    assert!(refused(&place.run(&["init"])).contains("operator-token"));
    let taken = std::net::TcpListener::bind(place.address).unwrap();
    assert!(refused(&place.run(&[])).contains("another program has this port"));
    drop(taken);
    let running = Started::new(&place);
    std::fs::write(place.config(), format!("listen = \"127.0.0.1:0\"\nstate_dir = {:?}\n", place.state()))
        .unwrap();
    assert!(refused(&place.run(&[])).contains("in use by another controller"));
    running.stop(rustix::process::Signal::TERM);
    std::fs::write(place.config(), "listen = 7443\n").unwrap();
    assert!(refused(&place.run(&[])).contains("listen"));
    place.configure(Path::new("/proc/landfall"));
    assert!(refused(&place.run(&["init"])).contains("/proc/landfall"));
}

/// A token is asked for at once after the start: the controller has the state, and does not answer yet.
#[test]
fn a_controller_that_has_just_been_started_is_waited_for() {
    let place = Place::new();
    printed(&place.run(&["init"]));
    let holder = place.hold();
    let mut asked = place.command(&["operator-token", "--name", "bob", "--role", "viewer"]);
    let asked = asked.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It cannot have the state before this lets go of it.
    drop(holder);
    assert!(printed(&asked.wait_with_output().unwrap()).starts_with("lft1_"));
}

#[test]
fn the_state_of_another_user_is_left_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let state = if rustix::process::geteuid().is_root() {
        printed(&place.run(&["init"]));
        std::os::unix::fs::chown(place.state(), Some(1), None).unwrap();
        place.state()
    } else {
        // Of root, and to be seen by everybody.
        PathBuf::from("/proc/sys")
    };
    place.configure(&state);
    let owner = std::fs::metadata(&state).unwrap().uid();
    let file = place.directory.path().join("backup.tar");
    let file = file.to_str().unwrap();
    for arguments in [
        &["init"][..],
        &["operator-token", "--name", "bob", "--role", "viewer"],
        &["operator-remove", "--name", "bob"],
        &["backup", file],
        &["restore", file],
        &[],
    ] {
        let text = refused(&place.run(arguments));
        let other = if owner == 0 { "root" } else { "daemon" };
        assert!(
            text.contains(&format!("runuser -u {other} -- landfall-controller")),
            "{arguments:?}: {text}"
        );
    }
    assert!(!Path::new(file).exists());
}
