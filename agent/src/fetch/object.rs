//! One request for objects, and what becomes of its stream of chunks.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use landfall_common::Sha256;
use landfall_common::disk::{AppendFile, Disk};
use landfall_proto::v1::agents_client::AgentsClient;
use landfall_proto::v1::{FetchObjectsRequest, ObjectChunk, ObjectRange};
use tonic::transport::Channel;

use super::Stop;
use crate::apply::store::{FileWriter, LackingFile, PIECE_BYTES, Store};
use crate::error::{AgentError, chain};
use crate::layout;

/// An object whose compressed form is larger is kept in part when it is interrupted; below, beginning anew is
/// cheaper than a file.
const KEEP_FROM_BYTES: u64 = 1024 * 1024;

/// The decoder's window is at most 16 MiB: what a peer may make this host allocate.
const WINDOW_LOG_MAX: u32 = 24;

/// The most that `size` bytes may have when compressed, with room for frames and their headers. Without a bound
/// a peer could fill the disk with frames that unpack to nothing.
fn compress_bound(size: u64) -> u64 {
    size.saturating_add(size / 64).saturating_add(64 * 1024)
}

/// An object that is wanted.
pub(super) struct Wanted {
    pub digest: Sha256,
    pub sink: Sink,
}

/// Where it goes.
pub(super) enum Sink {
    /// Into memory, up to so many bytes.
    Memory(usize),
    /// Into the store.
    File { store: Store, file: LackingFile },
}

impl Sink {
    pub fn memory(max_bytes: usize) -> Self {
        Self::Memory(max_bytes)
    }
}

/// An object that is here.
pub(super) struct Arrived<'a> {
    pub digest: Sha256,
    /// Its content, if it was wanted in memory.
    pub bytes: &'a [u8],
    /// Its size.
    pub size: u64,
}

