//! `ctl init`: a first definition, the signing keys, and the release repository's root of trust.
//!
//! Each part that is there already stays, so that the command can be repeated until all of it is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_common::{AppName, Timestamp, definition};
use landfall_trust::metadata::{Header, Root, Targets};
use landfall_trust::policy::{POLICY_ROLE, app_role};
use landfall_trust::{Envelope, KeyPair, PublicKey, TrustError};
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::cli::Init;
use crate::client::Client;
use crate::client::status::Refusal;
use crate::config::{Profile, nearest_definition};
use crate::error::{Error, Exit};
use crate::files::{self, Access};
use crate::output::{Output, format};
use crate::trust::{Trust, Trusted, lifetime};
use crate::{clock, keys, trust, view};

pub(super) async fn run(session: &Session, arguments: &Init) -> Result<Exit, Error> {
    let output = session.output;
    let mut done = Vec::new();
    let mut say = |text: String| {
        output.line(&text);
        done.push(text);
    };
    let application = definition_or_first(session, &mut say)?;

    let profile = session.profile()?;
    let client = Client::connect(&profile).await?;
    let info = client.info().await?;
    // Where there is a root already, a root key made here would be one that nobody trusts.
    let found = match info.root_version {
        0 if info.role == "admin" => None,
        0 => {
            let message =
                format!("the root of trust is published by an admin, and {} is {}", info.operator, info.role);
            return Err(Error::Refused(Box::new(Refusal::role_too_low(message))));
        }
        _ => Some(adopt(&profile, &client, arguments.root.as_deref(), &mut say).await?),
    };
    let place = Place::of(&profile, found.as_ref(), &application)?;

    let mut make = |files: &[PathBuf], what: &str| -> Result<Vec<KeyPair>, Error> {
        let mut pairs = Vec::new();
        for file in files {
            let (pair, made) = keys::read_or_generate(file)?;
            if made {
                say(format!("made the {what} key {}", file.display()));
            }
            pairs.push(pair);
        }
        Ok(pairs)
    };
    let root_pairs = match found {
        None => make(&profile.root_key_files(), "root")?,
        Some(_) => present(&profile.root_key_files())?,
    };
    let release_pairs = match place {
        Place::New => make(&profile.release_key_files(), "release")?,
        Place::Known { .. } => present(&profile.release_key_files())?,
    };
    let maker = Maker { output, profile: &profile, client: &client, root_pairs, release_pairs };
    for text in maker.run(&info, &application, &place, arguments.threshold).await? {
        say(text);
    }
    let signs = !matches!(place, Place::Known { signs: false });
    if !signs {
        output.line(format!("no release key of this machine signs releases of {application} yet"));
        output.line(format!("next: {}", trust::LET_ME_SIGN));
    } else {
        if done.is_empty() {
            output.line(format!(
                "nothing to do: {application} has its keys and its place in the release repository"
            ));
        }
        output.line("next: ctl hosts add root@HOST --package PATH (or ctl hosts token, which says what to type there); then ctl release TAG");
    }
    output.json("init", &json!({ "application": application, "done": done, "signs": signs }));
    Ok(Exit::Succeeded)
}

/// What this machine trusts of a controller that has a root: pinned at login, or from the file that is given.
/// What the controller itself says is not believed (P1).
async fn adopt(
    profile: &Profile,
    client: &Client,
    root: Option<&Path>,
    say: &mut impl FnMut(String),
) -> Result<Trust, Error> {
    let directory = profile.trust_directory();
    if !trust::is_initialised(&directory) {
        let Some(file) = root else {
            return Err(Error::missing(
                format!(
                    "{} has a root of trust already, and this machine does not know it",
                    client.address()
                ),
                "get root.json from a colleague, whose `ctl context show` names the directory, then: ctl init --root \
                 root.json; or log in with a token of `ctl operators token`, which vouches for it",
            ));
        };
        trust::initialise(&directory, &trust::read_root(file)?)?;
        let trust = Trust::refresh(directory.clone(), client).await;
        if trust.is_err() {
            // Of another controller, perhaps: what cannot be followed is not kept, so that the right one can come.
            trust::forget(&directory)?;
        } else {
            say(format!("this machine trusts the root of {} from now on", file.display()));
        }
        return trust;
    }
    Trust::refresh(directory, client).await
}

/// What the release repository knows of an application.
enum Place {
    /// Nothing, and this machine can give it its place.
    New,
    /// It has release signers.
    Known {
        /// Whether this machine is one of them.
        signs: bool,
    },
}

