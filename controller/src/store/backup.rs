//! A copy of the whole state in one file, and a store made from it.
//!
//! ```text
//! magic     18  "LANDFALL-BACKUP-1\n"
//! revision   8  little endian, like all numbers
//! made_at    8  milliseconds since 1970
//! length     8  of the payload
//! sha256    32  of everything before it and of the payload
//! payload       as in a snapshot of the journal
//! ```

use std::io::{Read, Write};
use std::path::Path;

use landfall_common::Timestamp;
use landfall_common::digest::Sha256;
use landfall_common::disk::Disk;
use landfall_common::journal::Journal;

use super::codec::{self, State};
use super::embedded::journal_dir;
use super::{EmbeddedStore, Revision, StoreIoError};

const MAGIC: &[u8; 18] = b"LANDFALL-BACKUP-1\n";
const HEADER_BYTES: usize = 18 + 3 * 8;

/// A state that was saved or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The last commit that is in it.
    pub revision: Revision,
    /// When it was made.
    pub made_at: Timestamp,
    /// Every key with its value and version.
    pub state: State,
}

impl EmbeddedStore {
    /// Writes the state of one moment; commits go on meanwhile.
    ///
    /// # Errors
    /// [`StoreIoError`].
    pub fn export(&self, made_at: Timestamp, writer: &mut dyn Write) -> Result<Revision, StoreIoError> {
        let (revision, payload) = self.snapshot()?;
        let write = |writer: &mut dyn Write| {
            writer.write_all(&encode_header(revision, made_at, &payload))?;
            writer.write_all(&payload)?;
            writer.flush()
        };
        write(writer).map_err(|source| StoreIoError::Backup { operation: "write", source })?;
        Ok(revision)
    }
}

impl Backup {
    /// Reads and checks a whole backup.
    ///
    /// # Errors
    /// [`StoreIoError::Backup`], [`StoreIoError::Damaged`].
    pub fn read(reader: &mut dyn Read) -> Result<Self, StoreIoError> {
        let damaged =
            |reason: &str| StoreIoError::Damaged { what: "the backup".to_owned(), reason: reason.to_owned() };
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|source| StoreIoError::Backup { operation: "read", source })?;
        let (header, rest) =
            bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| damaged("it is no Landfall backup"))?;
        if header[..MAGIC.len()] != *MAGIC {
            return Err(damaged("it is no Landfall backup, or one of a later release"));
        }
        let number = |index: usize| {
            let at = MAGIC.len() + index * 8;
            u64::from_le_bytes(header[at..at + 8].try_into().expect("the range has 8 bytes"))
        };
        let (digest, payload) = rest.split_at_checked(32).ok_or_else(|| damaged("it is cut off"))?;
        if payload.len() as u64 != number(2) {
            return Err(damaged("it is cut off, or something was added"));
        }
        if digest != checksum(header, payload).as_bytes() {
            return Err(damaged("its checksum does not fit"));
        }
        let state = codec::decode_state(payload).map_err(|e| damaged(&e))?;
        Ok(Self { revision: Revision(number(0)), made_at: Timestamp::from_ms(number(1)), state })
    }

    /// Makes a store of it in an empty or missing directory; open it afterwards as any other.
    ///
    /// # Errors
    /// [`StoreIoError::NotEmpty`], [`StoreIoError::Journal`].
    pub fn restore(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StoreIoError> {
        disk.ensure_dir(dir)?;
        if !disk.list(dir)?.is_empty() {
            return Err(StoreIoError::NotEmpty { path: dir.display().to_string() });
        }
        let payload = codec::encode_state(self.state.iter().map(|(key, value)| (key.as_str(), value)));
        Journal::create_from_snapshot(disk, &journal_dir(dir), self.revision.0, &payload)?;
        Ok(())
    }
}

fn encode_header(revision: Revision, made_at: Timestamp, payload: &[u8]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    for number in [revision.0, made_at.ms(), payload.len() as u64] {
        header.extend_from_slice(&number.to_le_bytes());
    }
    let digest = checksum(&header, payload);
    header.extend_from_slice(digest.as_bytes());
    header
}

fn checksum(header: &[u8], payload: &[u8]) -> Sha256 {
    let mut hasher = Sha256::hasher();
    hasher.update(header);
    hasher.update(payload);
    hasher.finish()
}
