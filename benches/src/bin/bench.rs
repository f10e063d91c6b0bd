//! `make bench`: prints the figures of `benches/README.md`, measured on this machine.
//!
//! `bench PART DIRECTORY [KEY PORT PYTHON]`: PART is `one-host`, `fleets`, `idle`, `requests` or `all`;
//! DIRECTORY lies on the file system to measure; with the other three, Fabric is measured too, through the
//! sshd that listens on PORT. `benches/run.sh` prepares all of that.
#![expect(clippy::print_stdout, reason = "it prints tables")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use landfall_benches::fabric::Fabric;
use landfall_benches::probe::{self, Syncs};
use landfall_benches::table::{markdown, median};
use landfall_benches::{cpu, floor, tree};
use landfall_e2e::load::{Counts, Load};
use landfall_e2e::scene::Scene;
use landfall_e2e::stage::{Stage, token_in};

const USAGE: &str = "usage: bench one-host|fleets|idle|requests|all DIRECTORY [KEY PORT PYTHON]";

/// Pairs of runs behind each median.
const PAIRS: u64 = 5;

/// The sizes of fleets; `FLEETS=10,50` in the environment measures others.
const FLEETS: &str = "1,10,50";

/// Requests that must have gone out during releases.
const REQUESTS: u64 = 50_000;

const REQUESTS_PER_S: u32 = 500;

/// The check of [`DEFINITION`].
const EXEC_CHECK: &str = r#"exec = ["test", "-e", "{current}/package000/module00000.py"]"#;

const DEFINITION: &str = r#"
[application]
name = "bench"

[[check]]
name = "there"
exec = ["test", "-e", "{current}/package000/module00000.py"]
interval = "1s"
timeout = "5s"

[environment.production]
strategy = "all_at_once"
max_unavailable = "100%"
min_healthy = "1ms"
healthy_deadline = "4m"

[retention]
releases = 2
"#;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [part, directory, peer @ ..] = &arguments[..] else { bail!(USAGE) };
    let directory = PathBuf::from(directory);
    let fabric = match peer {
        [key, port, python] => Some(Fabric { key: key.clone(), port: port.clone(), python: python.clone() }),
        [] => None,
        _ => bail!(USAGE),
    };
    let bin = std::env::current_exe()?.parent().context("the directory of this program")?.to_owned();
    for version in 1..=2 {
        let tree = directory.join(format!("tree-{version}"));
        tree::write(&tree, version)?;
        fs::write(tree.join("landfall.toml"), DEFINITION)?;
    }
    let all = part == "all";
    let mut known = all;
    let mut wanted = |name: &str| {
        known |= part == name;
        all || part == name
    };
    if wanted("one-host") {
        one_host(&directory, &bin)?;
    }
    if wanted("fleets") {
        fleets(&directory, &bin, fabric.as_ref())?;
    }
    if wanted("idle") {
        idle(&directory, &bin)?;
    }
    if wanted("requests") {
        requests(&bin)?;
    }
    if known { Ok(()) } else { bail!(USAGE) }
}

/// A stage with `hosts` agents that have joined and are connected.
fn stage(directory: &Path, bin: &Path, hosts: usize) -> anyhow::Result<(tempfile::TempDir, Stage)> {
    let root = tempfile::tempdir_in(directory)?;
    let mut stage = Stage::new(root.path(), bin)?;
    let token = stage.init_controller()?;
    stage.start_controller()?;
    let address = stage.address.clone();
    let repository = directory.join("tree-1");
    stage.ctl_in(&repository, &["login", &token, "--controller", &address])?.expect_code(0)?;
    stage.ctl_in(&repository, &["init"])?.expect_code(0)?;
    for number in 1..=hosts {
        let name = format!("host-{number}");
        stage.add_host(&name, "bench")?;
        let arguments = ["hosts", "token", "--env", "production", "--name", &name];
        let token = token_in(&stage.ctl_in(&repository, &arguments)?.expect_code(0)?)?;
        stage.join(&name, &token)?;
    }
    Ok((root, stage))
}

/// CPU time by who used it.
#[derive(Clone, Copy)]
struct Cpu {
    agents: Duration,
    controller: Duration,
    /// `ctl`: all that this process has waited for.
    ctl: Duration,
}

impl Cpu {
    fn now(stage: &Stage) -> Self {
        let agents = stage.hosts.keys().filter_map(|host| stage.agent_id(host)).map(cpu::of).sum();
        let controller = stage.controller_id().map(cpu::of).unwrap_or_default();
        Self { agents, controller, ctl: cpu::of(std::process::id()) }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            agents: self.agents.saturating_sub(earlier.agents),
            controller: self.controller.saturating_sub(earlier.controller),
            ctl: self.ctl.saturating_sub(earlier.ctl),
        }
    }

    fn total(self) -> Duration {
        self.agents + self.controller + self.ctl
    }
}

