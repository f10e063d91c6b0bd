//! A backup of everything that the controller must not lose, in one tar file: the store's state, the
//! authority, the online keys, and the objects.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use landfall_common::disk::RealDisk;
use landfall_common::{Generation, Timestamp};
use landfall_controller_core::log::{LogEvent, NewEntry};
use landfall_controller_core::record::Record;

use crate::clock::Clock;
use crate::config::Layout;
use crate::error::ControllerError;
use crate::private_file;
use crate::repository::ReleaseRepository;
use crate::state::ControllerState;
use crate::store::EmbeddedStore;
use crate::store::backup::Backup;

/// The store's state in the archive; it comes first.
const STATE: &str = "state";
const KEYS: &str = "keys";
const AUTHORITY: &str = "ca";
const OBJECTS: &str = "objects";

/// Assignments of a restored controller are numbered so far above those in the backup that whatever was
/// issued after it was made stays below, also for hosts that have not reported yet.
const GENERATIONS_AHEAD: u64 = 1_000_000;

/// Writes a backup of the state of one moment; commits go on meanwhile. It holds private keys.
///
/// # Errors
/// [`ControllerError::StoreIo`], [`ControllerError::File`].
pub fn write(
    layout: &Layout,
    store: &EmbeddedStore,
    without_objects: bool,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), ControllerError> {
    let mut archive = tar::Builder::new(out);
    // Modes as they are: who unpacks it by hand must not lay the keys open.
    archive.mode(tar::HeaderMode::Complete);
    let mut state = Vec::new();
    store.export(now, &mut state)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(state.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(now.ms() / 1000);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ControllerError::File { doing: "back up", path, source }
    };
    archive.append_data(&mut header, STATE, state.as_slice()).map_err(failed(&layout.store()))?;
    archive.append_dir_all(KEYS, layout.keys()).map_err(failed(&layout.keys()))?;
    archive.append_dir_all(AUTHORITY, layout.ca()).map_err(failed(&layout.ca()))?;
    // After the state: what is published in it has all its objects here.
    if !without_objects && layout.objects.is_dir() {
        archive.append_dir_all(OBJECTS, &layout.objects).map_err(failed(&layout.objects))?;
    }
    archive.into_inner().and_then(|out| out.flush()).map_err(failed(&layout.state))
}

/// Makes a state directory from a backup. The directory must be empty or missing.
///
/// # Errors
/// [`ControllerError::RestoreOverState`], [`ControllerError::Backup`] for a file that is none or damaged.
pub async fn restore(layout: &Layout, file: &Path, clock: &Clock) -> Result<Timestamp, ControllerError> {
    let refuse = |message: String| ControllerError::Backup { path: file.to_owned(), message };
    if layout.ca().exists() || layout.store().exists() {
        return Err(ControllerError::RestoreOverState { path: layout.state.clone() });
    }
    let reader = File::open(file).map_err(|error| refuse(error.to_string()))?;
    private_file::directory(&layout.state)?;
    let mut archive = tar::Archive::new(std::io::BufReader::new(reader));
    let mut backup = None;
    let entries = archive.entries().map_err(|error| refuse(error.to_string()))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| refuse(error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(|error| refuse(error.to_string()))?.into_owned();
        if name == Path::new(STATE) {
            backup = Some(Backup::read(&mut entry)?);
            continue;
        }
        if backup.is_none() {
            return Err(refuse("it is not one of `landfall-controller backup`".to_owned()));
        }
        let target =
            target(layout, &name).ok_or_else(|| refuse(format!("{} has no place", name.display())))?;
        if let Some(directory) = target.parent() {
            private_file::directory(directory)?;
        }
        unpack(&mut entry, &target)?;
    }
    let mut backup = backup.ok_or_else(|| refuse("it holds no state".to_owned()))?;
    let ahead = move_generations_ahead(&mut backup)?;
    let made_at = backup.made_at;
    backup.restore(&RealDisk::new(&layout.state), Path::new("store"))?;
    let state = ControllerState::open(layout, clock).await?;
    let event = LogEvent::StateRestored { backup_at: made_at, generations_from: ahead };
    let begun = begin(&state, event, clock.now()).await;
    state.close()?;
    begun?;
    Ok(made_at)
}

/// The first commit of a restored state.
async fn begin(state: &ControllerState, event: LogEvent, now: Timestamp) -> Result<(), ControllerError> {
    let repository = ReleaseRepository::load(&state.store, state.keys.clone()).await?;
    let mut edit = repository.edit().await;
    // Clients have seen later versions than the backup holds, and refuse whatever is below. The clock is above
    // what was signed since, at no more than one a second, also when the same backup is restored again.
    edit.resume_above(now.ms() / 1000, now)?;
    state.writer.commit(edit.batch(), vec![NewEntry::by_controller(now, event)]).await
}

/// Objects are many, and their names promise their content: they are synced with the first release that
/// needs them. Keys and certificates are few.
fn unpack(entry: &mut impl Read, target: &Path) -> Result<(), ControllerError> {
    let failed = |source| ControllerError::File { doing: "restore", path: target.to_owned(), source };
    if target.extension().is_some_and(|extension| extension == "zst") {
        let mut file = File::create(target).map_err(failed)?;
        std::io::copy(entry, &mut file).and_then(|_| file.sync_data()).map_err(failed)?;
        return Ok(());
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(failed)?;
    private_file::write(target, &content)
}

/// Where a file of the archive goes; only what a backup is made of has a place.
fn target(layout: &Layout, name: &Path) -> Option<PathBuf> {
    let parts: Vec<&str> = name
        .components()
        .map(|part| if let Component::Normal(part) = part { part.to_str() } else { None })
        .collect::<Option<_>>()?;
    match parts[..] {
        [KEYS, file] if file.ends_with(".key") => Some(layout.keys().join(file)),
        [AUTHORITY, file @ ("ca.key" | "ca.crt")] => Some(layout.ca().join(file)),
        [OBJECTS, directory, file] if directory.len() == 2 && file.ends_with(".zst") => {
            Some(layout.objects.join(directory).join(file))
        }
        _ => None,
    }
}

fn move_generations_ahead(backup: &mut Backup) -> Result<Generation, ControllerError> {
    let mut highest = Generation::default();
    for (key, stored) in &mut backup.state {
        if !key.starts_with("issued/") {
            continue;
        }
        let unreadable = |source| ControllerError::Record { key: key.clone(), source };
        let mut record: Record = serde_json::from_slice(&stored.value).map_err(unreadable)?;
        if let Record::Issued(issued) = &mut record {
            issued.highest = Generation(issued.highest.0 + GENERATIONS_AHEAD);
            highest = highest.max(issued.highest);
        }
        stored.value = serde_json::to_vec(&record).expect("plain data with text keys");
    }
    Ok(highest)
}
