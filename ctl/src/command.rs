//! The commands, one file each, and what they share: the session.

mod approve;
mod context;
mod control;
mod diff;
mod doctor;
mod drift;
mod drill;
mod evidence;
mod follow;
mod gate;
mod hosts;
mod import;
mod init;
mod leave_out;
mod lock;
mod log;
mod login;
mod logs;
mod operators;
mod place;
mod plan;
mod promote;
mod release;
mod releases;
mod restart;
mod rollback;
mod runbook;
mod status;
mod trust;
mod why;

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use landfall_common::assignment::RestartKind;
use landfall_common::definition::Definition;
use landfall_common::{AppName, EnvName};

use crate::cli::{self, Cli, Command, Global, Held, Knobs};
use crate::client::{Client, IfHeld, Overrides};
use crate::config::{self, Config, Places, Profile};
use crate::error::{Error, Exit};
use crate::output::{EXIT_CODES, Output};
use crate::view;

/// What every command begins with.
pub struct Session {
    /// Where it was typed.
    pub directory: PathBuf,
    /// Where `ctl` keeps its files.
    pub places: Places,
    /// The contexts.
    pub config: Config,
    /// The global arguments.
    pub global: Global,
    /// Where to print.
    pub output: Output,
}

impl Session {
    /// The profile of the context in use.
    ///
    /// # Errors
    /// Those of [`Config::profile`].
    pub fn profile(&self) -> Result<Profile, Error> {
        self.config.profile(&self.places, self.global.context.as_deref())
    }

    /// A connection as the operator of the context in use.
    ///
    /// # Errors
    /// [`Error::NotLoggedIn`], [`Error::Unreachable`].
    pub async fn connect(&self) -> Result<(Profile, Client), Error> {
        let profile = self.profile()?;
        let client = Client::connect(&profile).await?;
        Ok((profile, client))
    }

    /// The definition of the working tree around the place where the command was typed, if there is one.
    ///
    /// # Errors
    /// [`Error::Definition`].
    pub fn local_definition(&self) -> Result<Option<Definition>, Error> {
        self.local_definition_or(
            "correct the file, or do without it: add --app NAME, and --env NAME where the command takes it",
        )
    }

    /// As [`Session::local_definition`], with other words on what to do about a file that is not valid.
    ///
    /// # Errors
    /// [`Error::Definition`].
    pub fn local_definition_or(&self, next: &'static str) -> Result<Option<Definition>, Error> {
        let Some(path) = config::nearest_definition(&self.directory) else { return Ok(None) };
        read_definition(&path, next).map(Some)
    }

    /// The application that is meant: `--app`, the nearest `landfall.toml`, the context, or the only one
    /// that the controller knows.
    ///
    /// # Errors
    /// [`Error::Usage`] when none of them says it.
    pub async fn application(&self, client: &Client) -> Result<AppName, Error> {
        if let Some(application) = self.known_application()? {
            return Ok(application);
        }
        let known = client.info().await?.applications;
        match &known[..] {
            [only] => AppName::new(only.clone()).map_err(|error| Error::Answer(error.to_string())),
            _ => Err(Error::usage(
                "which application is meant?",
                if known.is_empty() {
                    "run this in its repository, or add --app NAME".to_owned()
                } else {
                    format!("add --app NAME; the controller knows {}", known.join(", "))
                },
            )),
        }
    }

    /// The application as far as this machine can tell.
    ///
    /// # Errors
    /// [`Error::Definition`].
    pub fn known_application(&self) -> Result<Option<AppName>, Error> {
        if let Some(application) = &self.global.app {
            return Ok(Some(application.clone()));
        }
        if let Some(definition) = self.local_definition()? {
            return Ok(Some(definition.application));
        }
        Ok(self.profile().ok().and_then(|profile| profile.context.application))
    }

