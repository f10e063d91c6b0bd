//! What a unit or a program of the host's own learns of its slot: a link to the release that runs there, and a
//! file with the address.
//!
//! `current` names what is active, and a release starts in its slot before it is. So each slot has a link of its
//! own beside `current`, which changes only while nothing runs there: whatever starts in a slot, whoever
//! starts it again, runs the release that was put into it. The file is for a shell
//! of the service's own user, and not for `EnvironmentFile=`, which systemd reads as root and through links; it holds
//! names and an address, nothing that a shell would read otherwise than it stands.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use landfall_agent_core::drift::beside;
use landfall_common::manifest::Seat;

use crate::layout;
use crate::steps::StepContext;

/// A few lines are written into a slot's file; of one that holds more it is enough to know that it is another.
const MAX_ENVIRONMENT_BYTES: u64 = 64 * 1024;

/// The directory that a unit or a program of this slot works in: a link.
pub(super) fn directory(seat: &Seat, context: &StepContext) -> PathBuf {
    app(context).join(layout::slot(&seat.slot))
}

/// Lets what starts in the slot from now on be the release of the context. Doing it again changes nothing.
///
/// # Errors
/// A sentence naming what cannot be written.
pub(super) fn take(seat: &Seat, context: &StepContext) -> Result<(), String> {
    let wanted = wanted(seat, context)?;
    let file = app(context).join(layout::slot_environment(&seat.slot));
    let wrong = |path: &Path, error: io::Error| format!("cannot write {}: {error}", path.display());
    write(&file, &wanted.environment).map_err(|error| wrong(&file, error))?;
    let link = directory(seat, context);
    point(&link, &wanted.target).map_err(|error| wrong(&link, error))
}

/// What [`take`] makes of a slot.
///
/// # Errors
/// A sentence, if the address cannot be made out.
pub(crate) fn wanted(seat: &Seat, context: &StepContext) -> Result<beside::seat::Seat, String> {
    let address = context.words.expand(&seat.address).map_err(|error| error.to_string())?;
    crate::traffic::check(&address).map_err(|failure| failure.reason)?;
    let release = context.identity.release.clone();
    let target = Path::new("..").join(layout::release(&release));
    Ok(beside::seat::Seat { target, environment: environment(seat, &address, context), release })
}

/// What of the slots of an application is there, by their names; what was being made when it was cut is left out.
pub(crate) fn look(app: &Path) -> BTreeMap<String, beside::seat::Seen> {
    let mut seen: BTreeMap<String, beside::seat::Seen> = BTreeMap::new();
    // A directory that is not there has nothing in it.
    for entry in std::fs::read_dir(app.join(layout::SLOTS)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".new") {
            continue;
        }
        match name.strip_suffix(".env") {
            Some(slot) => {
                let text = std::fs::File::open(entry.path()).and_then(|file| {
                    let mut text = String::new();
                    file.take(MAX_ENVIRONMENT_BYTES).read_to_string(&mut text).map(|_| text)
                });
                seen.entry(slot.to_owned()).or_default().environment = text.ok();
            }
            None => {
                let target = std::fs::read_link(entry.path());
                let link = target.map_or(beside::seat::Link::Other, beside::seat::Link::To);
                seen.entry(name).or_default().link = link;
            }
        }
    }
    seen
}

/// Forgets what ran in the slot: what somebody starts there by hand has no release to run.
pub(super) fn leave(seat: &Seat, context: &StepContext) {
    let _ = std::fs::remove_file(directory(seat, context));
    let _ = std::fs::remove_file(app(context).join(layout::slot_environment(&seat.slot)));
}

fn app(context: &StepContext) -> PathBuf {
    let releases = context.directory.parent();
    releases.and_then(Path::parent).unwrap_or(&context.directory).to_owned()
}

fn environment(seat: &Seat, address: &str, context: &StepContext) -> String {
    let identity = &context.identity;
    let mut text = format!(
        "LANDFALL_APPLICATION={}\nLANDFALL_ENVIRONMENT={}\nLANDFALL_RELEASE={}\nLANDFALL_SLOT={}\n\
         LANDFALL_ADDRESS={address}\n",
        identity.application, identity.environment, identity.release, seat.slot
    );
    let port = address.rsplit_once(':').filter(|_| !address.starts_with("unix:"));
    if let Some((_, port)) = port {
        text.push_str(&format!("LANDFALL_PORT={port}\n"));
    }
    text
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|known| known == text) {
        return Ok(());
    }
    let temporary = path.with_extension("env.new");
    place(path, || {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        // Whoever the service runs as reads it, whatever the agent's umask is.
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })
}

fn point(link: &Path, target: &Path) -> io::Result<()> {
    if std::fs::read_link(link).is_ok_and(|known| known == target) {
        return Ok(());
    }
    let temporary = link.with_extension("new");
    place(link, || {
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(target, &temporary)?,
        }
        std::fs::rename(&temporary, link)
    })
}

/// Puts something into a directory that may have to be made, and makes its name there durable.
fn place(path: &Path, put: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    put()?;
    std::fs::File::open(directory)?.sync_all()
}
