//! The ledger: the machine's record, kept so that it survives a crash at any instant.
//!
//! There are two slots. A record is written into the one that does not hold the newest, and synced: one sync
//! for each transition. Whatever a crash or a full disk does to that slot, the other still holds the record
//! before, and the effects of the lost one have not been begun, for they wait for the sync. If neither slot
//! can be read, or one is damaged and the other is gone, nobody knows what was under way: the agent refuses
//! to act and says what to do. It never takes that for a fresh start.
//!
//! A slot that is whole and says something that this agent does not know is not damaged: a newer agent wrote it, and
//! has acted on it. The record before it is no longer true, and the agent refuses to go back to that.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use landfall_agent_core::{Identity, Record};
use landfall_common::Sha256;
use landfall_common::disk::{Disk, DiskError};

use crate::error::AgentError;

const SLOTS: [&str; 2] = ["ledger.a", "ledger.b"];
const MAGIC: &str = "landfall-ledger 1";
/// Space that is given up when the disk is full, so that a host can still record that it goes back.
const RESERVE: &str = "ledger.reserve";
const RESERVE_BYTES: usize = 128 * 1024;

/// The open ledger.
pub struct Ledger {
    disk: Arc<dyn Disk>,
    /// The slot that holds the newest record.
    newest: usize,
    sequence: u64,
}

#[derive(Debug)]
enum Slot {
    Absent,
    Damaged(String),
    /// Of an agent that knows more than this one.
    Newer {
        sequence: u64,
        why: String,
    },
    Whole {
        sequence: u64,
        record: Box<Record>,
    },
}

impl Ledger {
    /// Makes the ledger of a host that was just enrolled.
    ///
    /// # Errors
    /// [`AgentError::LedgerExists`], [`AgentError::Disk`].
    pub fn create(disk: Arc<dyn Disk>, record: &Record) -> Result<Self, AgentError> {
        disk.ensure_dir(Path::new(""))?;
        if let Some(record) = Self::peek(&*disk)? {
            return Err(AgentError::LedgerExists { host: record.identity.host.to_string() });
        }
        Self::write_over(disk, record)
    }

    /// Makes a ledger whatever is there: for an operator who has looked.
    ///
    /// # Errors
    /// [`AgentError::Disk`].
    pub fn write_over(disk: Arc<dyn Disk>, record: &Record) -> Result<Self, AgentError> {
        let sequence = load(&*disk)?.iter().map(Slot::sequence).max().unwrap_or_default();
        let mut ledger = Self { disk, newest: 0, sequence };
        // Both slots, so that no old one can ever be taken for this.
        ledger.save(record)?;
        ledger.save(record)?;
        ledger.disk.sync_dir(Path::new(""))?;
        ledger.reserve();
        Ok(ledger)
    }

    /// Opens the ledger and returns the newest record.
    ///
    /// # Errors
    /// [`AgentError::NoLedger`], [`AgentError::LedgerLost`], [`AgentError::LedgerNewer`], [`AgentError::Disk`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<(Self, Record), AgentError> {
        let (newest, sequence, record) = match understood(load(&*disk)?)? {
            [Slot::Absent, Slot::Absent] => return Err(AgentError::NoLedger { path: SLOTS[0].into() }),
            [Slot::Whole { sequence: a, record }, Slot::Whole { sequence: b, .. }] if a > b => (0, a, record),
            [Slot::Whole { .. }, Slot::Whole { sequence, record }] => (1, sequence, record),
            [Slot::Whole { sequence, record }, other] => {
                tell_fallback(SLOTS[1], &other);
                (0, sequence, record)
            }
            [other, Slot::Whole { sequence, record }] => {
                tell_fallback(SLOTS[0], &other);
                (1, sequence, record)
            }
            [first, second] => {
                return Err(AgentError::LedgerLost {
                    first: first.describe(SLOTS[0]),
                    second: second.describe(SLOTS[1]),
                });
            }
        };
        let ledger = Self { disk, newest, sequence };
        ledger.reserve();
        Ok((ledger, *record))
    }

    /// The newest record, read by a program that does not hold the ledger; `None` if there is none.
    ///
    /// # Errors
    /// [`AgentError::LedgerLost`], [`AgentError::LedgerNewer`], [`AgentError::Disk`].
    pub fn peek(disk: &dyn Disk) -> Result<Option<Record>, AgentError> {
        match understood(load(disk)?)? {
            [Slot::Absent, Slot::Absent] => Ok(None),
            [Slot::Whole { sequence: a, record }, Slot::Whole { sequence: b, .. }] if a > b => {
                Ok(Some(*record))
            }
            [_, Slot::Whole { record, .. }] | [Slot::Whole { record, .. }, _] => Ok(Some(*record)),
            [first, second] => Err(AgentError::LedgerLost {
                first: first.describe(SLOTS[0]),
                second: second.describe(SLOTS[1]),
            }),
        }
    }

    /// Makes a record durable. After an error the one before still stands.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn save(&mut self, record: &Record) -> Result<(), DiskError> {
        let slot = 1 - self.newest;
        let bytes = encode(self.sequence + 1, record);
        match self.write(slot, &bytes) {
            Err(error) if error.is_full() && self.disk.exists(Path::new(RESERVE)).unwrap_or(false) => {
                tracing::warn!("the disk is full: the ledger's reserve is given up");
                self.disk.remove_file(Path::new(RESERVE))?;
                self.write(slot, &bytes)?;
            }
            result => result?,
        }
        self.newest = slot;
        self.sequence += 1;
        Ok(())
    }

    fn write(&self, slot: usize, bytes: &[u8]) -> Result<(), DiskError> {
        let path = Path::new(SLOTS[slot]);
        let is_new = !self.disk.exists(path)?;
        let mut file = self.disk.open_append(path)?;
        file.truncate(0)?;
        file.append(bytes)?;
        file.sync_data()?;
        if is_new {
            self.disk.sync_dir(Path::new(""))?;
        }
        Ok(())
    }

    /// Puts the reserve back, if there is room for it.
    pub fn reserve(&self) {
        let path = Path::new(RESERVE);
        if self.disk.exists(path).unwrap_or(true) {
            return;
        }
        // A file of zeros would take no space on a file system that compresses.
        let filler: Vec<u8> = (0..RESERVE_BYTES).map(|i| i.to_le_bytes()[i % 2].wrapping_mul(131)).collect();
        match self.disk.write_new(path, &filler, 0o600).and_then(|()| self.disk.sync_file(path)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(_) => {
                // A part of it is of no use. There is room again when there is room.
                let _ = self.disk.remove_file(path);
            }
        }
    }
}

