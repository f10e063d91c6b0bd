//! `landfall-controller`: the program.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use landfall_common::{Duration, OperatorName, Rights};
use landfall_controller::admin::{self, Answer, Request};
use landfall_controller::asker::Asker;
use landfall_controller::cli::{Arguments, Command};
use landfall_controller::clock::Clock;
use landfall_controller::config::{Config, Layout, LogFormat};
use landfall_controller::keys::OnlineKeys;
use landfall_controller::state::ControllerState;
use landfall_controller::store::StoreIoError;
use landfall_controller::{ControllerError, backup, initialise, ownership, serve};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

/// A controller answers within this after it has taken the state.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait before it is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where the program writes its messages, and also when those go to a journal as JSON.
            let _ = writeln!(std::io::stderr(), "landfall-controller: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, none said twice.
fn chain(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let next = cause.to_string();
        if !text.contains(&next) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&next);
        }
        text
    })
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let config = Config::read(&arguments.config)?;
    start_tracing(&config, arguments.command.is_some());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let done = runtime.block_on(async {
        match arguments.command {
            None => serve_until_stopped(&config).await,
            Some(Command::Init { name }) => init(&config, name).await,
            Some(Command::OperatorToken { name, role, valid_for }) => {
                operator_token(&config, name, Rights::new(role)?, valid_for).await
            }
            Some(Command::OperatorRemove { name }) => operator_remove(&config, name).await,
            Some(Command::NewOnlineKeys) => new_online_keys(&config),
            Some(Command::Backup { file, without_objects }) => {
                write_backup(&config, &file, without_objects).await
            }
            Some(Command::Restore { file }) => {
                let restored = backup::restore(&config.layout(), &file, &Clock::system()).await?;
                note(&restored.to_string())
            }
        }
    });
    done.map_err(|error| match ownership::hint(&config.state_dir).filter(|_| is_denied(&error)) {
        Some(hint) => anyhow::anyhow!("{}: {hint}", chain(&error)),
        None => error,
    })
}

/// Whether the system did not let it.
fn is_denied(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Commands speak for themselves: only what goes wrong is written beside.
fn start_tracing(config: &Config, command: bool) {
    let default = if command { "warn" } else { "info" };
    let filter = config.log.filter.as_deref().unwrap_or(default);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

async fn serve_until_stopped(config: &Config) -> anyhow::Result<()> {
    let listener = serve::bind(config.listen)?;
    let address = listener.local_addr().context("cannot learn the address")?;
    let (layout, asker) = (config.layout(), Asker::open(&config.gates)?);
    let running = serve::start(layout, config.retention, asker, listener, address, Clock::steady()).await?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "controller serves");
    tell_systemd(&[NotifyState::Ready]);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let stopping = running.stopping();
    // Half of what systemd waits for, as sd_watchdog_enabled(3) recommends.
    let mut watchdog = sd_notify::watchdog_enabled().map(|interval| tokio::time::interval(interval / 2));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = stopping.cancelled() => break,
            () = async {
                match &mut watchdog {
                    Some(interval) => { interval.tick().await; }
                    None => std::future::pending().await,
                }
            } => {
                if running.alive().await {
                    tell_systemd(&[NotifyState::Watchdog]);
                }
            }
        }
    }
    tell_systemd(&[NotifyState::Stopping]);
    tracing::info!("controller stops");
    Ok(running.stop().await?)
}

/// Without systemd there is nobody to tell.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

async fn init(config: &Config, name: OperatorName) -> anyhow::Result<()> {
    let token = initialise::initialise(&config.layout(), name.clone(), &Clock::system()).await?;
    note(&format!(
        "{} is initialised. Start the controller; then {name} logs in within one hour, with the token below:\n  \
         ctl login TOKEN --controller {}",
        config.state_dir.display(),
        dialled(config.listen, rustix::system::uname().nodename().to_str().unwrap_or_default())
    ))?;
    print(&token)
}

/// What to dial for this listen address: where it listens on every address, the host by its name.
fn dialled(listen: std::net::SocketAddr, host: &str) -> String {
    let port = listen.port();
    match listen.ip() {
        ip if !ip.is_unspecified() => listen.to_string(),
        _ if host.is_empty() || host == "(none)" => {
            format!("HOST:{port} (HOST is this machine's name or address)")
        }
        _ => format!("{host}:{port} (or another name or address of this machine)"),
    }
}

/// What somebody has who may work on the state: the running controller's answer, or the state itself.
enum Reached<R> {
    Running(Answer, R),
    Stopped(Box<ControllerState>),
}

