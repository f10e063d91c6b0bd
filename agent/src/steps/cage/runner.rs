//! The process in the unit: verifies the request for itself, runs the step, and notes how it ended.
//!
//! A program without a runtime, as the user of steps. What it refuses it notes as never begun, with the sentence
//! that a person reads; systemd ends whatever it leaves behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use landfall_common::StepName;
use landfall_common::manifest::{MAX_MANIFEST_BYTES, Step};
use landfall_trust::offline::Seen;
use rustix::fs::OFlags;
use tokio_util::sync::CancellationToken;

use super::pin::Pin;
use super::{Approval, Kind, Places, Request, RunId, approve, open_to_group, tree};
use crate::config::Config;
use crate::layout;
use crate::steps::runner::{Ended, Order};
use crate::steps::supervisor::{carry_out, refuse};
use crate::steps::{Cause, Identity, StepContext, Words, process};

/// Of a request: the metadata of a repository, and little else.
const MAX_REQUEST_BYTES: u64 = 16 * 1024 * 1024;

/// Carries out one request. `network` is what its unit has.
///
/// # Errors
/// What kept it from noting anything; a sentence.
pub fn run(config: &Config, places: &Places, id: &RunId, network: bool) -> Result<(), String> {
    let termination =
        process::termination().map_err(|error| format!("no signal can be received: {error}"))?;
    let note = places.note(id);
    if note.exists() {
        return Err(format!("{} says that it was begun before; it is not run twice", note.display()));
    }
    let (request, approved) = match prepare(config, places, id, network) {
        Ok(prepared) => prepared,
        Err((step, reason)) => {
            let step = step.unwrap_or_else(|| StepName::new("step").expect("a literal that is a valid name"));
            refuse(&note, &step, reason.clone()).map_err(|error| cannot("write", &note, &error))?;
            return Err(reason);
        }
    };
    let Approved { step, order, prepared } = approved;
    tracing::info!(release = %request.release, %step, network, "begins");
    let judge = |ended: Ended| {
        open_to_group(&prepared);
        let ended = judge(ended);
        match &ended.cause {
            None => tracing::info!(release = %request.release, %step, "ended well"),
            Some(cause) => tracing::warn!(release = %request.release, "step {step} {cause}"),
        }
        ended
    };
    carry_out(&step, order, request.deadline_ms, &note, &termination, judge)
        .map_err(|error| cannot("write", &note, &error))
}

struct Approved {
    step: StepName,
    order: Order,
    /// What preparation makes.
    prepared: std::path::PathBuf,
}

/// The step's name, as far as the request can be read, and why it is refused.
type Refused = (Option<StepName>, String);

fn prepare(
    config: &Config,
    places: &Places,
    id: &RunId,
    network: bool,
) -> Result<(Request, Approved), Refused> {
    let path = places.request(id);
    let request = read(&path, MAX_REQUEST_BYTES)
        .and_then(|bytes| serde_json::from_slice::<Request>(&bytes).map_err(io::Error::from))
        .map_err(|error| (None, cannot("read", &path, &error)))?;
    let refused = |reason: String| (Some(request.step.clone()), reason);
    let is_migration = matches!(request.kind, Kind::Migrate | Kind::MigrateDown | Kind::Contract);
    if is_migration != id.fence().is_some() {
        return Err(refused(
            "a migration is run under the number of its lease, and nothing else is".to_owned(),
        ));
    }
    let pin = Pin::load(places).map_err(&refused)?;
    let app_dir = config.app_dir(&pin.application);
    let manifest = app_dir.join(layout::manifest(&request.release));
    let manifest = read(&manifest, MAX_MANIFEST_BYTES as u64)
        .map_err(|error| refused(cannot("read", &manifest, &error)))?;
    let seen = load_seen(places).map_err(&refused)?;
    let approved = approve(&pin, &seen, &request, &manifest, network);
    let Approval { step, manifest, seen: newly_seen } =
        approved.map_err(|refusal| refused(refusal.to_string()))?;
    if newly_seen != seen {
        save_seen(places, &newly_seen).map_err(|error| refused(cannot("write", &places.seen(), &error)))?;
    }
    tree::check(&app_dir, &request.release, &manifest).map_err(&refused)?;
    if !network && let Some(device) = foreign_device() {
        let reason =
            format!("its unit should have no network, and has {device}: systemd could not take it away");
        return Err(refused(reason));
    }
    let context = context(config, places, &pin, id, &request, &step);
    let order = Order::new(&step, &context).map_err(&refused)?;
    let prepared = app_dir.join(layout::prepared(&request.release));
    let approved = Approved { step: step.name, order, prepared };
    Ok((request, approved))
}

/// As the agent itself makes it for a step below itself, of files that are root's and of the signed manifest.
fn context(
    config: &Config,
    places: &Places,
    pin: &Pin,
    id: &RunId,
    request: &Request,
    step: &Step,
) -> StepContext {
    let app_dir = config.app_dir(&pin.application);
    let log = format!("{}.{}.log", pin.application, step.name);
    StepContext {
        identity: Identity {
            application: pin.application.clone(),
            environment: pin.environment.clone(),
            release: request.release.clone(),
        },
        words: Words::of(&app_dir, &request.release, config.variables()),
        directory: app_dir.join(layout::release(&request.release)),
        home: places.home(),
        log: Some(places.logs.join(log)),
        fence: id.fence(),
        group_note: None,
        deadline: request.deadline_ms.map(Duration::from_millis),
        cancel: CancellationToken::new(),
    }
}

/// What the agent wrote is read, and not what it leads to.
fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {max_bytes} bytes"),
        ));
    }
    Ok(bytes)
}

fn load_seen(places: &Places) -> Result<Seen, String> {
    let path = places.seen();
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            format!(
                "{} is damaged ({error}), so that old metadata cannot be told from new; as root: \
                 `landfall-agent setup-steps --replace`",
                path.display()
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seen::new()),
        Err(error) => Err(cannot("read", &path, &error)),
    }
}

fn save_seen(places: &Places, seen: &Seen) -> io::Result<()> {
    let (path, temporary) = (places.seen(), places.seen().with_extension("new"));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(seen)?)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A network device beside the loopback: systemd starts a unit with all of them where the kernel has no
/// namespaces of networks.
fn foreign_device() -> Option<String> {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let names = text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    // Tunnels that a kernel puts into each namespace lead nowhere.
    names.into_iter().find(|name| name != "lo" && is_up(name))
}

fn is_up(device: &str) -> bool {
    let flags = fs::read_to_string(format!("/sys/class/net/{device}/flags")).unwrap_or_default();
    // Where /sys shows another namespace the device is not there: what cannot be known counts.
    u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).map_or(true, |flags| flags & 1 == 1)
}

/// Says of a step that was killed by the kernel for its memory that it was.
fn judge(mut ended: Ended) -> Ended {
    if ended.cause == Some(Cause::Signalled { signal: 9 }) && memory_kills() > 0 {
        ended.cause = Some(Cause::OutOfMemory);
    }
    ended
}

/// How often the kernel has killed something of this control group for its memory.
fn memory_kills() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let events = fs::read_to_string(Path::new("/sys/fs/cgroup").join(own).join("memory.events"));
    let events = events.unwrap_or_default();
    let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
    kills.unwrap_or_default()
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}
