//! Objects first, then the signature: a release is listed only when everything that it names is there.

use std::path::PathBuf;

use landfall_common::ReleaseCounter;
use landfall_trust::KeyPair;
use landfall_trust::policy::{ReleaseCustom, app_role};

use super::content::New;
use super::preflight;
use crate::client::Client;
use crate::command::Session;
use crate::command::trust::hand_on;
use crate::config::Profile;
use crate::error::Error;
use crate::output::format;
use crate::output::progress::Bar;
use crate::trust::draft::{Body, Draft, DraftRelease};
use crate::trust::{Trusted, lifetime};
use crate::{clock, keys, pack};

/// Somebody else may publish at the same moment; then the metadata is read and signed again.
const ATTEMPTS: u32 = 5;

/// Uploads, signs and publishes.
///
/// # Errors
/// [`Error::Missing`] without keys or a trusted root, [`Error::Trust`], [`Error::Refused`].
pub(super) async fn publish(
    session: &Session,
    profile: &Profile,
    client: &Client,
    new: &New,
) -> Result<(), Error> {
    let output = session.output;
    // Whoever cannot sign need not upload.
    let pairs = keys::read_all(&profile.release_key_files())?;
    let objects = tokio::task::block_in_place(|| pack::objects(new.manifest.tree, &new.cache))?;
    let objects = objects.ok_or_else(|| Error::CacheDamaged { path: new.cache.path(&new.manifest.tree) })?;
    let bar = Bar::new(output, "uploading");
    let uploaded = client.upload(&objects, &new.cache, &bar).await?;
    drop(bar);
    output.note(format!(
        "{}, {}; uploaded {} of {} objects, {}",
        format::count(new.manifest.file_count, "file"),
        format::bytes(new.manifest.total_bytes),
        uploaded.objects,
        objects.len(),
        format::bytes(uploaded.bytes)
    ));
    // So that it can be put back after a backup was restored.
    new.cache.put(&new.bytes)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let draft = sign(session, profile, client, new, &pairs).await?;
        let role = draft.roles().into_values().next().unwrap_or_default();
        match client.publish_release(new.bytes.clone(), role, new.notes.clone()).await {
            Ok(_) => break,
            Err(Error::Refused(refusal)) if refusal.reason == "REPOSITORY_CHANGED" && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    // What was published is kept here, too: the controller may be put back to before it.
    Trusted::seen(output, profile.trust_directory(), client).await?;
    output.note(format!("published {} {}", new.manifest.application, new.manifest.release));
    // The release is out; that old files lie about is no reason to fail.
    if let Err(error) = tokio::task::block_in_place(|| new.cache.trim(pack::CACHE_BYTES)) {
        output.note(format!("note: {error}"));
    }
    Ok(())
}

/// The next version of the application's role with this release in it, on top of verified metadata only.
async fn sign(
    session: &Session,
    profile: &Profile,
    client: &Client,
    new: &New,
    pairs: &[KeyPair],
) -> Result<Draft, Error> {
    let (application, release) = (&new.manifest.application, &new.manifest.release);
    let trusted = Trusted::seen(session.output, profile.trust_directory(), client).await?;
    let role = app_role(application);
    let current = trusted.roles.get(&role).ok_or_else(|| preflight::unknown_application(application))?;
    let mut next = current.next(lifetime::until(&role, clock::now()));
    let custom = ReleaseCustom {
        app: application.clone(),
        release: release.clone(),
        counter: ReleaseCounter(current.highest_counter().0 + 1),
        environments: None,
    };
    // A release that is listed already, by a publishing that was cut short: sign the list as it is.
    let listed = current.releases().into_iter().find(|custom| custom.release == *release);
    let custom = listed.unwrap_or(custom);
    next.add_release(&new.bytes, &custom)
        .map_err(|error| Error::usage(error.to_string(), "choose another name"))?;

    let manifest = String::from_utf8(new.bytes.clone()).expect("canonical JSON is UTF-8");
    let mut draft = Draft::of_release(DraftRelease { manifest, notes: new.notes.clone() });
    draft.put(&role, &Body::Targets(next))?;
    draft.sign(&trusted, pairs)?;
    let lacks = draft.lacks(&trusted)?;
    if lacks.is_empty() {
        return Ok(draft);
    }
    let file = PathBuf::from(format!("{application}-{release}.draft.json"));
    hand_on(session.output, &draft, &lacks, Some(&file))?;
    let count: usize = lacks.iter().map(|lack| lack.count).max().unwrap_or(0);
    Err(Error::missing(
        format!(
            "{application} {release} is not published yet: it lacks {}",
            format::count(count as u64, "signature")
        ),
        format!(
            "ctl trust sign {0}, where a further key is; ctl trust publish {0}; ctl release {release}",
            file.display()
        ),
    ))
}