/// Asks for objects and takes them in turn.
pub(super) async fn fetch(
    client: &mut AgentsClient<Channel>,
    disk: &Arc<dyn Disk>,
    wanted: Vec<Wanted>,
    done: &mut (dyn FnMut(Arrived<'_>) -> Result<(), AgentError> + Send),
) -> Result<(), Stop> {
    let mut objects = Vec::with_capacity(wanted.len());
    for want in &wanted {
        let offset = disk.len(&layout::partial(want.digest))?.unwrap_or(0);
        objects.push(ObjectRange { digest: want.digest.to_string(), offset });
    }
    let offsets: Vec<u64> = objects.iter().map(|object| object.offset).collect();
    let broken = |status: tonic::Status| match status.code() {
        // The controller lacks what the signers listed: asking again may find it repaired.
        tonic::Code::NotFound => Stop::Bad(AgentError::BadObject {
            wanted: wanted_of(&status),
            reason: status.message().to_owned(),
        }),
        _ => Stop::Broken(chain(&status)),
    };
    let mut chunks =
        client.fetch_objects(FetchObjectsRequest { objects }).await.map_err(broken)?.into_inner();
    let mut queue: VecDeque<_> = wanted.into_iter().zip(offsets).collect();
    let mut current: Option<Arriving> = None;
    while !queue.is_empty() || current.is_some() {
        let chunk = chunks.message().await.map_err(broken)?;
        let chunk = chunk.ok_or_else(|| Stop::Broken("the stream ended early".to_owned()))?;
        let mut arriving = match current.take() {
            Some(arriving) => arriving,
            None => {
                let Some((wanted, offset)) = queue.pop_front() else { break };
                Arriving::begin(disk, wanted, offset, &chunk)?
            }
        };
        arriving.take(disk, &chunk.data)?;
        if chunk.last {
            arriving.finish(disk, done)?;
        } else {
            current = Some(arriving);
        }
    }
    Ok(())
}

/// The digest that a NOT_FOUND names, for the message.
fn wanted_of(status: &tonic::Status) -> Sha256 {
    let hex = status.message().split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 64);
    hex.and_then(|hex| hex.parse().ok()).unwrap_or_else(|| Sha256::of(b""))
}

/// An object of which some chunks are here.
struct Arriving {
    digest: Sha256,
    /// How many compressed bytes have come, and how many may.
    compressed: u64,
    bound: u64,
    decoder: zstd::stream::write::Decoder<'static, Output>,
    /// Keeps the compressed bytes, for a later attempt.
    partial: Option<Box<dyn AppendFile>>,
}

impl Arriving {
    fn begin(disk: &Arc<dyn Disk>, wanted: Wanted, offset: u64, first: &ObjectChunk) -> Result<Self, Stop> {
        let digest = wanted.digest;
        if first.digest != digest.to_string() {
            let reason = format!("the controller sent {:?} in its turn", first.digest);
            return Err(Stop::Bad(AgentError::BadObject { wanted: digest, reason }));
        }
        let (output, size) = match wanted.sink {
            Sink::Memory(max) => (Output::memory(max), max as u64),
            Sink::File { store, file } => (Output::file(store.writer(&file)?), file.size),
        };
        let unusable = |error: std::io::Error| Stop::Fatal(format!("zstd: {error}"));
        let mut decoder = zstd::stream::write::Decoder::new(output).map_err(unusable)?;
        decoder.window_log_max(WINDOW_LOG_MAX).map_err(unusable)?;
        let path = layout::partial(digest);
        let mut arriving =
            Self { digest, compressed: 0, bound: compress_bound(size), decoder, partial: None };
        // What is here from before goes through the decoder first.
        let mut at = 0;
        while at < offset {
            let piece = disk.read_at(&path, at, PIECE_BYTES)?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            arriving.count(disk, &piece)?;
            arriving.decode(disk, &piece)?;
        }
        if offset > 0 || first.compressed_bytes >= KEEP_FROM_BYTES {
            arriving.partial = Some(disk.open_append(&path)?);
        }
        Ok(arriving)
    }

    fn take(&mut self, disk: &Arc<dyn Disk>, data: &[u8]) -> Result<(), Stop> {
        self.count(disk, data)?;
        if let Some(partial) = &mut self.partial {
            partial.append(data)?;
        }
        self.decode(disk, data)
    }

    fn count(&mut self, disk: &Arc<dyn Disk>, data: &[u8]) -> Result<(), Stop> {
        self.compressed = self.compressed.saturating_add(data.len() as u64);
        if self.compressed <= self.bound {
            return Ok(());
        }
        self.forget(disk);
        let reason = format!("its compressed form has more than {} bytes", self.bound);
        Err(Stop::Bad(AgentError::BadObject { wanted: self.digest, reason }))
    }

    fn decode(&mut self, disk: &Arc<dyn Disk>, data: &[u8]) -> Result<(), Stop> {
        let Err(error) = self.decoder.write_all(data) else { return Ok(()) };
        let failed = self.decoder.get_ref().failed();
        self.forget(disk);
        Err(match failed {
            Some(error) => error.into(),
            None => {
                let reason = format!("its compressed form is damaged ({error})");
                Stop::Bad(AgentError::BadObject { wanted: self.digest, reason })
            }
        })
    }

    fn finish(
        mut self,
        disk: &Arc<dyn Disk>,
        done: &mut (dyn FnMut(Arrived<'_>) -> Result<(), AgentError> + Send),
    ) -> Result<(), Stop> {
        let flushed = self.decoder.flush();
        self.partial = None;
        self.forget(disk);
        if let Err(error) = flushed {
            let reason = format!("its compressed form is cut short ({error})");
            return Err(match self.decoder.get_ref().failed() {
                Some(error) => error.into(),
                None => Stop::Bad(AgentError::BadObject { wanted: self.digest, reason }),
            });
        }
        let digest = self.digest;
        match self.decoder.into_inner().into_whole() {
            Whole::Memory(bytes) => {
                let size = bytes.len() as u64;
                done(Arrived { digest, bytes: &bytes, size })?;
            }
            Whole::File(writer, size) => {
                writer.finish()?;
                done(Arrived { digest, bytes: &[], size })?;
            }
        }
        Ok(())
    }

    /// What was kept is complete, or was not what it should be: either way of no use.
    fn forget(&mut self, disk: &Arc<dyn Disk>) {
        self.partial = None;
        let path = layout::partial(self.digest);
        if disk.exists(&path).unwrap_or(false) {
            let _ = disk.remove_file(&path);
        }
    }
}

/// Takes what the decoder gives, and remembers why it could not.
struct Output {
    to: Whole,
    max: usize,
    failed: Mutex<Option<AgentError>>,
}

enum Whole {
    Memory(Vec<u8>),
    File(Box<FileWriter>, u64),
}

impl Output {
    fn memory(max: usize) -> Self {
        Self { to: Whole::Memory(Vec::new()), max, failed: Mutex::new(None) }
    }

    fn file(writer: FileWriter) -> Self {
        Self { to: Whole::File(Box::new(writer), 0), max: usize::MAX, failed: Mutex::new(None) }
    }

    fn failed(&self) -> Option<AgentError> {
        self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn into_whole(self) -> Whole {
        self.to
    }
}

impl std::io::Write for Output {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        match &mut self.to {
            Whole::Memory(bytes) if bytes.len() + piece.len() > self.max => {
                return Err(std::io::Error::other(format!("more than {} bytes", self.max)));
            }
            Whole::Memory(bytes) => bytes.extend_from_slice(piece),
            Whole::File(writer, size) => match writer.write(piece) {
                Ok(()) => *size += piece.len() as u64,
                Err(error) => {
                    *self.failed.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                    return Err(std::io::Error::other("the file cannot take it"));
                }
            },
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
