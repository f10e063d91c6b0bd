//! `make bench`: prints the figures of `benches/README.md`, measured on this machine.
//!
//! `bench DIRECTORY [KEY PORT PYTHON]`: DIRECTORY lies on the file system to measure; with the other three,
//! Fabric is measured too, through the sshd that listens on PORT. `benches/run.sh` prepares all of that.
#![expect(clippy::print_stdout, reason = "it prints tables")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use landfall_benches::table::{markdown, median};
use landfall_benches::{cpu, tree};
use landfall_e2e::stage::{Said, Stage, token_in};

/// Pairs of runs behind each median.
const PAIRS: usize = 5;

const FLEETS: [usize; 3] = [1, 10, 50];

const DEFINITION: &str = r#"
[application]
name = "bench"

[[check]]
name = "there"
exec = ["test", "-e", "{current}/package000/module00000.py"]
interval = "1s"
timeout = "5s"

[environment.production]
canary = 0
strategy = "all_at_once"
max_unavailable = "100%"
min_healthy = "0s"
healthy_deadline = "2m"

[retention]
releases = 2
"#;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let directory = PathBuf::from(arguments.first().context("usage: bench DIRECTORY [KEY PORT PYTHON]")?);
    let fabric = match arguments.get(1..) {
        Some([key, port, python]) => {
            Some(Fabric { key: key.clone(), port: port.clone(), python: python.clone() })
        }
        _ => None,
    };
    let bin = std::env::current_exe()?.parent().context("the directory of this program")?.to_owned();
    for version in 1..=2 {
        tree::write(&directory.join(format!("tree-{version}")), version)?;
        fs::write(directory.join(format!("tree-{version}/landfall.toml")), DEFINITION)?;
    }
    one_host(&directory, &bin)?;
    fleets(&directory, &bin, fabric.as_ref())?;
    idle(&directory, &bin)?;
    Ok(())
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

/// Wall time, and CPU time of everything that took part, of one release.
fn release(stage: &Stage, directory: &Path, version: usize) -> anyhow::Result<(Duration, Duration)> {
    let artifact = directory.join(format!("tree-{version}"));
    let before = all_cpu(stage);
    let began = Instant::now();
    let (name, path) = (format!("v{version}"), artifact.display().to_string());
    stage.ctl_in(&artifact, &["release", &name, "--artifact", &path, "--yes"])?.expect_code(0)?;
    Ok((began.elapsed(), all_cpu(stage).saturating_sub(before)))
}

/// Of the controller and the agents, and of the `ctl` that this process has waited for.
fn all_cpu(stage: &Stage) -> Duration {
    cpu::of_all_that_name(&stage.root) + cpu::of(std::process::id())
}

fn one_host(directory: &Path, bin: &Path) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (_root, stage) = stage(directory, bin, 1)?;
        release(&stage, directory, 1)?;
        ours.push(release(&stage, directory, 2)?);
        floors.push(floor(directory)?);
    }
    let (ours_wall, floor_wall) = (median_ms(ours.iter().map(|run| run.0)), median_ms(floors.into_iter()));
    rows.push(vec![
        "ctl release, to committed".into(),
        format!("{ours_wall} ms"),
        ratio(ours_wall, floor_wall),
    ]);
    rows.push(vec![
        "floor: hard links, 20 files written and synced, swap".into(),
        format!("{floor_wall} ms"),
        "1".into(),
    ]);
    println!("\n### 20 changed files of 6,000, one host, median of {PAIRS} pairs\n");
    println!("{}", markdown(&["way", "wall", "ratio"], &rows));
    Ok(())
}

/// What no program can do without: the unchanged files linked, the changed ones written and synced, the swap.
fn floor(directory: &Path) -> anyhow::Result<Duration> {
    let root = tempfile::tempdir_in(directory)?;
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    tree::write(&old, 1)?;
    let source = directory.join("tree-2");
    let began = Instant::now();
    for folder in fs::read_dir(&old)? {
        let folder = folder?.file_name();
        fs::create_dir_all(new.join(&folder))?;
        for file in fs::read_dir(old.join(&folder))? {
            let path = Path::new(&folder).join(file?.file_name());
            let index: usize = path
                .to_string_lossy()
                .trim_end_matches(".py")
                .rsplit("module")
                .next()
                .unwrap_or("")
                .parse()?;
            if index.is_multiple_of(tree::FILES / tree::CHANGED) {
                let mut content = fs::File::open(source.join(&path))?;
                let mut file = fs::File::create(new.join(&path))?;
                std::io::copy(&mut content, &mut file)?;
                file.sync_data()?;
            } else {
                fs::hard_link(old.join(&path), new.join(&path))?;
            }
        }
        fs::File::open(new.join(&folder))?.sync_all()?;
    }
    std::os::unix::fs::symlink("new", root.path().join("next"))?;
    fs::rename(root.path().join("next"), root.path().join("current"))?;
    fs::File::open(root.path())?.sync_all()?;
    Ok(began.elapsed())
}