/// Wall time, and CPU time of everything that took part, of one release of `tree`.
fn release(stage: &Stage, tree: &Path, name: &str) -> anyhow::Result<(Duration, Cpu)> {
    // What was written before does not count.
    floor::sync(&stage.root)?;
    let before = Cpu::now(stage);
    let began = Instant::now();
    let path = tree.display().to_string();
    stage.ctl_in(tree, &["release", name, "--artifact", &path, "--yes"])?.expect_code(0)?;
    let (wall, used) = (began.elapsed(), Cpu::now(stage).since(before));
    for host in stage.hosts.keys() {
        if stage.current(host) != name {
            bail!("{host} runs {:?} after the release of {name}", stage.current(host));
        }
    }
    Ok((wall, used))
}

fn one_host(directory: &Path, bin: &Path) -> anyhow::Result<()> {
    let (_root, stage) = stage(directory, bin, 1)?;
    let agent = stage.agent_id("host-1").context("the agent runs")?;
    let tree = directory.join("tree-changing");
    tree::write(&tree, 0)?;
    fs::write(tree.join("landfall.toml"), DEFINITION)?;
    release(&stage, &tree, "v0")?;
    let (mut walls, mut cpus, mut floors, mut fetched) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for version in 1..=PAIRS {
        tree::change(&tree, version)?;
        let before = probe::received(agent);
        let (wall, cpu) = release(&stage, &tree, &format!("v{version}"))?;
        let after = probe::received(agent);
        // A connection that was replaced in between would tell too little.
        if after.keys().eq(before.keys()) && !after.is_empty() {
            fetched.push(after.values().sum::<u64>() - before.values().sum::<u64>());
        }
        walls.push(wall);
        cpus.push(cpu.total());
        floors.push(floor::release(directory)?);
    }
    let (wall, floor_wall) = (median_ms(&walls), median_ms(&floors));
    let spread = |runs: &[Duration]| {
        let ms = |run: Option<&Duration>| run.map_or(0, Duration::as_millis);
        format!("{}–{} ms", ms(runs.iter().min()), ms(runs.iter().max()))
    };
    let rows = [
        vec![
            "ctl release, to committed".into(),
            format!("{wall} ms"),
            spread(&walls),
            ratio(wall, floor_wall),
            format!("{} ms", median_ms(&cpus)),
        ],
        vec![
            "floor: links, 20 files written, syncfs, swap".into(),
            format!("{floor_wall} ms"),
            spread(&floors),
            "1".into(),
            "–".into(),
        ],
    ];
    println!("\n### 20 changed files of 6,000, one host, median of {PAIRS} pairs\n");
    println!("{}", markdown(&["way", "wall", "from–to", "ratio", "CPU of all"], &rows));
    match median(&fetched) {
        Some(bytes) => println!("Bytes that the agent received during a release: {bytes}.\n"),
        None => println!("Bytes received: not measured (needs ss, as root).\n"),
    }
    let log = stage.agent_log("host-1");
    let rows: Vec<_> = [("fetching", "Staged"), ("activating", "Committed")]
        .iter()
        .filter_map(|(from, to)| {
            let times = probe::steps(&log, &format!("to=\"{from}\""), &format!("result={to}"));
            let from_to = spread(&times);
            let cells = [format!("{from} to {to}"), format!("{} ms", median_ms(&times)), from_to];
            (!times.is_empty()).then(|| cells.to_vec())
        })
        .collect();
    println!("{}", markdown(&["on the host, by the agent's log", "wall", "from–to"], &rows));
    tree::change(&tree, PAIRS + 1)?;
    let Some(syncs) = Syncs::attach(agent) else {
        println!("Syncs: not measured (needs strace, as root).\n");
        return Ok(());
    };
    release(&stage, &tree, "counted")?;
    let counts = syncs.counts()?;
    let total: u64 = counts.values().sum();
    println!("Syncs of the agent during a release, by strace: {total} {counts:?}; the floor has 2.\n");
    Ok(())
}

fn fleets(directory: &Path, bin: &Path, fabric: Option<&Fabric>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let sizes = std::env::var("FLEETS").unwrap_or_else(|_| FLEETS.to_owned());
    for hosts in sizes.split(',') {
        let hosts: usize = hosts.parse().with_context(|| format!("FLEETS={sizes}"))?;
        let (root, stage) = stage(directory, bin, hosts)?;
        for (version, what) in [(1, "first release"), (2, "20 files changed")] {
            let tree = directory.join(format!("tree-{version}"));
            let (wall, cpu) = release(&stage, &tree, &format!("v{version}"))?;
            let by = [per_host(cpu.agents, hosts), per_host(cpu.controller, hosts), seconds(cpu.ctl)];
            rows.push(row("Landfall", what, hosts, wall, cpu.total(), by));
            println!("{}", rows[rows.len() - 1].join(" | "));
        }
        drop((stage, root));
        if let Some(fabric) = fabric {
            let (wall, cpu) = fabric.release(directory, hosts)?;
            rows.push(row("Fabric", "any release", hosts, wall, cpu, Default::default()));
            println!("{}", rows[rows.len() - 1].join(" | "));
        }
    }
    println!("\n### From the command to all hosts, one machine\n");
    let head =
        ["tool", "release", "hosts", "wall", "CPU per host", "of it agent", "controller", "ctl, in all"];
    println!("{}", markdown(&head, &rows));
    Ok(())
}

