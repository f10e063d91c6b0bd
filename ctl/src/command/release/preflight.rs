//! What would be refused after the build, refused before it: nobody waits minutes to be told of a typing error,
//! and what is refused has changed nothing.

use landfall_common::definition::Definition;
use landfall_common::evidence::{CommitId, Demand};
use landfall_common::manifest::{Follows, Manifest};
use landfall_common::strategy::Strategy;
use landfall_common::{AppName, EnvName, ReleaseCounter, ReleaseName, Rights, Role, Scope};
use landfall_trust::KeyPair;
use landfall_trust::policy::app_role;

use crate::cli::Release;
use crate::client::Client;
use crate::client::status::Refusal;
use crate::command::Session;
use crate::config::Profile;
use crate::error::Error;
use crate::keys;
use crate::trust::{self, Trust, Trusted};

/// What nothing needs to be read for: the role, and whether there is somebody to say yes.
///
/// # Errors
/// [`Error::Refused`], [`Error::Usage`].
pub(super) async fn asked(session: &Session, arguments: &Release, client: &Client) -> Result<Who, Error> {
    if !arguments.yes && !arguments.publish_only && arguments.plan_id.is_none() {
        let next = format!(
            "add --yes; or look at the plan first: ctl release {0} --publish-only, then ctl plan {0}",
            arguments.name
        );
        session.output.check_answerable(&format!("release {}?", arguments.name), &next)?;
    }
    let info = client.info().await?;
    // Words that this program does not know are the controller's to judge.
    let rights: Option<Rights> = info.role.parse().ok();
    if rights.as_ref().is_some_and(|rights| !rights.have_some(Role::Deployer, &Scope::Everything)) {
        let message = format!("this needs the role deployer, and {} is {}", info.operator, info.role);
        return Err(Error::Refused(Box::new(Refusal::role_too_low(message))));
    }
    Ok(Who { operator: info.operator, rights })
}

/// Who asks, as the certificate says.
pub(super) struct Who {
    operator: String,
    rights: Option<Rights>,
}

impl Who {
    /// Whether this operator may release there, or publish for it.
    fn may(&self, scope: &Scope, is_published_only: bool) -> Result<(), Error> {
        let Some(rights) = &self.rights else { return Ok(()) };
        let does = match is_published_only {
            true => rights.have_some(Role::Deployer, scope),
            false => rights.have(Role::Deployer, scope),
        };
        if does {
            return Ok(());
        }
        let message = format!("this needs the role deployer for {scope}, and {} is {rights}", self.operator);
        Err(Error::Refused(Box::new(Refusal::role_too_low(message))))
    }
}

/// What the definition decides: the environment, whether this operator may release there, and whether the knobs hold
/// with those that it has.
///
/// # Errors
/// [`Error::Usage`], [`Error::Refused`].
pub(super) fn definition(
    session: &Session,
    arguments: &Release,
    who: &Who,
    Definition { application, environments, .. }: &Definition,
) -> Result<(), Error> {
    let environment = session.environment(arguments.environment.env.as_ref(), environments.keys())?;
    match arguments.publish_only {
        true => who.may(&Scope::Application(application.clone()), true)?,
        false => who.may(&Scope::Environment(application.clone(), environment.clone()), false)?,
    }
    let strategy = environments.get(&environment).cloned().unwrap_or_default();
    arguments.knobs.over(&strategy).check().map_err(|rule| {
        Error::usage(
            format!("the strategy for {environment} does not hold: {rule}"),
            "change it on the command line (ctl release --help), or in [environment.NAME] of landfall.toml",
        )
    })
}

/// Whether CI can have said anything of an artifact: it says from which commit it was made, where evidence is asked for. What
/// is published without one never has any, and its name is taken.
///
/// # Errors
/// [`Error::Usage`].
pub(super) async fn commit(
    session: &Session,
    arguments: &Release,
    client: &Client,
    Definition { application, environments, .. }: &Definition,
) -> Result<(), Error> {
    let environment = session.environment(arguments.environment.env.as_ref(), environments.keys())?;
    if !arguments.held.without_evidence.is_empty() {
        return Ok(());
    }
    let check = |strategy: Option<&Strategy>, by: &str| {
        let asked = strategy.map_or(&[][..], |strategy| &strategy.entry.evidence);
        names_its_commit(arguments.commit.as_deref(), &environment, by, asked)
    };
    check(environments.get(&environment), "landfall.toml")?;
    if arguments.publish_only {
        return Ok(());
    }
    // What is in force asks as well; what cannot be read of it is the controller's to judge.
    let there = client.environments(Some(application), Some(&environment)).await.unwrap_or_default();
    let in_force = there.into_iter().find_map(|there| ReleaseName::new(there.in_force?).ok());
    let Some(in_force) = in_force else { return Ok(()) };
    let Ok(Some((_, bytes))) = client.release(application, &in_force).await else { return Ok(()) };
    let Ok(manifest) = Manifest::from_bytes(&bytes) else { return Ok(()) };
    check(manifest.environments.get(&environment), &format!("{in_force}, which is in force,"))
}

