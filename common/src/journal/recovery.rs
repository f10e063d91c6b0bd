//! Reading a journal after whatever happened to it.
//!
//! Nothing is changed until everything has been read and understood; an error leaves the directory as it
//! was found. A crash during recovery is fine: it begins anew.

use std::path::{Path, PathBuf};

use super::frame::{self, Frame, Kind};
use super::{JournalError, Options, snapshot};
use crate::disk::{Disk, EntryKind, TEMPORARY_SUFFIX};

/// What a journal held when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest whole snapshot.
    pub snapshot: Option<Snapshot>,
    /// The records after it, in order, without a gap: number and bytes.
    pub records: Vec<(u64, Vec<u8>)>,
    /// What was found to be wrong and put right. Worth a line in the log each.
    pub notes: Vec<Note>,
}

impl Recovered {
    /// The number of the last record, zero if there never was one.
    #[must_use]
    pub fn last(&self) -> u64 {
        let covered = self.snapshot.as_ref().map_or(0, |s| s.last);
        self.records.last().map_or(covered, |(number, _)| *number)
    }
}

/// A snapshot and what it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last record whose effect is in it.
    pub last: u64,
    /// The bytes given to [`super::Journal::compact`].
    pub payload: Vec<u8>,
}

/// Something that recovery put right without losing anything acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The end of the last segment was never acknowledged and cannot be read; it was dropped.
    TornTail {
        /// The file.
        segment: String,
        /// Where it began.
        offset: u64,
        /// How many bytes were dropped.
        bytes: u64,
    },
    /// A snapshot is damaged; it was set aside, and the one before it with its segments was used.
    DamagedSnapshot {
        /// What it is called now.
        file: String,
        /// What does not fit.
        reason: &'static str,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TornTail { segment, offset, bytes } => {
                write!(
                    f,
                    "{bytes} bytes at the end of {segment} (from byte {offset}) were written but never acknowledged, and were dropped"
                )
            }
            Self::DamagedSnapshot { file, reason } => {
                write!(
                    f,
                    "a snapshot is damaged ({reason}); it is kept as {file}, and the state was recovered from the one before it"
                )
            }
        }
    }
}

/// The files of a journal's directory.
#[derive(Debug, Default)]
pub struct Files {
    /// The first records of the segments, ascending.
    pub segments: Vec<u64>,
    /// The last records of the snapshots, ascending.
    pub snapshots: Vec<u64>,
    /// Unfinished files and snapshots set aside.
    pub debris: Vec<PathBuf>,
}

impl Files {
    /// Reads the directory.
    pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Self, JournalError> {
        let mut files = Self::default();
        for entry in disk.list(dir)?.into_iter().filter(|e| e.kind == EntryKind::File) {
            let name = entry.name.to_string_lossy();
            if name.ends_with(TEMPORARY_SUFFIX) || name.ends_with(SET_ASIDE) {
                files.debris.push(dir.join(&entry.name));
            } else if let Some(first) = number_in(&name, "seg-", ".log") {
                files.segments.push(first);
            } else if let Some(last) = number_in(&name, "snap-", ".snap") {
                files.snapshots.push(last);
            }
        }
        Ok(files)
    }
}

const SET_ASIDE: &str = ".damaged";

fn number_in(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// What a segment file is called.
pub fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("seg-{first:020}.log"))
}

