//! Checking the whole log: every entry against its leaf, the tree against the signed checkpoint.

use landfall_common::merkle::{CHECKPOINT_TYPE, Checkpoint, Frontier, leaf_hash};
use landfall_common::{Sha256, canonical};
use landfall_trust::director::verify_document;
use landfall_trust::key::PublicKey;

use super::{ENTRY_PREFIX, LogError, LogTree, checkpoint, entry_key, parse, prove};
use crate::store::Store;

/// Entries that are read at a time.
const PAGE: usize = 500;

/// A log that is what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How many entries it has.
    pub size: u64,
    /// The root of its tree.
    pub root: Sha256,
}

/// Reads every entry and checks that it stands in its place, is what its leaf was made of, and that all of
/// them together are what the checkpoint, signed by one of `keys`, says. `seen` is a checkpoint that
/// somebody kept: the log must begin with exactly that one. Nobody may append meanwhile.
///
/// # Errors
/// [`LogError::Changed`] with the first entry that differs, [`LogError::Tree`] if the entries are whole
/// but what lies beside them is not, [`LogError::Checkpoint`].
pub async fn verify(
    store: &dyn Store,
    keys: &[PublicKey],
    seen: Option<&Checkpoint>,
) -> Result<Verified, LogError> {
    let signed: Option<Checkpoint> = match checkpoint(store).await? {
        Some(bytes) => Some(verify_document(CHECKPOINT_TYPE, &bytes, keys, 1)?),
        None => None,
    };
    let size = signed.as_ref().map_or(0, |c| c.size);
    let mut frontier = Frontier::default();
    check_seen(&frontier, seen)?;
    let mut after: Option<String> = None;
    loop {
        let page = store.scan_page(ENTRY_PREFIX, after.as_deref(), PAGE).await?;
        for stored in &page.entries {
            let index = frontier.size();
            let changed = |reason: &str| LogError::Changed { index, reason: reason.to_owned() };
            if stored.key != entry_key(index) {
                return Err(changed("is missing"));
            }
            if index == size {
                return Err(changed("is not covered by the signed checkpoint"));
            }
            check_entry(index, &stored.key, &stored.value).map_err(|reason| changed(&reason))?;
            for (node, hash) in frontier.append(leaf_hash(&stored.value)) {
                if prove::stored(store, node).await? != Some(hash) {
                    return Err(match node.level {
                        0 => changed("is not what its leaf was made of"),
                        _ => LogError::Tree(format!("the subtree that ends with entry {index} differs")),
                    });
                }
            }
            check_seen(&frontier, seen)?;
        }
        match page.entries.last() {
            Some(last) if page.more => after = Some(last.key.clone()),
            _ => break,
        }
    }
    if frontier.size() < size {
        return Err(LogError::Changed { index: frontier.size(), reason: "is missing".to_owned() });
    }
    let root = frontier.root();
    if signed.is_some_and(|signed| signed.root != root) {
        return Err(LogError::Tree("its root is not the one that was signed".to_owned()));
    }
    if let Some(seen) = seen.filter(|seen| seen.size > size) {
        let reason = format!("is missing: a checkpoint of {} entries was seen", seen.size);
        return Err(LogError::Changed { index: size, reason });
    }
    let tree = LogTree::load(store).await?;
    if (tree.size(), tree.root()) != (size, root) {
        return Err(LogError::Tree("its frontier does not fit its entries".to_owned()));
    }
    Ok(Verified { size, root })
}

fn check_entry(index: u64, key: &str, bytes: &[u8]) -> Result<(), String> {
    let entry = parse(key, bytes).map_err(|_| "cannot be read".to_owned())?;
    if entry.index != index {
        return Err(format!("says that it is entry {}", entry.index));
    }
    match canonical::to_vec(&entry) {
        Ok(again) if again == bytes => Ok(()),
        _ => Err("is not in its canonical form".to_owned()),
    }
}

fn check_seen(frontier: &Frontier, seen: Option<&Checkpoint>) -> Result<(), LogError> {
    match seen {
        Some(seen) if seen.size == frontier.size() && seen.root != frontier.root() => {
            let reason = "or one before it is not what the checkpoint that was seen says".to_owned();
            Err(LogError::Changed { index: seen.size.saturating_sub(1), reason })
        }
        _ => Ok(()),
    }
}
