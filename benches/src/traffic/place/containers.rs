//! Containers of a dockerd of this measurement's own, and nginx before them: in namespaces that end with it, since what
//! containers leave behind on a machine is hard to find.

#[expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    reason = "it belongs to the tests, which need more of it"
)]
#[path = "../../../../agent/tests/support/docker.rs"]
mod docker;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use landfall_e2e::process::wait_until;
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::Said;

use super::{APPLICATION, ASIDE, PEERS, Place, packages, put_aside};
use crate::traffic::ways::Way;

/// Says to this program that it is in its namespaces, and in which directory all of it lies.
const INSIDE: &str = "LANDFALL_BENCH_INSIDE";

/// What all containers together get of a busy processor; 1024 unless somebody has said otherwise.
const SHARES: &str = "/sys/fs/cgroup/cpu/docker/cpu.shares";

/// Why there can be no containers here, if there can be none.
#[must_use]
pub fn missing() -> Option<String> {
    let lacks = |program: &&str| {
        let found =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err()
    };
    let missing: Vec<_> = ["dockerd", "docker"].into_iter().filter(lacks).collect();
    (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
}

/// Runs this program again for one way, in namespaces of its own, unless it is there already.
///
/// # Errors
/// If it cannot be run, or fails there.
pub fn enter(way: &str) -> anyhow::Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(false);
    }
    // It is removed from out here, when what dockerd has mounted in it is gone with the namespaces.
    let directory = tempfile::Builder::new().prefix("landfall-traffic-").tempdir()?;
    // What has real-time priority cannot enter Docker's control groups (EINVAL).
    let mut command = Command::new("chrt");
    command.args(["--other", "0", "nice", "--adjustment", "-20", "unshare"]);
    command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]);
    let status = command.arg(std::env::current_exe()?).arg(way).env(INSIDE, directory.path()).status()?;
    if status.success() { Ok(true) } else { bail!("{way}: {status}") }
}

/// Containers that serve.
pub struct Containers {
    scene: Scene,
    /// Ends with this process.
    _dockerd: docker::Dockerd,
    directory: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
    releases: usize,
    by_hand: usize,
}