struct Fabric {
    key: String,
    port: String,
    python: String,
}

fn fleets(directory: &Path, bin: &Path, fabric: Option<&Fabric>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for hosts in FLEETS {
        let (root, stage) = stage(directory, bin, hosts)?;
        for (version, what) in [(1, "first release"), (2, "20 files changed")] {
            let (wall, cpu) = release(&stage, directory, version)?;
            rows.push(row("Landfall", what, hosts, wall, cpu));
        }
        drop((stage, root));
        if let Some(fabric) = fabric {
            let (wall, cpu) = fabric.release(directory, hosts)?;
            rows.push(row("Fabric", "any release", hosts, wall, cpu));
        }
    }
    println!("\n### From the command to all hosts, one machine\n");
    println!("{}", markdown(&["tool", "release", "hosts", "wall", "wall per host", "CPU per host"], &rows));
    Ok(())
}

fn row(tool: &str, what: &str, hosts: usize, wall: Duration, cpu: Duration) -> Vec<String> {
    let per_host = |total: Duration| {
        format!("{:.3} s", total.as_secs_f64() / f64::from(u32::try_from(hosts).unwrap_or(1)))
    };
    vec![
        tool.into(),
        what.into(),
        hosts.to_string(),
        format!("{:.2} s", wall.as_secs_f64()),
        per_host(wall),
        per_host(cpu),
    ]
}

impl Fabric {
    fn release(&self, directory: &Path, hosts: usize) -> anyhow::Result<(Duration, Duration)> {
        let root = tempfile::tempdir_in(directory)?;
        let archive = directory.join("tree-1.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&archive).arg("-C").arg(directory.join("tree-1")).arg(".");
        let before = self.cpu()?;
        let began = Instant::now();
        Said::from(tar.output()?).expect_code(0)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/fabric_release.py");
        let mut command = Command::new(&self.python);
        command.arg(script).arg(&archive).arg("v1").arg(&self.port).arg(&self.key).arg(root.path());
        Said::from(command.arg(hosts.to_string()).output()?).expect_code(0)?;
        let wall = began.elapsed();
        if !root.path().join("1/current/package000").is_dir() {
            bail!("Fabric has released nothing");
        }
        Ok((wall, self.cpu()?.saturating_sub(before)))
    }

    /// Of the tool, which this process has waited for, and of sshd with its children.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = fs::read_to_string(Path::new(&self.key).with_file_name("sshd.pid"))?;
        Ok(cpu::of(pid.trim().parse()?) + cpu::of(std::process::id()))
    }
}

fn idle(directory: &Path, bin: &Path) -> anyhow::Result<()> {
    let (_root, stage) = stage(directory, bin, 1)?;
    release(&stage, directory, 1)?;
    std::thread::sleep(Duration::from_secs(10));
    let agent = stage.agent_id("host-1").context("the agent runs")?;
    let (began, before) = (Instant::now(), cpu::of(agent));
    std::thread::sleep(Duration::from_secs(60));
    let used = cpu::of(agent).saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64();
    let rows =
        [vec![format!("{:.1} MiB", mib(cpu::resident_bytes(agent))), format!("{:.2} %", used * 100.0)]];
    println!("\n### The idle agent, over 60 s\n");
    println!("{}", markdown(&["resident", "of one core"], &rows));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn median_ms(runs: impl Iterator<Item = Duration>) -> u128 {
    median(&runs.map(|run| run.as_millis()).collect::<Vec<_>>()).unwrap_or(0)
}

fn ratio(ours: u128, floor: u128) -> String {
    let hundredths = ours * 100 / floor.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