impl Place {
    fn of(profile: &Profile, trust: Option<&Trust>, application: &AppName) -> Result<Self, Error> {
        let Some(trust) = trust else { return Ok(Self::New) };
        if let Some(authority) = trust.targets()?.authority("targets", &app_role(application)) {
            let pairs = present(&profile.release_key_files())?;
            return Ok(Self::Known {
                signs: pairs.iter().any(|pair| authority.keyids.contains(pair.keyid())),
            });
        }
        check_owner(&present(&profile.root_key_files())?, trust.root())?;
        Ok(Self::New)
    }
}

/// Those of the keys that are on this machine.
fn present(files: &[PathBuf]) -> Result<Vec<KeyPair>, Error> {
    files.iter().filter_map(|file| keys::read(file).transpose()).collect()
}

/// The application of the nearest definition; writes a first one where there is none.
fn definition_or_first(session: &Session, say: &mut impl FnMut(String)) -> Result<AppName, Error> {
    if let Some(application) = &session.global.app {
        return Ok(application.clone());
    }
    if nearest_definition(&session.directory).is_some() {
        let definition = session
            .local_definition_or("correct the file, or name the application: ctl init --app NAME")?
            .expect("the file was there a moment ago");
        return Ok(definition.application);
    }
    let application = name_of(&session.directory)?;
    let path = session.directory.join(definition::FILE_NAME);
    files::write(&path, first_definition(&application).as_bytes(), Access::Public)?;
    say(format!("wrote a first {}: look through it, then commit it", path.display()));
    Ok(application)
}

/// A name for the application, from the directory's.
fn name_of(directory: &Path) -> Result<AppName, Error> {
    let name = directory.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let tame = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
    let name: String = name.chars().map(tame).collect();
    AppName::new(name.trim_matches('-')).map_err(|_| {
        Error::usage(
            "the directory's name cannot be the application's",
            "ctl init --app NAME, or cd elsewhere",
        )
    })
}

fn first_definition(application: &AppName) -> String {
    format!(
        r#"# How this application is released. Every key: docs/reference/landfall-toml.md

[application]
name = "{application}"

# Built once per release, in a clean tree of the tag.
# [[build]]
# name = "styles"
# command = ["npm", "run", "build"]

# On each host, before anything that runs is touched. Write below {{prepared}}.
# [[prepare]]
# name = "virtualenv"
# command = ["sh", "deploy/prepare.sh", "{{prepared}}"]

# Once per rollout, on one host.
# [migrate]
# command = ["{{prepared}}/venv/bin/python", "manage.py", "migrate", "--noinput"]
# compatible_with_previous = true

# [[service]]
# name = "web"
# driver = "process"
# command = ["{{prepared}}/venv/bin/gunicorn", "{application}.wsgi"]
# listen = "127.0.0.1:8000"
# ready = {{ http = "/healthz" }}

# [[check]]
# name = "healthz"
# http = {{ url = "http://127.0.0.1:8000/healthz" }}

[environment.production]
canary = 1
batch = "25%"
"#
    )
}

struct Maker<'m> {
    output: Output,
    profile: &'m Profile,
    client: &'m Client,
    root_pairs: Vec<KeyPair>,
    release_pairs: Vec<KeyPair>,
}

