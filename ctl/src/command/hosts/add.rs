//! `ctl hosts add`: the agent is brought to hosts by ssh, joins there, and is started.
//!
//! A host goes through steps, each of which may be done again: typed once more, the command goes on where it stood. What
//! failed on one host stops none of the others.

mod outcome;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use landfall_common::{AppName, EnvName, HostId, Sha256};

use self::outcome::{Failure, Outcome, by_hand, report, unreached};
use self::scripts::{Found, Identity, Instance, Kind, Rights};
use super::{Session, Wanted, new_token, settle};
use crate::cli::{Add, Target};
use crate::client::Client;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::output::{Output, format};
use crate::ssh::{Ended, Input, Said, Ssh};
use crate::trust::Trust;

/// How long a host may take for something small.
const SHORT: Duration = Duration::from_secs(120);
/// How long it may take to receive a package, or to install it: it may have to wait for another installation.
const LONG: Duration = Duration::from_secs(900);
/// From one question whether a host has been seen to the next.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The application that the agent itself is (`examples/agent`).
const AGENT: &str = "landfall-agent";

/// What all hosts have in common.
struct Plan<'p> {
    output: Output,
    client: &'p Client,
    profile: &'p Profile,
    ssh: Ssh,
    asked: &'p Add,
    application: AppName,
    environment: EnvName,
    controller: String,
    artifacts: BTreeMap<&'static str, Artifact>,
}

/// One of the two that a host may enrol, and as what.
struct Member<'m> {
    instance: Instance,
    name: HostId,
    application: AppName,
    /// As what it has joined.
    identity: Option<&'m Identity>,
}

impl Member<'_> {
    /// For people.
    fn noun(&self) -> &'static str {
        match self.instance {
            Instance::Agent => "agent",
            Instance::Updater => "updater",
        }
    }

    fn join_step(&self) -> &'static str {
        match self.instance {
            Instance::Agent => "join",
            Instance::Updater => "updater's join",
        }
    }

    fn start_step(&self) -> &'static str {
        match self.instance {
            Instance::Agent => "start",
            Instance::Updater => "updater's start",
        }
    }
}

/// What is copied to hosts.
struct Artifact {
    kind: Kind,
    path: PathBuf,
    digest: Sha256,
    bytes: u64,
}

pub(super) async fn run(
    session: &Session,
    profile: &Profile,
    client: &Client,
    asked: &Add,
) -> Result<Exit, Error> {
    let output = session.output;
    let mut names = BTreeSet::new();
    if let Some(twice) = asked.hosts.iter().find(|target| !names.insert(&target.name)) {
        return Err(Error::usage(
            format!("{} is named twice", twice.name),
            "give each host one name: NAME=DESTINATION",
        ));
    }
    let controller = controller(asked.controller.as_deref().unwrap_or(client.address()))?;
    let mut artifacts = BTreeMap::new();
    for (kind, path) in [(Kind::Package, &asked.package), (Kind::Tarball, &asked.tarball)] {
        if let Some(path) = path {
            artifacts.insert(kind.name(), artifact(kind, path)?);
        }
    }
    let (application, environment) =
        settle(session, client, asked.environment.env.as_ref(), asked.yes || asked.dry_run).await?;
    if asked.updater {
        check_updater(client, &application).await?;
    }
    let ssh = Ssh::new(&asked.ssh_options);
    let plan = Plan { output, client, profile, ssh, asked, application, environment, controller, artifacts };
    if asked.dry_run {
        plan.show();
        return Ok(Exit::Succeeded);
    }
    Trust::refresh(profile.trust_directory(), client).await?;
    let work: Vec<_> = asked.hosts.iter().map(|target| plan.add(target).boxed()).collect();
    let outcomes: Vec<_> = futures::stream::iter(work).buffered(asked.parallel.into()).collect().await;
    let mut results = Vec::new();
    for (target, outcome) in asked.hosts.iter().zip(outcomes) {
        results.push((target, outcome?));
    }
    Ok(report(&output, &results))
}

