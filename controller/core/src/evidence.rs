//! Evidence: what CI must have said of a release's commit before the release begins in a place.
//!
//! Signatures are verified before a statement comes here. What is decided here is which statement counts, of several,
//! and whether whoever has signed it may say it: by the release that is to come, and by the one in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use landfall_common::assignment::ReleaseRef;
use landfall_common::evidence::{CommitId, Demand, EvidenceKey, Statement, Verdict};
use landfall_common::manifest::Origin;
use landfall_common::{AppName, EvidenceName, ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::command::RollRequest;
use crate::log::Actor;
use crate::record::{Place, PlaceRecord};
use crate::state::State;

/// How many statements of one key that releases of the application name are kept with the same result: nobody pushes out
/// what another has said, nor a failure a success.
pub const EVIDENCE_AT_MOST: usize = 1024;

/// And how many of keys that no release names. CI may speak before the first release that names its key is published; a
/// stranger who says more than this loses what he has said before, and nobody else does.
pub const UNNAMED_AT_MOST: usize = 256;

/// A statement that was handed in, its signature verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRecord {
    /// What is said.
    pub statement: Statement,
    /// By its key, hexadecimal: whoever is shown it can verify it.
    pub signature: String,
    /// Who has handed it in.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// Its number among those of the application; only grows.
    pub number: u64,
}

/// Which statement of an application one is about: a later one of the same key replaces it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Said {
    /// Of which commit.
    pub commit: CommitId,
    /// What of.
    pub name: EvidenceName,
    /// Who says it.
    pub key: EvidenceKey,
}

impl Said {
    /// What comes before all that is said of a commit under a name.
    fn least(commit: &CommitId, name: &EvidenceName) -> Self {
        let key = EvidenceKey::new("0".repeat(64)).expect("64 digits");
        Self { commit: commit.clone(), name: name.clone(), key }
    }
}

impl From<&Statement> for Said {
    fn from(statement: &Statement) -> Self {
        let Statement { commit, name, key, .. } = statement.clone();
        Self { commit, name, key }
    }
}

/// The statements of an application.
pub(crate) type Statements = BTreeMap<Said, EvidenceRecord>;

/// Evidence that a place asks for, and a release does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Which release.
    pub release: ReleaseName,
    /// Where.
    pub place: Place,
    /// What of.
    pub name: EvidenceName,
    /// The release in force, where it is that one that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<ReleaseName>,
    /// What there is.
    pub found: Found,
}

/// What there is instead of the evidence that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// The release was not made from a commit, or does not say from which.
    NoCommit,
    /// Nothing.
    Nothing {
        /// Of which commit.
        commit: CommitId,
    },
    /// What says that it failed; one key that says so suffices.
    Failed {
        /// Of which commit.
        commit: CommitId,
        /// In which run.
        run: u64,
        /// By which key: a later run of that one says otherwise.
        key: EvidenceKey,
        /// Where that can be read; empty if nowhere.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        url: String,
    },
    /// What was signed by keys that may not say it.
    Stranger {
        /// Of which commit.
        commit: CommitId,
        /// One of them.
        key: EvidenceKey,
        /// Those that may.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        may: BTreeSet<EvidenceKey>,
    },
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { release, place, name, asked_by, found } = self;
        write!(f, "{release} lacks the evidence {name} for {place}: ")?;
        match found {
            Found::NoCommit => f.write_str("it names no commit in full that there could be any of")?,
            Found::Nothing { commit } => write!(f, "there is none of commit {}", commit.short())?,
            Found::Failed { commit, run, key, url } => {
                write!(f, "run {run} of commit {} has failed, by key {}", commit.short(), key.short())?;
                if !url.is_empty() {
                    write!(f, " ({url})")?;
                }
            }
            Found::Stranger { commit, key, may } => {
                let may: Vec<&str> = may.iter().map(EvidenceKey::short).collect();
                write!(
                    f,
                    "that of commit {} was signed by key {}, and {} names {} for it",
                    commit.short(),
                    key.short(),
                    asked_by.as_ref().unwrap_or(release),
                    may.join(", ")
                )?;
            }
        }
        match asked_by {
            Some(in_force) => write!(f, "; {in_force}, which is in force, asks for it"),
            None => Ok(()),
        }
    }
}

