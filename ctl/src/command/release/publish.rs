//! Objects first, then the signature: a release is listed only when everything that it names is there.

use landfall_common::ReleaseCounter;
use landfall_trust::policy::{ReleaseCustom, app_role};
use landfall_trust::{Envelope, KeyPair};

use super::content::New;
use crate::client::Client;
use crate::command::Session;
use crate::config::Profile;
use crate::error::Error;
use crate::output::format;
use crate::output::progress::Bar;
use crate::trust::Trust;
use crate::{clock, keys, pack};

/// What release keys sign holds for so long; every release signs it anew.
const LIFETIME: std::time::Duration = std::time::Duration::from_secs(366 * 86_400);
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
    let mut attempt = 0;
    loop {
        attempt += 1;
        let metadata = sign(profile, client, new, &pairs).await?;
        match client.publish_release(new.bytes.clone(), metadata, new.notes.clone()).await {
            Ok(_) => break,
            Err(Error::Refused(refusal)) if refusal.reason == "REPOSITORY_CHANGED" && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    output.note(format!("published {} {}", new.manifest.application, new.manifest.release));
    // The release is out; that old files lie about is no reason to fail.
    if let Err(error) = tokio::task::block_in_place(|| new.cache.trim(pack::CACHE_BYTES)) {
        output.note(format!("note: {error}"));
    }
    Ok(())
}

/// The next version of the application's role with this release in it, on top of verified metadata only.
async fn sign(profile: &Profile, client: &Client, new: &New, pairs: &[KeyPair]) -> Result<Vec<u8>, Error> {
    let (application, release) = (&new.manifest.application, &new.manifest.release);
    let mut trust = Trust::refresh(profile.trust_directory(), client).await?;
    let role = app_role(application);
    let current = trust.application(application, release, client).await?.ok_or_else(|| {
        Error::missing(
            format!("no key may sign releases of {application} yet"),
            format!("ctl init --app {application}, where the root key is"),
        )
    })?;
    let mut next = current.next(clock::now() + LIFETIME);
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

    let mut envelope = Envelope::unsigned(&next).map_err(Error::trust("the release cannot be signed"))?;
    let authority = trust.targets()?.authority("targets", &role);
    let authority = authority.ok_or_else(|| Error::Answer(format!("targets no longer names {role}")))?;
    for pair in pairs.iter().filter(|pair| authority.keyids.contains(pair.keyid())) {
        envelope.sign(pair).map_err(Error::trust("the release cannot be signed"))?;
    }
    let missing = envelope.missing(&authority).map_err(Error::trust("the release cannot be signed"))?;
    if missing > 0 {
        let (have, threshold) = (pairs.len(), authority.threshold);
        return Err(Error::missing(
            format!(
                "releases of {application} need {threshold} signature(s) of {} known key(s), and {missing} more \
                 than this machine's {have} key(s) can give",
                authority.keyids.len()
            ),
            "add the key files to release_keys of the context in config.toml, or release where they are",
        ));
    }
    Ok(envelope.to_bytes())
}