impl Plan<'_> {
    /// Takes one host through all steps.
    ///
    /// # Errors
    /// What would stop every other host too: `ssh` that cannot be started, a controller that refuses.
    async fn add(&self, target: &Target) -> Result<Outcome, Error> {
        match self.steps(target).await {
            Ok(outcome) => Ok(outcome),
            Err(Stopped::Here(failure)) => {
                self.output.note(failure.text(&self.output, target));
                Ok(Outcome::Failed(failure))
            }
            Err(Stopped::Everywhere(error)) => Err(error),
        }
    }

    async fn steps(&self, target: &Target) -> Result<Outcome, Stopped> {
        let host = &target.name;
        let looked =
            self.run(target, "login", scripts::SHELL, Input::Text(&scripts::look()), SHORT, &[]).await?;
        let found = Found::parse(&looked.out)
            .map_err(|reason| Failure::new("login", reason, &looked, &[], by_hand(target)))?;
        let rights = self.check(target, &found)?;
        let application = self.application.clone();
        let identity = found.identity.as_ref();
        let agent = Member { instance: Instance::Agent, name: host.clone(), application, identity };
        let outcome = self.enrol(target, &found, rights, &agent).await?;
        if self.asked.updater {
            self.enrol(target, &found, rights, &self.updater(host, &found)?).await?;
        }
        Ok(outcome)
    }

    /// The second agent of a host, which releases the first.
    fn updater<'f>(&self, host: &HostId, found: &'f Found) -> Result<Member<'f>, Failure> {
        let step = "updater's join";
        let name = HostId::new(format!("{host}-agent")).map_err(|error| {
            Failure::plain(
                step,
                error.to_string(),
                "leave --updater out for it, or give it a shorter name".into(),
            )
        })?;
        let application = AppName::new(AGENT).expect("it is a valid name");
        if let Some(theirs) = found.updater.as_ref().map(|found| &found.identity)
            && (theirs.application != application
                || theirs.environment != self.environment
                || theirs.host != name)
        {
            let reason = format!(
                "its updater has joined as {} of {} in {}, for good",
                theirs.host, theirs.application, theirs.environment
            );
            let next = format!(
                "leave --updater out for it; or, if it is to be {name} of {application} in {}: ctl hosts remove {}, stop \
                 landfall-updater there, remove /var/lib/landfall-updater, then the same command again",
                self.environment, theirs.host
            );
            return Err(Failure::plain(step, reason, next));
        }
        Ok(Member { instance: Instance::Updater, name, application, identity: found.updater.as_ref() })
    }

    /// Lets one of a host's agents join, and starts it, as far as that has not been done.
    async fn enrol(
        &self,
        target: &Target,
        found: &Found,
        rights: Rights,
        member: &Member<'_>,
    ) -> Result<Outcome, Stopped> {
        let host = &member.name;
        let known = self.client.hosts(None, None).await?.into_iter().find(|known| known.id == host.as_str());
        match (member.identity, &known) {
            (Some(_), Some(known)) if known.connected => {
                self.output.note(format!("{host} has joined already, and is left alone"));
                return Ok(Outcome::Unchanged);
            }
            (Some(_), Some(_)) => {
                self.start(target, rights, member).await?;
                self.output.note(format!("{host} had joined already; its {} is started", member.noun()));
                return Ok(Outcome::Started);
            }
            (Some(identity), None) => {
                let reason = format!(
                    "it has joined the controller at {}, and this one does not know it: it was removed here, or that is \
                     another one",
                    identity.controller
                );
                let next = format!(
                    "ctl --app {} hosts token --env {} --name {host}; on the host: {} join TOKEN --controller {} --again",
                    member.application,
                    self.environment,
                    member.instance.command(),
                    self.controller
                );
                return Err(Failure::plain(member.join_step(), reason, next).into());
            }
            (None, Some(_)) => {
                let reason =
                    format!("the controller has a host {host}, and it is not this machine, or no longer");
                let next = format!(
                    "if it is to be this machine: ctl hosts remove {host}, then the same command again; else another name: \
                     NAME={}",
                    target.destination
                );
                return Err(Failure::plain(member.join_step(), reason, next).into());
            }
            (None, None) => {}
        }
        // Whoever may not make tokens is told so before anything is installed.
        let token = self.token(member).await?;
        let secret = [token.as_str()];
        let script = match member.instance {
            Instance::Agent => {
                self.install(target, found, rights).await?;
                scripts::join(&member.application, &self.asked.variables, &token, &self.controller)
            }
            Instance::Updater => scripts::join_updater(&token, &self.controller),
        };
        self.output.note(format!("{host}: joins"));
        self.run(target, member.join_step(), rights.shell(), Input::Text(&script), SHORT, &secret).await?;
        self.start(target, rights, member).await?;
        self.output.note(format!("{host} has joined {} in {}", member.application, self.environment));
        Ok(Outcome::Joined)
    }

    /// Whether a host can be added at all, and as whom.
    fn check(&self, target: &Target, found: &Found) -> Result<Rights, Failure> {
        let host = &target.name;
        let rights = found.rights.clone().map_err(|complaint| {
            let reason = format!("{} may not become root there without a password: {complaint}", found.user);
            let next = format!("log in as root ({host}=root@…), or let sudo not ask {} for one", found.user);
            Failure::plain("login", reason, next)
        })?;
        if !found.has_systemd {
            let reason = "it does not run systemd, which starts the agent and its services".to_owned();
            return Err(Failure::plain("login", reason, "leave it out".to_owned()));
        }
        if let Some(theirs) = found.identity.as_ref().map(|identity| &identity.identity)
            && (theirs.application != self.application
                || theirs.environment != self.environment
                || theirs.host != *host)
        {
            let reason = format!(
                "it has joined as {} of {} in {}, for good",
                theirs.host, theirs.application, theirs.environment
            );
            let next = format!(
                "leave it out; or, if it is to be {host} of {} in {}: ctl hosts remove {}, stop landfall-agent there, remove \
                 /var/lib/landfall, then the same command again",
                self.application, self.environment, theirs.host
            );
            return Err(Failure::plain("login", reason, next));
        }
        Ok(rights)
    }

    async fn token(&self, member: &Member<'_>) -> Result<String, Error> {
        let wanted = Wanted {
            application: member.application.clone(),
            environment: self.environment.clone(),
            name: Some(member.name.clone()),
            labels: &self.asked.labels,
            valid_for: LONG * 2 + SHORT,
        };
        Ok(new_token(self.profile, self.client, wanted).await?.token.to_text())
    }

    async fn install(&self, target: &Target, found: &Found, rights: Rights) -> Result<(), Stopped> {
        let host = &target.name;
        let kind = if found.has_dpkg { Kind::Package } else { Kind::Tarball };
        // Where there is dpkg the tarball does too, if it is all that there is.
        let artifact = self.artifacts.get(kind.name()).or_else(|| self.artifacts.get(Kind::Tarball.name()));
        let Some(artifact) = artifact else {
            if let Some(version) = &found.agent {
                self.output.note(format!("{host}: {version} is installed"));
                return Ok(());
            }
            let (what, option) = match kind {
                Kind::Package => {
                    ("the agent is not installed there", "--package PATH, with landfall-agent_*.deb")
                }
                Kind::Tarball => ("the agent is not installed there, and there is no dpkg", "--tarball PATH"),
            };
            let next = format!("the same command with {option} (`make packages`, `make tarball`)");
            return Err(Failure::plain("install", what.to_owned(), next).into());
        };
        let file = artifact.path.file_name().unwrap_or_default().to_string_lossy();
        self.output.note(format!("{host}: installs {file} ({})", format::bytes(artifact.bytes)));
        let receive = scripts::receive(artifact.kind);
        let sent = self.run(target, "copy", &receive, Input::File(&artifact.path), LONG, &[]).await?;
        let directory = scripts::received(&sent.out).ok_or_else(|| {
            let reason = "it did not say where it has put the file".to_owned();
            Failure::new("copy", reason, &sent, &[], by_hand(target))
        })?;
        let script = scripts::install(artifact.kind, directory, &artifact.digest);
        self.run(target, "install", rights.shell(), Input::Text(&script), LONG, &[]).await?;
        Ok(())
    }

    /// Starts an agent, and waits until the controller sees it.
    async fn start(&self, target: &Target, rights: Rights, member: &Member<'_>) -> Result<(), Stopped> {
        let script = scripts::start(member.instance);
        self.run(target, member.start_step(), rights.shell(), Input::Text(&script), SHORT, &[]).await?;
        let until = tokio::time::Instant::now() + self.asked.wait;
        loop {
            let hosts = self.client.hosts(Some(&member.application), Some(&self.environment)).await?;
            if hosts.iter().any(|host| host.id == member.name.as_str() && host.connected) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= until {
                break;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        let words = scripts::last_words(member.instance);
        let said = self.ssh.run(&target.destination, rights.shell(), Input::Text(&words), SHORT).await;
        let said = said.map_err(|error| cannot_start(&error))?;
        let wait = format::duration(self.asked.wait);
        let reason = format!("its {} runs, and the controller has not seen it within {wait}", member.noun());
        Err(Failure::new(member.start_step(), reason, &said, &[], self.unfound()).into())
    }

    /// Runs a command on the host, and makes a failure of anything but success.
    async fn run(
        &self,
        target: &Target,
        step: &'static str,
        command: &str,
        input: Input<'_>,
        limit: Duration,
        secrets: &[&str],
    ) -> Result<Said, Stopped> {
        let said = self.ssh.run(&target.destination, command, input, limit).await;
        let said = said.map_err(|error| cannot_start(&error))?;
        let (reason, next) = match said.ended {
            Ended::With(0) => return Ok(said),
            Ended::Unconnected => ("ssh does not get there".to_owned(), unreached(target, &said.err)),
            Ended::Late(limit) => {
                let reason = format!("it did not come to an end within {}", format::duration(limit));
                (reason, by_hand(target))
            }
            Ended::With(code) => {
                let next = if said.err.contains("no connection to the controller") {
                    self.unfound()
                } else {
                    by_hand(target)
                };
                (format!("it ended with exit code {code}"), next)
            }
        };
        Err(Failure::new(step, reason, &said, secrets, next).into())
    }

    /// What to do about a host that does not find the controller.
    fn unfound(&self) -> String {
        format!(
            "let it reach {} (firewalls, names; --controller says another address), then the same command again",
            self.controller
        )
    }

    /// What would be run on a host, for `--dry-run`.
    fn show(&self) {
        let output = self.output;
        let line = |command: &str| {
            let words = self.ssh.arguments("DESTINATION", &format!("'{}'", command.replace('\'', "'\\''")));
            format!("$ ssh {}", words.join(" "))
        };
        let mut text = vec![(
            format!("look, and go no further with a host that has joined already:\n{}", line(scripts::SHELL)),
            scripts::look(),
        )];
        for artifact in self.artifacts.values() {
            let copy = format!("{} <{}", line(&scripts::receive(artifact.kind)), artifact.path.display());
            let condition = match artifact.kind {
                Kind::Package => "copy and install the package",
                Kind::Tarball if self.artifacts.len() > 1 => {
                    "copy and install the tarball, where there is no dpkg"
                }
                Kind::Tarball => "copy and install the tarball",
            };
            let script = scripts::install(artifact.kind, "DIRECTORY", &artifact.digest);
            text.push((format!("{condition}:\n{copy}\n{}", line(Rights::Root.shell())), script));
        }
        let join = scripts::join(&self.application, &self.asked.variables, "TOKEN", &self.controller);
        text.push((format!("join:\n{}", line(Rights::Root.shell())), join));
        text.push((format!("start:\n{}", line(Rights::Root.shell())), scripts::start(Instance::Agent)));
        if self.asked.updater {
            let join = scripts::join_updater("TOKEN", &self.controller);
            text.push((format!("join, the updater:\n{}", line(Rights::Root.shell())), join));
            let start = scripts::start(Instance::Updater);
            text.push((format!("start, the updater:\n{}", line(Rights::Root.shell())), start));
        }
        let hosts: Vec<_> = self
            .asked
            .hosts
            .iter()
            .map(|target| format!("{} ({})", target.name, target.destination))
            .collect();
        output.line(format!(
            "to be added to {} in {}: {}\nWhere it is not root who logs in, it is `{}` that reads what is for root.",
            self.application,
            self.environment,
            hosts.join(", "),
            Rights::Sudo.shell(),
        ));
        for (head, script) in &text {
            let script: String = script.lines().map(|line| format!("    {line}\n")).collect();
            output.line(format!("\n{head}\n{}", script.trim_end()));
        }
        let steps: Vec<_> = text
            .iter()
            .map(|(command, script)| serde_json::json!({"command": command, "script": script}))
            .collect();
        output.json("dry_run", &steps);
    }
}

/// Whether there is something that updaters can join.
async fn check_updater(client: &Client, application: &AppName) -> Result<(), Error> {
    if application.as_str() == AGENT {
        let what = "--updater goes with the hosts of another application";
        return Err(Error::usage(
            what,
            "the same command with --app NAME, or in that application's repository",
        ));
    }
    if client.info().await?.applications.iter().any(|known| known == AGENT) {
        return Ok(());
    }
    let what = "the agent is no application of this controller yet, so that no updater can join";
    let next = "ctl init, in a directory with examples/agent/landfall.toml (docs/guides/upgrades.md), then the same \
                command again";
    Err(Error::missing(what, next))
}

/// Why no further step is taken.
enum Stopped {
    /// On this host.
    Here(Failure),
    /// On any.
    Everywhere(Error),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Everywhere(error)
    }
}

