//! Watching for drift: a thread of its own that looks at the active release, slowly, and says what it saw.
//!
//! What must be, and what counts as a difference, is decided in [`landfall_agent_core::drift`]; here it is looked
//! ([`look`]), read gently ([`reading`]), rested, and on an operator's word put right. Nothing is put right by itself:
//! a file that somebody changed on a host in an emergency is not to vanish in the middle of it.
//!
//! The thread rests 199 times as long as it has used a core, has the lowest priority, and holds one directory of the
//! release at a time. It looks only while no release is under way.

pub mod look;
pub mod outside;
pub mod reading;
mod repair;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use landfall_agent_core::drift::{
    Ask, Depth, Finding, Findings, Kind, Looked, Remedy, Rhythm, Scan, Summary, pace,
};
use landfall_common::Sha256;
use landfall_common::assignment::ReleaseRef;
use landfall_common::report::{HostReport, Phase};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::apply::store::LackingFile;
use crate::engine::standing::Standing;
use crate::error::AgentError;
use crate::runtime::{EngineHandle, Said};
use crate::{clock, memory};
use look::{Interrupted, Looker};
use outside::{Beside, Seen};

/// How many findings are kept by their paths; beyond that they are counted.
const LISTED: usize = 1000;

/// What may have changed without a word is asked for this often: whether a release is active, and which.
const POLL: Duration = Duration::from_secs(20);

/// A look that was interrupted begins again no sooner than this.
const AFTER_INTERRUPTION: Duration = Duration::from_secs(2);

/// A piece of work is so long, then there is a rest.
const PIECE_CPU: Duration = Duration::from_millis(2);
const PIECE_WALL: Duration = Duration::from_millis(50);

/// Asking for the time costs more than a small step: only each of so many does.
const STEPS_PER_ASK: u32 = 16;

/// Directories that are missing are put back one level in each round.
const ROUNDS: usize = 40;

/// A person who waits for a repair is given a rest so many times shorter: a tenth of a core.
const BRISK: u32 = 20;

/// What could not be put right is told in so many sentences.
const TOLD: usize = 20;

/// How often and at what a host looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How often.
    pub rhythm: Rhythm,
    /// What may be added to a release.
    pub ignore: Vec<String>,
}

/// What the last look saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// At which release.
    pub release: ReleaseRef,
    /// What is not as it was applied, and what was looked at.
    pub summary: Summary,
    /// What was not looked at, and why.
    pub notes: Vec<String>,
    /// When it ended, on the clock since boot.
    pub looked: Duration,
    /// When the last look that read everything ended.
    pub read: Option<Duration>,
    /// The last repair that was asked for.
    pub repair: Option<Repair>,
}

/// What came of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// Who asked calls it so.
    pub request: String,
    /// How many things were put right.
    pub restored: u64,
    /// What could not be, one sentence each.
    pub failed: Vec<String>,
}

/// Gets objects into the store, verified: files, and directory objects. Blocks.
pub type Restore = Arc<dyn Fn(Vec<LackingFile>, Vec<Sha256>) -> Result<(), String> + Send + Sync>;

/// What the watcher works with.
pub struct Parts {
    /// How often and at what it looks.
    pub settings: Settings,
    /// `/srv/<app>`.
    pub root: PathBuf,
    /// What the engine says.
    pub reports: watch::Receiver<Option<Said>>,
    /// Puts things right.
    pub engine: EngineHandle,
    /// Gets what that needs.
    pub restore: Restore,
    /// What lies beside the release's files.
    pub outside: Arc<dyn Beside>,
    /// Where reports go.
    pub out: watch::Sender<Option<Report>>,
}

enum Message {
    Repair { request: String },
    Wake,
}

/// Requests that wait; nobody has reason to ask for more repairs at once.
const QUEUE: usize = 8;

/// An id is echoed; a longer one nobody gives.
const MAX_REQUEST_BYTES: usize = 128;