impl Containers {
    /// Starts all of it, and brings a first release to both applications.
    ///
    /// # Errors
    /// What did not work.
    pub fn new(way: &Way, releases: usize) -> anyhow::Result<Self> {
        let directory = PathBuf::from(std::env::var_os(INSIDE).context("it is not in its namespaces")?);
        let root = directory.as_path();
        let dockerd = docker::Dockerd::start(root);
        let packages = packages()?;
        let image = docker::Image::default().saved();
        let hand = root.join("hand");
        for directory in ["hand/incoming", "hand/releases", "peers", "nginx", "tmp"] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        for (name, text) in APPLICATION {
            std::fs::write(hand.join("incoming").join(name), text)?;
        }
        for (name, text) in PEERS {
            std::fs::write(root.join("peers").join(name), text)?;
        }
        std::fs::write(hand.join("web.tar"), &image)?;
        std::fs::write(hand.join("slot"), "green\n")?;
        std::fs::write(hand.join("upstream"), "upstream hand { server 127.0.0.1:9001; }\n")?;
        std::fs::write(root.join("nginx/site.conf"), "upstream site { server 127.0.0.1:8001; }\n")?;
        let config = root.join("nginx.conf");
        std::fs::write(&config, nginx(root))?;
        let proxy = ["nginx", "-e", "stderr", "-c", &config.display().to_string()].map(str::to_owned);
        Said::from(Command::new(&proxy[0]).args(&proxy[1..]).output()?).expect_code(0)?;

        let mut scene = Scene::new(&landfall_hosts::packages::programs(), &[])?;
        let toml = scene.prepare("web-1")?.join("agent.toml");
        let settings = format!(
            "{}[docker]\nsocket = {:?}\nmounts = [\"/usr\", {packages:?}]\n\
             [traffic.nginx]\ndirectory = {:?}\nanswer = \"127.0.0.1:7480\"\ntest = {:?}\nreload = {:?}\n",
            std::fs::read_to_string(&toml)?,
            dockerd.socket,
            root.join("nginx"),
            [&proxy[..], &["-t".to_owned(), "-q".to_owned()]].concat(),
            [&proxy[..], &["-s".to_owned(), "reload".to_owned()]].concat(),
        );
        std::fs::write(&toml, settings)?;
        scene.join("web-1")?;
        if let Some(controller) = scene.stage.controller_id() {
            put_aside(&controller.to_string())?;
        }
        let definition = way.definition().replace("\"tenants\"", "\"site\"");
        let definition = definition.replace("PACKAGES", &packages.display().to_string());
        for number in 0..=releases {
            let artifact = scene.artifact(&format!("v{number}"), |_| definition.clone())?;
            std::fs::create_dir_all(artifact.join("images"))?;
            std::fs::write(artifact.join("images/web.tar"), &image)?;
            for (name, text) in APPLICATION {
                std::fs::write(artifact.join(name), text)?;
            }
        }
        let environment = vec![
            ("HAND", hand),
            ("PACKAGES", packages),
            ("NGINX", config),
            ("DOCKER_HOST", PathBuf::from(format!("unix://{}", dockerd.socket.display()))),
        ];
        let mut place = Self { scene, _dockerd: dockerd, directory, environment, releases: 0, by_hand: 0 };
        place.release()?;
        // All containers together count as one ordinary process otherwise. A host may mount its groups elsewhere.
        let _ = std::fs::write(SHARES, "262144");
        place.by_hand("by_hand.sh", &way.start)?;
        for port in way.ports {
            let url = format!("http://{}/", place.address(port));
            let ask = || Command::new("curl").args(["-sf", "-o", "/dev/null", &url]).status();
            wait_until(&url, Duration::from_secs(60), || ask().is_ok_and(|status| status.success()))?;
        }
        Ok(place)
    }
}

impl Place for Containers {
    fn release(&mut self) -> anyhow::Result<String> {
        let name = format!("v{}", self.releases);
        self.releases += 1;
        let ctl = self.scene.release_command(&name, &self.scene.path("artifacts").join(&name), &[]);
        let mut command = Command::new("chrt");
        command.args(["--other", "0", "nice", "--adjustment", ASIDE]);
        command.arg(ctl.get_program()).args(ctl.get_args()).stdin(Stdio::null());
        command.envs(ctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = ctl.get_current_dir() {
            command.current_dir(directory);
        }
        let said = Said::from(command.output()?).expect_code(0);
        said.map_err(|error| anyhow::anyhow!("{error}\n{}", self.scene.last_words()))?;
        Ok(name)
    }

    fn by_hand(&mut self, script: &str, restart: &str) -> anyhow::Result<String> {
        self.by_hand += 1;
        let name = format!("h{}", self.by_hand);
        let line = format!("cd {0}; sh -e peers/{script} {name} {restart}", self.directory.display());
        let mut command = Command::new("sh");
        command.args(["-e", "-c", &line]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        Said::from(command.stdin(Stdio::null()).output()?).expect_code(0)?;
        Ok(name)
    }

    fn address(&self, port: u16) -> String {
        format!("127.0.0.1:{port}")
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        // Otherwise Docker holds on to what is mounted from the directory.
        let mut stop = Command::new("sh");
        stop.args(["-c", "docker ps --quiet | xargs --no-run-if-empty docker rm --force"]);
        stop.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::write(SHARES, "1024");
    }
}

fn nginx(root: &Path) -> String {
    let at = root.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {at}/tmp/{name};\n"))
        .collect();
    format!(
        "worker_processes 2;\nworker_shutdown_timeout 10s;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
         events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{temporary}\
         include {at}/nginx/*.conf;\ninclude {at}/hand/upstream;\n\
         server {{ listen 8080; location / {{ proxy_pass http://site; }} }}\n\
         server {{ listen 9080; location / {{ proxy_pass http://hand; }} }}\n}}\n"
    )
}
