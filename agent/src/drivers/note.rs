//! What a driver remembers of the last attempt on a service, where nothing else does.
//!
//! A holder knows each handover it was asked for. systemd and Supervisor know nothing of releases or attempts:
//! for their services the driver writes down, before it changes anything, what ran then, and afterwards how
//! the attempt ended. What runs is told apart by its *incarnation*, which changes whenever it is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landfall_common::Sha256;
use landfall_common::report::Failure;
use serde::{Deserialize, Serialize};

/// What is started when, by the name of the unit or process.
pub(super) type Incarnations = BTreeMap<String, String>;

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub attempt: String,
    /// What it was to run.
    pub release: Sha256,
    /// What ran when it began. Whatever was started since runs the release: `current` named it already.
    pub before: Incarnations,
    /// What an earlier attempt made to run, and of which release it is. It outlives attempts that fail.
    pub proven: Option<Proven>,
    /// What runs is to be renewed, although it runs the release.
    #[serde(default)]
    pub anew: bool,
    /// How it ended; nothing while it is under way, or was left in the middle.
    pub end: Option<End>,
}

/// What is known to run a release, as long as it is not started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proven {
    pub release: Sha256,
    pub running: Incarnations,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// The release was running then.
    Done { running: Incarnations },
    /// It could not be made to run.
    Failed { failure: Failure },
}

impl Note {
    /// Whether the attempt ended well.
    pub fn is_done(&self) -> bool {
        matches!(self.end, Some(End::Done { .. }))
    }

    /// What was made to run last.
    fn last_proven(&self) -> Option<Proven> {
        match &self.end {
            Some(End::Done { running }) => Some(Proven { release: self.release, running: running.clone() }),
            _ => self.proven.clone(),
        }
    }

    /// The release, if what runs now is what was made to run last.
    pub fn release_of(&self, now: &Incarnations) -> Option<Sha256> {
        self.last_proven().filter(|proven| proven.running == *now).map(|proven| proven.release)
    }

    /// Whether one of several runs the attempt's release since before the attempt.
    pub fn has_proven(&self, name: &str, incarnation: &str) -> bool {
        let proven = self.proven.as_ref().filter(|proven| proven.release == self.release && !self.anew);
        proven.is_some_and(|proven| proven.running.get(name).is_some_and(|known| known == incarnation))
    }
}

/// Where the note of one service is kept.
#[derive(Debug, Clone)]
pub(super) struct Notes {
    pub path: PathBuf,
}

impl Notes {
    /// The last one. One that cannot be read is as good as none: the attempt is then made anew.
    pub fn read(&self) -> Option<Note> {
        serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()
    }

    /// The note of an attempt: the one that is there if it is of the same intent, or else a new one. If
    /// just those `running` that an earlier attempt made to run the release, nothing need be renewed.
    ///
    /// # Errors
    /// How the attempt ended, if it failed before; a sentence if the note cannot be kept.
    pub fn begin(
        &self,
        release: Sha256,
        attempt: &str,
        before: Incarnations,
        running: Incarnations,
        fail: impl Fn(String) -> Failure,
    ) -> Result<Note, Failure> {
        let last = self.read();
        if let Some(note) = last.as_ref().filter(|note| note.release == release && note.attempt == attempt) {
            return match &note.end {
                Some(End::Failed { failure }) => Err(failure.clone()),
                _ => Ok(note.clone()),
            };
        }
        let runs = last.as_ref().is_some_and(|note| note.release_of(&running) == Some(release));
        let end = runs.then_some(End::Done { running });
        let proven = last.and_then(|note| note.last_proven());
        let note = Note { attempt: attempt.to_owned(), release, before, proven, anew: false, end };
        write(&self.path, &note).map_err(fail)?;
        Ok(note)
    }

    /// The note of an attempt to renew what runs: the one that is there if it is of the same intent, or else a new one
    /// by which everything is yet to be renewed.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_anew(
        &self,
        release: Sha256,
        attempt: &str,
        before: Incarnations,
        fail: impl Fn(String) -> Failure,
    ) -> Result<Note, Failure> {
        let last = self.read();
        let same = last.clone();
        if let Some(note) = same.filter(|note| note.release == release && note.attempt == attempt) {
            return match &note.end {
                Some(End::Failed { failure }) => Err(failure.clone()),
                _ => Ok(note),
            };
        }
        let proven = last.and_then(|note| note.last_proven());
        let note = Note { attempt: attempt.to_owned(), release, before, proven, anew: true, end: None };
        write(&self.path, &note).map_err(fail)?;
        Ok(note)
    }

    /// Keeps how the attempt ended, if it is known.
    ///
    /// # Errors
    /// The attempt's own, or that the note cannot be kept.
    pub fn end(
        &self,
        note: Note,
        ended: Result<Incarnations, Trouble>,
        fail: impl Fn(String) -> Failure,
    ) -> Result<(), Failure> {
        let (end, result) = match ended {
            Ok(running) => (End::Done { running }, Ok(())),
            Err(Trouble::Failed(failure)) => (End::Failed { failure: failure.clone() }, Err(failure)),
            Err(Trouble::Unclear(failure) | Trouble::Away(failure)) => return Err(failure),
        };
        let ended = Note { end: Some(end), ..note.clone() };
        if ended != note {
            write(&self.path, &ended).map_err(fail)?;
        }
        result
    }

    /// Forgets it.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Why a service was not made to run a release.
pub(super) enum Trouble {
    /// The service failed. Asking again for the same attempt will not help.
    Failed(Failure),
    /// It is not known how the service is, or whoever keeps it does not answer.
    Unclear(Failure),
    /// Whoever keeps it is not there at the moment, and may be soon.
    Away(Failure),
}

impl Trouble {
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) | Self::Unclear(failure) | Self::Away(failure) => failure,
        }
    }
}

/// Writes a file of the drivers, with the directory above it.
///
/// # Errors
/// A sentence naming the file.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let bytes = serde_json::to_vec(value).expect("texts, numbers and maps with texts as their keys");
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| crate::holder::record::write(path, &bytes))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
