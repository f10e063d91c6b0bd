//! The command line: every command, its arguments, and the text that `--help` shows.

mod approve;
mod evidence;
mod gate;
mod hosts;
mod import;
mod knobs;
mod leave_out;
mod lock;
mod promote;
mod restart;
mod runbook;
mod trust;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use landfall_common::time::{Duration, human};
use landfall_common::{
    AppName, EnvName, HostId, LabelKey, ReleaseName, Right, ServiceName, Sha256, StepName,
};

use crate::error::Exit;
use crate::output::{EXIT_CODES, Format};
pub use approve::{Approve, Reject};
pub use evidence::{Evidence, Outcome, Said};
pub use gate::{Answer as GateAnswer, Gate};
pub use hosts::{Add, Target};
pub use import::Import;
pub use knobs::Knobs;
pub use leave_out::{Exclude, Include};
pub use lock::{Lock, Unlock};
pub use promote::Promote;
pub use restart::Restart;
pub use runbook::Runbook;
pub use trust::{Draft, KeyOf, RotationOf, Trust};

/// Puts releases onto production servers, and tells what runs where.
///
/// A release is a Git tag, built in a clean tree, signed with your key, and brought to an environment batch
/// by batch. Each host proves that it is healthy or puts the old release back.
#[derive(Debug, Parser)]
#[command(name = "ctl", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ctl login TOKEN --controller deploy.example.org:7443
  ctl init                          keys, trust root, a first landfall.toml
  ctl hosts add root@web-1 --env production --package landfall-agent_0.1.0_amd64.deb
  ctl release v1.4 --publish-only   build, sign, publish
  ctl plan v1.4                     what its rollout would do; changes nothing
  ctl release v1.4                  roll it out and follow; what is not published is built first
  ctl status --watch                follow again, from anywhere
  ctl rollback                      back to the last proven release

Exit codes: ctl help exit-codes";

/// Arguments of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The context to use, instead of the current one
    #[arg(long, global = true, env = "LANDFALL_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The application [default: that of the nearest landfall.toml, else of the context]
    #[arg(long, global = true, value_name = "NAME", value_parser = name(AppName::new))]
    pub app: Option<AppName>,
    /// How results are written
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub output: Format,
}

