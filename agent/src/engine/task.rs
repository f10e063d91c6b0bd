//! What the engine asks of whoever starts processes and talks to networks.

use landfall_agent_core::state::Migrating;
use landfall_agent_core::{Action, Effect};
use landfall_common::assignment::{ReleaseRef, RestartKind};
use landfall_common::manifest::traffic::Slot;
use landfall_common::manifest::{AppMetric, Check, Headers, Service, Step, Traffic};
use landfall_common::report::HostReport;
use landfall_common::{Duration, ReleaseName, Sha256, StepName};

use super::standing::Running;

/// Starts what the engine wants, and does not wait for it: the answers come as events.
pub trait Runner {
    /// Begins a task. Where it holds an `effect`, its end is told by
    /// [`Event::Done`](landfall_agent_core::Event::Done) with that very effect.
    fn start(&mut self, task: Task);

    /// Sends a report, if there is someone to send it to.
    fn report(&mut self, report: HostReport);

    /// One more assignment has been decided on, durably: what is reported from now on knows of it.
    fn taken(&mut self) {}
}

/// What the engine wants, with all that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Get a release: the manifest into the [store](crate::apply::store::Store), then directory objects and
    /// files until nothing is lacking beside `bases`. Answered by
    /// [`Finish::Fetched`](landfall_agent_core::Finish::Fetched).
    Fetch {
        /// What to get.
        release: ReleaseRef,
        /// Releases whose files need not be fetched.
        bases: Vec<(ReleaseName, Sha256)>,
        /// To answer with.
        effect: Effect,
    },
    /// Run a step of preparation or a smoke test.
    Step {
        /// What runs.
        step: Step,
        /// Of which release.
        release: ReleaseName,
        /// The slot whose words were put into it, if it was one.
        slot: Option<Slot>,
        /// Whether what an earlier attempt has prepared is removed first
        /// ([`clear_prepared`](crate::apply::clear_prepared)), once nothing of that attempt runs.
        afresh: bool,
        /// To answer with.
        effect: Effect,
    },
    /// Restart or reload a service that goes on with the same release. Answered as its effect is.
    Restart {
        /// What runs.
        service: Service,
        /// Which of the two.
        kind: RestartKind,
        /// Of which release.
        release: ReleaseName,
        /// The digest of its manifest.
        digest: Sha256,
        /// Names the intent: asked for again with the same name, what was done is not done again.
        attempt: String,
        /// To answer with.
        effect: Effect,
    },
    /// Find out how a migration ended, which an agent before this one has begun. Needs nothing from the disk but what was
    /// noted of it: that it was begun is known, and whatever cannot be read now does not change that.
    ResumeMigration {
        /// What ran.
        step: StepName,
        /// Lease, direction, release.
        migrating: Migrating,
        /// To answer with.
        effect: Effect,
    },
    /// Run a migration below a supervisor.
    Migrate {
        /// What runs.
        step: Step,
        /// What remains of the lease.
        left: Duration,
        /// Lease, direction, release.
        migrating: Migrating,
        /// To answer with.
        effect: Effect,
    },
    /// Make a service run a release, or end it.
    Service {
        /// Which.
        service: Service,
        /// The release.
        release: ReleaseName,
        /// The digest of its manifest.
        digest: Sha256,
        /// The same for the same try: asked again, it joins what is under way.
        attempt: String,
        /// Whether it is to run.
        activate: bool,
        /// It is left as it is if it runs.
        unless_running: bool,
        /// To answer with.
        effect: Effect,
    },
    /// Ask what runs in a slot until it answers as it should.
    WarmUp {
        /// Where it listens; words are still in it.
        address: String,
        /// What is asked for; the connection alone if nothing is.
        paths: Vec<String>,
        /// Added to each request.
        headers: Headers,
        /// How long all of it may take.
        timeout: Duration,
        /// The release that runs there.
        release: ReleaseName,
        /// To answer with.
        effect: Effect,
    },
    /// Lead requests somewhere, unless they go there already. Answered as its effect is.
    Lead {
        /// Who leads them.
        traffic: Traffic,
        /// Where to.
        to: Endpoint,
        /// The release that says so.
        release: ReleaseName,
        /// To answer with.
        effect: Effect,
    },
    /// End what runs in a slot, once its requests have ended or have run out of time. Answered as its effect is.
    Retire {
        /// What runs there.
        service: Service,
        /// Where it listens; words are still in it.
        address: String,
        /// How long its requests may take to end.
        drain: Duration,
        /// The release that runs there.
        release: ReleaseName,
        /// To answer with.
        effect: Effect,
    },
    /// Begin the checks of a release and end all others; the first answers at once.
    Watch {
        /// Returned with each answer.
        watch: u64,
        /// Of which release.
        release: ReleaseName,
        /// What to ask.
        checks: Vec<Check>,
        /// What to read.
        metrics: Vec<AppMetric>,
        /// Its services, each of which counts as a check as well
        /// ([`service_check`](landfall_agent_core::outline::service_check)).
        services: Vec<Service>,
        /// The digest of the release's manifest.
        digest: Sha256,
    },
    /// Start what is to run while a release is active, and does not. Answered by
    /// [`Event::Ensured`](landfall_agent_core::Event::Ensured).
    Ensure {
        /// What is to run.
        services: Vec<Running>,
        /// The active release.
        active: ReleaseName,
    },
    /// End fetches and steps that run; their answers are not awaited any more.
    Cancel,
}

/// Where requests are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// To an address.
    At {
        /// Which; words are still in it.
        address: String,
        /// The slot that it is, if it is one.
        slot: Option<Slot>,
        /// The release that listens there.
        release: ReleaseName,
    },
    /// To this host.
    Open,
    /// Not to this host.
    Nowhere,
}

/// Whether an effect keeps what is active as it should be, whatever else is under way: it has an answer of its own.
pub(super) fn is_upkeep(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Aim { .. } | Effect::Retire { .. } | Effect::Ensure { .. } | Effect::Watch { .. }
    )
}

/// Whether the engine itself carries an effect out.
pub(super) fn is_local(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Unpack { .. }
            | Effect::Seal { .. }
            | Effect::Sweep { .. }
            | Effect::NameActive { .. }
            | Effect::Act { action: Action::Swap { .. }, .. }
    )
}