/// How others reach the watcher.
#[derive(Debug, Clone)]
pub struct Handle {
    messages: blocking::SyncSender<Message>,
    stopped: Arc<AtomicBool>,
}

impl Handle {
    /// Has everything put right that the agent may put right; [`Report::repair`] says what came of it. One request
    /// too many is left out: whoever asks in earnest asks again.
    pub fn repair(&self, request: String) {
        if request.len() > MAX_REQUEST_BYTES || self.messages.try_send(Message::Repair { request }).is_err() {
            tracing::warn!("a request to put differences right is left out");
        }
    }

    /// Ends it.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // If there is no room, it is awake, or will be.
        let _ = self.messages.try_send(Message::Wake);
    }
}

/// Starts the thread.
///
/// # Errors
/// [`AgentError::Layout`] if there can be none.
pub fn start(parts: Parts) -> Result<Handle, AgentError> {
    let (messages, inbox) = blocking::sync_channel(QUEUE);
    let stopped = Arc::new(AtomicBool::new(false));
    let watcher = Watcher {
        parts,
        inbox,
        stopped: stopped.clone(),
        looked: None,
        first_seen: None,
        asked: None,
        repair: None,
    };
    std::thread::Builder::new()
        .name("drift".to_owned())
        .stack_size(512 * 1024)
        .spawn(move || watcher.run())
        .map_err(|error| {
            AgentError::Layout(format!("the thread that watches for drift cannot be started: {error}"))
        })?;
    Ok(Handle { messages, stopped })
}

struct Watcher {
    parts: Parts,
    inbox: blocking::Receiver<Message>,
    stopped: Arc<AtomicBool>,
    /// The last look, and the release that it was at.
    looked: Option<(Sha256, Looked, Duration)>,
    /// The release that is to be looked at for the first time, and since when it is known.
    first_seen: Option<(Sha256, Duration)>,
    /// A repair that was asked for.
    asked: Option<String>,
    repair: Option<Repair>,
}

/// How fast it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Nobody notices.
    Gentle,
    /// A person waits.
    Brisk,
}

impl Watcher {
    fn run(mut self) {
        // Whatever else wants the processor has it first. On Linux this is the thread's own; it may be refused.
        let _ = rustix::process::setpriority_process(None, 19);
        while !self.is_stopped() {
            if let Some(request) = self.asked.take() {
                self.mend(request);
                continue;
            }
            let wait = match self.settled() {
                None => POLL,
                Some(release) => match self.due(&release) {
                    (Duration::ZERO, depth) => {
                        let looked = self.look(&release, &depth, Pace::Gentle);
                        memory::give_back();
                        // Who interrupted it has other things to do for a moment; a repair does not wait for that.
                        if looked.is_ok() { Duration::ZERO } else { AFTER_INTERRUPTION }
                    }
                    (wait, _) => wait.min(POLL),
                },
            };
            self.hear(wait, true);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The active release, if nothing is under way.
    fn settled(&self) -> Option<ReleaseRef> {
        let said = self.parts.reports.borrow();
        active(&said.as_ref()?.report).cloned()
    }

    fn due(&mut self, release: &ReleaseRef) -> (Duration, Depth) {
        let now = clock::now();
        let known = self.looked.as_ref().filter(|(digest, ..)| *digest == release.digest);
        if let Some((_, looked, _)) = known {
            return self.parts.settings.rhythm.next(Some(looked), now);
        }
        let (wait, depth) = self.parts.settings.rhythm.next(None, now);
        // From the moment at which it was first seen to be active.
        let since = match self.first_seen.filter(|(digest, _)| *digest == release.digest) {
            Some((_, since)) => since,
            None => {
                self.first_seen = Some((release.digest, now.mono));
                now.mono
            }
        };
        ((since + wait).saturating_sub(now.mono), depth)
    }

    /// Waits, and takes in what others want meanwhile. However often somebody asks for a repair, a rest is not cut
    /// short by it, unless `is_hasty`.
    fn hear(&mut self, wait: Duration, is_hasty: bool) {
        let until = Instant::now() + wait;
        loop {
            if self.is_stopped() || (is_hasty && self.asked.is_some()) {
                return;
            }
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Repair { request }) => self.asked = Some(request),
                Ok(Message::Wake) => {}
                Err(blocking::RecvTimeoutError::Timeout) => return,
                Err(blocking::RecvTimeoutError::Disconnected) => self.stopped.store(true, Ordering::Release),
            }
        }
    }

