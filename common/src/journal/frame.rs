//! The bytes of one frame, and reading frames out of bytes that may be damaged.
//!
//! A frame is a header of 28 bytes and its payload:
//!
//! ```text
//! magic  4   "LFrc" a record, "LFok" a mark
//! len    4   of the payload, little endian like all numbers
//! number 8   of the record; of a mark, the last record known to be durable
//! durable 8  the last record known to be durable when this frame was written
//! crc    4   CRC-32 of everything before it and of the payload
//! ```
//!
//! `durable` is what tells a torn tail from damage: a record that cannot be read, while a later frame says
//! that it was durable, has been acknowledged and is lost. Without such a frame it was never acknowledged.

/// The bytes before the payload.
pub const HEADER_BYTES: usize = 28;

const RECORD: [u8; 4] = *b"LFrc";
const MARK: [u8; 4] = *b"LFok";

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A record.
    Record,
    /// A note, not synced by itself, that all records up to its number are durable.
    Mark,
}

/// A frame in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Record or mark.
    pub kind: Kind,
    /// The record's number, or the last durable one.
    pub number: u64,
    /// The last record known to be durable when the frame was written.
    pub durable: u64,
    /// The record; of a mark, nothing.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// All bytes of the frame.
    pub fn total_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// The last record that this frame proves to have been durable.
    pub fn proves(&self) -> u64 {
        match self.kind {
            Kind::Record => self.durable,
            Kind::Mark => self.number,
        }
    }

    /// Appends the frame's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(match self.kind {
            Kind::Record => &RECORD,
            Kind::Mark => &MARK,
        });
        let len = u32::try_from(self.payload.len()).expect("bounded by MAX_RECORD_BYTES");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.durable.to_le_bytes());
        let crc = checksum(&out[start..], self.payload);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(self.payload);
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// Why the bytes at a place are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// They end before the frame does.
    Short,
    /// They do not begin like a frame.
    NoFrame,
    /// The checksum does not fit.
    Checksum,
}

impl Unreadable {
    /// As a sentence for people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Short => "the frame is cut off",
            Self::NoFrame => "no frame begins here",
            Self::Checksum => "the checksum does not fit",
        }
    }
}

/// The frame at the beginning of `bytes`.
pub fn read(bytes: &[u8]) -> Result<Frame<'_>, Unreadable> {
    if bytes.len() < HEADER_BYTES {
        return Err(Unreadable::Short);
    }
    let magic: [u8; 4] = field(bytes, 0);
    let kind = match magic {
        RECORD => Kind::Record,
        MARK => Kind::Mark,
        _ => return Err(Unreadable::NoFrame),
    };
    let len = usize::try_from(u32::from_le_bytes(field(bytes, 4))).unwrap_or(usize::MAX);
    if len > super::MAX_RECORD_BYTES {
        return Err(Unreadable::NoFrame);
    }
    let Some(payload) = bytes.get(HEADER_BYTES..HEADER_BYTES + len) else {
        return Err(Unreadable::Short);
    };
    if checksum(&bytes[..24], payload) != u32::from_le_bytes(field(bytes, 24)) {
        return Err(Unreadable::Checksum);
    }
    let number = u64::from_le_bytes(field(bytes, 8));
    let durable = u64::from_le_bytes(field(bytes, 16));
    Ok(Frame { kind, number, durable, payload })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

/// The highest record that any readable frame in `bytes`, at whatever place, proves to have been durable.
pub fn highest_proof(bytes: &[u8]) -> Option<u64> {
    let mut best = None;
    let mut at = 0;
    while at + HEADER_BYTES <= bytes.len() {
        match read(&bytes[at..]) {
            Ok(frame) => {
                best = best.max(Some(frame.proves()));
                at += frame.total_bytes();
            }
            Err(_) => at += 1,
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u64, durable: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Frame { kind: Kind::Record, number, durable, payload }.write(&mut out);
        out
    }

    proptest::proptest! {
        #[test]
        fn a_frame_reads_back_and_any_flipped_bit_is_seen(
            number: u64, durable: u64, payload: Vec<u8>, bit: proptest::sample::Index,
        ) {
            let mut bytes = bytes(number, durable, &payload);
            let frame = read(&bytes).unwrap();
            proptest::prop_assert_eq!((frame.number, frame.durable, frame.payload), (number, durable, &payload[..]));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            proptest::prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn rubbish_is_never_a_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = highest_proof(&bytes);
        }
    }

    #[test]
    fn a_proof_is_found_behind_rubbish() {
        let mut text = b"rubbish LFrc and more rubbish, longer than a header".to_vec();
        text.extend(bytes(9, 8, b"x"));
        text.extend(bytes(10, 8, b"y"));
        assert_eq!(highest_proof(&text), Some(8));
        assert_eq!(highest_proof(b"LFrc"), None);
    }
}
