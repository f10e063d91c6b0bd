//! `ctl init`: a first definition, the signing keys, and the release repository's root of trust.
//!
//! Each part that is there already stays, so that the command can be repeated until all of it is done.

use std::collections::BTreeMap;
use std::path::Path;

use landfall_common::{AppName, Timestamp, definition};
use landfall_trust::metadata::{Header, Root, Targets};
use landfall_trust::policy::{POLICY_ROLE, app_role};
use landfall_trust::{Envelope, KeyPair, PublicKey, TrustError};
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::cli::Init;
use crate::client::Client;
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

    let profile = session.profile();
    let (root_files, release_files) = match &profile {
        Ok(profile) => (profile.root_key_files(), profile.release_key_files()),
        // The keys do not depend on a controller.
        Err(_) => {
            let keys = session.places.keys();
            (vec![keys.join("root.pem")], vec![keys.join("release.pem")])
        }
    };
    let mut make = |files: &[std::path::PathBuf], what: &str| -> Result<Vec<KeyPair>, Error> {
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
    let root_pairs = make(&root_files, "root")?;
    let release_pairs = make(&release_files, "release")?;

    let profile = profile?;
    let client = Client::connect(&profile).await?;
    let info = client.info().await?;
    let maker = Maker { output, profile: &profile, client: &client, root_pairs, release_pairs };
    for text in maker.run(&info, &application, arguments.threshold).await? {
        say(text);
    }
    if done.is_empty() {
        output.line(format!(
            "nothing to do: {application} has its keys and its place in the release repository"
        ));
    }
    output.line("next: ctl hosts token, and `landfall-agent join` on each host; then ctl release TAG");
    output.json("init", &json!({ "application": application, "done": done }));
    Ok(Exit::Succeeded)
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
        threshold: usize,
    ) -> Result<Vec<String>, Error> {
        if threshold == 0 || threshold > self.release_pairs.len() {
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
        let root = if soon(current.header.expires) {
            let next = current.next(lifetime::until("root", now));
            self.check_owner(&current)?;
            done.push(renewed("root", &next.header));
            sign(&next, &self.root_pairs)?
        } else {
            trust::root_file(&self.profile.trust_directory())?
        };
        let role = app_role(application);
        let known = targets.authority("targets", &role).is_some();
        let mut roles = BTreeMap::new();
        let new_targets = if !known || soon(targets.header.expires) {
            self.check_owner(&current)?;
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
        if let Some(policy) = known_roles.get(POLICY_ROLE).filter(|policy| soon(policy.header.expires)) {
            self.check_owner(&current)?;
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

    /// Root and targets can be changed only by who holds their keys.
    fn check_owner(&self, root: &Root) -> Result<(), Error> {
        let authority = root.authority("root");
        if self.root_pairs.iter().any(|pair| authority.keyids.contains(pair.keyid())) {
            return Ok(());
        }
        Err(Error::missing(
            "this machine does not have the root key of the release repository",
            "run ctl init --app NAME where root.pem is (ctl context show names the files)",
        ))
    }
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