/// The exit codes, one a line.
#[must_use]
pub fn exit_codes() -> String {
    let line = |(code, meaning): &(Exit, &str)| format!("  {}  {meaning}", *code as u8);
    EXIT_CODES.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads a name of some kind.
fn name<T>(
    new: impl Fn(String) -> Result<T, landfall_common::ids::InvalidName> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| new(text.to_owned()).map_err(|error| error.reason.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    human::parse(text).map_err(|error| error.to_string())
}

fn plan_id(text: &str) -> Result<Sha256, String> {
    let wrong = |_| "it is not the id of a plan: copy the line after `next:` of ctl plan".to_owned();
    text.parse::<Sha256>().map_err(wrong)
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as zone=a")?;
    let key = LabelKey::new(key).map_err(|error| error.to_string())?;
    Ok((key.to_string(), value.to_owned()))
}

/// Where a command applies.
#[derive(Debug, Clone, Args)]
pub struct Environment {
    /// The environment [default: that of the context, else the only one of landfall.toml, else production]
    #[arg(short, long = "env", value_name = "NAME", value_parser = name(EnvName::new))]
    pub env: Option<EnvName>,
}

/// What becomes of a rollout that cannot begin at once.
#[derive(Debug, Clone, Default, Args)]
pub struct Held {
    /// Stand in line where another rollout is under way, a lock holds, no release window is open, the release is not
    /// proven in another environment yet, or CI has not said that it passed
    #[arg(long, conflicts_with = "supersede")]
    pub queue: bool,
    /// End the rollout that is under way and those in line, and begin in their stead
    #[arg(long)]
    pub supersede: bool,
    /// Do not let release windows and freezes hold it, for this reason; needs the role manager
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    pub outside_window: String,
    /// Do without the proof in another environment that landfall.toml asks for, for this reason; needs the role manager
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    pub unproven: String,
    /// Do without the evidence of CI that landfall.toml asks for, for this reason; needs the role manager
    #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
    pub without_evidence: String,
}

/// How a rollout is followed.
#[derive(Debug, Clone, Default, Args)]
pub struct Follow {
    /// Begin and return at once; the rollout goes on
    #[arg(long, conflicts_with = "wait")]
    pub detach: bool,
    /// Stop following after this time with exit code 4; the rollout goes on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub wait: Option<Duration>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make keys, the trust root and a first landfall.toml
    Init(Init),
    /// Make a first landfall.toml out of another tool's file
    Import(Import),
    /// Get an operator's certificate with a one-time token
    Login(Login),
    /// Build, sign and publish a release, and roll it out
    Release(Release),
    /// Show what a release would do; change nothing
    Plan(Plan),
    /// Show what runs, and the rollout under way
    Status(Status),
    /// Tell why a rollout does not go on or how it ended, or why a host is as it is
    Why(Why),
    /// List published releases
    Releases,
    /// Show what differs between two releases: steps, files, commits
    Diff(Diff),
    /// Go back to an older release
    Rollback(Rollback),
    /// Print how one would go back from here: what would run, what would refuse it, what to type
    Runbook(Runbook),
    /// Rehearse the way back: take the canary to another release, and back
    Drill(Drill),
    /// Restart services batch by batch, without a new release
    Restart(Restart),
    /// Have services reload batch by batch, without a new release
    Reload(Restart),
    /// Let no further batch of a rollout begin
    Pause(Control),
    /// Let the batch after a proven canary begin; or with --from and --to bring a release to the next environment
    Promote(Promote),
    /// Let a paused rollout go on; its deadlines start anew
    Resume(Control),
    /// End a rollout where it stands
    Abort(Control),
    /// Try failed hosts again: those of the rollout under way, or those that do not run what is in force
    Retry(Control),
    /// Say yes to a rollout that stands in line for approvals
    Approve(Approve),
    /// Say no to a rollout that stands in line for approvals: it ends
    Reject(Reject),
    /// Show, open and close the gates that a rollout waits at
    #[command(subcommand)]
    Gate(Gate),
    /// Sign, hand in and show what CI says of commits
    #[command(subcommand)]
    Evidence(Evidence),
    /// Leave hosts out of the rollout under way
    Exclude(Exclude),
    /// Let hosts that were excluded take part again, or take what is in force
    Include(Include),
    /// Claim an environment for a while: no rollout begins there
    Lock(Lock),
    /// Give an environment free again
    Unlock(Unlock),
    /// Say how a migration of unknown outcome ended
    #[command(subcommand)]
    Migration(Migration),
    /// Show who did what, when; `log verify` proves it
    Log(Log),
    /// Show what a step or a service of a host has written, and writes
    Logs(Logs),
    /// Show hosts: state, release, health figures; make tokens; remove
    Hosts(Hosts),
    /// Show what on hosts differs from what was applied, and facts in which hosts differ; put it right
    Drift(Drift),
    /// Show operators; make tokens for them; remove
    Operators(Operators),
    /// Show and change who may sign releases: keys, thresholds, the floor
    #[command(subcommand)]
    Trust(Trust),
    /// Check certificates, roles, keys, the clock, the connection
    Doctor,
    /// Show, choose and remove contexts
    #[command(subcommand)]
    Context(Context),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// What each exit code means
    #[command(name = "exit-codes", after_help = exit_codes())]
    ExitCodes,
}

/// `ctl init`
#[derive(Debug, Args)]
#[command(after_help = "\
Safe to repeat: what is there stays. Metadata that expires within 60 days is signed anew where the root
key is. A controller that has a root already keeps it: then no root key is made, and what is lacking to sign
releases from this machine is said. The keys are in $LANDFALL_CONFIG_DIR/keys, by default
$XDG_CONFIG_HOME/landfall/keys or ~/.config/landfall/keys, mode 0600. Keep a copy of root.pem offline.

Examples:
  ctl init                  in the application's repository
  ctl init --app tenants    anywhere")]
pub struct Init {
    /// How many of the release keys must sign a release
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub threshold: usize,
    /// The root.json to trust, from a colleague's machine, where the controller has a root already
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// `ctl login`
#[derive(Debug, Args)]
#[command(after_help = "\
The certificate lasts 12 hours and renews itself while you work. The first administrator's token comes
from `landfall-controller init`, later ones from `ctl operators token`.

Examples:
  ctl login lft1_… --controller deploy.example.org:7443
  ctl login lft1_… --controller 10.0.0.5:7443 --context staging")]
pub struct Login {
    /// The token, beginning with lft1_
    #[arg(env = "LANDFALL_TOKEN", hide_env_values = true)]
    pub token: String,
    /// The controller's address [default: that of the context]
    #[arg(long, env = "LANDFALL_CONTROLLER", value_name = "HOST:PORT")]
    pub controller: Option<String>,
    /// A root.json to trust, from a colleague's machine
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// `ctl release`
#[derive(Debug, Args)]
#[command(after_help = "\
The tag becomes a commit, the commit a clean tree; your working directory is never released. Build
commands run in that tree. A published name is used again as it is, and never built twice.
Ctrl-C detaches and never aborts: `ctl status --watch` follows again.

Examples:
  ctl release v1.4                            the tag v1.4, to the default environment
  ctl release v1.4 --env staging --yes        without asking, as in a pipeline
  ctl release v1.4 --canary 2 --batch 10%     more carefully than landfall.toml says
  ctl release v1.4 --artifact build.tar.zst   a tree that was built elsewhere
  ctl release v1.4 --publish-only             sign and publish, roll out later
  ctl release v1.4 --queue --detach           begin when the rollout under way is over
  ctl release v1.4 -o json --yes              the outcome as JSON on stdout

Exit codes: 0 every host runs it (with --detach: it has begun), 1 failed, 2 usage, 3 rolled back, 4 still running, 5 another
rollout has the place, 6 unauthorised, 7 controller unreachable.")]
pub struct Release {
    /// The release: the name of a Git tag, or with --artifact any name
    #[arg(value_parser = name(ReleaseName::new))]
    pub name: ReleaseName,
    /// Where it goes.
    #[command(flatten)]
    pub environment: Environment,
    /// A directory or tar archive (.gz, .zst) that is released as it is, instead of a tag
    #[arg(long, value_name = "PATH")]
    pub artifact: Option<PathBuf>,
    /// The definition, where the artifact holds no landfall.toml
    #[arg(long, value_name = "FILE", requires = "artifact")]
    pub definition: Option<PathBuf>,
    /// The commit that the artifact was built from, for the record; where evidence is asked for, its full id
    #[arg(long, value_name = "COMMIT", requires = "artifact")]
    pub commit: Option<String>,
    /// What changed, for people [default: the message of the tag]
    #[arg(long, value_name = "TEXT")]
    pub notes: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Accept a migration that cannot be taken back
    #[arg(long)]
    pub no_way_back: bool,
    /// Refuse if the plan is no longer the one that `ctl plan` showed
    #[arg(long, value_name = "ID", value_parser = plan_id)]
    pub plan_id: Option<Sha256>,
    /// Publish and do not roll out
    #[arg(long, conflicts_with_all = ["detach", "wait", "plan_id"])]
    pub publish_only: bool,
    /// What if another one has the place.
    #[command(flatten)]
    pub held: Held,
    /// How it is followed.
    #[command(flatten)]
    pub follow: Follow,
    /// Other knobs.
    #[command(flatten)]
    pub knobs: Knobs,
}

/// `ctl plan`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  ctl plan v1.4 --env production
  ctl release v1.4 --env production --plan-id ID    refuses if the world has moved since")]
pub struct Plan {
    /// A published release
    #[arg(value_parser = name(ReleaseName::new))]
    pub name: ReleaseName,
    /// Where it would go.
    #[command(flatten)]
    pub environment: Environment,
    /// Accept a migration that cannot be taken back
    #[arg(long)]
    pub no_way_back: bool,
    /// What if another one has the place.
    #[command(flatten)]
    pub held: Held,
    /// Other knobs.
    #[command(flatten)]
    pub knobs: Knobs,
}

/// `ctl status`
#[derive(Debug, Args)]
pub struct Status {
    /// A rollout by its id [default: the newest of each environment; with --watch the one under way]
    pub rollout: Option<String>,
    /// Only this environment [default: all of them]
    #[arg(short, long = "env", value_name = "NAME", value_parser = name(EnvName::new))]
    pub env: Option<EnvName>,
    /// Follow the rollout until it ends, and exit as `ctl release` would
    #[arg(short, long)]
    pub watch: bool,
    /// Stop following after this time with exit code 4
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "watch")]
    pub wait: Option<Duration>,
}

/// `ctl why`
#[derive(Debug, Args)]
#[command(after_help = "\
Of a rollout: since when, what it waits for host by host, which deadlines run, what failed first with its output, what
runs where. Of a host: what it runs and should run, what it was asked and how it answered, its last failure, its checks.

Examples:
  ctl why                          the rollout under way, or else the last one
  ctl why r-20261122-7f3a
  ctl why web-3 -o json")]
pub struct Why {
    /// A rollout's id or a host's name [default: the rollout under way, or else the last one]
    #[arg(value_name = "ROLLOUT|HOST")]
    pub subject: Option<String>,
    /// Where to look for the one under way.
    #[command(flatten)]
    pub environment: Environment,
}

/// `ctl diff`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ctl diff v1.3 v1.4")]
pub struct Diff {
    /// The older release
    #[arg(value_parser = name(ReleaseName::new))]
    pub from: ReleaseName,
    /// The newer release
    #[arg(value_parser = name(ReleaseName::new))]
    pub to: ReleaseName,
}

/// `ctl rollback`
#[derive(Debug, Args)]
#[command(after_help = "\
While a rollout is under way, it is that one that goes back.

Examples:
  ctl rollback                            to the last proven release before the one in force
  ctl rollback v1.2 --reason 'slow search'")]
pub struct Rollback {
    /// The release to go back to [default: the last proven one before]
    #[arg(value_parser = name(ReleaseName::new))]
    pub name: Option<ReleaseName>,
    /// Where.
    #[command(flatten)]
    pub environment: Environment,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// How it is followed.
    #[command(flatten)]
    pub follow: Follow,
}

/// `ctl drill`
#[derive(Debug, Args)]
#[command(after_help = "\
The canary takes the release, is proven, goes back to the release in force, and is proven again. No database is
changed, and nothing else is brought anywhere. `ctl status` says when that was last done, and how long it took.

Examples:
  ctl drill                               by the release that ctl rollback would go to
  ctl drill v1.5                          by one that is to come")]
pub struct Drill {
    /// The release to take and give back [default: the last proven one before]
    #[arg(value_parser = name(ReleaseName::new))]
    pub name: Option<ReleaseName>,
    /// Where.
    #[command(flatten)]
    pub environment: Environment,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// How it is followed.
    #[command(flatten)]
    pub follow: Follow,
}

/// `ctl pause`, `resume`, `abort`, `retry`
#[derive(Debug, Args)]
pub struct Control {
    /// The rollout's id [default: the one under way]
    pub rollout: Option<String>,
    /// Where to look for the one under way.
    #[command(flatten)]
    pub environment: Environment,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// `ctl migration`
#[derive(Debug, Subcommand)]
pub enum Migration {
    /// Say whether a migration took effect, so that its rollout can go on
    // A group, so that whoever gives neither is shown both.
    #[command(group = clap::ArgGroup::new("verdict").required(true).args(["applied", "not_applied"]), after_help = "\
Look into the database first: nobody else can know.

Examples:
  ctl migration resolve --applied
  ctl migration resolve --not-applied --reason 'lock timeout, nothing was committed'")]
    Resolve {
        /// The rollout's id [default: the one under way]
        rollout: Option<String>,
        /// Where to look for the one under way.
        #[command(flatten)]
        environment: Environment,
        /// It took effect
        #[arg(long)]
        applied: bool,
        /// It did not
        #[arg(long)]
        not_applied: bool,
        /// Why, for the log
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
}

/// `ctl log`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Log {
    /// Something else than showing it.
    #[command(subcommand)]
    pub command: Option<LogCommand>,
    /// Only this environment
    #[arg(short, long = "env", value_name = "NAME", value_parser = name(EnvName::new))]
    pub env: Option<EnvName>,
    /// How many entries, the newest
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Every kind of entry, of all applications, not only the deployments
    #[arg(long)]
    pub all: bool,
}

/// Below `ctl log`.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Prove that no entry was changed or removed since the last look
    Verify,
}

/// `ctl logs`
#[derive(Debug, Args)]
#[command(after_help = "\
Without --step and --service it says what there is. Services that the host's own systemd, Supervisor or Docker runs
write to theirs: `journalctl -u UNIT` on the host, for instance.

Examples:
  ctl logs web-1 --step migrate
  ctl logs web-1 --service web -f
  ctl logs web-1 --service web -n 1000 | grep ERROR")]
pub struct Logs {
    /// Of which host
    #[arg(value_parser = name(HostId::new))]
    pub host: HostId,
    /// Of this step: one of [[prepare]] or [[smoke]], or migrate
    #[arg(long, value_name = "NAME", value_parser = name(StepName::new), conflicts_with = "service")]
    pub step: Option<StepName>,
    /// Of this service
    #[arg(long, value_name = "NAME", value_parser = name(ServiceName::new))]
    pub service: Option<ServiceName>,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// From so many lines before the end on
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub lines: u32,
}

/// `ctl hosts`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "What the table has no room for (bytes per second of the network, each check's latencies, labels, kernel and\n\
                  distribution, the agent's version) is in: ctl hosts -o json"
)]
pub struct Hosts {
    /// Something else than listing.
    #[command(subcommand)]
    pub command: Option<HostsCommand>,
    /// Only this environment
    #[arg(short, long = "env", value_name = "NAME", value_parser = name(EnvName::new))]
    pub env: Option<EnvName>,
}