fn names_its_commit(
    commit: Option<&str>,
    environment: &EnvName,
    by: &str,
    asked: &[Demand],
) -> Result<(), Error> {
    if asked.is_empty() || commit.is_some_and(|commit| CommitId::new(commit).is_ok()) {
        return Ok(());
    }
    let names: Vec<&str> = asked.iter().map(|demand| demand.name.as_str()).collect();
    let what = match commit {
        None => "the artifact names no commit".to_owned(),
        Some(commit) => format!("--commit {commit} is no full commit id"),
    };
    Err(Error::usage(
        format!("{what}, and {by} asks for evidence of its commit in {environment}: {}", names.join(", ")),
        "add --commit \"$(git rev-parse HEAD)\", where it was made; --without-evidence REASON does without (role manager)",
    ))
}

/// Whether this machine can sign what is about to be made, and whether a plan of it can have been shown.
///
/// # Errors
/// [`Error::Missing`] without keys, without a trusted root, or where no key here is authorised;
/// [`Error::Usage`] for a plan of what was never published.
pub(super) async fn signer(
    profile: &Profile,
    arguments: &Release,
    client: &Client,
    application: &AppName,
) -> Result<(), Error> {
    let release = &arguments.name;
    if arguments.plan_id.is_some() {
        return Err(Error::usage(
            format!("{application} {release} is not published yet, so that --plan-id names no plan of it"),
            format!("ctl release {release} --publish-only, then ctl plan {release}"),
        ));
    }
    let pairs = keys::read_all(&profile.release_key_files())?;
    let trust = Trust::refresh(profile.trust_directory(), client).await?;
    let targets = trust.targets()?;
    let authority = targets.authority("targets", &app_role(application));
    let Some(authority) = authority else { return Err(unknown_application(application)) };
    if pairs.iter().any(|pair| authority.keyids.contains(pair.keyid())) {
        return Ok(());
    }
    Err(unauthorised(&pairs, application))
}

/// The release that the definition says this one follows, with the number that its signers gave it: hosts hold themselves
/// against that number, and so it is taken from nothing but what is signed.
///
/// # Errors
/// [`Error::Usage`] for what is no earlier release; those of [`Trust::refresh`].
pub(super) async fn follows(
    session: &Session,
    profile: &Profile,
    arguments: &Release,
    client: &Client,
    Definition { application, follows, .. }: &Definition,
) -> Result<Option<Follows>, Error> {
    let Some(follows) = follows else { return Ok(None) };
    let trusted = Trusted::seen(session.output, profile.trust_directory(), client).await?;
    let role = trusted.roles.get(&app_role(application)).ok_or_else(|| unknown_application(application))?;
    let number = |name: &ReleaseName| {
        role.releases().into_iter().find(|custom| custom.release == *name).map(|custom| custom.counter)
    };
    let own = number(&arguments.name);
    followed(&arguments.name, own, follows, number(follows)).map(Some)
}

fn followed(
    release: &ReleaseName,
    own: Option<ReleaseCounter>,
    follows: &ReleaseName,
    counter: Option<ReleaseCounter>,
) -> Result<Follows, Error> {
    let not = |why: &str| {
        Error::usage(
            format!("{release} follows {follows} by its landfall.toml, {why}"),
            "name an earlier release (`ctl releases` lists them), commit, and tag that commit",
        )
    };
    if follows == release {
        return Err(not("which is itself"));
    }
    let counter = counter.ok_or_else(|| not("which its signers do not list"))?;
    if own.is_some_and(|own| counter >= own) {
        return Err(not("which is newer"));
    }
    Ok(Follows { release: follows.clone(), counter })
}

/// Nobody signs releases of it.
pub(super) fn unknown_application(application: &AppName) -> Error {
    Error::missing(
        format!("no key may sign releases of {application} yet"),
        format!("ctl init --app {application}, where the root key is"),
    )
}