fn row(tool: &str, what: &str, hosts: usize, wall: Duration, cpu: Duration, by: [String; 3]) -> Vec<String> {
    let [agents, controller, ctl] = by;
    let (hosts_text, wall, cpu) = (hosts.to_string(), seconds(wall), per_host(cpu, hosts));
    vec![tool.into(), what.into(), hosts_text, wall, cpu, agents, controller, ctl]
}

fn per_host(total: Duration, hosts: usize) -> String {
    format!("{:.3} s", total.as_secs_f64() / f64::from(u32::try_from(hosts).unwrap_or(1)))
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn idle(directory: &Path, bin: &Path) -> anyhow::Result<()> {
    let (_root, mut stage) = stage(directory, bin, 1)?;
    let tree = directory.join("tree-1");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connect = format!("tcp = \"{}\"", listener.local_addr()?);
    // Whom the check connects to; it ends with this program.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut rows = Vec::new();
    for (name, probe) in [("v1", connect.as_str()), ("v2", EXEC_CHECK)] {
        fs::write(tree.join("landfall.toml"), DEFINITION.replace(EXEC_CHECK, probe))?;
        release(&stage, &tree, name)?;
        let check = probe.split(' ').next().unwrap_or_default();
        rows.push(idle_minute(&stage, &format!("after release {name} of 6,000 files"), check)?);
        stage.kill_agent("host-1")?;
        stage.start_agent("host-1")?;
        rows.push(idle_minute(&stage, "started again, connected", check)?);
    }
    println!("\n### The idle agent, over 60 s\n");
    let head = ["agent", "check, each second", "resident", "of one core", "with the programs that it starts"];
    println!("{}", markdown(&head, &rows));
    Ok(())
}

fn idle_minute(stage: &Stage, what: &str, check: &str) -> anyhow::Result<Vec<String>> {
    std::thread::sleep(Duration::from_secs(10));
    let agent = stage.agent_id("host-1").context("the agent runs")?;
    let (began, own, all) = (Instant::now(), cpu::of_threads(agent), cpu::of(agent));
    std::thread::sleep(Duration::from_secs(60));
    let share =
        |used: Duration| format!("{:.3} %", used.as_secs_f64() * 100.0 / began.elapsed().as_secs_f64());
    Ok(vec![
        what.into(),
        check.into(),
        format!("{:.1} MiB", mib(cpu::resident_bytes(agent))),
        share(cpu::of_threads(agent).saturating_sub(own)),
        share(cpu::of(agent).saturating_sub(all)),
    ])
}

/// Releases, one after the other, of a small service on three hosts, until enough requests have been sent.
fn requests(bin: &Path) -> anyhow::Result<()> {
    let hosts = ["web-1", "web-2", "web-3"];
    let scene = Scene::new(bin, &hosts)?;
    scene.release("v0")?.expect_code(0)?;
    let targets = hosts.map(|name| format!("127.0.0.1:{}", scene.stage.hosts[name].port)).to_vec();
    let load = Load::start(targets, "/", REQUESTS_PER_S)?;
    let (mut total, mut releases) = (Counts::default(), 0);
    while total.sent < REQUESTS {
        releases += 1;
        scene.release(&format!("v{releases}"))?.expect_code(0)?;
        total.add(&load.take());
    }
    drop(load);
    let rows = [vec![
        releases.to_string(),
        total.sent.to_string(),
        total.failed.to_string(),
        total.repeated.to_string(),
        format!("{} ms", total.latency(0.5).as_millis()),
        format!("{} ms", total.latency(0.99).as_millis()),
        total.by_release.len().to_string(),
    ]];
    println!("\n### Requests during releases, three hosts, {REQUESTS_PER_S} requests a second\n");
    let head = ["releases", "requests", "failed", "repeated", "p50", "p99", "releases that answered"];
    println!("{}", markdown(&head, &rows));
    if total.failed > 0 {
        bail!("{} of {} requests failed: {:?}", total.failed, total.sent, total.failures);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn median_ms(runs: &[Duration]) -> u128 {
    median(&runs.iter().map(Duration::as_millis).collect::<Vec<_>>()).unwrap_or(0)
}

fn ratio(ours: u128, floor: u128) -> String {
    let hundredths = ours * 100 / floor.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
