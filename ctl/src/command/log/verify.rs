//! `ctl log verify`: every entry is hashed into the tree of RFC 6962, whose root must be the one that the
//! controller has signed, now and at the last look.

use landfall_common::Sha256;
use landfall_trust::{PublicKey, director};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, LogRange};
use crate::command::Session;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::files::{self, Access};

/// The `_type` of the signed checkpoint.
const CHECKPOINT_TYPE: &str = "landfall-checkpoint";
/// Entries per call.
const PAGE: u32 = 1000;

/// A checkpoint's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    /// How many entries.
    size: u64,
    /// The root of the tree over them.
    root: Sha256,
}

/// What this operator has verified last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    checkpoint: Checkpoint,
    /// The key that signed it. Learnt at the first look; a change is told.
    key: PublicKey,
}

pub(super) async fn run(session: &Session, profile: &Profile, client: &Client) -> Result<Exit, Error> {
    let output = session.output;
    let path = profile.checkpoint_file();
    let remembered: Option<Remembered> = match files::read(&path)? {
        None => None,
        Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| Error::Config {
            path: path.clone(),
            reason: format!("it is damaged ({error}); look into it before removing it: it is the evidence"),
        })?),
    };
    let info = client.info().await?;
    let key: PublicKey = serde_json::from_str(&info.log_key)
        .map_err(|error| Error::Answer(format!("its key for the log cannot be read: {error}")))?;
    if let Some(before) = remembered.as_ref().filter(|before| before.key != key) {
        return Err(Error::Answer(format!(
            "the log is signed by key {}, and at the last look it was {}",
            key.keyid(),
            before.key.keyid()
        )));
    }
    let raw = client.checkpoint().await?;
    let value: Value = director::verify_document(CHECKPOINT_TYPE, &raw, std::slice::from_ref(&key), 1)
        .map_err(Error::trust("the log's checkpoint is refused"))?;
    let checkpoint = Checkpoint::deserialize(&value)
        .map_err(|error| Error::Answer(format!("its checkpoint cannot be read: {error}")))?;
    let leaves = leaves(client, checkpoint.size).await?;
    check(&leaves, &checkpoint, "the signed checkpoint")?;
    if let Some(before) = &remembered {
        if before.checkpoint.size > checkpoint.size {
            return Err(Error::Answer(format!(
                "the log had {} entries at the last look and has {} now: entries were removed",
                before.checkpoint.size, checkpoint.size
            )));
        }
        check(&leaves, &before.checkpoint, "the checkpoint of the last look")?;
    }
    let since = remembered.map(|before| before.checkpoint.size);
    let bytes = serde_json::to_vec(&Remembered { checkpoint: checkpoint.clone(), key })
        .expect("texts and numbers can be written as JSON");
    files::write(&path, &bytes, Access::Public)?;
    let looked = since.map_or(String::new(), |size| format!("; the first {size} are those of the last look"));
    output.line(format!("verified: {} entries, root {}{looked}", checkpoint.size, checkpoint.root.short()));
    output.json(
        "log_verify",
        &json!({ "size": checkpoint.size, "root": checkpoint.root, "size_at_last_look": since }),
    );
    Ok(Exit::Succeeded)
}

async fn leaves(client: &Client, size: u64) -> Result<Vec<Sha256>, Error> {
    let mut leaves = Vec::new();
    while (leaves.len() as u64) < size {
        let from = leaves.len() as u64;
        let page = client.log(LogRange { from, limit: PAGE, ..LogRange::default() }).await?;
        if page.is_empty() {
            return Err(Error::Answer(format!(
                "the log ends at entry {from}, and its checkpoint says {size}"
            )));
        }
        for entry in page {
            if entry.index != leaves.len() as u64 {
                let (found, wanted) = (entry.index, leaves.len());
                return Err(Error::Answer(format!(
                    "entry {wanted} of the log is missing: {found} came instead"
                )));
            }
            leaves.push(leaf(&entry.raw));
        }
    }
    Ok(leaves)
}

fn check(leaves: &[Sha256], checkpoint: &Checkpoint, what: &str) -> Result<(), Error> {
    let size = usize::try_from(checkpoint.size).ok().filter(|size| *size <= leaves.len());
    let size = size.ok_or_else(|| Error::Answer(format!("the log has fewer entries than {what}")))?;
    if root(&leaves[..size]) == checkpoint.root {
        return Ok(());
    }
    Err(Error::Answer(format!(
        "the first {size} entries of the log are not those of {what}: some were changed"
    )))
}

/// RFC 6962 §2.1: the hash of a leaf.
fn leaf(entry: &[u8]) -> Sha256 {
    let mut hasher = Sha256::hasher();
    hasher.update(&[0]);
    hasher.update(entry);
    hasher.finish()
}

/// RFC 6962 §2.1: the root of a tree.
fn root(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => Sha256::of(b""),
        [only] => *only,
        _ => {
            // The largest power of two that is smaller than the number of leaves.
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            let mut hasher = Sha256::hasher();
            hasher.update(&[1]);
            hasher.update(root(left).as_bytes());
            hasher.update(root(right).as_bytes());
            hasher.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_those_of_the_certificate_transparency_test_vectors() {
        // The leaves and roots of the reference implementation's merkle tree tests.
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let leaves: Vec<Sha256> = inputs.iter().map(|input| leaf(&hex::decode(input).unwrap())).collect();
        for (count, expected) in [
            (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ] {
            assert_eq!(root(&leaves[..count]).to_string(), expected, "{count}");
        }
    }

    #[test]
    fn a_changed_or_missing_entry_is_noticed() {
        let leaves: Vec<Sha256> = (0..9u8).map(|n| leaf(&[n])).collect();
        let checkpoint = Checkpoint { size: 9, root: root(&leaves) };
        check(&leaves, &checkpoint, "x").unwrap();
        let mut changed = leaves.clone();
        changed[3] = leaf(b"other");
        assert!(check(&changed, &checkpoint, "x").is_err());
        assert!(check(&leaves[..8], &checkpoint, "x").is_err());
    }
}