fn cannot_start(error: &std::io::Error) -> Error {
    Error::missing(
        format!("ssh cannot be started: {error}"),
        "install OpenSSH's client: apt-get install openssh-client",
    )
}

/// The address that hosts are told.
fn controller(address: &str) -> Result<String, Error> {
    let next = "say where the hosts find the controller: --controller HOST:PORT";
    let wrong = |what: &str| Err(Error::usage(format!("{address:?} {what}"), next));
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let is_word = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    if host.is_empty() || !host.chars().all(is_word) || port.parse::<u16>().is_err() {
        return wrong("is not HOST:PORT");
    }
    let bare = host.trim_matches(['[', ']']);
    let is_loopback =
        bare.parse::<std::net::IpAddr>().map_or(bare == "localhost", |address| address.is_loopback());
    if is_loopback { wrong("is each host itself") } else { Ok(address.to_owned()) }
}

fn artifact(kind: Kind, path: &Path) -> Result<Artifact, Error> {
    let failed = |source| Error::io("read", path, source);
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(failed)?;
    let (begin, what, next): (&[u8], _, _) = match kind {
        Kind::Package => {
            (b"!<arch>\n", "Debian package", "`make packages` makes landfall-agent_VERSION_ARCHITECTURE.deb")
        }
        Kind::Tarball => {
            (b"\x1f\x8b", "tarball", "`make tarball` makes landfall-VERSION-ARCHITECTURE-linux.tar.gz")
        }
    };
    if !bytes.starts_with(begin) {
        return Err(Error::usage(format!("{} is no {what}", path.display()), next));
    }
    Ok(Artifact { kind, path: path.to_owned(), digest: Sha256::of(&bytes), bytes: bytes.len() as u64 })
}

#[cfg(test)]
mod tests;