impl Slot {
    fn describe(&self, name: &str) -> String {
        match self {
            Self::Absent => format!("{name} is missing"),
            Self::Damaged(why) => format!("{name} {why}"),
            Self::Newer { why, .. } => format!("{name} cannot be understood: {why}"),
            Self::Whole { .. } => format!("{name} is whole"),
        }
    }

    /// Of what was written as a whole; 0 for anything else.
    fn sequence(&self) -> u64 {
        match self {
            Self::Absent | Self::Damaged(_) => 0,
            Self::Newer { sequence, .. } | Self::Whole { sequence, .. } => *sequence,
        }
    }
}

/// The slots, unless the newest of them is one that only a newer agent understands.
fn understood(slots: [Slot; 2]) -> Result<[Slot; 2], AgentError> {
    let newest = usize::from(slots[1].sequence() > slots[0].sequence());
    match &slots[newest] {
        slot @ Slot::Newer { .. } => Err(AgentError::LedgerNewer { slot: slot.describe(SLOTS[newest]) }),
        _ => Ok(slots),
    }
}

fn tell_fallback(name: &str, slot: &Slot) {
    if let Slot::Damaged(why) = slot {
        tracing::warn!(slot = name, why, "a write of the ledger was cut short; the record before it stands");
    }
}

fn load(disk: &dyn Disk) -> Result<[Slot; 2], AgentError> {
    let slot = |name: &str| -> Result<Slot, AgentError> {
        Ok(match disk.read(Path::new(name))? {
            None => Slot::Absent,
            Some(bytes) => match checked(&bytes) {
                Ok((sequence, body)) => match serde_json::from_slice(body) {
                    Ok(record) => Slot::Whole { sequence, record: Box::new(record) },
                    Err(error) => Slot::Newer { sequence, why: error.to_string() },
                },
                Err(why) => Slot::Damaged(why),
            },
        })
    };
    Ok([slot(SLOTS[0])?, slot(SLOTS[1])?])
}

fn encode(sequence: u64, record: &Record) -> Vec<u8> {
    framed(sequence, &serde_json::to_vec(record).expect("a record is plain data with text keys"))
}