impl Maker<'_> {
    /// Publishes what is missing; returns what was done, in words.
    async fn run(
        &self,
        info: &view::Info,
        application: &AppName,
        place: &Place,
        threshold: usize,
    ) -> Result<Vec<String>, Error> {
        let is_new = matches!(place, Place::New);
        if is_new && (threshold == 0 || threshold > self.release_pairs.len()) {
            let have = self.release_pairs.len();
            return Err(Error::usage(
                format!("--threshold {threshold} with {have} release key(s) could never be met"),
                "list more keys as release_keys of the context in config.toml, or lower the threshold",
            ));
        }
        if info.root_version == 0 {
            self.first(info, application, threshold).await
        } else {
            self.later(application, threshold).await
        }
    }

    async fn first(
        &self,
        info: &view::Info,
        application: &AppName,
        threshold: usize,
    ) -> Result<Vec<String>, Error> {
        let now = clock::now();
        let [snapshot, timestamp] = info.online_keys()?;
        let owners = public(&self.root_pairs);
        let mut root = Root::first(lifetime::until("root", now));
        root.set_role("root", &owners, 1);
        root.set_role("targets", &owners, 1);
        root.set_role("snapshot", &[snapshot], 1);
        root.set_role("timestamp", &[timestamp], 1);
        let mut targets = Targets::first(lifetime::until("targets", now));
        targets.delegate_app(application, &public(&self.release_pairs), threshold);
        let role = app_role(application);
        let releases = sign(&Targets::first(lifetime::until(&role, now)), &self.release_pairs)?;

        let root = sign(&root, &self.root_pairs[..1])?;
        let targets = sign(&targets, &self.root_pairs[..1])?;
        // Trusted before it is published: it is this machine that made it, and no answer can change that.
        trust::initialise(&self.profile.trust_directory(), &root)?;
        let roles = BTreeMap::from([(role, releases)]);
        self.client.publish_root(root, targets, roles, None).await?;
        let file = self.profile.trust_directory().join("root.json");
        Ok(vec![
            format!("made and published the root of trust ({})", file.display()),
            format!(
                "{threshold} of {} release key(s) sign releases of {application}",
                self.release_pairs.len()
            ),
        ])
    }

    async fn later(&self, application: &AppName, threshold: usize) -> Result<Vec<String>, Error> {
        let now = clock::now();
        let mut done = Vec::new();
        let trusted = Trusted::seen(self.output, self.profile.trust_directory(), self.client).await?;
        let Trusted { root: current, targets, roles: known_roles } = trusted;
        let soon = |expires: Timestamp| expires < now + lifetime::RENEW_BEFORE;
        let renewed = |role: &str, header: &Header| {
            let until = format::time(header.expires);
            format!("signed {role} version {} until {until}", header.version)
        };
        // Who does not own the root leaves it to who does: `ctl doctor` says when it is time.
        let is_owner = check_owner(&self.root_pairs, &current).is_ok();
        let root = if soon(current.header.expires) && is_owner {
            let next = current.next(lifetime::until("root", now));
            done.push(renewed("root", &next.header));
            sign(&next, &self.root_pairs)?
        } else {
            trust::root_file(&self.profile.trust_directory())?
        };
        let role = app_role(application);
        let known = targets.authority("targets", &role).is_some();
        let mut roles = BTreeMap::new();
        let new_targets = if !known || (soon(targets.header.expires) && is_owner) {
            check_owner(&self.root_pairs, &current)?;
            let mut next = targets.next(lifetime::until("targets", now));
            if known {
                done.push(renewed("targets", &next.header));
            } else {
                next.delegate_app(application, &public(&self.release_pairs), threshold);
                let first = Targets::first(lifetime::until(&role, now));
                roles.insert(role, sign(&first, &self.release_pairs)?);
                let keys = self.release_pairs.len();
                done.push(format!("{threshold} of {keys} release key(s) sign releases of {application}"));
            }
            sign(&next, &self.root_pairs)?
        } else {
            Vec::new()
        };
        if let Some(policy) =
            known_roles.get(POLICY_ROLE).filter(|policy| is_owner && soon(policy.header.expires))
        {
            let next = policy.next(lifetime::until(POLICY_ROLE, now));
            done.push(renewed(POLICY_ROLE, &next.header));
            roles.insert(POLICY_ROLE.to_owned(), sign(&next, &self.root_pairs)?);
        }
        if !done.is_empty() {
            self.client.publish_root(root, new_targets, roles, None).await?;
            Trust::refresh(self.profile.trust_directory(), self.client).await?;
        }
        Ok(done)
    }
}

/// Root and targets can be changed only by who holds their keys.
fn check_owner(pairs: &[KeyPair], root: &Root) -> Result<(), Error> {
    let authority = root.authority("root");
    if pairs.iter().any(|pair| authority.keyids.contains(pair.keyid())) {
        return Ok(());
    }
    Err(Error::missing(
        "this machine does not have the root key of the release repository",
        "run ctl init --app NAME where root.pem is (ctl context show names the files)",
    ))
}

fn public(pairs: &[KeyPair]) -> Vec<PublicKey> {
    pairs.iter().map(|pair| pair.public().clone()).collect()
}

fn sign<T: Serialize>(body: &T, pairs: &[KeyPair]) -> Result<Vec<u8>, Error> {
    let signed = || -> Result<Vec<u8>, TrustError> {
        let mut envelope = Envelope::unsigned(body)?;
        for pair in pairs {
            envelope.sign(pair)?;
        }
        Ok(envelope.to_bytes())
    };
    signed().map_err(Error::trust("the metadata cannot be signed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_definition_is_valid_also_with_its_examples() {
        let name = AppName::new("shop").unwrap();
        let text = first_definition(&name);
        definition::Definition::parse("landfall.toml", &text).unwrap();
        let examples =
            text.replace("\n# [", "\n[").replace("\n# name", "\nname").replace("\n# command", "\ncommand");
        let examples = ["compatible", "driver", "listen", "ready", "http"]
            .iter()
            .fold(examples, |text, key| text.replace(&format!("\n# {key}"), &format!("\n{key}")));
        let parsed = definition::Definition::parse("landfall.toml", &examples);
        let parsed = parsed.map_err(|found| found[0].to_string()).unwrap();
        assert!(parsed.program.migrate.is_some() && parsed.program.services.len() == 1);
    }

    #[test]
    fn the_application_is_named_after_the_directory() {
        assert_eq!(name_of(Path::new("/src/My App")).unwrap().as_str(), "my-app");
        assert!(name_of(Path::new("/")).is_err());
    }
}
