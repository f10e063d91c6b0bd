//! The links of slots, and the files with their addresses: what a unit or a program of the host's own starts by.
//!
//! Whatever starts in a slot runs what its link names, whoever starts it. So a link that leads elsewhere does nothing
//! until the program is started the next time, and is put right without touching what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use landfall_common::ReleaseName;

use crate::drift::finding::{Finding, Kind, Remedy};

/// What a slot must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The release that runs there, by the record.
    pub release: ReleaseName,
    /// Where its link leads.
    pub target: PathBuf,
    /// What its file holds.
    pub environment: String,
}

/// What of a slot is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its link.
    pub link: Link,
    /// What its file holds; `None` if there is none that can be read.
    pub environment: Option<String>,
}

/// What has the name of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Link {
    /// Nothing.
    #[default]
    Gone,
    /// A link that leads there.
    To(PathBuf),
    /// Something else.
    Other,
}

const MOVE_AWAY: &str = "move it away, then repair";
const NOBODYS: &str = "no release runs in this slot: look at it; whoever starts its unit or program by hand runs what \
                       the link names";

/// In what slots differ from the record, by the slots' names.
#[must_use]
pub fn findings(must: &BTreeMap<String, Seat>, seen: &BTreeMap<String, Seen>) -> Vec<Finding> {
    let slots: BTreeSet<&String> = must.keys().chain(seen.keys()).collect();
    let nothing = Seen::default();
    let mut found = Vec::new();
    for slot in slots {
        let there = seen.get(slot).unwrap_or(&nothing);
        let (link, file) = (format!("slots/{slot}"), format!("slots/{slot}.env"));
        let mut find = |path: &String, kind, detail, remedy| {
            found.push(super::finding(path.clone(), kind, detail, remedy));
        };
        let Some(seat) = must.get(slot) else {
            let remedy = || Remedy::ByHand { what: NOBODYS.into() };
            if there.link != Link::Gone {
                find(&link, Kind::Added, "no release runs in this slot".to_owned(), remedy());
            }
            continue;
        };
        let release = seat.release.clone();
        let to_link = Remedy::SlotLink { slot: slot.clone(), release, target: seat.target.clone() };
        match &there.link {
            Link::To(target) if *target == seat.target => {}
            Link::To(target) => {
                let detail = format!("leads to {} instead of {}", target.display(), seat.target.display());
                find(&link, Kind::Link, detail, to_link);
            }
            Link::Gone => {
                find(&link, Kind::Missing, format!("{} runs in this slot", seat.release), to_link);
            }
            Link::Other => {
                let detail = format!("no link to {}", seat.target.display());
                find(&link, Kind::Changed, detail, Remedy::ByHand { what: MOVE_AWAY.into() });
            }
        }
        let release = seat.release.clone();
        let content = seat.environment.clone();
        let to_file = Remedy::SlotFile { slot: slot.clone(), release, content };
        match &there.environment {
            Some(text) if *text == seat.environment => {}
            Some(_) => {
                let detail = format!("it is not what the agent wrote for {}", seat.release);
                find(&file, Kind::Changed, detail, to_file);
            }
            None => find(&file, Kind::Missing, format!("{} runs in this slot", seat.release), to_file),
        }
    }
    found
}
