//! Putting things right on an operator's word, round by round, until a look finds nothing more that the agent may.
//!
//! Files and links are the engine's to put right, and what it does to them is done at once. Where requests are led it
//! makes sure of in its own time, which is waited for; a service of which nothing runs is started.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use landfall_agent_core::Event;
use landfall_agent_core::drift::{Finding, Remedy};
use landfall_common::Sha256;
use landfall_common::assignment::ReleaseRef;

use super::{Pace, ROUNDS, Repair, TOLD, Watcher};
use crate::apply::store::LackingFile;

/// A proxy that does not follow within this time does not.
const LEAD_PATIENCE: Duration = Duration::from_secs(120);

/// How often it is asked whether it has.
const LEAD_POLL: Duration = Duration::from_millis(50);

/// Why nothing is done any more.
const BEGUN: &str = "a release has begun meanwhile; try again after it";

/// How far a repair has come.
#[derive(Debug, Default)]
struct Course {
    /// What could not be put right.
    given_up: BTreeSet<PathBuf>,
    /// What is no file and was put right.
    tried: BTreeSet<PathBuf>,
}

impl Watcher {
    /// Puts right what the agent may, round by round, until a look finds nothing more of that.
    pub(super) fn mend(&mut self, request: String) {
        let mut repair = Repair { request, restored: 0, failed: Vec::new() };
        let mut course = Course::default();
        match self.settled() {
            None => {
                repair
                    .failed
                    .push("a release is under way, or none is active; try again after it".to_owned());
            }
            Some(release) => {
                for _ in 0..ROUNDS {
                    let (_, depth) = self.due(&release);
                    let Ok(summary) = self.look(&release, &depth, Pace::Brisk) else {
                        repair.failed.push(BEGUN.to_owned());
                        break;
                    };
                    let can =
                        |f: &Finding| f.remedy.by_hand().is_none() && !course.given_up.contains(&f.path);
                    let items: Vec<Finding> = summary.findings.listed.into_iter().filter(can).collect();
                    if items.is_empty() || self.round(&release, items, &mut repair, &mut course) == 0 {
                        break;
                    }
                }
            }
        }
        repair.failed.truncate(TOLD);
        tracing::info!(request = repair.request, restored = repair.restored, failed = ?repair.failed, "repaired");
        self.repair = Some(repair.clone());
        self.parts.out.send_if_modified(|report| match report {
            Some(report) => {
                report.repair = Some(repair);
                true
            }
            None => false,
        });
    }

    /// How many things were put right in this round.
    fn round(
        &mut self,
        release: &ReleaseRef,
        mut items: Vec<Finding>,
        repair: &mut Repair,
        course: &mut Course,
    ) -> u64 {
        let (files, directories) = needed(&items);
        if !(files.is_empty() && directories.is_empty())
            && let Err(reason) = (self.parts.restore)(files, directories)
        {
            repair.failed.push(reason);
            let needs = |f: &Finding| matches!(f.remedy, Remedy::File { .. } | Remedy::Object { .. });
            course.given_up.extend(items.iter().filter(|item| needs(item)).map(|item| item.path.clone()));
            items.retain(|item| !needs(item));
        }
        let (beside, items): (Vec<_>, Vec<_>) = items.into_iter().partition(is_beside);
        let mut results = match self.parts.engine.mend(release.name.clone(), items.clone()) {
            Ok(results) => items.into_iter().zip(results).collect::<Vec<_>>(),
            Err(reason) => {
                repair.failed.push(reason);
                return 0;
            }
        };
        results.extend(self.mend_beside(release, beside, course));
        let mut done = 0;
        for (item, result) in results {
            match result {
                Ok(()) => done += 1,
                Err(reason) => {
                    repair.failed.push(format!("{}: {reason}", item.shown_path()));
                    course.given_up.insert(item.path.clone());
                }
            }
        }
        repair.restored += done;
        done
    }

    /// What is no file. What was put right and is otherwise again is not tried again and again.
    fn mend_beside(
        &mut self,
        release: &ReleaseRef,
        items: Vec<Finding>,
        course: &mut Course,
    ) -> Vec<(Finding, Result<(), String>)> {
        let mut done: Vec<(Remedy, Result<(), String>)> = Vec::new();
        let mut results = Vec::new();
        for item in items {
            if !course.tried.insert(item.path.clone()) {
                let reason = "it was put right, and is otherwise again".to_owned();
                results.push((item, Err(reason)));
                continue;
            }
            let known = done.iter().find(|(remedy, _)| *remedy == item.remedy);
            let result = match known {
                Some((_, result)) => result.clone(),
                None => {
                    let result = match &item.remedy {
                        Remedy::Lead => self.lead(release),
                        remedy => self.care(release, remedy),
                    };
                    done.push((item.remedy.clone(), result.clone()));
                    result
                }
            };
            results.push((item, result));
        }
        results
    }

    fn care(&self, release: &ReleaseRef, remedy: &Remedy) -> Result<(), String> {
        let standing = self.parts.engine.standing().filter(|standing| standing.release == *release);
        let standing = standing.ok_or_else(|| BEGUN.to_owned())?;
        self.parts.outside.mend(&standing, remedy)
    }

    /// Has the engine make sure of where requests are led, and waits until it has.
    fn lead(&self, release: &ReleaseRef) -> Result<(), String> {
        self.parts.engine.send(Event::Misled);
        let until = Instant::now() + LEAD_PATIENCE;
        loop {
            let standing = self.parts.engine.standing().filter(|standing| standing.release == *release);
            match standing {
                None => return Err(BEGUN.to_owned()),
                Some(standing) if !standing.is_leading => return standing.misled.map_or(Ok(()), Err),
                Some(_) if Instant::now() >= until || self.is_stopped() => {
                    return Err("requests are not led yet; it goes on".to_owned());
                }
                Some(_) => std::thread::sleep(LEAD_POLL),
            }
        }
    }
}

/// Whether it is no file or link, which are the engine's to put right.
fn is_beside(item: &Finding) -> bool {
    matches!(item.remedy, Remedy::Lead | Remedy::Start { .. } | Remedy::Limits { .. })
}

/// The objects that a repair needs.
fn needed(items: &[Finding]) -> (Vec<LackingFile>, Vec<Sha256>) {
    let (mut files, mut directories) = (Vec::<LackingFile>::new(), Vec::new());
    for item in items {
        match item.remedy {
            Remedy::File { digest, size, executable } => {
                files.push(LackingFile { digest, size, plain: !executable, executable });
            }
            Remedy::Object { digest } => directories.push(digest),
            _ => {}
        }
    }
    (files, directories)
}
