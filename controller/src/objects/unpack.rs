//! From an object's compressed form to its content, piece by piece, in bounded memory, and verified.

use std::io::Read as _;
use std::path::Path;

use landfall_common::Sha256;

use super::{CHUNK_BYTES, bad_object, object_error};
use crate::error::ControllerError;

/// The largest object, uncompressed. It bounds what a small upload can make the controller unpack.
pub const MAX_OBJECT_BYTES: u64 = 16 << 30;

/// zstd may ask for a window of two to this power while unpacking: 16 MiB. Agents take no more, so that an
/// object with a larger one is refused here and not on every host.
const WINDOW_LOG_MAX: u32 = 24;

/// Unpacks a compressed form piece by piece, in bounded memory, and verifies it.
pub struct Unpacking {
    digest: Sha256,
    decoder: zstd::stream::raw::Decoder<'static>,
    hasher: landfall_common::digest::Hasher,
    unpacked: u64,
    frame_open: bool,
    buffer: Vec<u8>,
}

impl Unpacking {
    /// Begins an object.
    ///
    /// # Errors
    /// [`ControllerError::Object`] if there is no memory for it.
    pub fn new(digest: Sha256) -> Result<Self, ControllerError> {
        let mut decoder =
            zstd::stream::raw::Decoder::new().map_err(|error| object_error("unpacked", digest, error))?;
        decoder
            .set_parameter(zstd::stream::raw::DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .map_err(|error| object_error("unpacked", digest, error))?;
        let hasher = Sha256::hasher();
        Ok(Self { digest, decoder, hasher, unpacked: 0, frame_open: false, buffer: vec![0; 2 * CHUNK_BYTES] })
    }

    /// Takes the next piece; `out` gets what it unpacks to.
    ///
    /// # Errors
    /// [`Reason::BadObject`].
    pub fn feed(&mut self, piece: &[u8], mut out: impl FnMut(&[u8])) -> Result<(), ControllerError> {
        use zstd::stream::raw::Operation as _;
        let mut input = zstd::stream::raw::InBuffer::around(piece);
        loop {
            let mut output = zstd::stream::raw::OutBuffer::around(self.buffer.as_mut_slice());
            if input.pos() == piece.len() && !self.frame_open {
                return Ok(());
            }
            let hint = self
                .decoder
                .run(&mut input, &mut output)
                .map_err(|error| bad_object(self.digest, format!("it is not zstd: {error}")))?;
            self.frame_open = hint != 0;
            let full = output.pos() == output.capacity();
            let bytes = output.as_slice();
            self.unpacked += bytes.len() as u64;
            if self.unpacked > MAX_OBJECT_BYTES {
                return Err(bad_object(
                    self.digest,
                    format!("it unpacks to more than {MAX_OBJECT_BYTES} bytes"),
                ));
            }
            self.hasher.update(bytes);
            out(bytes);
            if input.pos() == piece.len() && !full {
                return Ok(());
            }
        }
    }

    /// Begins another object, with what was allocated for this one.
    ///
    /// # Errors
    /// As [`Unpacking::new`].
    pub fn again(mut self, digest: Sha256) -> Result<Self, ControllerError> {
        use zstd::stream::raw::Operation as _;
        self.decoder.reinit().map_err(|error| object_error("unpacked", digest, error))?;
        Ok(Self { digest, hasher: Sha256::hasher(), unpacked: 0, frame_open: false, ..self })
    }

    /// Ends the object: it must be complete, and have the digest that was promised.
    ///
    /// # Errors
    /// [`Reason::BadObject`].
    pub fn end(&mut self) -> Result<(), ControllerError> {
        if self.frame_open {
            return Err(bad_object(self.digest, "it ends in the middle"));
        }
        let found = std::mem::replace(&mut self.hasher, Sha256::hasher()).finish();
        if found != self.digest {
            return Err(bad_object(self.digest, format!("its content has the digest {found}")));
        }
        Ok(())
    }
}

/// Verifies a file that holds an object's compressed form.
pub(super) fn verify_file(path: &Path, digest: Sha256) -> Result<(), ControllerError> {
    let failed = |source| ControllerError::File { doing: "read the upload", path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut unpacking = Unpacking::new(digest)?;
    let mut piece = vec![0; CHUNK_BYTES];
    loop {
        let length = file.read(&mut piece).map_err(failed)?;
        if length == 0 {
            return unpacking.end();
        }
        unpacking.feed(&piece[..length], |_| {})?;
    }
}
