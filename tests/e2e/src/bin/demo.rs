//! `make demo`: a real application released to four hosts on this machine, under a constant load.
//!
//! v1.3 is installed, v1.4 released, v1.5 fails and goes back by itself, and v1.4 is rolled back by hand.
//! The demo fails if an outcome is not the expected one or a single request was lost. `demo end DIR` ends one
//! that was left running with `KEEP=1`.
#![expect(clippy::print_stdout, reason = "it tells a person what happens")]

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use landfall_e2e::load::{Counts, Load};
use landfall_e2e::process;
use landfall_e2e::stage::{self, Stage, token_in};

/// Of the directory that a demo takes place in.
const PREFIX: &str = "landfall-demo-";

const HOSTS: [&str; 4] = ["web-1", "web-2", "web-3", "web-4"];

/// What two cores serve beside four gunicorns and a release, with room to spare.
const REQUESTS_PER_S: u32 = 40;

/// Set once an interrupt has begun to end everything, so that the demo itself stays quiet about it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match &*arguments {
        [] => run(),
        [word, root] if word == "end" => end(Path::new(root)),
        _ => Err(anyhow::anyhow!("usage: demo, or demo end DIR")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if INTERRUPTED.load(Ordering::SeqCst) => ExitCode::from(130),
        Err(error) => {
            println!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let bin = std::env::current_exe()?.parent().context("the demo's own directory")?.to_owned();
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
    let keep = std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0");
    end_all_on_interrupt(directory.path());

    let mut stage = Stage::new(directory.path(), &bin)?;
    let result = tell(&mut stage, &repository);
    if keep {
        let root = directory.keep();
        stage.keep();
        print_what_to_try(&stage, &root);
    } else if result.is_err() && !INTERRUPTED.load(Ordering::SeqCst) {
        println!("\n--- the controller's last words\n{}", stage.controller_log());
        for host in HOSTS.iter().filter(|host| stage.hosts.contains_key(**host)) {
            println!("\n--- the last words of {host}\n{}", stage.agent_log(host));
        }
    }
    if !keep && !INTERRUPTED.load(Ordering::SeqCst) {
        // Four hosts have some hundred thousand files, which a slow disk takes its time for.
        println!("\nEnding what runs, and removing its files…");
    }
    result
}

/// Ends what a demo has left running, and nothing else: not the shell of somebody who looks at it.
fn end(root: &Path) -> anyhow::Result<()> {
    let root = std::path::absolute(root)?;
    let is_demo = root.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if !is_demo || !root.join("controller/controller.toml").is_file() {
        bail!("{} is not the directory of a demo", root.display());
    }
    let count = stage::started_in(&root).len();
    stage::end_all(|| stage::started_in(&root));
    let left = stage::started_in(&root);
    if !left.is_empty() {
        bail!("still running: {left:?}");
    }
    std::fs::remove_dir_all(&root).with_context(|| format!("{} cannot be removed", root.display()))?;
    println!("{count} processes were ended, and {} is gone.", root.display());
    Ok(())
}

fn tell(stage: &mut Stage, repository: &Path) -> anyhow::Result<()> {
    chapter("The application's repository");
    let application = stage.root.join("tenants");
    let made = Command::new("sh")
        .arg(repository.join("examples/tenants/make-history.sh"))
        .arg(&application)
        .output()?;
    if !made.status.success() {
        bail!("make-history.sh failed:\n{}", String::from_utf8_lossy(&made.stderr));
    }
    command(
        &application,
        "git",
        &["--no-pager", "log", "--oneline", "--decorate=short", "--all", "-n", "8"],
    )?;

    chapter("A controller, an operator, and four hosts that join");
    let token = stage.init_controller()?;
    stage.start_controller()?;
    let address = stage.address.clone();
    ctl(stage, &application, &["login", &token, "--controller", &address], 0)?;
    ctl(stage, &application, &["init"], 0)?;
    let database = stage.root.join("database.sqlite3");
    for name in HOSTS {
        let host = stage.add_host(name, "tenants")?;
        let settings = format!(
            "DATABASE_URL=sqlite:///{}\nDJANGO_SECRET_KEY=only-for-the-demo\nTENANTS_SAMPLE_DATA=1\n",
            database.display()
        );
        std::fs::write(host.srv.join("shared/.env"), settings)?;
        let arguments = ["hosts", "token", "--env", "production", "--name", name];
        let said = stage.ctl_in(&application, &arguments)?.expect_code(0)?;
        stage.join(name, &token_in(&said)?)?;
        println!("  {name} has joined");
    }

    chapter("The first release: v1.3");
    ctl(stage, &application, &["release", "v1.3", "--yes"], 0)?;

    let targets = HOSTS.map(|name| format!("127.0.0.1:{}", stage.hosts[name].port)).to_vec();
    let load = Load::start(targets, "/", REQUESTS_PER_S)?;
    println!(
        "\nFrom here on {REQUESTS_PER_S} requests a second go to the four hosts, half on kept connections."
    );
    std::thread::sleep(Duration::from_secs(5));
    let mut phases = vec![("before", load.take())];

    chapter("v1.4, with a migration and a changed page, under load");
    ctl(stage, &application, &["release", "v1.4", "--yes"], 0)?;
    phases.push(("release v1.4", load.take()));

    chapter("v1.5, whose health check fails: it goes back by itself");
    ctl(stage, &application, &["release", "v1.5", "--yes"], 3)?;
    phases.push(("failing v1.5", load.take()));

    chapter("Back to v1.3 by hand");
    ctl(stage, &application, &["rollback", "--yes"], 0)?;
    phases.push(("rollback", load.take()));
    std::thread::sleep(Duration::from_secs(2));
    phases.push(("after", load.stop()));

    chapter("What stands, and what happened");
    ctl(stage, &application, &["status"], 0)?;
    ctl(stage, &application, &["hosts"], 0)?;
    ctl(stage, &application, &["log"], 0)?;

    chapter("The requests");
    let total = print_requests(&phases);
    for (phase, release) in [("before", "v1.3"), ("after", "v1.3")] {
        let counts = &phases.iter().find(|(name, _)| *name == phase).context("a phase")?.1;
        if counts.by_release.keys().any(|seen| seen != release) {
            bail!("{phase}: answers came from {:?} instead of {release} alone", counts.by_release);
        }
    }
    if !phases[1].1.by_release.contains_key("v1.4") {
        bail!("no answer came from v1.4: {:?}", phases[1].1.by_release);
    }
    if total.failed > 0 {
        bail!("{} of {} requests failed: {:?}", total.failed, total.sent, total.failures);
    }
    println!("\nNo request was lost.");
    Ok(())
}

fn print_requests(phases: &[(&str, Counts)]) -> Counts {
    println!(
        "{:<16}{:>8}{:>8}{:>10}{:>10}{:>10}  answered by",
        "phase", "sent", "failed", "repeated", "p50 ms", "p99 ms"
    );
    let mut total = Counts::default();
    for (phase, counts) in phases {
        print_phase(phase, counts);
        total.add(counts);
    }
    print_phase("total", &total);
    total
}

fn print_phase(phase: &str, counts: &Counts) {
    let ms = |share| counts.latency(share).as_millis();
    let releases: Vec<_> = counts.by_release.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!(
        "{phase:<16}{:>8}{:>8}{:>10}{:>10}{:>10}  {}",
        counts.sent,
        counts.failed,
        counts.repeated,
        ms(0.5),
        ms(0.99),
        releases.join(", ")
    );
}

fn chapter(title: &str) {
    println!("\n== {title}\n");
    let _ = io::stdout().flush();
}

/// Shows a command and what it prints, and insists on its exit code.
fn ctl(stage: &Stage, directory: &Path, arguments: &[&str], code: i32) -> anyhow::Result<()> {
    let shown: Vec<_> =
        arguments.iter().map(|word| if word.starts_with("lft1_") { "lft1_…" } else { word }).collect();
    println!("$ ctl {}", shown.join(" "));
    let mut command = stage.ctl();
    if io::stdout().is_terminal() {
        command.env_remove("NO_COLOR");
    }
    let status = command.current_dir(directory).args(arguments).stdin(Stdio::null()).status()?;
    println!();
    match status.code() {
        Some(was) if was == code => Ok(()),
        _ => bail!("`ctl {}` ended with {status} instead of exit code {code}", shown.join(" ")),
    }
}

fn command(directory: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    println!("$ {program} {}", arguments.join(" "));
    let status =
        Command::new(program).current_dir(directory).args(arguments).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { bail!("{program} ended with {status}") }
}

/// A watcher in a thread of its own: on SIGINT or SIGTERM it ends all that names the demo's directory.
fn end_all_on_interrupt(root: &Path) {
    let root = root.to_owned();
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let told = runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            io::Result::Ok(())
        });
        if told.is_err() {
            return;
        }
        INTERRUPTED.store(true, Ordering::SeqCst);
        println!("\nInterrupted: ending everything that the demo has started.");
        for _ in 0..50 {
            let left = process::that_name(&root);
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(|id| process::signal(id, "KILL"));
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = std::fs::remove_dir_all(&root);
        #[expect(
            clippy::exit,
            reason = "the story is told by a thread that cannot be interrupted otherwise"
        )]
        std::process::exit(130);
    });
}

fn print_what_to_try(stage: &Stage, root: &Path) {
    let bin =
        std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned)).unwrap_or_default();
    println!("\nEverything is left running in {}. In another terminal:\n", root.display());
    println!(
        "  export PATH={}:$PATH LANDFALL_CONFIG_DIR={}/operator/config/landfall",
        bin.display(),
        root.display()
    );
    println!("  cd {}", root.join("tenants").display());
    for line in
        ["ctl status", "ctl hosts", "ctl plan v1.4", "ctl release v1.6    # its migration fails", "ctl log"]
    {
        println!("  {line}");
    }
    for host in stage.hosts.values() {
        println!("  curl http://127.0.0.1:{}/healthz    # {}", host.port, host.name);
    }
    let demo = bin.join("demo");
    println!(
        "\nTo end all of it, and to remove that directory:\n  {} end {}",
        demo.display(),
        root.display()
    );
}
