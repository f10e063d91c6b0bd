//! Signing a change, handing it on to the next signer, publishing it when there are enough.

use std::path::{Path, PathBuf};

use landfall_trust::metadata::Root;
use landfall_trust::store::root_history;
use landfall_trust::{KeyPair, Signed};

use super::{list, own_keys, told};
use crate::client::{Client, Resume};
use crate::command::Session;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::files::{self, Access};
use crate::output::Output;
use crate::trust::draft::{Draft, Lack};
use crate::trust::{self, Trust, Trusted};
use crate::{clock, output::format};

/// Signs a change with what is here, and publishes it, or writes it down for the next signer. Returns whether it
/// is published.
pub(super) async fn finish(
    session: &Session,
    (profile, client): (&Profile, &Client),
    trusted: &Trusted,
    mut draft: Draft,
    pairs: &[KeyPair],
    place: &Place<'_>,
) -> Result<bool, Error> {
    let output = session.output;
    for line in draft.review(trusted, clock::now())? {
        output.line(line);
    }
    if !place.yes {
        output.confirm("sign this?")?;
    }
    draft.sign(trusted, pairs)?;
    let lacks = draft.lacks(trusted)?;
    if lacks.is_empty() {
        send(profile, client, &draft).await?;
        output.line("published; hosts follow it at their next assignment");
        told(&output, true, None);
        return Ok(true);
    }
    let file = hand_on(output, &draft, &lacks, place.file)?;
    told(&output, false, Some(&file));
    Ok(false)
}

/// Where a change goes that others must sign.
pub(super) struct Place<'p> {
    /// The file, if somebody chose one.
    pub file: Option<&'p Path>,
    /// Whether not to ask.
    pub yes: bool,
}

/// Writes a draft down, and says what it lacks and what comes next.
///
/// # Errors
/// [`Error::Usage`] where a file is already: it may hold signatures.
pub fn hand_on(output: Output, draft: &Draft, lacks: &[Lack], file: Option<&Path>) -> Result<PathBuf, Error> {
    let file = file.map_or_else(|| PathBuf::from("landfall-draft.json"), Path::to_owned);
    if files::read(&file)?.is_some() {
        return Err(Error::usage(
            format!("{} is there already, and may hold signatures", file.display()),
            "look at it with ctl trust sign, or choose another name with --draft FILE",
        ));
    }
    files::write(&file, &draft.to_bytes(), Access::Public)?;
    output.line(format!("not in force yet: {} holds it for its other signers", file.display()));
    tell(output, lacks, &file);
    Ok(file)
}

fn tell(output: Output, lacks: &[Lack], file: &Path) {
    for Lack { role, count, keys } in lacks {
        let signatures = format::count(*count as u64, "signature");
        output.line(format!("{role} lacks {signatures} of {}", list(keys)));
    }
    let file = file.display();
    output.note(format!(
        "next, where such a key is: ctl trust sign {file}\nand then anywhere: ctl trust publish {file}"
    ));
}

/// `ctl trust sign`
pub(super) async fn sign(session: &Session, file: &Path, yes: bool) -> Result<Exit, Error> {
    let output = session.output;
    let mut draft = read(file)?;
    let profile = session.profile()?;
    let trusted = match Client::connect(&profile).await {
        Ok(client) => Trusted::seen(output, profile.trust_directory(), &client).await?,
        Err(Error::Unreachable { .. } | Error::NotLoggedIn(_)) => {
            output
                .note("the controller is out of reach: this is shown against what this machine trusted last");
            Trusted::local(&profile.trust_directory())?
        }
        Err(error) => return Err(error),
    };
    for line in draft.review(&trusted, clock::now())? {
        output.line(line);
    }
    if !yes {
        output.confirm("sign this?")?;
    }
    let signed = draft.sign(&trusted, &own_keys(&profile)?)?;
    if signed.is_empty() {
        return Err(Error::missing(
            "no key on this machine may sign it",
            "ctl trust show names the keys that may; ctl context show the files that were looked at",
        ));
    }
    files::write(file, &draft.to_bytes(), Access::Public)?;
    output.line(format!("signed {}", signed.join(", ")));
    let lacks = draft.lacks(&trusted)?;
    if lacks.is_empty() {
        output.note(format!("it has all its signatures; next: ctl trust publish {}", file.display()));
    } else {
        tell(output, &lacks, file);
    }
    output.json("lacks", &lacks);
    Ok(Exit::Succeeded)
}

/// `ctl trust publish`
pub(super) async fn publish(session: &Session, file: &Path) -> Result<Exit, Error> {
    let output = session.output;
    let draft = read(file)?;
    let (profile, client) = session.connect().await?;
    let trusted = Trusted::seen(output, profile.trust_directory(), &client).await?;
    draft.review(&trusted, clock::now())?;
    let lacks = draft.lacks(&trusted)?;
    if let Some(Lack { role, count, keys }) = lacks.first() {
        return Err(Error::missing(
            format!("{role} lacks {} of {}", format::count(*count as u64, "signature"), list(keys)),
            format!("ctl trust sign {}, where such a key is", file.display()),
        ));
    }
    send(&profile, &client, &draft).await?;
    output.line("published");
    if let Some(release) = &draft.release {
        let manifest = release.read()?;
        output.note(format!("next: ctl release {} --app {}", manifest.release, manifest.application));
    }
    told(&output, true, None);
    Ok(Exit::Succeeded)
}

fn read(file: &Path) -> Result<Draft, Error> {
    let bytes = files::read(file)?;
    let bytes = bytes.ok_or_else(|| {
        Error::usage(
            format!("there is no file {}", file.display()),
            "it comes from ctl trust change, or ctl release",
        )
    })?;
    Draft::parse(&bytes).map_err(|error| {
        let what = format!("{} is not a draft: {error}", file.display());
        Error::usage(what, "copy it whole from the one who made it")
    })
}

/// The roots between the controller's and this one: a restored controller may be further behind than by one.
async fn lost_roots(directory: &Path, client: &Client, root: &[u8]) -> Result<Option<Resume>, Error> {
    let next =
        Signed::<Root>::read("root", root.to_vec()).map_err(Error::trust("the root cannot be sent"))?;
    let store = trust::load(directory)?;
    let there = client.info().await?.root_version;
    let between = there + 1..next.version();
    let roots: Vec<Vec<u8>> =
        between.filter_map(|version| store.get(&root_history(version)).map(<[u8]>::to_vec)).collect();
    Ok((!roots.is_empty()).then_some(Resume { roots, snapshot_version: 0, timestamp_version: 0 }))
}

/// Publishes a draft that has its signatures, and trusts what is in force then.
pub(super) async fn send(profile: &Profile, client: &Client, draft: &Draft) -> Result<(), Error> {
    let directory = profile.trust_directory();
    match &draft.release {
        Some(release) => {
            let role = draft.roles().into_values().next().unwrap_or_default();
            client
                .publish_release(release.manifest.clone().into_bytes(), role, release.notes.clone())
                .await?;
        }
        None => {
            let root = match draft.bytes("root") {
                Some(root) => root,
                None => trust::root_file(&directory)?,
            };
            let targets = draft.bytes("targets").unwrap_or_default();
            let resume = lost_roots(&directory, client, &root).await?;
            client.publish_root(root, targets, draft.roles(), resume).await?;
        }
    }
    Trust::refresh(directory, client).await?.all(client).await.map(drop)
}
