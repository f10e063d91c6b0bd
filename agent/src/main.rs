//! `landfall-agent`: the command line. What it does lives in the library.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use landfall_agent::cli::{Arguments, Command};
use landfall_agent::config::{self, Config};
use landfall_agent::enrolment::{self, HostToken};
use landfall_agent::ledger::Ledger;
use landfall_agent::steps::cage;
use landfall_agent::tls::Dialler;
use landfall_agent::{agent, engine, holder, life, memory, program, status, steps};
use landfall_common::disk::{Disk, RealDisk};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("LANDFALL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    match dispatch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of a program")]
            {
                eprintln!("landfall-agent: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        // Small programs without a runtime, and without the agent's configuration.
        Command::Holder { specification } => return Ok(holder::run(&specification)?),
        Command::StepRunner => return Ok(steps::supervisor::supervise(std::io::stdin().lock())?),
        Command::Config => return print(&config::template()),
        Command::Alive { unit, beside, program } => {
            let life = runtime()?
                .block_on(life::check(&unit, &program, beside.as_deref()))
                .map_err(anyhow::Error::msg)?;
            return print(&format!("{life}\n"));
        }
        // Before the configuration is read: it may be for the program of the release, and not for this one.
        Command::Run => become_released(arguments.config.as_deref()),
        Command::Join { .. }
        | Command::Status { .. }
        | Command::Recover
        | Command::SetupSteps { .. }
        | Command::Step { .. } => {}
    }
    let config = Config::load(arguments.config.as_deref())?;
    match arguments.command {
        Command::Join { token, controller, name, again } => {
            runtime()?.block_on(join(&config, &token, controller, name, again))
        }
        Command::Run => {
            memory::use_one_arena();
            abort_on_panic();
            runtime()?.block_on(run(config))
        }
        Command::Status { json } => show(&config, json),
        Command::Recover => recover(&config),
        Command::SetupSteps { replace } => {
            print(&format!("{}\n", cage::pin::set_up(&config, &cage::Places::default(), replace)?))
        }
        Command::Step { network, id } => {
            cage::run(&config, &cage::Places::default(), &id, network).map_err(anyhow::Error::msg)
        }
        Command::Holder { .. } | Command::StepRunner | Command::Config | Command::Alive { .. } => Ok(()),
    }
}

/// Becomes the agent of its own release, if there is one that can be run.
fn become_released(config: Option<&std::path::Path>) {
    let Some(released) = Config::released(config) else {
        return tracing::info!("`program` is not set: the agent is the one that was started");
    };
    match released.become_it() {
        Ok(()) => tracing::info!(program = %program::own_path().display(), "the agent"),
        Err(reason) => {
            tracing::error!(
                reason,
                "the agent of its own release is not run; this is the one that was started"
            );
        }
    }
}

/// An agent of which one thread is gone looks alive and does nothing. systemd starts it again, and the ledger is
/// made for that.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, backtrace = %std::backtrace::Backtrace::capture(), "a defect of the agent: it aborts");
        std::process::abort();
    }));
}

/// One thread for the network; the engine has its own. Blocking work (names, steps) borrows threads for a
/// short time, so that an idle agent stays small.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .thread_stack_size(512 * 1024)
        .build()
        .context("the runtime cannot be started")
}

async fn join(
    config: &Config,
    token: &str,
    controller: Option<String>,
    name: Option<String>,
    again: bool,
) -> anyhow::Result<()> {
    let mut text = token.to_owned();
    if token == "-" {
        text.clear();
        std::io::stdin().read_line(&mut text).context("the token cannot be read")?;
    }
    let token = HostToken::parse(&text)?;
    if let Some(asked) = &name {
        token.must_allow(asked)?;
    }
    let Some(controller) = controller.or_else(|| config.controller.clone()) else {
        bail!("say where the controller is: --controller HOST:PORT");
    };
    config::check_address(&controller).map_err(anyhow::Error::msg)?;
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("cannot make {}", config.state_dir.display()))?;
    let state: Arc<dyn Disk> = Arc::new(RealDisk::new(&config.state_dir));
    let name = name.unwrap_or_else(agent::host_name);
    let dialler = Dialler::tcp(controller.clone());
    let enrolled = enrolment::join(&state, &token, &controller, &dialler, &name, again).await?;
    let identity = enrolled.identity;
    print(&format!(
        "enrolled as {} for {} in {}; start it with `landfall-agent run`\n",
        identity.host, identity.application, identity.environment
    ))
}

async fn run(config: Config) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = agent::run(config, stop.clone());
    tokio::pin!(running);
    loop {
        tokio::select! {
            result = &mut running => return Ok(result?),
            _ = terminate.recv() => stop.cancel(),
            _ = interrupt.recv() => stop.cancel(),
        }
    }
}

fn show(config: &Config, json: bool) -> anyhow::Result<()> {
    let (_, disks) = agent::enrolled(config)?;
    let record = Ledger::peek(&*disks.state)?
        .with_context(|| format!("there is no ledger in {}", config.state_dir.display()))?;
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&record)?));
    }
    let current = landfall_agent::apply::current(&*disks.app)?;
    print(&status::text(&record, current.as_ref()))
}

fn recover(config: &Config) -> anyhow::Result<()> {
    let (enrolled, disks) = agent::enrolled(config)?;
    let active = engine::recover(&disks, enrolled.identity, &config.variables())?;
    let active = active.map_or_else(|| "no release".to_owned(), |name| name.to_string());
    print(&format!("the ledger was made anew; active and taken as proven: {active}\n"))
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes()).context("standard output cannot be written")
}