/// Below `ctl hosts`.
#[derive(Debug, Subcommand)]
pub enum HostsCommand {
    /// Install the agent on hosts by ssh, and let them join
    Add(Box<Add>),
    /// Make a single-use token by which a host joins
    #[command(after_help = "\
Examples:
  ctl hosts token --env production --label zone=a
  on the host: landfall-agent join TOKEN --controller deploy.example.org:7443")]
    Token {
        /// Where the host belongs, for good.
        #[command(flatten)]
        environment: Environment,
        /// The host's name [default: the agent chooses, usually the host name]
        #[arg(long)]
        name: Option<String>,
        /// A label, such as zone=a; may be given several times
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// How long the token can be used, at most 24h
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        valid_for: Duration,
        /// Do not ask about an environment that landfall.toml does not have
        #[arg(short, long)]
        yes: bool,
    },
    /// Leave hosts alone, whatever is rolled out, until they are uncordoned
    #[command(after_help = "\
A rollout under way leaves them out from now on. What one of them was let do it ends. It counts as out (max_unavailable)
while it does not serve.

Examples:
  ctl hosts cordon web-7 --reason 'its disk is being replaced'
  ctl hosts uncordon web-7")]
    Cordon {
        /// The hosts
        #[arg(required = true, value_name = "HOST", value_parser = name(HostId::new))]
        hosts: Vec<HostId>,
        /// Why, for the log and for whoever wonders
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Treat hosts like any other again: they take part in the rollout under way, or take what is in force
    Uncordon {
        /// The hosts
        #[arg(required = true, value_name = "HOST", value_parser = name(HostId::new))]
        hosts: Vec<HostId>,
        /// Why, for the log
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Have requests led away from hosts, while what runs there goes on, until they are undrained
    #[command(after_help = "\
The agent of each leads them away by the gate of the release that runs there (`[traffic]` without
slots), and those under way end. Nothing is rolled out to it meanwhile, as if it were cordoned. It
counts as out (max_unavailable), and more than that allows is refused. Without a gate it is refused
as well: then take the host out of what stands before it by hand, and cordon it.

Examples:
  ctl hosts drain web-7 --reason 'a new disk'
  ctl hosts undrain web-7")]
    Drain {
        /// The hosts
        #[arg(required = true, value_name = "HOST", value_parser = name(HostId::new))]
        hosts: Vec<HostId>,
        /// Why, for the log and for whoever wonders
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Take out more hosts than max_unavailable allows, for this reason; needs the role manager
        #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
        beyond_budget: String,
    },
    /// Have requests led back to hosts once they are healthy, and give them free
    Undrain {
        /// The hosts
        #[arg(required = true, value_name = "HOST", value_parser = name(HostId::new))]
        hosts: Vec<HostId>,
        /// Why, for the log
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Set labels of hosts, and take others away
    #[command(after_help = "\
KEY=VALUE sets a label, KEY- takes one away. What labels decide goes by them at once: in a rollout under way a host that was
not let go yet changes with its new group, and what has changed stays changed.

Examples:
  ctl hosts label web-1 zone=b
  ctl hosts label web-1 web-2 role=canary colour-")]
    Label {
        /// The hosts, then their labels: KEY=VALUE, or KEY-
        #[arg(required = true, num_args = 2.., value_name = "HOST|KEY=VALUE|KEY-")]
        words: Vec<String>,
        /// Why, for the log
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Deny a host from now on and forget it
    Remove {
        /// The host
        host: String,
        /// Why, for the log
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `ctl drift`
#[derive(Debug, Args)]
#[command(after_help = "\
Each host looks at its active release by itself, every ten minutes and on a repair: files that were changed,
added or are missing, permissions, links, `current`; and what it runs by: units, programs of Supervisor,
containers, slots, nginx and HAProxy. What a repair puts right is what is signed and interrupts nothing; what
preparation made, units, and what somebody added, are yours, and so is what has to be started anew. Nothing is put
right unless you say so.

Examples:
  ctl drift                     all hosts, and facts in which they differ
  ctl drift web-1               one host
  ctl drift web-1 --repair --reason 'hotfix of last night'")]
pub struct Drift {
    /// Only this host
    pub host: Option<String>,
    /// Only this environment
    #[arg(short, long = "env", value_name = "NAME", value_parser = name(EnvName::new))]
    pub env: Option<EnvName>,
    /// Have the host put right what is signed, and wait for the end
    #[arg(long, requires = "host")]
    pub repair: bool,
    /// Why, for the log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "repair")]
    pub reason: String,
    /// How long to wait for the end of a repair
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration, requires = "repair")]
    pub wait: Duration,
}

/// `ctl operators`
#[derive(Debug, Args)]
pub struct Operators {
    /// Something else than listing.
    #[command(subcommand)]
    pub command: Option<OperatorsCommand>,
}

/// Below `ctl operators`.
#[derive(Debug, Subcommand)]
pub enum OperatorsCommand {
    /// Deny everything that an operator has: certificates and tokens
    Remove {
        /// The operator
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Make a single-use token by which an operator logs in
    #[command(
        after_help = "Examples:\n  ctl operators token ana --role deployer\n  ctl operators token ci --role \
                            deployer:shop/staging\n  ctl operators token bo --role viewer --role deployer:shop"
    )]
    Token {
        /// The operator's name, as the log will show it
        name: String,
        /// What the operator may do: viewer, gatekeeper, approver, deployer, manager or admin, each may do what those
        /// before it may; for one application with :APP after it, for one environment with :APP/ENV. Several times
        /// for several
        #[arg(long, value_name = "ROLE[:APP[/ENV]]", required = true, value_delimiter = ',')]
        role: Vec<Right>,
        /// How long the token can be used, at most 24h
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
        valid_for: Duration,
    },
}

/// `ctl context`
#[derive(Debug, Subcommand)]
pub enum Context {
    /// List contexts
    List,
    /// Show the one in use, with its files
    Show,
    /// Use another one from now on
    Use {
        /// Its name
        name: String,
    },
    /// Set the defaults of the one in use
    Set {
        /// The application, where nothing else says it
        #[arg(long = "application", value_name = "NAME", value_parser = name(AppName::new))]
        application: Option<AppName>,
        /// The environment, where nothing else says it
        #[arg(short, long = "env", value_name = "NAME", value_parser = name(EnvName::new))]
        env: Option<EnvName>,
    },
    /// Forget one (its certificate and trusted root too; keys stay)
    Remove {
        /// Its name
        name: String,
    },
}