    /// One look at a release, which is told to whoever listens.
    fn look(&mut self, release: &ReleaseRef, depth: &Depth, pace: Pace) -> Result<Summary, Interrupted> {
        let began = clock::wall();
        let (mut summary, note) = self.scan(release, depth, pace)?;
        let seen = self.beside(release, pace)?;
        let now = clock::now();
        let before = self.looked.as_ref().filter(|(digest, ..)| *digest == release.digest);
        let looked = Looked::after(before.map(|(_, looked, _)| looked), depth, began, &summary, now);
        let read = match (depth, before) {
            (Depth::Since { .. }, Some((_, _, read))) => *read,
            _ => now.mono,
        };
        self.looked = Some((release.digest, looked, read));
        // What is read again, and when, is a matter of files alone.
        seen.findings.into_iter().for_each(|finding| summary.findings.push(finding));
        self.tell(Report {
            release: release.clone(),
            summary: summary.clone(),
            notes: note.map(str::to_owned).into_iter().chain(seen.notes).collect(),
            looked: now.mono,
            read: Some(read),
            repair: self.repair.clone(),
        });
        Ok(summary)
    }

    /// What lies beside the files. Whatever is on the way from one state to another differs for a moment: what is
    /// found has to be so twice, with nothing else changed on record in between.
    fn beside(&mut self, release: &ReleaseRef, pace: Pace) -> Result<Seen, Interrupted> {
        let (standing, seen) = self.seen(release, pace)?;
        if seen.findings.is_empty() {
            return Ok(seen);
        }
        let (again, mut twice) = self.seen(release, pace)?;
        let is_same = again == standing;
        twice.findings.retain(|finding| is_same && seen.findings.contains(finding));
        Ok(twice)
    }

    fn seen(&mut self, release: &ReleaseRef, pace: Pace) -> Result<(Standing, Seen), Interrupted> {
        let report = self.parts.reports.borrow().as_ref().map(|said| said.report.clone());
        let report = report.filter(|report| active(report) == Some(release)).ok_or(Interrupted)?;
        let standing = self.parts.engine.standing().filter(|standing| standing.release == *release);
        let standing = standing.ok_or(Interrupted)?;
        let outside = self.parts.outside.clone();
        let mut breath = Breath::new();
        let seen = outside.look(&report, &standing, &mut || {
            let (cpu, wall) = breath.since();
            self.rest(&mut breath, (cpu, wall), release, pace)
        });
        Ok((standing, seen?))
    }

    fn tell(&self, report: Report) {
        let (total, digest) = (report.summary.findings.total(), report.summary.findings.digest);
        let before = self.parts.out.borrow().as_ref().map(|before| before.summary.findings.digest);
        if before != Some(digest) && (total > 0 || before.is_some()) {
            let first = report.summary.findings.listed.first();
            let first = first.map(|f| format!("{} {}", f.kind, f.shown_path())).unwrap_or_default();
            let release = &report.release.name;
            match total {
                0 => tracing::info!(%release, "this host is as it was applied again"),
                _ => tracing::warn!(%release, total, first, "this host is not as it was applied"),
            }
        }
        self.parts.out.send_replace(Some(report));
    }

