//! Changing who may sign: keys, thresholds, floors.

use std::path::{Path, PathBuf};

use landfall_common::ReleaseName;
use landfall_trust::{KeyId, PublicKey};
use serde_json::json;

use super::own_keys;
use super::sign::{Place, finish};
use crate::cli::{Draft, KeyOf};
use crate::client::Client;
use crate::clock;
use crate::command::Session;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::files;
use crate::keys;
use crate::output::format;
use crate::trust::change::{Change, Holder};
use crate::trust::draft::{public_key, short};
use crate::trust::{Trusted, lifetime};

/// `ctl trust key`: a key that is not there is made.
pub(super) fn show(session: &Session, of: KeyOf) -> Result<Exit, Error> {
    let output = session.output;
    let profile = session.profile()?;
    for file in key_files(&profile, of) {
        let (pair, made) = keys::read_or_generate(&file)?;
        if made {
            output.note(format!("made the key {}", file.display()));
        }
        let public = serde_json::to_string(pair.public()).expect("a public key is plain data");
        output.line(&public);
        output.note(format!(
            "key {} in {}; to let it sign, where the root key is: ctl trust change {of} --add FILE, with the line \
             above in FILE",
            pair.keyid(),
            file.display()
        ));
        output.json("key", &json!({ "id": pair.keyid(), "file": file, "public": pair.public() }));
    }
    Ok(Exit::Succeeded)
}

fn key_files(profile: &Profile, of: KeyOf) -> Vec<PathBuf> {
    match of {
        KeyOf::Root => profile.root_key_files(),
        KeyOf::Release => profile.release_key_files(),
    }
}

/// What somebody wants changed.
pub(super) struct Wanted<'w> {
    pub add: &'w [PathBuf],
    pub remove: &'w [String],
    pub threshold: Option<usize>,
}

/// `ctl trust change`
pub(super) async fn change(
    session: &Session,
    of: KeyOf,
    wanted: Wanted<'_>,
    draft: &Draft,
) -> Result<Exit, Error> {
    let Wanted { add, remove, threshold } = wanted;
    if add.is_empty() && remove.is_empty() && threshold.is_none() {
        return Err(Error::usage(
            "nothing is to be changed",
            "add --add FILE, --remove KEY or --threshold COUNT",
        ));
    }
    let add = add.iter().map(|file| read_public(file)).collect::<Result<Vec<_>, _>>()?;
    let (profile, client, trusted) = ground(session).await?;
    let holder = match of {
        KeyOf::Root => Holder::Root,
        KeyOf::Release => Holder::Releases(session.application(&client).await?),
    };
    let now = trusted.keys(&holder)?;
    let remove = remove.iter().map(|text| key_of(&now.keys, text)).collect::<Result<Vec<_>, _>>()?;
    let keys = now.clone().changed(&add, &remove, threshold)?;
    if keys == now {
        session.output.line("nothing to do: it is so already");
        return Ok(Exit::Succeeded);
    }
    let mut change = Change::of(&trusted, clock::now());
    change.set_keys(&holder, &keys);
    let pairs = own_keys(&profile)?;
    finish(session, (&profile, &client), &trusted, change.draft()?, &pairs, &place(draft)).await?;
    Ok(Exit::Succeeded)
}

