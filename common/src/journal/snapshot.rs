//! Snapshots: one file each, with its own checksum and the number of the last record that it covers.

use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::disk::{Disk, DiskError};

const MAGIC: [u8; 8] = *b"LFsnap1\n";
const DIGEST_AT: usize = 24;
const PAYLOAD_AT: usize = DIGEST_AT + 32;

/// What a snapshot file is called.
pub fn path(dir: &Path, last: u64) -> PathBuf {
    dir.join(format!("snap-{last:020}.snap"))
}

/// The file's bytes.
pub fn encode(last: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PAYLOAD_AT + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&last.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    let digest = digest(&out, payload);
    out.extend_from_slice(&digest);
    out.extend_from_slice(payload);
    out
}

/// The payload, or why there is none.
pub fn decode(mut bytes: Vec<u8>, last: u64) -> Result<Vec<u8>, &'static str> {
    if bytes.len() < PAYLOAD_AT || bytes[..8] != MAGIC {
        return Err("it does not begin like a snapshot");
    }
    if bytes[8..16] != last.to_le_bytes() {
        return Err("it is the snapshot of another record");
    }
    if bytes[16..DIGEST_AT] != ((bytes.len() - PAYLOAD_AT) as u64).to_le_bytes() {
        return Err("its length does not fit");
    }
    let expected = digest(&bytes[..DIGEST_AT], &bytes[PAYLOAD_AT..]);
    if bytes[DIGEST_AT..PAYLOAD_AT] != expected {
        return Err("its checksum does not fit");
    }
    bytes.drain(..PAYLOAD_AT);
    Ok(bytes)
}

fn digest(header: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hasher = sha2::Sha256::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize().into()
}

/// Writes a snapshot and reads it back, before anything that it replaces is removed. Two syncs.
pub fn write(disk: &dyn Disk, dir: &Path, last: u64, payload: &[u8]) -> Result<(), DiskError> {
    let path = path(dir, last);
    disk.write_atomic(&path, &encode(last, payload))?;
    let back = disk.read(&path)?.unwrap_or_default();
    let verified = decode(back, last).is_ok_and(|back| back == payload);
    if verified {
        return Ok(());
    }
    let reason = std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not read back as written");
    Err(DiskError::new("verify the snapshot", &path, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_back_and_any_changed_byte_is_seen() {
        let bytes = encode(7, b"payload");
        assert_eq!(decode(bytes.clone(), 7).unwrap(), b"payload");
        assert!(decode(bytes.clone(), 8).is_err());
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(damaged, 7).is_err(), "byte {at}");
            assert!(decode(bytes[..at].to_vec(), 7).is_err(), "cut at {at}");
        }
    }
}