/// The state of the last segment after recovery.
#[derive(Debug)]
pub struct LastSegment {
    /// The number of its first record; the file may have to be created.
    pub first: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A segment that was read.
struct Read {
    records: Vec<(u64, Vec<u8>)>,
    /// The record that would come next.
    next: u64,
    /// Whether the last frame says that every record before it is durable.
    marked: bool,
    /// Where reading stopped, if that is not the end, and why.
    stopped: Option<(usize, String)>,
}

fn parse(bytes: &[u8], first: u64) -> Read {
    let mut read = Read { records: Vec::new(), next: first, marked: bytes.is_empty(), stopped: None };
    let mut at = 0;
    while at < bytes.len() {
        let frame = match frame::read(&bytes[at..]) {
            Ok(frame) => frame,
            Err(why) => {
                read.stopped = Some((at, why.reason().to_owned()));
                break;
            }
        };
        match frame.kind {
            Kind::Record if frame.number == read.next => {
                read.records.push((frame.number, frame.payload.to_vec()));
                read.next += 1;
                read.marked = false;
            }
            Kind::Mark if frame.number < read.next => read.marked = frame.number + 1 == read.next,
            Kind::Record | Kind::Mark => {
                let reason = format!("record {} stands where {} belongs", frame.number, read.next);
                read.stopped = Some((at, reason));
                break;
            }
        }
        at += frame.total_bytes();
    }
    read
}

/// Recovers the journal in `dir`, which must exist.
pub fn recover(
    disk: &dyn Disk,
    dir: &Path,
    options: &Options,
) -> Result<(Recovered, LastSegment), JournalError> {
    let files = Files::list(disk, dir)?;
    let mut recovered = Recovered::default();
    let mut damaged = Vec::new();
    for &last in files.snapshots.iter().rev() {
        let bytes = disk.read(&snapshot::path(dir, last))?.unwrap_or_default();
        match snapshot::decode(bytes, last) {
            Ok(payload) => {
                recovered.snapshot = Some(Snapshot { last, payload });
                break;
            }
            Err(reason) => damaged.push((last, reason)),
        }
    }
    let covered = recovered.snapshot.as_ref().map_or(0, |s| s.last);
    let missing = |first, last, reason: String| JournalError::Missing {
        first,
        last,
        reason,
        next: options.next_command.to_owned(),
    };

    // The segment that holds the first record after the snapshot, and all later ones.
    let start = files.segments.partition_point(|&first| first <= covered + 1).saturating_sub(1);
    let segments = &files.segments[start.min(files.segments.len())..];
    let mut next = covered + 1;
    let mut last_segment = LastSegment { first: next, len: 0 };
    let mut rewrite = None;
    for (index, &first) in segments.iter().enumerate() {
        if first > next {
            let reason = if damaged.is_empty() {
                format!("the next segment begins with record {first}")
            } else {
                format!(
                    "the next segment begins with record {first}, and {} snapshots are damaged",
                    damaged.len()
                )
            };
            return Err(missing(next, first - 1, reason));
        }
        let path = segment_path(dir, first);
        let mut bytes = disk.read(&path)?.unwrap_or_default();
        let read = parse(&bytes, first);
        let is_last = index + 1 == segments.len();
        if let Some((offset, reason)) = &read.stopped {
            let acknowledged =
                !is_last || frame::highest_proof(&bytes[*offset..]).is_some_and(|proof| proof >= read.next);
            if acknowledged {
                return Err(JournalError::Damaged {
                    segment: path.display().to_string(),
                    offset: *offset as u64,
                    record: read.next,
                    reason: reason.clone(),
                    next: options.next_command.to_owned(),
                });
            }
            recovered.notes.push(Note::TornTail {
                segment: path.display().to_string(),
                offset: *offset as u64,
                bytes: (bytes.len() - offset) as u64,
            });
            bytes.truncate(*offset);
        }
        recovered.records.extend(read.records.into_iter().filter(|(number, _)| *number > covered));
        next = next.max(read.next);
        if is_last {
            let sure = read.marked && read.stopped.is_none();
            if !sure {
                let number = read.next - 1;
                Frame { kind: Kind::Mark, number, durable: number, payload: &[] }.write(&mut bytes);
            }
            if !bytes.is_empty() {
                rewrite = Some((path, bytes.clone(), sure));
            }
            last_segment = LastSegment { first, len: bytes.len() as u64 };
            if read.next < next {
                // The snapshot is ahead of all segments (its own was removed by hand): go on in a new one.
                last_segment = LastSegment { first: next, len: 0 };
            }
        }
    }
    if segments.is_empty() && recovered.snapshot.is_none() && !damaged.is_empty() {
        let last = damaged.first().map_or(0, |(last, _)| *last);
        return Err(missing(1, last, "every snapshot is damaged and there is no segment".to_owned()));
    }
    if let Some((last, _)) = damaged.iter().find(|(last, _)| *last >= next) {
        return Err(missing(next, *last, "the snapshot of them is damaged and the segments end".to_owned()));
    }

    // From here on everything is understood, and put right.
    for path in files.debris.iter().filter(|p| p.to_string_lossy().ends_with(TEMPORARY_SUFFIX)) {
        disk.remove_file(path)?;
    }
    if let Some((path, bytes, sure)) = rewrite {
        // Even if nothing seems to be wrong with it: after a failed sync the kernel believes that pages are
        // on the disk which are not, and shows them to whoever reads. What is written anew is there, or
        // the error is seen.
        match disk.write_atomic(&path, &bytes) {
            // A full disk should not keep a controller from starting that was stopped well.
            Err(error) if error.is_full() && sure => {}
            other => other?,
        }
    }
    for (last, reason) in damaged {
        let path = snapshot::path(dir, last);
        let mut aside = path.clone().into_os_string();
        aside.push(SET_ASIDE);
        disk.rename(&path, aside.as_ref())?;
        let file = Path::new(&aside).display().to_string();
        recovered.notes.push(Note::DamagedSnapshot { file, reason });
    }
    disk.sync_dir(dir)?;
    Ok((recovered, last_segment))
}