fn framed(sequence: u64, body: &[u8]) -> Vec<u8> {
    let mut digest = Sha256::hasher();
    digest.update(&sequence.to_be_bytes());
    digest.update(body);
    let mut bytes = format!("{MAGIC} {sequence} {} {}\n", body.len(), digest.finish()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The sequence number and the record, as they were written.
fn checked(bytes: &[u8]) -> Result<(u64, &[u8]), String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("has no header")?;
    let header = std::str::from_utf8(&bytes[..end]).map_err(|_| "has no header")?;
    let body = &bytes[end + 1..];
    let mut words = header.strip_prefix(MAGIC).ok_or("is of another format")?.split_whitespace();
    let mut word = || words.next().ok_or("has a short header");
    let sequence: u64 = word()?.parse().map_err(|_| "has no sequence number")?;
    let length: usize = word()?.parse().map_err(|_| "has no length")?;
    let expected: Sha256 = word()?.parse().map_err(|_| "has no digest")?;
    if body.len() != length {
        return Err(format!("has {} bytes of {length}", body.len()));
    }
    let mut digest = Sha256::hasher();
    digest.update(&sequence.to_be_bytes());
    digest.update(body);
    if digest.finish() != expected {
        return Err("does not match its digest".to_owned());
    }
    Ok((sequence, body))
}

/// The record of a host whose ledger was lost, from what an operator vouches for: nothing is under way, and
/// what `current` names is taken as proven.
#[must_use]
pub fn recovered(identity: Identity, active: Option<landfall_agent_core::Installed>) -> Record {
    let mut record = Record::new(identity);
    record.active = active.as_ref().map(|installed| installed.release.name.clone());
    record.proven = record.active.iter().cloned().collect();
    record.installed = active.into_iter().map(|i| (i.release.name.clone(), i)).collect();
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::disk::RealDisk;

    fn record(fence: u64) -> Record {
        let identity = Identity {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
        };
        Record { fence, ..Record::new(identity) }
    }

    fn disk() -> (tempfile::TempDir, Arc<dyn Disk>) {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(directory.path()));
        (directory, disk)
    }

    #[test]
    fn a_torn_slot_falls_back_to_the_record_before() {
        let (directory, disk) = disk();
        let mut ledger = Ledger::create(disk.clone(), &record(1)).unwrap();
        ledger.save(&record(2)).unwrap();
        let newest = directory.path().join(SLOTS[ledger.newest]);
        let whole = std::fs::read(&newest).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&newest, &whole[..cut]).unwrap();
            let (_, found) = Ledger::open(disk.clone()).unwrap();
            assert_eq!(found.fence, 1, "after a cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            std::fs::write(&newest, &flipped).unwrap();
            assert_eq!(Ledger::open(disk.clone()).unwrap().1.fence, 1, "after a flip at {at}");
        }
        std::fs::write(&newest, &whole).unwrap();
        assert_eq!(Ledger::open(disk).unwrap().1.fence, 2);
    }

    #[test]
    fn a_ledger_that_is_lost_is_never_taken_for_a_new_one() {
        let (directory, disk) = disk();
        assert!(matches!(Ledger::open(disk.clone()), Err(AgentError::NoLedger { .. })));
        Ledger::create(disk.clone(), &record(1)).unwrap();
        assert!(matches!(Ledger::create(disk.clone(), &record(9)), Err(AgentError::LedgerExists { .. })));
        std::fs::write(directory.path().join(SLOTS[0]), "rubbish").unwrap();
        assert_eq!(Ledger::open(disk.clone()).unwrap().1.fence, 1);
        std::fs::write(directory.path().join(SLOTS[1]), "").unwrap();
        let Err(error) = Ledger::open(disk.clone()) else { panic!("a lost ledger was opened") };
        assert!(error.to_string().contains("landfall-agent recover"), "{error}");
        std::fs::remove_file(directory.path().join(SLOTS[1])).unwrap();
        assert!(matches!(Ledger::open(disk.clone()), Err(AgentError::LedgerLost { .. })));
        Ledger::write_over(disk.clone(), &record(7)).unwrap();
        assert_eq!(Ledger::open(disk).unwrap().1.fence, 7);
    }

    #[test]
    fn what_a_newer_agent_has_recorded_is_not_passed_over_for_the_record_before_it() {
        let (directory, disk) = disk();
        let mut ledger = Ledger::create(disk.clone(), &record(1)).unwrap();
        ledger.save(&record(2)).unwrap();
        let newest = directory.path().join(SLOTS[ledger.newest]);
        let older = directory.path().join(SLOTS[1 - ledger.newest]);
        let understood = std::fs::read(&newest).unwrap();
        let mut body = serde_json::to_value(record(3)).unwrap();
        body["state"] = serde_json::json!({ "type": "hibernating" });
        let body = serde_json::to_vec(&body).unwrap();
        std::fs::write(&newest, framed(ledger.sequence, &body)).unwrap();
        let Err(error) = Ledger::open(disk.clone()) else { panic!("an older record was acted on") };
        assert!(matches!(error, AgentError::LedgerNewer { .. }), "{error}");
        for words in
            ["a newer landfall-agent", "hibernating", "nothing was changed", "install that version again"]
        {
            assert!(error.to_string().contains(words), "no {words:?} in {error}");
        }
        assert!(matches!(Ledger::peek(&*disk), Err(AgentError::LedgerNewer { .. })));
        assert!(matches!(Ledger::create(disk.clone(), &record(9)), Err(AgentError::LedgerNewer { .. })));
        // One that has since been followed by what is understood is history.
        std::fs::write(&older, std::fs::read(&newest).unwrap()).unwrap();
        std::fs::write(&newest, framed(ledger.sequence + 1, &serde_json::to_vec(&record(4)).unwrap()))
            .unwrap();
        assert_eq!(Ledger::open(disk.clone()).unwrap().1.fence, 4);
        // The newer agent finds all as it was.
        std::fs::write(&newest, understood).unwrap();
        std::fs::remove_file(&older).unwrap();
        assert_eq!(Ledger::open(disk).unwrap().1.fence, 2);
    }

    #[test]
    fn a_transition_costs_one_sync() {
        let (_directory, disk) = disk();
        let mut ledger = Ledger::create(disk.clone(), &record(1)).unwrap();
        let before = disk.sync_counts();
        for fence in 2..12 {
            ledger.save(&record(fence)).unwrap();
        }
        assert_eq!(disk.sync_counts().since(before).total(), 10);
    }
}