impl Lacking {
    /// Whether it is of any use to wait for it.
    #[must_use]
    pub fn may_come(&self) -> bool {
        self.found != Found::NoCommit
    }

    /// The next command.
    #[must_use]
    pub fn next(&self) -> String {
        let name = &self.name;
        let add =
            |commit: &CommitId| format!("`ctl evidence add --commit {commit} --name {name} --result passed");
        match &self.found {
            // The name is taken: what it stands for has no commit for ever.
            Found::NoCommit => {
                "publish it under another name, from a tag or with --commit and the full id".to_owned()
            }
            Found::Nothing { commit } | Found::Stranger { commit, .. } => {
                format!("{} --key FILE` hands it in", add(commit))
            }
            Found::Failed { commit, run, .. } => {
                let next = run.saturating_add(1);
                format!(
                    "{} --run {next} --key FILE` with that key, or a higher run, hands in one that has passed",
                    add(commit)
                )
            }
        }
    }
}

/// Evidence on which a rollout began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// What of.
    pub name: EvidenceName,
    /// Who has signed it.
    pub key: EvidenceKey,
    /// Which run.
    pub run: u64,
    /// Where it can be read; empty if nowhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
}

impl fmt::Display for Stood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed in run {}", self.name, self.run)
    }
}

/// What a place asks for, and by which release.
struct Asked<'a> {
    demand: &'a Demand,
    /// The release in force, if it is that one.
    by: Option<&'a ReleaseName>,
}

/// What the release asks for itself, and what the one in force does: each with its own keys, so that a release takes
/// nothing away before it is in force itself.
fn asked<'a>(
    state: &'a State,
    place: &'a PlaceRecord,
    release: &'a ReleaseRef,
) -> impl Iterator<Item = Asked<'a>> {
    let Place { application, environment } = &place.place;
    let demands = move |of: &ReleaseRef| {
        let record = state.release(application, &of.name);
        let strategy = record.and_then(|record| record.environments.get(environment));
        strategy.map_or(&[][..], |strategy| &strategy.entry.evidence)
    };
    let own = demands(release);
    let in_force = place.in_force().map(|proven| &proven.release);
    let before = in_force.into_iter().flat_map(move |before| {
        let new = demands(before).iter().filter(|demand| !own.contains(demand));
        new.map(|demand| Asked { demand, by: Some(&before.name) })
    });
    own.iter().map(|demand| Asked { demand, by: None }).chain(before)
}

/// The commit of a release, if it names one in full.
#[must_use]
pub fn commit_of(state: &State, application: &AppName, release: &ReleaseName) -> Option<CommitId> {
    let text = match &state.release(application, release)?.origin {
        Origin::Git { commit, .. } => Some(commit),
        Origin::Artifact { commit } => commit.as_ref(),
    };
    CommitId::new(text?.clone()).ok()
}

/// The statement by which a demand is met.
///
/// # Errors
/// What there is instead. Of each key its last word counts; a failure of one outweighs what others say.
fn look<'s>(
    state: &'s State,
    application: &AppName,
    commit: Option<&CommitId>,
    demand: &Demand,
) -> Result<&'s Statement, Found> {
    let commit = commit.ok_or(Found::NoCommit)?;
    let none = || Found::Nothing { commit: commit.clone() };
    let statements = state.evidence.get(application).ok_or_else(none)?;
    let about = || {
        let all = statements.range(Said::least(commit, &demand.name)..);
        let all = all.take_while(|(said, _)| said.commit == *commit && said.name == demand.name);
        all.map(|(_, record)| &record.statement)
    };
    let may = |statement: &&Statement| demand.keys.contains(&statement.key);
    let failed = |statement: &&Statement| statement.result == Verdict::Failed;
    if let Some(Statement { run, key, url, .. }) = about().filter(may).find(failed) {
        let (commit, key, url) = (commit.clone(), key.clone(), url.clone());
        return Err(Found::Failed { commit, run: *run, key, url });
    }
    about().find(may).ok_or_else(|| match about().next() {
        Some(Statement { key, .. }) => {
            let (key, may) = (key.clone(), demand.keys.clone());
            Found::Stranger { commit: commit.clone(), key, may }
        }
        None => none(),
    })
}

