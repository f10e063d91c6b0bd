//! P8, nothing is forgotten, and P12, bad input changes nothing: what was sent, answered or logged is found
//! by whoever reads the disk afresh after a power cut; a number never stands for two things.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::assignment::Assignment;
use landfall_common::{HostId, RequestId};
use landfall_controller_core::command::{Answer, Command};
use landfall_controller_core::record::Record;

use super::pace::Granted;
use super::{Checks, Violation};
use crate::controller::{Durable, read_fresh};
use crate::disk::SimDisk;

/// Of a million sent assignments and answers, how many make the checker read the disk.
const READ_PPM: u32 = 25_000;

/// What must not be forgotten.
#[derive(Debug, Default)]
pub struct Memory {
    /// The log as it was last read or acknowledged.
    log: Vec<Vec<u8>>,
    /// Answers that were given.
    answers: BTreeMap<RequestId, Answer>,
    /// The highest generation that was sent to each host that is still enrolled.
    highest: BTreeMap<HostId, u64>,
    /// Hosts that somebody has asked to remove.
    leaving: BTreeSet<HostId>,
}

impl Memory {
    /// A host is to go, and may be gone.
    pub fn removed(&mut self, host: &HostId) {
        self.highest.remove(host);
        self.leaving.insert(host.clone());
    }
}

impl Checks {
    /// An assignment leaves the controller, perhaps not for the first time.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn sent(&mut self, assignment: &Assignment, disk: &SimDisk) -> Result<(), Violation> {
        let key = (assignment.host.clone(), assignment.generation.0);
        match self.sent.get(&key) {
            Some(known) if known != assignment => {
                let what = format!(
                    "generation {} of {} stood for {:?} of {} and now for {:?} of {}",
                    key.1, key.0, known.order, known.release.name, assignment.order, assignment.release.name
                );
                return Err(Violation::new("P8", what));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        self.sent.insert(key.clone(), assignment.clone());
        self.account.sent(assignment);
        self.newest.insert(assignment.host.clone(), assignment.clone());
        if assignment.order.takes_out() {
            self.let_go.insert(assignment.host.clone(), Granted::new(assignment));
        }
        if !self.memory.leaving.contains(&key.0) {
            let highest = self.memory.highest.entry(key.0).or_default();
            *highest = (*highest).max(key.1);
        }
        if self.dice.chance(READ_PPM) { self.read_after_a_cut(disk) } else { Ok(()) }
    }

    /// A command was answered.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn answered(&mut self, command: &Command, answer: &Answer, disk: &SimDisk) -> Result<(), Violation> {
        let request = &command.request;
        self.account.accepted(command, answer);
        if let Some(known) = self.memory.answers.insert(request.clone(), answer.clone())
            && known != *answer
        {
            let what = format!("request {request} was answered {known:?}, and now {answer:?}");
            return Err(Violation::new("P8", what));
        }
        if self.dice.chance(READ_PPM) { self.read_after_a_cut(disk) } else { Ok(()) }
    }

    /// What would be found after a power cut at this instant.
    fn read_after_a_cut(&mut self, disk: &SimDisk) -> Result<(), Violation> {
        let copy = disk.fork();
        copy.crash(self.dice.raw());
        let durable = read_fresh(&copy)
            .map_err(|error| Violation::new("P8", format!("a power cut would lose the store: {error}")))?;
        self.remembers(&durable)
    }

    /// The store was read afresh, after a start or from a copy.
    ///
    /// # Errors
    /// [`Violation`].
    pub fn remembers(&mut self, durable: &Durable) -> Result<(), Violation> {
        self.looks += 1;
        let forgotten = |what: String| Err(Violation::new("P8", what));
        let common = self.memory.log.iter().zip(&durable.log).take_while(|(old, new)| old == new).count();
        if common < self.memory.log.len() {
            return forgotten(format!(
                "entry {common} of the log is {}",
                if common < durable.log.len() { "another" } else { "gone" }
            ));
        }
        for (number, entry) in durable.log.iter().enumerate().skip(common) {
            let index = serde_json::from_slice::<serde_json::Value>(entry)
                .ok()
                .and_then(|entry| entry.get("index")?.as_u64());
            if index != Some(number as u64) {
                return forgotten(format!("entry {number} of the log says that it is {index:?}"));
            }
        }
        self.memory.log = durable.log.clone();
        self.tells_all(&durable.log[common..])?;
        for (request, answer) in &self.memory.answers {
            match record(durable, &format!("request/{request}")) {
                Some(Record::Request(known)) if known.answer == *answer => {}
                other => {
                    return forgotten(format!("request {request} was answered, and the store has {other:?}"));
                }
            }
        }
        for (host, highest) in &self.memory.highest {
            match record(durable, &format!("issued/{host}")) {
                Some(Record::Issued(issued)) if issued.highest.0 >= *highest => {}
                other => {
                    let found = match other {
                        Some(Record::Issued(issued)) => issued.highest.to_string(),
                        _ => "nothing".to_owned(),
                    };
                    return forgotten(format!(
                        "generation {highest} was sent to {host}, and the store has {found}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The controller has started from this. What became durable and was not sent, for it died in between, it
    /// cannot know from what was: it counts such a grant as one that may be taken (P4).
    pub fn started_from(&mut self, durable: &Durable) {
        for key in durable.records.keys().filter(|key| key.starts_with("rollout/")) {
            if let Some(Record::Rollout(rollout)) = record(durable, key) {
                self.rollout_known(&rollout);
            }
        }
        let hosts: Vec<_> = self.memory.highest.keys().cloned().collect();
        for host in hosts {
            let Some(Record::Issued(issued)) = record(durable, &format!("issued/{host}")) else { continue };
            let Some(assignment) = issued.newest().cloned() else { continue };
            if self.newest.get(&host).is_none_or(|known| known.generation < assignment.generation) {
                self.newest.insert(host, assignment);
            }
        }
    }
}

fn record(durable: &Durable, key: &str) -> Option<Record> {
    durable.records.get(key).and_then(|bytes| serde_json::from_slice(bytes).ok())
}