/// `ctl trust rotate`: each key of this machine that is in use gets a successor.
pub(super) async fn rotate(session: &mut Session, of: KeyOf, draft: &Draft) -> Result<Exit, Error> {
    let (profile, client, trusted) = ground(session).await?;
    let files = key_files(&profile, of);
    let mut change = Change::of(&trusted, clock::now());
    let mut pairs = own_keys(&profile)?;
    let (mut new_files, mut old_files) = (Vec::new(), Vec::new());
    let mut held: std::collections::BTreeMap<String, (Holder, crate::trust::change::Keys)> =
        Default::default();
    for file in files {
        let Some(old) = keys::read(&file)? else { continue };
        let holders: Vec<Holder> = match of {
            KeyOf::Root => vec![Holder::Root],
            KeyOf::Release => {
                let all = trusted.applications_of(old.keyid());
                let asked = session.global.app.as_ref();
                all.into_iter()
                    .filter(|app| asked.is_none_or(|asked| asked == app))
                    .map(Holder::Releases)
                    .collect()
            }
        };
        let mut in_use = Vec::new();
        for holder in holders {
            let keys = match held.remove(&holder.to_string()) {
                Some((_, keys)) => keys,
                None => trusted.keys(&holder)?,
            };
            if keys.keys.iter().any(|key| key.keyid() == *old.keyid()) {
                in_use.push((holder, keys));
            }
        }
        if in_use.is_empty() {
            continue;
        }
        let successor = successor(&file);
        let (new, _) = keys::read_or_generate(&successor)?;
        for (holder, keys) in in_use {
            let keys = keys.changed(std::slice::from_ref(new.public()), &[old.keyid().clone()], None)?;
            held.insert(holder.to_string(), (holder, keys));
        }
        session.output.line(format!(
            "made the key {} in {}, to take the place of {} in {}",
            short(new.keyid()),
            successor.display(),
            short(old.keyid()),
            file.display()
        ));
        pairs.push(new);
        new_files.push(successor);
        old_files.push(file);
    }
    if new_files.is_empty() {
        return Err(Error::missing(
            format!("no {of} key that is in use is on this machine"),
            "ctl trust show names the keys; rotate each where it is",
        ));
    }
    for (holder, keys) in held.values() {
        change.set_keys(holder, keys);
    }
    // Before the change is published: a key that nobody finds again must not become the only one.
    remember(session, &profile, of, |files| {
        files.extend(new_files.iter().filter_map(|file| file.file_name().map(PathBuf::from)));
    })?;
    let published =
        finish(session, (&profile, &client), &trusted, change.draft()?, &pairs, &place(draft)).await?;
    let old: Vec<String> = old_files.iter().map(|file| file.display().to_string()).collect();
    if published {
        remember(session, &profile, of, |files| {
            files.retain(|file| !old_files.iter().any(|old| old.file_name() == file.file_name()));
        })?;
        session
            .output
            .note(format!("{} signs no more; keep it only if something else needs it", old.join(", ")));
    } else {
        session.output.note(format!("until then {} signs as before; keep it", old.join(", ")));
    }
    Ok(Exit::Succeeded)
}

/// `ctl trust rotate online`: the keys that the controller has made take the place of those that root names.
pub(super) async fn rotate_online(session: &Session, draft: &Draft) -> Result<Exit, Error> {
    let (profile, client, trusted) = ground(session).await?;
    let made = client.info().await?.online_keys()?;
    let named = |role: &str, key: &PublicKey| trusted.root.authority(role).keyids.contains(&key.keyid());
    let [snapshot, timestamp] = &made;
    if named("snapshot", snapshot) || named("timestamp", timestamp) {
        return Err(Error::usage(
            "the controller has no new online keys: root names those that it has",
            "landfall-controller new-online-keys, on its host; then start it again, and repeat this",
        ));
    }
    let mut change = Change::of(&trusted, clock::now());
    change.set_online(&made);
    let pairs = own_keys(&profile)?;
    finish(session, (&profile, &client), &trusted, change.draft()?, &pairs, &place(draft)).await?;
    Ok(Exit::Succeeded)
}

/// Changes the list of key files in the configuration.
fn remember(
    session: &mut Session,
    profile: &Profile,
    of: KeyOf,
    edit: impl FnOnce(&mut Vec<PathBuf>),
) -> Result<(), Error> {
    let Some(context) = session.config.contexts.get_mut(&profile.name) else { return Ok(()) };
    edit(match of {
        KeyOf::Root => &mut context.root_keys,
        KeyOf::Release => &mut context.release_keys,
    });
    session.config.save(&session.places)
}

