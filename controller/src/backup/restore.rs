//! A state directory made from a backup. What happened after the backup nobody knows here, and so nothing is
//! decided from it before an operator has spoken.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use landfall_common::disk::RealDisk;
use landfall_common::{Generation, Timestamp};
use landfall_controller_core::log::{LogEvent, NewEntry};
use landfall_controller_core::record::{RECORDS, Record};
use landfall_controller_core::refusal::moment;
use landfall_controller_core::restored::{PausedRollout, RestoredPlace, restored};

use super::{AUTHORITY, KEYS, OBJECTS, STATE, parts, place};
use crate::authorise::EVERY_OPERATOR;
use crate::clock::Clock;
use crate::config::Layout;
use crate::enrolment::{TokenRecord, is_token};
use crate::error::ControllerError;
use crate::ownership;
use crate::private_file;
use crate::repository::ReleaseRepository;
use crate::rpc::convert;
use crate::rpc::operators::hosts::DENIED;
use crate::state::ControllerState;
use crate::store::Versioned;
use crate::store::backup::Backup;

/// Where the state is made before it is put in its place, in the state directory: its parent may not be the
/// controller's to write.
const UNFINISHED: &str = "restoring";

/// A tar file ends with two blocks of zeros.
const END_BYTES: usize = 1024;

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// When the backup was made.
    pub made_at: Timestamp,
    /// The places that wait for an operator to say what should run.
    pub places: Vec<RestoredPlace>,
    /// Files of the archive that are no part of a controller's state, and were left out.
    pub left_out: Vec<PathBuf>,
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
        if !self.left_out.is_empty() {
            let names: Vec<_> = self.left_out.iter().map(|name| name.display().to_string()).collect();
            writeln!(f, "- Left out, since it is no part of a controller's state: {}.", names.join(", "))?;
        }
        write!(f, "Start the controller.")
    }
}

/// Makes a state directory from a backup. The directory must hold no state. If it fails there is none in it
/// afterwards.
///
/// # Errors
/// [`ControllerError::NotOwner`], [`ControllerError::RestoreOverState`], [`ControllerError::Backup`] for a file that is none or damaged.
pub async fn restore(layout: &Layout, file: &Path, clock: &Clock) -> Result<Restored, ControllerError> {
    ownership::check(&layout.state)?;
    for taken in [layout.ca(), layout.store(), layout.keys()] {
        if private_file::exists(&taken)? {
            return Err(ControllerError::RestoreOverState { path: layout.state.clone() });
        }
    }
    let archive = open(file)?;
    private_file::directory(&layout.state)?;
    let unfinished = layout.state.join(UNFINISHED);
    remove(&unfinished)?;
    let made = make(&staged(layout, &unfinished), file, archive, clock).await;
    match made.and_then(|restored| put_in_place(&unfinished, &layout.state).map(|()| restored)) {
        Ok(restored) => Ok(restored),
        Err(error) => {
            // What went wrong first is what is told.
            let _ = remove(&unfinished);
            Err(error)
        }
    }
}

/// The same layout in another directory. Objects that are kept elsewhere go there at once: their names promise
/// their content.
fn staged(layout: &Layout, unfinished: &Path) -> Layout {
    let objects = match layout.objects.strip_prefix(&layout.state) {
        Ok(below) => unfinished.join(below),
        Err(_) => layout.objects.clone(),
    };
    Layout { state: unfinished.to_owned(), objects }
}

fn remove(directory: &Path) -> Result<(), ControllerError> {
    match std::fs::remove_dir_all(directory) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(ControllerError::File { doing: "remove", path: directory.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Moves everything up by one directory, or nothing. The authority comes last: without it no controller starts.
fn put_in_place(from: &Path, to: &Path) -> Result<(), ControllerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ControllerError::File { doing: "put in place", path, source }
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(from).map_err(failed(from))? {
        names.push(entry.map_err(failed(from))?.file_name());
    }
    names.sort_by_key(|name| name == AUTHORITY);
    // An empty directory gives way.
    let taken = |name| std::fs::read_dir(to.join(name)).is_ok_and(|mut entries| entries.next().is_some());
    if names.iter().any(taken) {
        return Err(ControllerError::RestoreOverState { path: to.to_owned() });
    }
    let sync = || File::open(to).and_then(|directory| directory.sync_all()).map_err(failed(to));
    for (moved, name) in names.iter().enumerate() {
        let target = to.join(name);
        let synced = if name == AUTHORITY { sync() } else { Ok(()) };
        let renamed =
            synced.and_then(|()| std::fs::rename(from.join(name), &target).map_err(failed(&target)));
        if let Err(error) = renamed {
            for name in &names[..moved] {
                let _ = remove(&to.join(name));
            }
            return Err(error);
        }
    }
    sync()?;
    remove(from)
}

/// Opens the file, if it looks like a whole backup.
fn open(file: &Path) -> Result<tar::Archive<std::io::BufReader<File>>, ControllerError> {
    let refuse = |message: String| ControllerError::Backup { path: file.to_owned(), message };
    let unreadable = |error: std::io::Error| refuse(error.to_string());
    let mut reader = File::open(file).map_err(unreadable)?;
    // Its first entry tells it from any other file.
    let mut first = [0; STATE.len() + 1];
    match reader.read_exact(&mut first) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(unreadable(error)),
        Ok(()) if first.strip_suffix(b"\0") == Some(STATE.as_bytes()) => {}
        _ => return Err(refuse("it was not written by `landfall-controller backup`".to_owned())),
    }
    let mut end = [1; END_BYTES];
    let length = reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
    reader.seek(SeekFrom::Start(length.saturating_sub(END_BYTES as u64))).map_err(unreadable)?;
    if reader.read_exact(&mut end).is_err() || end.iter().any(|byte| *byte != 0) {
        return Err(refuse("it is cut off: its end is missing".to_owned()));
    }
    reader.rewind().map_err(unreadable)?;
    Ok(tar::Archive::new(std::io::BufReader::new(reader)))
}

/// Makes the whole state.
async fn make(
    layout: &Layout,
    file: &Path,
    mut archive: tar::Archive<std::io::BufReader<File>>,
    clock: &Clock,
) -> Result<Restored, ControllerError> {
    let refuse = |message: String| ControllerError::Backup { path: file.to_owned(), message };
    let damaged = |error: std::io::Error| refuse(format!("it is damaged: {error}"));
    private_file::directory(&layout.state)?;
    let mut backup = None;
    let mut left_out = Vec::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(damaged)?.into_owned();
        if backup.is_none() {
            if name != Path::new(STATE) {
                return Err(refuse("it was not written by `landfall-controller backup`".to_owned()));
            }
            backup = Some(Backup::read(&mut entry)?);
            continue;
        }
        let Some(target) = place(layout, &name) else {
            match parts(&name).as_deref() {
                Some([KEYS | AUTHORITY | OBJECTS, ..]) => left_out.push(name),
                _ => return Err(refuse(format!("{} has no place in it", name.display()))),
            }
            continue;
        };
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
    Ok(Restored { made_at, places, left_out })
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
        if is_token(key) {
            let token: TokenRecord = convert::stored(key, &stored.value)?;
            let expires_at = token.expires_at.min(now);
            stored.value = convert::to_store(&TokenRecord { expires_at, ..token });
        }
    }
    Ok(())
}