    fn scan(
        &mut self,
        release: &ReleaseRef,
        depth: &Depth,
        pace: Pace,
    ) -> Result<(Summary, Option<&'static str>), Interrupted> {
        let looker = Looker::new(&self.parts.root, release, &self.parts.settings.ignore);
        let (mut looker, target, note) = match looker {
            Ok(ready) => ready,
            Err(reason) => return Ok((unknown(release, reason), None)),
        };
        let mut scan = Scan::new(target, depth.clone(), LISTED);
        let mut breath = Breath::new();
        while let Some(ask) = scan.ask() {
            let mut breathe = || self.breathe(&mut breath, release, pace);
            match ask {
                Ask::Directory(place) => looker.directory(&mut scan, &place, &mut breathe)?,
                Ask::Content(read) => looker.content(&mut scan, &read, &mut breathe)?,
                Ask::Current => {
                    let found = self.current(&looker, release)?;
                    scan.current(found.as_deref());
                }
            }
        }
        Ok((scan.into_summary(), note))
    }

    /// Where `current` leads. It is swapped before the engine says so: what looks wrong is looked at again after its
    /// next word.
    fn current(&mut self, looker: &Looker, release: &ReleaseRef) -> Result<Option<PathBuf>, Interrupted> {
        let found = looker.current();
        if found.as_deref() == Some(&*crate::layout::release(&release.name)) {
            return Ok(found);
        }
        self.parts.reports.borrow_and_update();
        self.parts.engine.request_report();
        for _ in 0..100 {
            self.hear(Duration::from_millis(50), false);
            if self.parts.reports.has_changed().unwrap_or(true) || self.is_stopped() {
                break;
            }
        }
        if self.settled().as_ref() != Some(release) { Err(Interrupted) } else { Ok(looker.current()) }
    }

    /// Rests once a piece of work is done. `false` when the look is to end.
    fn breathe(&mut self, breath: &mut Breath, release: &ReleaseRef, pace: Pace) -> bool {
        match breath.worked() {
            Some(worked) => self.rest(breath, worked, release, pace),
            None => true,
        }
    }

    /// Rests after so much work.
    fn rest(
        &mut self,
        breath: &mut Breath,
        (cpu, wall): (Duration, Duration),
        release: &ReleaseRef,
        pace: Pace,
    ) -> bool {
        let rest = pace::rest(cpu, wall);
        match pace {
            Pace::Gentle => self.hear(rest, true),
            Pace::Brisk => self.hear(rest / BRISK, false),
        }
        *breath = Breath::new();
        let is_wanted = pace == Pace::Brisk || self.asked.is_none();
        is_wanted && !self.is_stopped() && self.settled().as_ref() == Some(release)
    }
}

/// The active release, if nothing is under way.
fn active(report: &HostReport) -> Option<&ReleaseRef> {
    report.active.as_ref().filter(|_| report.phase == Phase::Idle).map(|active| &active.release)
}

/// What is said when it is not even known what must be.
fn unknown(release: &ReleaseRef, reason: String) -> Summary {
    let mut findings = Findings::new(1);
    let what = "roll out a new release: the agent verifies its manifest anew";
    findings.push(Finding {
        path: crate::layout::manifest(&release.name),
        kind: Kind::Unreadable,
        detail: reason,
        remedy: Remedy::ByHand { what: what.into() },
    });
    Summary { findings, caches: 0, entries: 0, bytes: 0, is_blind: true }
}

/// The work since the last rest.
struct Breath {
    cpu: Duration,
    wall: Instant,
    steps: u32,
}

impl Breath {
    fn new() -> Self {
        Self { cpu: cpu(), wall: Instant::now(), steps: 0 }
    }

    /// How much of a core it took, and how long, if that is enough for a rest.
    fn worked(&mut self) -> Option<(Duration, Duration)> {
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS_PER_ASK) {
            return None;
        }
        let (cpu, wall) = self.since();
        (cpu >= PIECE_CPU || wall >= PIECE_WALL).then_some((cpu, wall))
    }

    /// What has been worked since.
    fn since(&self) -> (Duration, Duration) {
        (cpu().saturating_sub(self.cpu), self.wall.elapsed())
    }
}

/// What this thread has used of a processor.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
