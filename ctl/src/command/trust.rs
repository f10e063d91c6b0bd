//! `ctl trust`: who may sign what, changes of it, and signatures that are collected one by one.

mod keys;
mod republish;
mod sign;

use landfall_trust::metadata::TOP_LEVEL;
use landfall_trust::policy::{AppPolicy, POLICY_ROLE};
use landfall_trust::{Authority, KeyId, KeyPair};
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::cli::{KeyOf, RotationOf, Trust as Arguments};
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::keys::read;
use crate::output::format;
use crate::trust::draft::short;
use crate::trust::{Trust, Trusted};
use crate::{clock, output::Output};

pub(super) use sign::hand_on;

pub(super) async fn run(session: &mut Session, arguments: &Arguments) -> Result<Exit, Error> {
    match arguments {
        Arguments::Show => show(session).await,
        Arguments::Key { of } => keys::show(session, *of),
        Arguments::Change { of, add, remove, threshold, draft } => {
            keys::change(session, *of, keys::Wanted { add, remove, threshold: *threshold }, draft).await
        }
        Arguments::Rotate { of: RotationOf::Root, draft } => keys::rotate(session, KeyOf::Root, draft).await,
        Arguments::Rotate { of: RotationOf::Release, draft } => {
            keys::rotate(session, KeyOf::Release, draft).await
        }
        Arguments::Rotate { of: RotationOf::Online, draft } => keys::rotate_online(session, draft).await,
        Arguments::Floor { release, draft } => keys::floor(session, release, draft).await,
        Arguments::Renew { draft } => keys::renew(session, draft).await,
        Arguments::Sign { file, yes } => sign::sign(session, file, *yes).await,
        Arguments::Publish { file } => sign::publish(session, file).await,
        Arguments::Republish => republish::run(session).await,
    }
}

/// Every signing key of the context that is on this machine.
pub(super) fn own_keys(profile: &Profile) -> Result<Vec<KeyPair>, Error> {
    let files = profile.root_key_files().into_iter().chain(profile.release_key_files());
    let mut pairs: Vec<KeyPair> = Vec::new();
    for file in files {
        if let Some(pair) = read(&file)?
            && !pairs.iter().any(|known| known.keyid() == pair.keyid())
        {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

/// A role, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    role: String,
    version: Option<u64>,
    expires: Option<landfall_common::Timestamp>,
    threshold: usize,
    keys: Vec<ShownKey>,
    says: String,
}

#[derive(Debug, Serialize)]
struct ShownKey {
    id: String,
    here: bool,
}

async fn show(session: &Session) -> Result<Exit, Error> {
    let output = session.output;
    let (profile, client) = session.connect().await?;
    let trust = Trust::refresh(profile.trust_directory(), &client).await?;
    let versions = trust.roles();
    let trusted = trust.all(&client).await?;
    let own: Vec<KeyId> = own_keys(&profile)?.iter().map(|pair| pair.keyid().clone()).collect();
    let role = |name: &str, authority: &Authority<'_>| {
        let known =
            versions.iter().find(|(role, ..)| role == name).map(|(_, version, expires)| (*version, *expires));
        let delegated = trusted.roles.get(name).map(|role| (role.header.version, role.header.expires));
        let known = known.or(delegated);
        Shown {
            role: name.to_owned(),
            version: known.map(|(version, _)| version),
            expires: known.map(|(_, expires)| expires),
            threshold: authority.threshold,
            keys: authority
                .keyids
                .iter()
                .map(|id| ShownKey { id: id.to_string(), here: own.contains(id) })
                .collect(),
            says: says(&trusted, name),
        }
    };
    let mut shown: Vec<Shown> =
        TOP_LEVEL.iter().map(|name| role(name, &trusted.root.authority(name))).collect();
    for delegated in trusted.targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
        if let Some(authority) = trusted.targets.authority("targets", &delegated.name) {
            shown.push(role(&delegated.name, &authority));
        }
    }
    let rows = shown.iter().map(row).collect();
    output.table(&["role", "version", "expires", "must sign", "keys (* on this machine)", "says"], rows);
    output.json("trust", &shown);
    Ok(Exit::Succeeded)
}

fn row(shown: &Shown) -> Vec<String> {
    let keys = shown.keys.iter().map(|key| {
        let id = key.id.get(..12).unwrap_or(&key.id);
        if key.here { format!("{id}*") } else { id.to_owned() }
    });
    vec![
        shown.role.clone(),
        format::or_dash(shown.version.map(|version| version.to_string())),
        format::or_dash(shown.expires.map(|expires| format::relative(expires, clock::now()))),
        format!("{} of {}", shown.threshold, shown.keys.len()),
        keys.collect::<Vec<_>>().join(" "),
        shown.says.clone(),
    ]
}

/// What a role says, in a few words.
fn says(trusted: &Trusted, name: &str) -> String {
    let Some(role) = trusted.roles.get(name) else { return String::new() };
    if name == POLICY_ROLE {
        let floors = role.targets.iter().filter_map(|(path, file)| {
            let policy: AppPolicy = serde_json::from_value(file.custom.clone()?).ok()?;
            let application = path.strip_prefix("_policy/")?;
            Some(format!("{application} from number {}", policy.min_release_counter))
        });
        return floors.collect::<Vec<_>>().join(", ");
    }
    let releases = role.releases();
    match releases.last() {
        Some(last) => {
            format!("{}, the last {}", format::count(releases.len() as u64, "release"), last.release)
        }
        None => "no release yet".to_owned(),
    }
}

/// What came of a change, for programs.
fn told(output: &Output, published: bool, draft: Option<&std::path::Path>) {
    output.json("trust_change", &json!({ "published": published, "draft": draft }));
}

/// Key ids, short, as a list.
fn list(ids: &[String]) -> String {
    ids.iter().map(|id| short(&KeyId(id.clone())).to_owned()).collect::<Vec<_>>().join(", ")
}
