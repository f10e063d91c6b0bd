//! The migrations that a plan would run, by the names that releases listed when they were built.

use std::collections::BTreeSet;

use landfall_common::assignment::ReleaseRef;
use landfall_controller_core::preview::Plan;
use landfall_controller_core::rollout::Schema;

use super::program;
use crate::rpc::Context;

/// Migrations that a plan names.
const NAMED: usize = 100;

/// The release whose migration is due, and the one in force, if that is another.
pub(super) fn due(plan: &Plan) -> Option<(ReleaseRef, Option<ReleaseRef>)> {
    let Schema::Due { migration } = &plan.schema else { return None };
    let before = plan.previous.clone().filter(|previous| previous.digest != migration.release.digest);
    Some((migration.release.clone(), before))
}

/// Migrations by name, and what that is worth. What the database has really taken only the database knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub names: Vec<String>,
    /// How many more there are.
    pub more: u64,
    /// A sentence, where there is a list.
    pub note: String,
}

/// What a release lists beyond the one before it.
pub(super) async fn listed(context: &Context, release: &ReleaseRef, before: Option<&ReleaseRef>) -> Listed {
    let of = async |release| program::of(context, release).await.map(|it| it.migrate.map(|it| it.names));
    let names = match of(release).await {
        Ok(names) => names.unwrap_or_default(),
        Err(why) => {
            let note = format!(
                "which it are cannot be told, the manifest of {} cannot be read: {why}",
                release.name
            );
            return Listed { note, ..Listed::default() };
        }
    };
    let before = match before {
        None => None,
        Some(before) => Some((before, of(before).await.map(Option::unwrap_or_default))),
    };
    beyond(release, names, before.as_ref().map(|(before, names)| (*before, names.as_deref())))
}

type Before<'a> = (&'a ReleaseRef, Result<&'a [String], &'a String>);

fn beyond(release: &ReleaseRef, names: Vec<String>, before: Option<Before<'_>>) -> Listed {
    if names.is_empty() {
        return Listed::default();
    }
    let name = &release.name;
    let (known, note) = match before {
        None => (&[][..], format!("all that {name} listed when it was built")),
        Some((before, Ok([]))) => {
            let note = format!(
                "all that {name} listed when it was built; {} listed none to compare with",
                before.name
            );
            (&[][..], note)
        }
        Some((before, Ok(known))) => {
            (known, format!("what {name} listed when it was built, and {} did not", before.name))
        }
        Some((before, Err(why))) => {
            let unread = format!("the manifest of {} cannot be read: {why}", before.name);
            (&[][..], format!("all that {name} listed when it was built; {unread}"))
        }
    };
    let known: BTreeSet<&String> = known.iter().collect();
    let mut new: Vec<String> = names.into_iter().filter(|name| !known.contains(name)).collect();
    let note = if new.is_empty() { format!("none: {note}") } else { note };
    let more = new.len().saturating_sub(NAMED) as u64;
    new.truncate(NAMED);
    Listed { names: new, more, note }
}

#[cfg(test)]
mod tests {
    use landfall_common::{ReleaseCounter, ReleaseName, Sha256};

    use super::*;

    fn release(name: &str) -> ReleaseRef {
        let (name, digest) = (ReleaseName::new(name).unwrap(), Sha256::of(name.as_bytes()));
        ReleaseRef { name, digest, length: 1, counter: ReleaseCounter(1) }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_release_before_listed_as_well_is_not_new() {
        let (now, before) = (release("v2"), release("v1"));
        let known = names(&["a.1", "a.2"]);
        let told = beyond(&now, names(&["a.1", "b.1", "a.2", "a.3"]), Some((&before, Ok(&known))));
        assert_eq!(told.names, ["b.1", "a.3"], "in the order in which they were listed");
        assert_eq!((told.more, told.note.as_str()), (0, "what v2 listed when it was built, and v1 did not"));
        let none = beyond(&now, known.clone(), Some((&before, Ok(&known))));
        assert_eq!((none.names.len(), none.note.starts_with("none: what v2 listed")), (0, true), "{none:?}");
    }

    #[test]
    fn what_the_list_is_worth_is_said() {
        let (now, before) = (release("v2"), release("v1"));
        assert_eq!(beyond(&now, Vec::new(), None), Listed::default(), "nobody listed any");
        let many: Vec<String> = (0..103).map(|number| format!("a.{number}")).collect();
        let first = beyond(&now, many.clone(), None);
        assert_eq!((first.names.len(), first.more), (100, 3));
        assert_eq!(first.note, "all that v2 listed when it was built");
        let unlisted = beyond(&now, many.clone(), Some((&before, Ok(&[]))));
        assert!(unlisted.note.ends_with("; v1 listed none to compare with"), "{}", unlisted.note);
        let why = "it is gone".to_owned();
        let unread = beyond(&now, many, Some((&before, Err(&why))));
        assert!(unread.note.ends_with("; the manifest of v1 cannot be read: it is gone"), "{}", unread.note);
    }
}