    /// The environment that is meant, among those that a release knows (if there is one to ask).
    ///
    /// # Errors
    /// [`Error::Usage`] for one that the release does not know.
    pub fn environment<'e>(
        &self,
        asked: Option<&EnvName>,
        known: impl Iterator<Item = &'e EnvName>,
    ) -> Result<EnvName, Error> {
        let known: Vec<&EnvName> = known.collect();
        let of_context = self.profile().ok().and_then(|profile| profile.context.environment);
        let only = match known[..] {
            [only] => Some(only.clone()),
            _ => None,
        };
        let production = || EnvName::new("production").expect("a literal that is a valid name");
        let chosen = asked.cloned().or(of_context).or(only).unwrap_or_else(production);
        if known.is_empty() || known.contains(&&chosen) {
            return Ok(chosen);
        }
        let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
        Err(Error::usage(
            format!("the release has no environment {chosen:?}", chosen = chosen.as_str()),
            format!("add --env NAME; landfall.toml has {}", names.join(", ")),
        ))
    }

    /// The environment that is meant, by the working tree's definition.
    ///
    /// # Errors
    /// Those of [`Session::environment`].
    pub fn local_environment(&self, asked: Option<&EnvName>) -> Result<EnvName, Error> {
        // Hosts may be in environments that this working tree does not know (any more). And whoever says it needs
        // no file, which may be in the middle of being edited.
        if let Some(asked) = asked {
            return Ok(asked.clone());
        }
        let definition = self.local_definition()?;
        let definition = definition.filter(|definition| self.is_meant(definition));
        self.environment(None, definition.iter().flat_map(|d| d.environments.keys()))
    }

    /// Whether a definition is that of the application which `--app` names, if it names one.
    fn is_meant(&self, definition: &Definition) -> bool {
        self.global.app.as_ref().is_none_or(|asked| *asked == definition.application)
    }

    /// The environments of an application, by the working tree's definition; none where there is no such
    /// definition, or none that can be read.
    #[must_use]
    pub fn defined_environments(&self, application: &AppName) -> Option<Vec<EnvName>> {
        let definition = self.local_definition().ok().flatten()?;
        (definition.application == *application).then(|| definition.environments.into_keys().collect())
    }

    /// The rollout that is meant: by its id, or the one under way in an environment.
    ///
    /// # Errors
    /// [`Error::Usage`] if nothing is under way.
    pub async fn running_rollout(
        &self,
        client: &Client,
        id: Option<&str>,
        env: Option<&EnvName>,
    ) -> Result<view::Rollout, Error> {
        self.rollout(client, id, env, Meant::UnderWay).await
    }

    /// The rollout whose failed hosts are meant: the one under way, or else the last one, since hosts that do
    /// not run what is in force may be tried again at any time.
    ///
    /// # Errors
    /// [`Error::Usage`] if there never was one.
    pub async fn newest_rollout(
        &self,
        client: &Client,
        id: Option<&str>,
        env: Option<&EnvName>,
    ) -> Result<view::Rollout, Error> {
        self.rollout(client, id, env, Meant::Newest).await
    }

    async fn rollout(
        &self,
        client: &Client,
        id: Option<&str>,
        env: Option<&EnvName>,
        meant: Meant,
    ) -> Result<view::Rollout, Error> {
        if let Some(id) = id {
            return client.rollout(id).await;
        }
        let application = self.application(client).await?;
        let environment = self.local_environment(env)?;
        let mut newest = client.rollouts(Some(&application), Some(&environment), NEWEST).await?;
        let at = match (current(&newest), meant) {
            (Some(at), _) => at,
            (None, Meant::Newest) if !newest.is_empty() => 0,
            (None, Meant::Newest) => {
                return Err(Error::usage(
                    format!("there never was a rollout of {application} in {environment}"),
                    "ctl releases shows what there is; ctl release NAME brings it to the hosts",
                ));
            }
            (None, Meant::UnderWay) => {
                return Err(Error::usage(
                    format!("no rollout of {application} is under way in {environment}"),
                    "ctl status shows how the last one ended",
                ));
            }
        };
        Ok(newest.swap_remove(at))
    }
}

/// So many cover the longest line and what is under way before it.
const NEWEST: u32 = 50;

/// Of rollouts, newest first: the one that is under way, or else the one that is next in line.
fn current(rollouts: &[view::Rollout]) -> Option<usize> {
    let under_way = |rollout: &view::Rollout| !rollout.status.has_ended() && !rollout.in_line;
    let next = |rollout: &view::Rollout| !rollout.status.has_ended();
    rollouts.iter().position(under_way).or_else(|| rollouts.iter().rposition(next))
}

/// Which rollout a command without an id means.
enum Meant {
    UnderWay,
    Newest,
}

/// Reads a definition from a file; `next` is what to do about one that is not valid.
///
/// # Errors
/// [`Error::Io`], [`Error::Definition`].
pub fn read_definition(path: &Path, next: &'static str) -> Result<Definition, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("read", path, source))?;
    parse_definition(&path.display().to_string(), bytes, next)
}

/// Reads a definition from bytes; `next` is what to do about one that is not valid.
///
/// # Errors
/// [`Error::Definition`], [`Error::Usage`] if they are not UTF-8.
pub fn parse_definition(label: &str, bytes: Vec<u8>, next: &'static str) -> Result<Definition, Error> {
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(format!("{label} is not UTF-8"), next))?;
    Definition::parse(label, &text).map_err(|mistakes| Error::Definition { mistakes, next })
}

