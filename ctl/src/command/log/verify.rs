//! `ctl log verify`: every entry is hashed into the tree of RFC 6962, whose root must be the one that the
//! controller has signed, now and at the last look.

use landfall_common::merkle::{CHECKPOINT_TYPE, Checkpoint, Frontier, leaf_hash};
use landfall_trust::{PublicKey, director};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, LogRange};
use crate::command::Session;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::files::{self, Access};

/// Entries per call.
const PAGE: u32 = 1000;

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
    let checkpoint: Checkpoint =
        director::verify_document(CHECKPOINT_TYPE, &raw, std::slice::from_ref(&key), 1)
            .map_err(Error::trust("the log's checkpoint is refused"))?;
    if let Some(before) = remembered.as_ref().filter(|before| before.checkpoint.size > checkpoint.size) {
        return Err(Error::Answer(format!(
            "the log had {} entries at the last look and has {} now: entries were removed",
            before.checkpoint.size, checkpoint.size
        )));
    }
    let mut replay =
        Replay::new(checkpoint.clone(), remembered.as_ref().map(|before| before.checkpoint.clone()));
    replay.begin()?;
    while replay.tree.size() < checkpoint.size {
        let from = replay.tree.size();
        let page = client.log(LogRange { from, limit: PAGE, ..LogRange::default() }).await?;
        if page.is_empty() {
            let size = checkpoint.size;
            return Err(Error::Answer(format!(
                "the log ends at entry {from}, and its checkpoint says {size}"
            )));
        }
        for entry in page.iter().take_while(|entry| entry.index < checkpoint.size) {
            replay.take(entry.index, &entry.raw)?;
        }
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

/// The tree, grown entry by entry and compared with each checkpoint at its size.
struct Replay {
    tree: Frontier,
    signed: Checkpoint,
    before: Option<Checkpoint>,
}

impl Replay {
    fn new(signed: Checkpoint, before: Option<Checkpoint>) -> Self {
        Self { tree: Frontier::default(), signed, before }
    }

    /// A checkpoint may be that of the empty log.
    fn begin(&self) -> Result<(), Error> {
        self.compare()
    }

    fn take(&mut self, index: u64, entry: &[u8]) -> Result<(), Error> {
        let wanted = self.tree.size();
        if index != wanted {
            return Err(Error::Answer(format!("entry {wanted} of the log is missing: {index} came instead")));
        }
        let _ = self.tree.append(leaf_hash(entry));
        self.compare()
    }

    fn compare(&self) -> Result<(), Error> {
        let size = self.tree.size();
        let named = [(Some(&self.signed), "the signed checkpoint"), (self.before.as_ref(), "the last look")];
        for (checkpoint, what) in named {
            if checkpoint.is_some_and(|c| c.size == size && c.root != self.tree.root()) {
                return Err(Error::Answer(format!(
                    "the first {size} entries of the log are not those of {what}: some were changed"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::Timestamp;

    fn checkpoint(entries: &[&[u8]]) -> Checkpoint {
        let mut tree = Frontier::default();
        for entry in entries {
            let _ = tree.append(leaf_hash(entry));
        }
        Checkpoint { size: tree.size(), root: tree.root(), at: Timestamp::default() }
    }

    fn replay(entries: &[&[u8]], signed: &Checkpoint, before: Option<&Checkpoint>) -> Result<(), Error> {
        let mut replay = Replay::new(signed.clone(), before.cloned());
        replay.begin()?;
        (0u64..).zip(entries).try_for_each(|(index, entry)| replay.take(index, entry))
    }

    #[test]
    fn a_log_that_grew_is_verified_and_a_changed_entry_is_noticed() {
        let entries: [&[u8]; 5] = [b"a", b"b", b"c", b"d", b"e"];
        let (before, signed) = (checkpoint(&entries[..3]), checkpoint(&entries));
        replay(&entries, &signed, Some(&before)).unwrap();
        replay(&[], &checkpoint(&[]), None).unwrap();
        // Written anew and signed again: only who remembers an older checkpoint can know.
        let mut forged = entries;
        forged[1] = b"other";
        let signed_again = checkpoint(&forged);
        replay(&forged, &signed_again, None).unwrap();
        assert!(
            replay(&forged, &signed_again, Some(&before)).unwrap_err().to_string().contains("the last look")
        );
        assert!(replay(&forged, &signed, None).is_err());
    }

    #[test]
    fn a_gap_is_noticed() {
        let mut replay = Replay::new(checkpoint(&[b"a", b"b"]), None);
        assert!(replay.take(1, b"b").unwrap_err().to_string().contains("missing"));
    }
}
