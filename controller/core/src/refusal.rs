//! Why a command is refused. A refused command changes nothing.

use landfall_common::assignment::RestartKind;
use landfall_common::evidence::{CommitId, Verdict};
use landfall_common::strategy::Closed;
use landfall_common::strategy::GateUrl;
use landfall_common::time::human;
use landfall_common::{
    AppName, EnvName, EvidenceName, GateName, HostId, LabelKey, ReleaseName, RequestId, RolloutId, Timestamp,
};

use crate::evidence::Lacking;
use crate::gate::GateVerdict;
use crate::holder::Holder;
use crate::label::MAX_LABELS;
use crate::proof::Unproven;
use crate::record::Place;
use crate::rollout::StatusWord;
use crate::timing::{LINE_AT_MOST, MAX_LOCK, MIN_LOCK};

/// Why a command is refused: what, why, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request id was used for something else.
    #[error("request {request} was already used for something else; send a new request with a new id")]
    RequestReused {
        /// The id.
        request: RequestId,
    },
    /// No such application.
    #[error(
        "no application {application} is known here: no release of it is published, and no host is enrolled for it; `ctl \
         releases` lists releases, `ctl hosts` hosts"
    )]
    NoSuchApplication {
        /// The application.
        application: AppName,
    },
    /// No such release.
    #[error("{application} has no release {release}; `ctl releases` lists those that are published")]
    NoSuchRelease {
        /// The application.
        application: AppName,
        /// The name.
        release: ReleaseName,
    },
    /// The files of the release were let go.
    #[error(
        "the files of {application} {release} were removed from the controller at {at}, since no environment \
         was to go back to it any more; `ctl release {release} --publish-only` in its repository uploads them again"
    )]
    ContentRemoved {
        /// The application.
        application: AppName,
        /// The release.
        release: ReleaseName,
        /// When.
        at: Timestamp,
    },
    /// A published name stands for other content.
    #[error(
        "{application} {release} was published with other content (counter {counter}); a published name is \
         never reused, choose another"
    )]
    ReleaseDiffers {
        /// The application.
        application: AppName,
        /// The name.
        release: ReleaseName,
        /// The counter of what is published.
        counter: u64,
    },
    /// The counter of a release was used for another.
    #[error("counter {counter} of {application} is taken by {taken}")]
    CounterTaken {
        /// The application.
        application: AppName,
        /// The counter.
        counter: u64,
        /// The release that has it.
        taken: ReleaseName,
    },
    /// The release does not know the environment.
    #[error("{release} defines no environment {environment}; it defines {defined}")]
    NoSuchEnvironment {
        /// The release.
        release: ReleaseName,
        /// The environment.
        environment: EnvName,
        /// Those that it defines, as a list.
        defined: String,
    },
    /// Nobody would take it.
    #[error("no host is enrolled for {place}; `ctl hosts token` makes a token to enrol one")]
    NoHosts {
        /// Where.
        place: Place,
    },
    /// Nobody may take it.
    #[error(
        "every host of {place} is cordoned; `ctl hosts` shows them, `ctl hosts uncordon HOST` gives one free"
    )]
    AllCordoned {
        /// Where.
        place: Place,
    },
    /// Somebody is to know later why a host was left alone.
    #[error("whoever {what} a host says why, with --reason")]
    WithoutReason {
        /// `excludes`, `cordons` or `drains`.
        what: &'static str,
    },
    /// Requests are led away from it as well.
    #[error(
        "{host} is drained by {by}: {reason}; `ctl hosts undrain {host}` leads requests back and gives it free"
    )]
    IsDrained {
        /// The host.
        host: HostId,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// A rollout by two groups has its requests led away.
    #[error(
        "rollout {rollout} has the requests of {host} led to the other group of hosts, and back in its turn; `ctl rollback` or \
         `ctl abort {rollout}` ends that"
    )]
    LedByRollout {
        /// The host.
        host: HostId,
        /// The rollout.
        rollout: RolloutId,
    },
    /// A rollout tells its groups by this label.
    #[error(
        "rollout {rollout} leads requests between the groups of {label}, and {host} stays in its own until that is over; \
         `ctl hosts drain {host}` leads its requests away meanwhile"
    )]
    GroupInUse {
        /// The host.
        host: HostId,
        /// The label.
        label: LabelKey,
        /// The rollout.
        rollout: RolloutId,
    },
    /// Nobody could lead requests away from it.
    #[error("{host} cannot be drained: {reason}")]
    NotDrained {
        /// The host.
        host: HostId,
        /// Why, and what else can be done.
        reason: String,
    },
    /// Too few would be left.
    #[error(
        "{would} hosts of {place} would be out, and max_unavailable allows {most} (out already: {out}); \
         `--beyond-budget REASON` does it all the same"
    )]
    DrainBeyondBudget {
        /// Where.
        place: Box<Place>,
        /// How many would be out.
        would: usize,
        /// How many may.
        most: usize,
        /// Those that are.
        out: String,
    },
    /// There is nothing that a host could be excluded from.
    #[error(
        "no rollout is under way in {place} that {host} could be excluded from; `ctl hosts cordon {host}` keeps it \
         out of all that follow"
    )]
    NothingUnderWay {
        /// Where.
        place: Place,
        /// The host.
        host: HostId,
    },
    /// The host is of another place than the rollout.
    #[error("{host} is of {place}, and rollout {rollout} is not")]
    HostOfAnother {
        /// The host.
        host: HostId,
        /// Where it is.
        place: Box<Place>,
        /// The rollout.
        rollout: RolloutId,
    },
    /// The host has no part in the rollout.
    #[error(
        "{host} has no part in rollout {rollout}: it joined since that began; `ctl hosts cordon {host}` has it left \
         alone"
    )]
    NoPart {
        /// The host.
        host: HostId,
        /// The rollout.
        rollout: RolloutId,
    },
    /// No host was named.
    #[error("name at least one host")]
    WithoutHosts,
    /// Nothing was said of the hosts.
    #[error("say which labels: KEY=VALUE sets one, KEY- takes one away")]
    WithoutLabels,
    /// A label is to be there and not to be there.
    #[error("label {label} is to be set and taken away at once; say one of the two")]
    LabelTwice {
        /// Which.
        label: LabelKey,
    },
    /// A label's value breaks a rule.
    #[error("{rule}")]
    LabelValue {
        /// Which label, and which rule.
        rule: String,
    },
    /// More is said of a host than anybody reads.
    #[error(
        "{host} would have {labels} labels, and may have {most}; `ctl hosts label {host} KEY-` takes others away",
        most = MAX_LABELS
    )]
    TooManyLabels {
        /// Which host.
        host: HostId,
        /// How many it would have.
        labels: usize,
    },
    /// Nobody would be left.
    #[error(
        "nobody would be left in rollout {rollout}; `ctl abort {rollout}` ends it where it is, `ctl rollback` goes back"
    )]
    NobodyLeft {
        /// The rollout.
        rollout: RolloutId,
    },
    /// The host is left alone by another word.
    #[error("{host} is cordoned by {by}: {reason}; `ctl hosts uncordon {host}` gives it free")]
    IsCordoned {
        /// The host.
        host: HostId,
        /// By whom.
        by: String,
        /// Why.
        reason: String,
    },
    /// No such host.
    #[error("no host {host} is enrolled")]
    NoSuchHost {
        /// Its name.
        host: HostId,
    },
    /// A host is enrolled for something else.
    #[error("{host} is enrolled for {place}; remove it first with `ctl hosts remove {host}`")]
    HostElsewhere {
        /// Its name.
        host: HostId,
        /// What it is enrolled for.
        place: Place,
    },
    /// No such rollout.
    #[error("no rollout {rollout} is known")]
    NoSuchRollout {
        /// Its name.
        rollout: RolloutId,
    },
    /// The name of a rollout is taken.
    #[error("a rollout {rollout} exists already")]
    RolloutExists {
        /// Its name.
        rollout: RolloutId,
    },
    /// Another rollout holds the place.
    #[error(
        "{place} is held by {holder}; a release can stand in line with --queue, and {ends}{why}",
        ends = holder.ends, why = holder.reason()
    )]
    Held {
        /// Where.
        place: Box<Place>,
        /// The holder.
        holder: Box<Holder>,
    },
    /// Somebody has claimed the place.
    #[error(
        "{place} is locked by {by} until {until}: {message}; a release can wait for its end with --queue, and `ctl \
         unlock {environment}` takes it away",
        environment = place.environment, until = moment(*until)
    )]
    Locked {
        /// Where.
        place: Box<Place>,
        /// Who has claimed it.
        by: String,
        /// Until when.
        until: Timestamp,
        /// What for.
        message: String,
    },
    /// Another's lock is not taken away without a word.
    #[error("the lock on {place} is {by}'s: {message}; whoever takes it away says why, with --reason")]
    LockOfAnother {
        /// Where.
        place: Box<Place>,
        /// Whose it is.
        by: String,
        /// What for.
        message: String,
    },
    /// Nothing is locked.
    #[error("{place} is not locked")]
    NotLocked {
        /// Where.
        place: Place,
    },
    /// A lock without an owner's word, or for ever.
    #[error("a lock says what for, and holds for {least} to {most}", least = human::format(MIN_LOCK), most = human::format(MAX_LOCK))]
    LockUnbounded,
    /// A release is to be proven elsewhere before.
    #[error(
        "{0}; {next}, a release can wait for that with --queue, and --unproven REASON does without where landfall.toml asks \
         for it (role manager)",
        next = .0.next()
    )]
    Unproven(Box<Unproven>),
    /// CI has to have said that the release's commit is good.
    #[error(
        "{0}; {next}{wait}, and --without-evidence REASON does without (role manager)",
        next = .0.next(), wait = if .0.may_come() { ", a release can wait for it with --queue" } else { "" }
    )]
    Unevidenced(Box<Lacking>),
    /// A later run has said something already, or the same run something else.
    #[error(
        "{said}; a higher run of that key counts (`ctl evidence add --run NUMBER`), and several jobs of one run need a name each",
        said = outrun(*run, *known, &format!("{name} of commit {}", commit.short()), *result)
    )]
    EvidenceOutrun {
        /// What of.
        name: EvidenceName,
        /// Of which commit.
        commit: CommitId,
        /// Which run was handed in.
        run: u64,
        /// Which one is known.
        known: u64,
        /// What it has said.
        result: Verdict,
    },
    /// It is not the time for a rollout.
    #[error(
        "{place} {closed}; a release can wait for that with --queue, and --outside-window REASON begins at once \
         (role manager); `ctl rollback` is not held by it"
    )]
    Closed {
        /// Where.
        place: Box<Place>,
        /// Why, and until when.
        closed: Closed,
    },
    /// Nobody approves what he asked for himself.
    #[error(
        "{by} has asked for rollout {rollout} himself; somebody else approves it, `ctl approve {rollout}`"
    )]
    OwnApproval {
        /// Which.
        rollout: RolloutId,
        /// Who.
        by: String,
    },
    /// What was seen is not what the rollout brings.
    #[error(
        "rollout {rollout} does not bring what was approved; look at it again with `ctl status {rollout}`, then `ctl \
         approve {rollout}`"
    )]
    OtherThanSeen {
        /// Which.
        rollout: RolloutId,
    },
    /// Whoever asked for it wants to know why.
    #[error("whoever rejects rollout {rollout} says why, with --reason")]
    RejectedWithoutReason {
        /// Which.
        rollout: RolloutId,
    },
    /// Others stand in line.
    #[error(
        "{place} is not free: rollout {first} of {release} stands in line since {since}, asked for by {by}; stand in \
         line behind it with --queue, or take its place with --supersede",
        since = moment(*since)
    )]
    LineNotEmpty {
        /// Where.
        place: Box<Place>,
        /// The one that is next.
        first: RolloutId,
        /// What it brings.
        release: ReleaseName,
        /// Who asked for it.
        by: String,
        /// When.
        since: Timestamp,
    },
    /// Too many stand in line.
    #[error("{number} rollouts stand in line for {place} already; `ctl abort` ends one of them", number = LINE_AT_MOST)]
    LineFull {
        /// Where.
        place: Place,
    },
    /// What is under way cannot be ended by another rollout.
    #[error(
        "rollout {rollout} of {release} is not to be superseded: {reason}; stand in line behind it with --queue"
    )]
    NotSuperseded {
        /// The holder.
        rollout: RolloutId,
        /// What it brings.
        release: ReleaseName,
        /// Why not.
        reason: &'static str,
    },
    /// A release below the one in force.
    #[error("{release} is older than {in_force}, which is in force for {place}; {hint}")]
    Older {
        /// What was asked.
        release: ReleaseName,
        /// What is in force.
        in_force: ReleaseName,
        /// Where.
        place: Box<Place>,
        /// What to do instead.
        hint: String,
    },
    /// The knobs contradict each other.
    #[error("the strategy does not hold: {rule}")]
    Strategy {
        /// The rule that is broken.
        rule: String,
    },
    /// A knob is set otherwise than the definition lets it be set.
    #[error(
        "{knob} cannot be {value} for one rollout: landfall.toml of {release} {rule} in {environment} \
         (`[environment.{environment}.overrides]`)", environment = place.environment
    )]
    Range {
        /// Its name in the definition.
        knob: &'static str,
        /// What was asked for.
        value: String,
        /// Where.
        place: Box<Place>,
        /// Whose definition.
        release: ReleaseName,
        /// What it says, as `lets it be at most 50%`.
        rule: String,
    },
    /// The world has moved since the plan was shown.
    #[error("the plan has changed since it was shown; look at it again with `ctl plan {release}`")]
    PlanChanged {
        /// What was planned.
        release: ReleaseName,
    },
    /// There is no way back from the migration.
    #[error(
        "there is no way back from {release}: {reason}; {declare}accept it with --no-way-back (hosts that fail are \
         then left as they are, and the rollout pauses)",
        declare = if *undeclared { "declare its migration reversible or compatible, or " } else { "" }
    )]
    NoWayBack {
        /// What was asked.
        release: ReleaseName,
        /// Why there is none.
        reason: String,
        /// Whether it is its own migration that has declared none.
        undeclared: bool,
    },
    /// A rollback would put code on a schema that it does not know.
    #[error("cannot go back to {release}: {reason}; {needed}")]
    Irreversible {
        /// Where to.
        release: ReleaseName,
        /// Why not.
        reason: String,
        /// What would be needed.
        needed: String,
    },
    /// A release is older than what the database has taken since.
    #[error("{release} does not know the schema as it is: {reason}; {needed}")]
    SchemaAhead {
        /// Which.
        release: ReleaseName,
        /// Why not.
        reason: String,
        /// What would be needed.
        needed: String,
    },
    /// What a release says it follows is no release that it can follow.
    #[error(
        "{release} follows {follows} by its landfall.toml, {reason}; correct `follows`, commit, and tag that commit"
    )]
    Follows {
        /// Which.
        release: ReleaseName,
        /// What it names.
        follows: ReleaseName,
        /// Why not.
        reason: String,
    },
    /// What is in force cannot come to it.
    #[error("{release} cannot be brought to {place}: {reason}{}", needed.as_ref().map_or_else(String::new, |needed| format!("; {needed}")))]
    NoWayThere {
        /// Which.
        release: ReleaseName,
        /// Where.
        place: Box<Place>,
        /// Why not.
        reason: String,
        /// What would be needed.
        needed: Option<String>,
    },
    /// Nothing to go back to.
    #[error("nothing to go back to: {reason}")]
    NothingBefore {
        /// Why.
        reason: String,
    },
    /// Services cannot be restarted or reloaded.
    #[error("no {} in {place}: {reason}", kind.as_str())]
    NoRestart {
        /// Which of the two.
        kind: RestartKind,
        /// Where.
        place: Box<Place>,
        /// Why not, and what helps.
        reason: String,
    },
    /// The way back cannot be rehearsed.
    #[error("no drill in {place}: {reason}")]
    NoDrill {
        /// Where.
        place: Box<Place>,
        /// Why not, and what helps.
        reason: String,
    },
    /// A migration is open.
    #[error(
        "{host} may be running the {direction} of rollout {rollout} until {until}; its outcome decides what \
         can follow. If it stays unknown, `ctl migration resolve {rollout}` settles it",
        until = moment(*until)
    )]
    MigrationOpen {
        /// Which rollout.
        rollout: RolloutId,
        /// The elected host.
        host: HostId,
        /// Until when it may run.
        until: Timestamp,
        /// `migration`, or its way back.
        direction: &'static str,
    },
    /// A migration ended, and nobody knows how.
    #[error(
        "nobody knows whether the {direction} of rollout {rollout} took effect on {host}, and that decides what \
         can follow. Look at the database, then type `ctl migration resolve {rollout} --applied` or `ctl \
         migration resolve {rollout} --not-applied`"
    )]
    MigrationUnknown {
        /// Which rollout.
        rollout: RolloutId,
        /// The elected host.
        host: HostId,
        /// `migration`, or its way back.
        direction: &'static str,
    },
    /// The rollout is in another state.
    #[error("rollout {rollout} is {status}: {reason}")]
    WrongStatus {
        /// Which.
        rollout: RolloutId,
        /// Its status.
        status: StatusWord,
        /// What that means for what was asked.
        reason: &'static str,
    },
    /// A gate that the controller asks itself.
    #[error(
        "gate {gate} is asked by the controller, at {url}, and nobody else answers for it: `ctl promote` overrules the gates, `ctl pause` holds the rollout, `ctl rollback` goes back"
    )]
    GateIsAsked {
        /// Which.
        gate: GateName,
        /// Where.
        url: Box<GateUrl>,
    },
    /// A gate that this controller may not ask.
    #[error(
        "gate {gate} of {release} is asked at {url}, and this controller may not ask there: whoever runs it adds `[[gates]]` with `url = {:?}`, or with what it lies below, to controller.toml, and restarts it",
        url.without_query()
    )]
    GateNotAllowed {
        /// Which.
        gate: GateName,
        /// Of which release.
        release: ReleaseName,
        /// Where.
        url: Box<GateUrl>,
    },
    /// A gate that is not asked now.
    #[error("rollout {rollout} is {status}, and does not ask gate {gate} now: {reason}")]
    GateNotAsked {
        /// Which.
        gate: GateName,
        /// By which rollout.
        rollout: RolloutId,
        /// Its status.
        status: StatusWord,
        /// When it is asked, and what is asked now.
        reason: String,
    },
    /// Something else is asked by now.
    #[error(
        "rollout {rollout} asks gate {gate} before {now}, and this is about batch {batch}; look at it again with `ctl gate list`"
    )]
    OtherBatch {
        /// Which gate.
        gate: GateName,
        /// By which rollout.
        rollout: RolloutId,
        /// What was meant.
        batch: u32,
        /// Before what it is asked.
        now: String,
    },
    /// Nobody could look up why.
    #[error("whoever says that gate {gate} is {verdict} says why: `--reason …`")]
    GateWithoutReason {
        /// Which.
        gate: GateName,
        /// What was said.
        verdict: GateVerdict,
    },
    /// The rollout is over.
    #[error("rollout {rollout} has ended, {status}: `ctl why {rollout}` tells how, and what can follow")]
    Ended {
        /// Which.
        rollout: RolloutId,
        /// How it ended.
        status: StatusWord,
    },
    /// No host has failed.
    #[error("no host of {place} has failed; there is nothing to try again")]
    NothingFailed {
        /// Where.
        place: Place,
    },
    /// Another rollout is under way than the one whose hosts are meant.
    #[error(
        "rollout {holder} is under way there, and {rollout} is another one; `ctl retry {holder}` tries the hosts again that \
         failed in it"
    )]
    RetryAnother {
        /// The one that was meant.
        rollout: RolloutId,
        /// The one that is under way.
        holder: RolloutId,
    },
    /// What failed is over, and not what hosts are to run.
    #[error(
        "rollout {rollout} of {release} has ended, and {place} does not run {release}: `ctl release {release}` \
         tries it again"
    )]
    RetryEnded {
        /// Where.
        place: Box<Place>,
        /// The rollout.
        rollout: RolloutId,
        /// What it was to bring.
        release: ReleaseName,
    },
}

/// A moment to the second, as sentences show it.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    format!("{} UTC", at.whole_seconds().to_string().replace('T', " ").trim_end_matches('Z'))
}

/// A duration in whole seconds, as sentences show it.
pub(crate) fn seconds(duration: landfall_common::Duration) -> String {
    human::format(landfall_common::Duration::from_secs(duration.as_secs()))
}

fn outrun(run: u64, known: u64, what: &str, result: Verdict) -> String {
    match run == known {
        true => format!("run {run} has said already that {what} {result}"),
        false => format!("run {run} says nothing of {what} any more, since run {known} has {result}"),
    }
}
