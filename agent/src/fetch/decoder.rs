//! Unpacking what arrives compressed, in bounded memory.

use std::io;

use zstd::stream::raw::{DParameter, InBuffer, Operation as _, OutBuffer};

use crate::error::AgentError;

/// The decoder's window is at most 16 MiB: what a peer may make this host allocate.
const WINDOW_LOG_MAX: u32 = 24;

/// How much is unpacked at once. Objects that have less, nearly all, are unpacked in one go without a window.
const OUTPUT_BYTES: usize = 128 * 1024;

/// A decoder that serves one object after the other.
pub(super) struct Decoder {
    zstd: zstd::stream::raw::Decoder<'static>,
    output: Vec<u8>,
    /// Whether a frame was begun and has not ended.
    is_open: bool,
}

/// Why a piece was not decoded.
pub(super) enum Undecoded {
    /// It is not what zstd makes.
    Damaged(io::Error),
    /// Its content was not taken.
    Refused(AgentError),
}

impl Decoder {
    pub fn new() -> io::Result<Self> {
        let mut zstd = zstd::stream::raw::Decoder::new()?;
        zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self { zstd, output: vec![0; OUTPUT_BYTES], is_open: false })
    }

    /// Forgets the object before.
    pub fn restart(&mut self) -> io::Result<()> {
        self.is_open = false;
        self.zstd.reinit()
    }

    /// Takes the next piece of the compressed form, and gives `take` what it unpacks to.
    pub fn feed(
        &mut self,
        piece: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), AgentError>,
    ) -> Result<(), Undecoded> {
        let mut input = InBuffer::around(piece);
        loop {
            if input.pos() == piece.len() && !self.is_open {
                return Ok(());
            }
            let mut output = OutBuffer::around(self.output.as_mut_slice());
            let hint = self.zstd.run(&mut input, &mut output).map_err(Undecoded::Damaged)?;
            self.is_open = hint != 0;
            let unpacked = output.as_slice();
            if !unpacked.is_empty() {
                take(unpacked).map_err(Undecoded::Refused)?;
            }
            // A full output may have left something behind.
            let is_drained = unpacked.len() < OUTPUT_BYTES;
            if input.pos() == piece.len() && is_drained {
                return Ok(());
            }
        }
    }

    /// Whether what was fed ends where a frame ends.
    pub fn is_complete(&self) -> bool {
        !self.is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `pieces` unpack to, or why they do not.
    fn unpack(decoder: &mut Decoder, pieces: &[&[u8]]) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        decoder.restart().unwrap();
        for piece in pieces {
            let mut take = |bytes: &[u8]| {
                content.extend_from_slice(bytes);
                Ok(())
            };
            decoder.feed(piece, &mut take).map_err(|undecoded| match undecoded {
                Undecoded::Damaged(error) => error.to_string(),
                Undecoded::Refused(error) => error.to_string(),
            })?;
        }
        if decoder.is_complete() { Ok(content) } else { Err("cut short".to_owned()) }
    }

    #[test]
    fn one_decoder_serves_object_after_object_whatever_came_before() {
        let mut decoder = Decoder::new().unwrap();
        let long: Vec<u8> = (0..1_000_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        for content in [&b""[..], b"short", &long, &long[..OUTPUT_BYTES], &long[..2 * OUTPUT_BYTES]] {
            let packed = zstd::encode_all(content, 3).unwrap();
            let bytewise: Vec<&[u8]> = packed.chunks(1).collect();
            assert_eq!(unpack(&mut decoder, &[&packed]).unwrap(), content);
            assert_eq!(unpack(&mut decoder, &bytewise).unwrap(), content);
            let twice = [packed.as_slice(), &packed].concat();
            assert_eq!(unpack(&mut decoder, &[&twice]).unwrap(), content.repeat(2));
            let short = &packed[..packed.len() - 1];
            assert_eq!(unpack(&mut decoder, &[short]).unwrap_err(), "cut short");
            assert!(unpack(&mut decoder, &[&packed, b"rubbish"]).is_err());
        }
    }

    #[test]
    fn a_window_that_is_too_large_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW_LOG_MAX + 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        std::io::Write::write_all(&mut encoder, &vec![7; 40 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(unpack(&mut Decoder::new().unwrap(), &[&packed]).is_err());
    }
}
