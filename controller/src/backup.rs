//! A backup of everything that the controller must not lose, in one tar file: the store's state, the
//! authority, the online keys, and the objects.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use landfall_common::disk::RealDisk;
use landfall_common::{Generation, Timestamp};
use landfall_controller_core::log::{LogEvent, NewEntry};
use landfall_controller_core::record::Record;
use landfall_controller_core::refusal::moment;
use landfall_controller_core::restored::{PausedRollout, RestoredPlace, restored};

use crate::authorise::EVERY_OPERATOR;
use crate::clock::Clock;
use crate::config::Layout;
use crate::enrolment::TokenRecord;
use crate::error::ControllerError;
use crate::private_file;
use crate::reactor::RECORDS;
use crate::repository::ReleaseRepository;
use crate::rpc::convert;
use crate::rpc::operators::hosts::DENIED;
use crate::state::ControllerState;
use crate::store::backup::Backup;
use crate::store::{EmbeddedStore, Versioned};

/// The store's state in the archive; it comes first.
const STATE: &str = "state";
const KEYS: &str = "keys";
const AUTHORITY: &str = "ca";
const OBJECTS: &str = "objects";

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// When the backup was made.
    pub made_at: Timestamp,
    /// The places that wait for an operator to say what should run.
    pub places: Vec<RestoredPlace>,
}

/// What an operator has to know, and to type next.
impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The state of {} was restored; what happened after that is not known here.\n\
             - Operators: no certificate and no token from before lets anybody in any more. `landfall-controller \
             operator-token --name NAME --role admin` makes a token, `ctl login TOKEN` takes it.\n\
             - Hosts that were removed after the backup are enrolled again: `ctl hosts remove HOST`. Those that \
             were enrolled after it are unknown: `ctl hosts token`, then `landfall-agent join TOKEN --again`.\n\
             - Releases that were published after it: `ctl trust republish`, on a machine that has seen them.",
            moment(self.made_at)
        )?;
        for RestoredPlace { place, in_force, paused } in &self.places {
            let environment = &place.environment;
            write!(f, "- {place}: hosts are left as they are")?;
            match in_force {
                Some(release) => write!(f, ", whatever they run ({release} was in force then)")?,
                None => write!(f, ", whatever they run")?,
            }
            let Some(PausedRollout { id, release, migration_unknown, .. }) = paused else {
                writeln!(f, "; `ctl release NAME --env {environment}` says what runs.")?;
                continue;
            };
            write!(f, "; rollout {id} of {release} is paused: ")?;
            if *migration_unknown {
                write!(
                    f,
                    "its migration may have run, so look at the database and type `ctl migration resolve {id} \
                     --applied` or `--not-applied`, then "
                )?;
            }
            writeln!(f, "`ctl resume {id}` goes on with it, `ctl abort {id}` ends it.")?;
        }
        write!(f, "Start the controller.")
    }
}

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
pub async fn restore(layout: &Layout, file: &Path, clock: &Clock) -> Result<Restored, ControllerError> {
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
    let made_at = backup.made_at;
    let (places, generations_from) = hold_everything(&mut backup)?;
    shut_out(&mut backup, clock.now())?;
    backup.restore(&RealDisk::new(&layout.state), Path::new("store"))?;
    let state = ControllerState::open(layout, clock).await?;
    let mut events = vec![LogEvent::StateRestored { backup_at: made_at, generations_from }];
    let paused = places.iter().filter_map(|place| place.paused.as_ref());
    events.extend(
        paused.map(|it| LogEvent::RolloutPaused { rollout: it.id.clone(), reason: it.reason.clone() }),
    );
    let begun = begin(&state, events, clock.now()).await;
    state.close()?;
    begun?;
    Ok(Restored { made_at, places })
}

/// The first commit of a restored state.
async fn begin(
    state: &ControllerState,
    events: Vec<LogEvent>,
    now: Timestamp,
) -> Result<(), ControllerError> {
    let repository = ReleaseRepository::load(&state.store, state.keys.clone()).await?;
    let mut edit = repository.edit().await;
    // Clients have seen later versions than the backup holds, and refuse whatever is below. The clock is above
    // what was signed since, at no more than one a second, also when the same backup is restored again.
    edit.resume_above(now.ms() / 1000, now)?;
    let entries = events.into_iter().map(|event| NewEntry::by_controller(now, event)).collect();
    state.writer.commit(edit.batch(), entries).await
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

/// Puts the planner's records into a form from which nothing is decided before an operator has spoken.
fn hold_everything(backup: &mut Backup) -> Result<(Vec<RestoredPlace>, Generation), ControllerError> {
    let mut records = Vec::new();
    for (key, stored) in &backup.state {
        if RECORDS.iter().any(|prefix| key.starts_with(prefix)) {
            records.push(convert::stored::<Record>(key, &stored.value)?);
        }
    }
    let (places, highest) = restored(&mut records, backup.made_at);
    for record in records {
        if let Some(stored) = backup.state.get_mut(&record.key().to_string()) {
            stored.value = convert::to_store(&record);
        }
    }
    Ok((places, highest))
}

/// Who was shut out after the backup, and which tokens were used, nobody knows here: operators come in again
/// by tokens that are made from now on.
fn shut_out(backup: &mut Backup, now: Timestamp) -> Result<(), ControllerError> {
    let denied = Versioned { value: convert::to_store(&now), version: backup.revision };
    backup.state.insert(format!("{DENIED}{EVERY_OPERATOR}"), denied);
    for (key, stored) in &mut backup.state {
        if key.starts_with("token/") {
            let token: TokenRecord = convert::stored(key, &stored.value)?;
            let expires_at = token.expires_at.min(now);
            stored.value = convert::to_store(&TokenRecord { expires_at, ..token });
        }
    }
    Ok(())
}