/// Each piece of evidence that a release needs to begin in a place: its name, and by what it is there, or why it is not.
pub fn pieces<'a>(
    state: &'a State,
    place: &'a PlaceRecord,
    release: &'a ReleaseRef,
) -> impl Iterator<Item = (&'a EvidenceName, Result<&'a Statement, Box<Lacking>>)> {
    let application = &place.place.application;
    let commit = commit_of(state, application, &release.name);
    asked(state, place, release).map(move |Asked { demand, by }| {
        let found = look(state, application, commit.as_ref(), demand).map_err(|found| {
            let (name, asked_by) = (demand.name.clone(), by.cloned());
            Box::new(Lacking {
                release: release.name.clone(),
                place: place.place.clone(),
                name,
                asked_by,
                found,
            })
        });
        (&demand.name, found)
    })
}

/// The first piece that it lacks, unless the request says that it begins without.
pub(crate) fn missing(
    state: &State,
    place: &PlaceRecord,
    release: &ReleaseRef,
    request: &RollRequest,
) -> Option<Lacking> {
    if !request.without_evidence.is_empty() {
        return None;
    }
    lacking(state, place, release)
}

/// The same, where it will never come: nobody waits for that.
pub(crate) fn hopeless(
    state: &State,
    place: &PlaceRecord,
    release: &ReleaseRef,
    request: &RollRequest,
) -> Option<Lacking> {
    missing(state, place, release, request).filter(|lacking| !lacking.may_come())
}

/// The same whatever the request says.
pub(crate) fn lacking(state: &State, place: &PlaceRecord, release: &ReleaseRef) -> Option<Lacking> {
    pieces(state, place, release).find_map(|(_, found)| found.err()).map(|lacking| *lacking)
}

/// What a rollout that begins now stands on.
pub(crate) fn stood(state: &State, place: &PlaceRecord, release: &ReleaseRef) -> Vec<Stood> {
    let mut stood: Vec<Stood> = Vec::new();
    for Statement { name, key, run, url, .. } in
        pieces(state, place, release).filter_map(|(_, found)| found.ok())
    {
        let piece = Stood { name: name.clone(), key: key.clone(), run: *run, url: url.clone() };
        if !stood.contains(&piece) {
            stood.push(piece);
        }
    }
    stood
}

/// Which statements are let go of where one more would be too many, the oldest first: of a key that releases name only its
/// own, with the same result; of other keys only those of such. A failure that is lost lets an older success count, and a
/// success that is lost holds a release, until each is handed in again.
pub(crate) fn surplus(state: &State, application: &AppName, new: &Statement) -> Vec<Said> {
    let Some(statements) = state.evidence.get(application) else { return Vec::new() };
    let strategies = state.releases(application).flat_map(|release| release.environments.values());
    let demands = strategies.flat_map(|strategy| &strategy.entry.evidence);
    let named: BTreeSet<&EvidenceKey> = demands.flat_map(|demand| &demand.keys).collect();
    let is_named = named.contains(&new.key);
    let at_most = if is_named { EVIDENCE_AT_MOST } else { UNNAMED_AT_MOST };
    let is_alike = |(said, record): &(&Said, &EvidenceRecord)| match is_named {
        true => said.key == new.key && record.statement.result == new.result,
        false => !named.contains(&said.key),
    };
    let replaced = Said::from(new);
    let mut alike: Vec<(&Said, &EvidenceRecord)> =
        statements.iter().filter(|(said, _)| **said != replaced).filter(is_alike).collect();
    // A key may be named no more since: then there are more than one too many.
    let too_many = (alike.len() + 1).saturating_sub(at_most);
    alike.sort_by_key(|(_, record)| record.number);
    alike.into_iter().take(too_many).map(|(said, _)| said.clone()).collect()
}
