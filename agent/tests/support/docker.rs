//! A Docker of a test's own: dockerd in namespaces of its own, and images made of nothing.
//!
//! The test runs its own binary again in a network and a set of processes that end with it. There it starts
//! dockerd, so that whatever containers leave behind is gone with the test.

use std::io::{Read as _, Write as _};
use std::os::fd::IntoRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use landfall_common::Sha256;

/// Says to this binary that it is inside.
const INSIDE: &str = "LANDFALL_DOCKER_INSIDE";

/// Where the machine's containerd listens.
const CONTAINERD: &str = "/run/containerd";

/// How long dockerd may take to come or go, on a machine with much else to do.
const LONG: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);

/// Runs a test of this binary inside, and takes its word for its own.
pub fn run_inside(test: &str) {
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "yes")
        .stdin(Stdio::null())
        .output()
        .expect("unshare of util-linux");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    print!("{said}");
}

pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// A dockerd that runs until this process ends.
pub struct Dockerd {
    pub socket: PathBuf,
    root: PathBuf,
    /// Where it listens, if that is not its own affair.
    kept: Option<UnixListener>,
    child: Child,
}

impl Dockerd {
    pub fn start(root: &Path) -> Self {
        Self::start_on(root, None)
    }

    /// As Debian's package has it: systemd listens, and leaves whoever comes waiting while there is no dockerd.
    pub fn start_kept(root: &Path) -> Self {
        Self::start_on(root, Some(UnixListener::bind(root.join("docker.sock")).unwrap()))
    }

    fn start_on(root: &Path, kept: Option<UnixListener>) -> Self {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip of iproute2");
        assert!(up.success());
        // Without a file of its own it would read the machine's.
        std::fs::write(root.join("daemon.json"), "{}").unwrap();
        // It would take the machine's containerd for its own, and leave its containers there.
        std::fs::create_dir_all(CONTAINERD).unwrap();
        let hidden = Command::new("mount").args(["-t", "tmpfs", "tmpfs", CONTAINERD]).status().unwrap();
        assert!(hidden.success());
        let child = spawn(root, kept.as_ref());
        let mut dockerd = Self { socket: root.join("docker.sock"), root: root.to_owned(), kept, child };
        let until = Instant::now() + LONG;
        while !dockerd.listens(until) {
            std::thread::sleep(LOOK);
        }
        dockerd
    }

    fn listens(&mut self, until: Instant) -> bool {
        let said = || std::fs::read_to_string(self.root.join("dockerd.log")).unwrap_or_default();
        assert!(self.child.try_wait().unwrap().is_none(), "dockerd ended:\n{}", said());
        assert!(Instant::now() < until, "dockerd does not listen:\n{}", said());
        let ask = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
            stream.read(&mut [0; 1])
        };
        ask().is_ok_and(|count| count > 0)
    }

    /// Ends it as a shutdown does, with its containers, and starts another.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    pub async fn stop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let until = Instant::now() + LONG;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "dockerd does not end");
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(&self.root, self.kept.as_ref());
        let until = Instant::now() + LONG;
        while !self.listens(until) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn spawn(root: &Path, kept: Option<&UnixListener>) -> Child {
    let program = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|place| Path::new(place).join("dockerd"));
    let program = program.iter().find(|path| path.exists()).unwrap_or_else(|| {
        panic!("dockerd is not installed: run tests/setup.sh tests, or `apt-get install --no-install-recommends docker.io`")
    });
    let log = root.join("dockerd.log");
    let output = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let option = |name: &str, file: &str| format!("--{name}={}", root.join(file).display());
    // What is passed as systemd does has to be the third descriptor, and name the process that it is for.
    let (shell, host) = match kept.map(rustix::io::dup) {
        None => ("exec \"$@\"".to_owned(), format!("--host=unix://{}", root.join("docker.sock").display())),
        Some(passed) => {
            // It is left open in this process, for the next one; a copy made by `dup` is inherited.
            let passed = passed.unwrap().into_raw_fd();
            (format!("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&{passed}"), "--host=fd://".to_owned())
        }
    };
    // Nothing here is reached from outside, so that no rule of a firewall is needed.
    Command::new("bash")
        .args(["-c", &shell, "bash"])
        .arg(program)
        .arg(host)
        .args([
            option("data-root", "docker"),
            option("exec-root", "docker-run"),
            option("pidfile", "dockerd.pid"),
            option("config-file", "daemon.json"),
        ])
        .args(["--iptables=false", "--ip6tables=false"])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap()
}

/// An image with nothing in it but links into the host's `/usr`, which has to be mounted, as `docker save`
/// writes it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// A command that tells whether it is healthy, asked ten times a second.
    pub health: Option<&'static str>,
    /// What asks it to end, if it is not SIGTERM, which a shell that is the first process does not hear.
    pub stop_signal: Option<&'static str>,
    /// A name that it was saved with.
    pub name: Option<&'static str>,
    /// Makes it another image.
    pub mark: &'static str,
}

impl Image {
    /// The configuration and the only layer.
    pub fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let mut layer = tar::Builder::new(Vec::new());
        let header = |kind, mode| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(0);
            header
        };
        for directory in ["usr", "tmp", "host", "host/proc"] {
            let mut header = header(tar::EntryType::Directory, 0o755);
            layer.append_data(&mut header, directory, &[][..]).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            let mut header = header(tar::EntryType::Symlink, 0o777);
            layer.append_link(&mut header, name, format!("usr/{name}")).unwrap();
        }
        let mut header = header(tar::EntryType::Regular, 0o644);
        header.set_size(self.mark.len() as u64);
        layer.append_data(&mut header, "mark", self.mark.as_bytes()).unwrap();
        let layer = layer.into_inner().unwrap();
        let mut config = serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/sbin:/usr/bin"], "Cmd": ["/bin/sh"], "Labels": { "mark": self.mark },
                "StopSignal": self.stop_signal.unwrap_or("SIGTERM"),
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Sha256::of(&layer))] },
        });
        if let Some(health) = self.health {
            // In nanoseconds; the first failures of one that starts do not count.
            config["config"]["Healthcheck"] = serde_json::json!({
                "Test": ["CMD-SHELL", health], "Interval": 100_000_000, "Timeout": 5_000_000_000u64,
                "StartPeriod": 30_000_000_000u64, "Retries": 3,
            });
        }
        (config.to_string().into_bytes(), layer)
    }

    /// The file.
    pub fn saved(&self) -> Vec<u8> {
        let (config, layer) = self.parts();
        let list = serde_json::json!([{
            "Config": "config.json", "RepoTags": self.name.map(|name| vec![name]), "Layers": ["layer.tar"],
        }]);
        let mut saved = tar::Builder::new(Vec::new());
        for (name, content) in
            [("config.json", config), ("layer.tar", layer), ("manifest.json", list.to_string().into_bytes())]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            saved.append_data(&mut header, name, &content[..]).unwrap();
        }
        saved.into_inner().unwrap()
    }
}