/// `release.pem` is followed by `release-2.pem`, and that by `release-3.pem`: the first that is not there.
fn successor(file: &Path) -> PathBuf {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let base = match stem.rsplit_once('-') {
        Some((base, number)) if number.parse::<u32>().is_ok() => base.to_owned(),
        _ => stem,
    };
    let candidate = |number: u32| file.with_file_name(format!("{base}-{number}.pem"));
    (2..).map(candidate).find(|path| !path.exists()).expect("some number is free")
}

/// `ctl trust floor`
pub(super) async fn floor(session: &Session, release: &ReleaseName, draft: &Draft) -> Result<Exit, Error> {
    let (profile, client, trusted) = ground(session).await?;
    let application = session.application(&client).await?;
    let role = trusted.roles.get(&landfall_trust::policy::app_role(&application));
    let listed = role.map(landfall_trust::metadata::Targets::releases).unwrap_or_default();
    let found = listed.iter().find(|custom| custom.release == *release).ok_or_else(|| {
        Error::usage(format!("{application} has no release {release}"), "ctl releases lists them")
    })?;
    let refused: Vec<&str> = listed
        .iter()
        .filter(|custom| custom.counter < found.counter)
        .map(|custom| custom.release.as_str())
        .collect();
    session.output.line(format!(
        "from number {} on, which is {release}; refused on every host, also as the aim of a rollback: {}",
        found.counter,
        if refused.is_empty() { "none".to_owned() } else { refused.join(", ") }
    ));
    let mut change = Change::of(&trusted, clock::now());
    change.set_floor(&application, found.counter)?;
    let pairs = own_keys(&profile)?;
    finish(session, (&profile, &client), &trusted, change.draft()?, &pairs, &place(draft)).await?;
    Ok(Exit::Succeeded)
}

/// `ctl trust renew`
pub(super) async fn renew(session: &Session, draft: &Draft) -> Result<Exit, Error> {
    let (profile, client, trusted) = ground(session).await?;
    let mut change = Change::of(&trusted, clock::now());
    change.renew(lifetime::RENEW_BEFORE);
    let change = change.draft()?;
    if change.is_empty() {
        let left = format::duration(lifetime::RENEW_BEFORE);
        session
            .output
            .line(format!("nothing to do: root, targets and floors are in force for {left} and more"));
        return Ok(Exit::Succeeded);
    }
    let pairs = own_keys(&profile)?;
    finish(session, (&profile, &client), &trusted, change, &pairs, &place(draft)).await?;
    Ok(Exit::Succeeded)
}

async fn ground(session: &Session) -> Result<(Profile, Client, Trusted), Error> {
    let (profile, client) = session.connect().await?;
    let trusted = Trusted::seen(session.output, profile.trust_directory(), &client).await?;
    Ok((profile, client, trusted))
}

fn place(draft: &Draft) -> Place<'_> {
    Place { file: draft.draft.as_deref(), yes: draft.yes }
}

fn read_public(file: &Path) -> Result<PublicKey, Error> {
    let bytes = files::read(file)?.ok_or_else(|| {
        Error::usage(
            format!("there is no file {}", file.display()),
            "it holds the line that ctl trust key prints on the machine of the new signer",
        )
    })?;
    public_key(&String::from_utf8_lossy(&bytes))
        .map_err(|reason| Error::Config { path: file.to_owned(), reason })
}

/// A key by the first digits of its id.
fn key_of(keys: &[PublicKey], text: &str) -> Result<KeyId, Error> {
    let next = "ctl trust show names the keys";
    let found: Vec<KeyId> = keys.iter().map(PublicKey::keyid).filter(|id| id.0.starts_with(text)).collect();
    match &found[..] {
        [one] if text.len() >= 4 => Ok(one.clone()),
        [] => Err(Error::usage(format!("{text} is not one of the keys"), next)),
        _ => Err(Error::usage(format!("{text} does not tell one key from the others"), next)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_followed_by_the_next_number_that_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(successor(&at("release.pem")), at("release-2.pem"));
        std::fs::write(at("release-2.pem"), "").unwrap();
        assert_eq!(successor(&at("release-2.pem")), at("release-3.pem"));
        assert_eq!(successor(&at("ci-key.pem")), at("ci-key-2.pem"));
    }
}