/// Asks the running controller, or opens the state of a stopped one. A controller that has just been started has
/// the state before it answers.
async fn reach(layout: &Layout, request: &Request) -> anyhow::Result<Reached<impl std::io::Read + use<>>> {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some((answer, stream)) = admin::ask(&layout.admin_socket(), request)? {
            return Ok(Reached::Running(answer, stream));
        }
        match ControllerState::open(layout, &Clock::system()).await {
            Ok(state) => return Ok(Reached::Stopped(Box::new(state))),
            Err(ControllerError::StoreIo(StoreIoError::Locked { .. })) if begun.elapsed() < STARTS_WITHIN => {
                tokio::time::sleep(ASK_PAUSE).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn another_version() -> anyhow::Error {
    anyhow::anyhow!("the running controller answered something else; is it another version?")
}

async fn operator_token(
    config: &Config,
    name: OperatorName,
    rights: Rights,
    valid_for: Duration,
) -> anyhow::Result<()> {
    let valid_for_ms = u64::try_from(valid_for.as_millis()).unwrap_or(u64::MAX);
    let request = Request::OperatorToken { name: name.clone(), rights: rights.clone(), valid_for_ms };
    let text = match reach(&config.layout(), &request).await? {
        Reached::Running(Answer::Token { text }, _) => text,
        Reached::Running(..) => return Err(another_version()),
        Reached::Stopped(state) => {
            let text = initialise::operator_token(&state, name, rights, valid_for, &Clock::system()).await;
            state.close()?;
            text?
        }
    };
    print(&text)
}

async fn operator_remove(config: &Config, name: OperatorName) -> anyhow::Result<()> {
    match reach(&config.layout(), &Request::RemoveOperator { name: name.clone() }).await? {
        Reached::Running(Answer::Done, _) => {}
        Reached::Running(..) => return Err(another_version()),
        Reached::Stopped(state) => {
            let removed = initialise::remove_operator(&state, name.clone(), &Clock::system()).await;
            state.close()?;
            removed?;
        }
    }
    note(&format!("{name} is shut out. A new token lets {name} in again."))
}

fn new_online_keys(config: &Config) -> anyhow::Result<()> {
    let layout = config.layout();
    ownership::check(&layout.state)?;
    let keys = OnlineKeys::renew(&layout.keys())?;
    note(&format!(
        "The new key of snapshot is {}, of timestamp {}. Start the controller again; then, where the root key is, \
         `ctl trust rotate online`, which shows the same two. Until then the old ones sign.",
        keys.snapshot.keyid(),
        keys.timestamp.keyid()
    ))
}

async fn write_backup(config: &Config, file: &Path, without_objects: bool) -> anyhow::Result<()> {
    if file == Path::new("-") {
        make_backup(config, without_objects, &mut std::io::stdout().lock()).await?;
    } else {
        let mut draft = backup::Draft::begin(file)?;
        make_backup(config, without_objects, draft.file()).await?;
        draft.finish()?;
    }
    note(&format!("Backup written to {}. It holds private keys: keep it like them.", file.display()))
}

async fn make_backup(config: &Config, without_objects: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let layout = config.layout();
    match reach(&layout, &Request::Backup { without_objects }).await? {
        Reached::Running(Answer::Backup, mut stream) => copy_whole(&mut stream, out)?,
        Reached::Running(..) => return Err(another_version()),
        Reached::Stopped(state) => {
            let now = Clock::system().now();
            let mut out = std::io::BufWriter::new(&mut *out);
            let written = backup::write(&layout, state.store.core(), without_objects, now, &mut out);
            state.close()?;
            written?;
        }
    }
    out.flush().context("cannot write the backup")
}

/// Copies all but the last byte, which says whether the backup is whole.
fn copy_whole(stream: &mut impl std::io::Read, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    let mut last: Option<u8> = None;
    loop {
        let length = stream.read(&mut piece).context("the running controller hung up")?;
        let Some((next, before)) = piece[..length].split_last() else { break };
        let held = last.replace(*next);
        out.write_all(held.as_slice())
            .and_then(|()| out.write_all(before))
            .context("cannot write the backup")?;
    }
    match last {
        Some(1) => Ok(()),
        _ => {
            anyhow::bail!("the backup is not whole: the running controller failed in the middle; see its log")
        }
    }
}

/// What a program reads.
fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}

/// What a person reads beside it.
fn note(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stderr(), "{text}").context("cannot write to standard error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_to_log_in_with_can_be_dialled() {
        for (listen, host, shown) in [
            ("10.0.0.1:7443", "ctrl", "10.0.0.1:7443"),
            ("127.0.0.1:7443", "ctrl", "127.0.0.1:7443"),
            ("0.0.0.0:7443", "ctrl", "ctrl:7443 (or another name or address of this machine)"),
            ("[::]:7443", "ctrl", "ctrl:7443 (or another name or address of this machine)"),
            ("[::]:7443", "", "HOST:7443 (HOST is this machine's name or address)"),
        ] {
            assert_eq!(dialled(listen.parse().unwrap(), host), shown);
        }
    }
}