/// The knobs as the controller takes them.
#[must_use]
pub fn overrides(knobs: &Knobs) -> Overrides {
    Overrides {
        strategy: knobs.strategy,
        canary: knobs.canary.clone(),
        canary_hold: knobs.canary_hold,
        auto_promote: knobs.promotes(),
        analysis: knobs.analyses(),
        batch: knobs.batch.map(|amount| amount.to_string()),
        window: knobs.window,
        spread: knobs.spread.clone(),
        stagger: knobs.stagger,
        max_unavailable: knobs.max_unavailable.map(|amount| amount.to_string()),
        min_healthy: knobs.min_healthy,
        healthy_deadline: knobs.healthy_deadline,
        progress_deadline: knobs.progress_deadline,
        rollout_deadline: knobs.rollout_deadline,
        failure_budget: knobs.failure_budget.map(|amount| amount.to_string()),
        auto_rollback: knobs.goes_back(),
        watch: knobs.watch,
    }
}

/// What becomes of a rollout that cannot begin at once.
#[must_use]
pub fn if_held(held: &Held) -> IfHeld {
    match held {
        Held { queue: true, .. } => IfHeld::Queue,
        Held { supersede: true, .. } => IfHeld::Supersede,
        Held { .. } => IfHeld::Refuse,
    }
}

/// Runs a command.
///
/// # Errors
/// Why it did not do what was asked.
pub async fn run(cli: Cli, directory: PathBuf, output: Output) -> Result<Exit, Error> {
    match cli.command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ctl", &mut script);
            output.raw(&script);
            return Ok(Exit::Succeeded);
        }
        Command::ExitCodes => {
            output.line(cli::exit_codes());
            let codes: Vec<_> = EXIT_CODES
                .iter()
                .map(|(code, meaning)| serde_json::json!({"code": *code as u8, "meaning": meaning}))
                .collect();
            output.json("exit_codes", &codes);
            return Ok(Exit::Succeeded);
        }
        _ => {}
    }
    let places = Places::find(|name| std::env::var_os(name).map(PathBuf::from))?;
    let config = Config::load(&places)?;
    let mut session = Session { directory, places, config, global: cli.global, output };
    match cli.command {
        Command::Init(arguments) => init::run(&session, &arguments).await,
        Command::Import(arguments) => import::run(&session, &arguments),
        Command::Login(arguments) => login::run(&mut session, &arguments).await,
        Command::Release(arguments) => release::run(&session, &arguments).await,
        Command::Plan(arguments) => plan::run(&session, &arguments).await,
        Command::Status(arguments) => status::run(&session, &arguments).await,
        Command::Why(arguments) => why::run(&session, &arguments).await,
        Command::Releases => releases::run(&session).await,
        Command::Diff(arguments) => diff::run(&session, &arguments).await,
        Command::Rollback(arguments) => rollback::run(&session, &arguments).await,
        Command::Runbook(arguments) => runbook::run(&session, &arguments).await,
        Command::Drill(arguments) => drill::run(&session, &arguments).await,
        Command::Restart(arguments) => restart::run(&session, &arguments, RestartKind::Restart).await,
        Command::Reload(arguments) => restart::run(&session, &arguments, RestartKind::Reload).await,
        Command::Pause(arguments) => control::run(&session, &arguments, crate::client::Control::Pause).await,
        Command::Resume(arguments) => {
            control::run(&session, &arguments, crate::client::Control::Resume).await
        }
        Command::Promote(arguments) => promote::run(&session, &arguments).await,
        Command::Abort(arguments) => control::run(&session, &arguments, crate::client::Control::Abort).await,
        Command::Retry(arguments) => {
            control::run(&session, &arguments, crate::client::Control::RetryFailed).await
        }
        Command::Approve(arguments) => approve::approve(&session, &arguments).await,
        Command::Reject(arguments) => approve::reject(&session, &arguments).await,
        Command::Gate(arguments) => gate::run(&session, &arguments).await,
        Command::Evidence(arguments) => evidence::run(&session, &arguments).await,
        Command::Exclude(arguments) => leave_out::exclude(&session, &arguments).await,
        Command::Include(arguments) => leave_out::include(&session, &arguments).await,
        Command::Lock(arguments) => lock::lock(&session, &arguments).await,
        Command::Unlock(arguments) => lock::unlock(&session, &arguments).await,
        Command::Migration(arguments) => control::migration(&session, &arguments).await,
        Command::Log(arguments) => log::run(&session, &arguments).await,
        Command::Logs(arguments) => logs::run(&session, &arguments).await,
        Command::Hosts(arguments) => hosts::run(&session, &arguments).await,
        Command::Drift(arguments) => drift::run(&session, &arguments).await,
        Command::Operators(arguments) => operators::run(&session, &arguments).await,
        Command::Trust(arguments) => trust::run(&mut session, &arguments).await,
        Command::Doctor => doctor::run(&session).await,
        Command::Context(arguments) => context::run(&mut session, &arguments),
        Command::Completion { .. } | Command::ExitCodes => Ok(Exit::Succeeded),
    }
}

#[cfg(test)]
mod tests;