fn unauthorised(pairs: &[KeyPair], application: &AppName) -> Error {
    let ids: Vec<String> = pairs.iter().map(|pair| pair.keyid().to_string()).collect();
    Error::missing(
        format!("no release key of this machine may sign releases of {application} ({})", ids.join(", ")),
        trust::LET_ME_SIGN,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Knobs;
    use landfall_common::EvidenceName;
    use landfall_common::strategy::{Amount, Canary};

    #[test]
    fn knobs_are_held_against_those_of_the_definition() {
        let base = Strategy::default();
        let knobs = |knobs: Knobs| knobs.over(&base).check();
        assert_eq!(knobs(Knobs::default()), Ok(()));
        let long = Knobs { min_healthy: Some(std::time::Duration::from_secs(20 * 60)), ..Knobs::default() };
        insta::assert_snapshot!(knobs(long).unwrap_err(), @"min_healthy (20m) must be shorter than healthy_deadline (5m)");
        let batch =
            Knobs { batch: Some(Amount::Count(3)), canary: Some(Canary::Count(0)), ..Knobs::default() };
        let strategy = batch.over(&base);
        assert_eq!((strategy.batch, strategy.canary), (Amount::Count(3), Canary::Count(0)));
        let stays = Knobs { no_auto_rollback: true, ..Knobs::default() };
        assert!(!stays.over(&base).auto_rollback);
    }

    #[test]
    fn a_release_follows_an_earlier_one() {
        let name = |name: &str| ReleaseName::new(name).unwrap();
        let check = |own: Option<u64>, follows: &str, counter: Option<u64>| {
            let (own, counter) = (own.map(ReleaseCounter), counter.map(ReleaseCounter));
            followed(&name("v1.2"), own, &name(follows), counter).map_err(|error| error.to_string())
        };
        let follows = Follows { release: name("v1.1"), counter: ReleaseCounter(4) };
        assert_eq!(check(None, "v1.1", Some(4)), Ok(follows.clone()));
        // It is listed already, and its files are uploaded again.
        assert_eq!(check(Some(5), "v1.1", Some(4)), Ok(follows));
        insta::assert_snapshot!(check(None, "v1.0", None).unwrap_err(), @"v1.2 follows v1.0 by its landfall.toml, which its signers do not list");
        insta::assert_snapshot!(check(None, "v1.2", None).unwrap_err(), @"v1.2 follows v1.2 by its landfall.toml, which is itself");
        insta::assert_snapshot!(check(Some(5), "v1.3", Some(6)).unwrap_err(), @"v1.2 follows v1.3 by its landfall.toml, which is newer");
    }

    #[test]
    fn what_needs_evidence_names_its_commit_in_full() {
        let environment = EnvName::new("production").unwrap();
        let demand = |name: &str| Demand { name: EvidenceName::new(name).unwrap(), keys: [].into() };
        let asked = [demand("tests"), demand("load")];
        let check = |commit: Option<&str>, asked: &[Demand]| {
            names_its_commit(commit, &environment, "landfall.toml", asked).map_err(|error| error.to_string())
        };
        assert_eq!(check(None, &[]), Ok(()));
        assert_eq!(check(Some(&"0a".repeat(20)), &asked), Ok(()));
        insta::assert_snapshot!(check(None, &asked).unwrap_err(), @"the artifact names no commit, and landfall.toml asks for evidence of its commit in production: tests, load");
        insta::assert_snapshot!(check(Some("v1.4"), &asked).unwrap_err(), @"--commit v1.4 is no full commit id, and landfall.toml asks for evidence of its commit in production: tests, load");
    }

    #[test]
    fn a_role_for_another_environment_is_told_before_anything_is_built() {
        let scope = |text: &str| text.parse::<landfall_common::Right>().unwrap().scope;
        let may = |rights: &str, place: &str, publishes: bool| {
            let who = Who { operator: "ana".to_owned(), rights: rights.parse().ok() };
            who.may(&scope(&format!("viewer:{place}")), publishes).map_err(|refused| refused.to_string())
        };
        assert!(may("deployer:shop/staging", "shop/staging", false).is_ok());
        assert!(may("deployer:shop/staging", "shop", true).is_ok());
        assert_eq!(
            may("deployer:shop/staging", "shop/production", false).unwrap_err(),
            "this needs the role deployer for shop in production, and ana is deployer:shop/staging"
        );
        assert!(may("deployer:shop/staging", "blog", true).is_err());
        // What a newer controller calls its roles is not for this program to judge.
        assert!(may("conductor:shop/*", "shop/production", false).is_ok());
    }
}
