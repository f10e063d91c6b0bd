//! One request for objects, and what becomes of its stream of chunks.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfall_common::disk::{AppendFile, Disk};
use landfall_common::{Duration, Sha256};
use landfall_proto::v1::agents_client::AgentsClient;
use landfall_proto::v1::{FetchObjectsRequest, ObjectChunk, ObjectRange};
use tonic::transport::Channel;

use super::Stop;
use super::decoder::{Decoder, Undecoded};
use crate::apply::store::{FileWriter, LackingFile, PIECE_BYTES, Store};
use crate::error::{AgentError, chain};
use crate::layout;
use crate::tls::in_time;

/// An object whose compressed form is larger is kept in part when it is interrupted; below, beginning anew is
/// cheaper than a file.
const KEEP_FROM_BYTES: u64 = 1024 * 1024;

/// A file of at most so many bytes is unpacked in memory, verified, and written in one go.
const WHOLE_BYTES: u64 = PIECE_BYTES as u64;

/// How long the next chunk may take: some 64 KiB, on whatever line.
const NEXT_CHUNK: Duration = Duration::from_secs(90);

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

/// What is told while objects come.
pub(super) enum Came<'a> {
    /// Of a large one so much has come, and it goes on.
    Part { bytes: u64 },
    /// It is here.
    Whole(Arrived<'a>),
}

/// Asks for objects and takes them in turn.
pub(super) async fn fetch(
    client: &mut AgentsClient<Channel>,
    disk: &Arc<dyn Disk>,
    wanted: Vec<Wanted>,
    came: &mut (dyn FnMut(Came<'_>) -> Result<(), AgentError> + Send),
) -> Result<(), Stop> {
    let partial = Path::new(layout::PARTIAL);
    let kept: BTreeSet<PathBuf> =
        disk.list(partial)?.into_iter().map(|entry| partial.join(entry.name)).collect();
    let mut objects = Vec::with_capacity(wanted.len());
    for want in &wanted {
        let path = layout::partial(want.digest);
        let offset = if kept.contains(&path) { disk.len(&path)?.unwrap_or(0) } else { 0 };
        objects.push(ObjectRange { digest: want.digest.to_string(), offset });
    }
    let offsets: Vec<u64> = objects.iter().map(|object| object.offset).collect();
    let broken = |status: tonic::Status| match status.code() {
        // The controller lacks what the signers listed: asking again may find it repaired.
        tonic::Code::NotFound => Stop::Bad(AgentError::BadObject {
            wanted: wanted_of(&status),
            reason: status.message().to_owned(),
        }),
        // The connection is well, and the answer is no: it would be the next time too.
        tonic::Code::InvalidArgument
        | tonic::Code::OutOfRange
        | tonic::Code::FailedPrecondition
        | tonic::Code::Unimplemented
        | tonic::Code::PermissionDenied => {
            Stop::Bad(AgentError::NotSent { reason: status.message().to_owned() })
        }
        _ => Stop::Broken(chain(&status)),
    };
    let chunks =
        in_time(NEXT_CHUNK, client.fetch_objects(FetchObjectsRequest { objects })).await.map_err(broken)?;
    let mut chunks = chunks.into_inner();
    let mut queue: VecDeque<_> = wanted.into_iter().zip(offsets).collect();
    let mut room = Room::new()?;
    let mut current: Option<Arriving> = None;
    while !queue.is_empty() || current.is_some() {
        let chunk = in_time(NEXT_CHUNK, chunks.message()).await.map_err(broken)?;
        let chunk = chunk.ok_or_else(|| Stop::Broken("the stream ended early".to_owned()))?;
        let mut arriving = match current.take() {
            Some(arriving) => arriving,
            None => {
                let Some((wanted, offset)) = queue.pop_front() else { break };
                Arriving::begin(disk, wanted, offset, &chunk, &mut room).await?
            }
        };
        arriving.take(disk, &chunk.data, &mut room)?;
        if chunk.last {
            arriving.finish(disk, &mut room, came)?;
        } else {
            if let Destination::File(_, bytes) = &arriving.to {
                came(Came::Part { bytes: *bytes })?;
            }
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

/// What one object after the other uses: making it anew for each of thousands of small files would cost more
/// than unpacking them.
struct Room {
    decoder: Decoder,
    /// The content of an object that is held whole.
    content: Vec<u8>,
}

impl Room {
    fn new() -> Result<Self, Stop> {
        Ok(Self { decoder: Decoder::new().map_err(unusable)?, content: Vec::new() })
    }
}

fn unusable(error: std::io::Error) -> Stop {
    Stop::Fatal(format!("zstd: {error}"))
}

/// An object of which some chunks are here.
struct Arriving {
    digest: Sha256,
    /// How many compressed bytes have come, and how many may.
    compressed: u64,
    bound: u64,
    to: Destination,
    /// Keeps the compressed bytes, for a later attempt.
    partial: Option<Box<dyn AppendFile>>,
    /// Whether there are such bytes from an earlier one.
    is_kept: bool,
}

enum Destination {
    /// Into the room, up to so many bytes, and then to whoever asked, or into the store.
    Memory { max: usize, file: Option<(Store, LackingFile)> },
    /// Piece by piece into the store.
    File(Box<FileWriter>, u64),
}

impl Arriving {
    async fn begin(
        disk: &Arc<dyn Disk>,
        wanted: Wanted,
        offset: u64,
        first: &ObjectChunk,
        room: &mut Room,
    ) -> Result<Self, Stop> {
        let digest = wanted.digest;
        if first.digest != digest.to_string() {
            let reason = format!("the controller sent {:?} in its turn", first.digest);
            return Err(Stop::Bad(AgentError::BadObject { wanted: digest, reason }));
        }
        let (to, size) = match wanted.sink {
            Sink::Memory(max) => (Destination::Memory { max, file: None }, max as u64),
            Sink::File { store, file } => {
                let size = file.size;
                let to = match usize::try_from(size) {
                    Ok(max) if size <= WHOLE_BYTES => Destination::Memory { max, file: Some((store, file)) },
                    _ => Destination::File(Box::new(store.writer(&file)?), 0),
                };
                (to, size)
            }
        };
        room.decoder.restart().map_err(unusable)?;
        room.content.clear();
        let path = layout::partial(digest);
        let bound = compress_bound(size);
        let mut arriving = Self { digest, compressed: 0, bound, to, partial: None, is_kept: offset > 0 };
        // What is here from before goes through the decoder first.
        let mut at = 0;
        while at < offset {
            let piece = disk.read_at(&path, at, PIECE_BYTES)?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            arriving.count(disk, &piece)?;
            arriving.decode(disk, &piece, room)?;
            // It may be gigabytes, and this thread has heartbeats to send.
            tokio::task::yield_now().await;
        }
        if offset > 0 || first.compressed_bytes >= KEEP_FROM_BYTES {
            arriving.partial = Some(disk.open_append(&path)?);
            arriving.is_kept = true;
        }
        Ok(arriving)
    }

    fn take(&mut self, disk: &Arc<dyn Disk>, data: &[u8], room: &mut Room) -> Result<(), Stop> {
        self.count(disk, data)?;
        if let Some(partial) = &mut self.partial {
            partial.append(data)?;
        }
        self.decode(disk, data, room)
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

    fn decode(&mut self, disk: &Arc<dyn Disk>, data: &[u8], room: &mut Room) -> Result<(), Stop> {
        let Room { decoder, content } = room;
        let wanted = self.digest;
        let to = &mut self.to;
        let decoded = decoder.feed(data, &mut |piece| match to {
            Destination::Memory { max, .. } if content.len() + piece.len() > *max => {
                let reason = format!("it has more than {max} bytes");
                Err(AgentError::BadObject { wanted, reason })
            }
            Destination::Memory { .. } => {
                content.extend_from_slice(piece);
                Ok(())
            }
            Destination::File(writer, size) => {
                *size += piece.len() as u64;
                writer.write(piece)
            }
        });
        let Err(undecoded) = decoded else { return Ok(()) };
        self.forget(disk);
        Err(match undecoded {
            Undecoded::Refused(error) => error.into(),
            Undecoded::Damaged(error) => {
                let reason = format!("its compressed form is damaged ({error})");
                Stop::Bad(AgentError::BadObject { wanted, reason })
            }
        })
    }

    fn finish(
        mut self,
        disk: &Arc<dyn Disk>,
        room: &mut Room,
        came: &mut (dyn FnMut(Came<'_>) -> Result<(), AgentError> + Send),
    ) -> Result<(), Stop> {
        self.forget(disk);
        let digest = self.digest;
        if !room.decoder.is_complete() {
            let reason = "its compressed form is cut short".to_owned();
            return Err(Stop::Bad(AgentError::BadObject { wanted: digest, reason }));
        }
        match self.to {
            Destination::Memory { file: None, .. } => {
                let bytes = room.content.as_slice();
                came(Came::Whole(Arrived { digest, bytes, size: bytes.len() as u64 }))?;
            }
            Destination::Memory { file: Some((store, file)), .. } => {
                store.put_file(&file, &room.content)?;
                came(Came::Whole(Arrived { digest, bytes: &[], size: file.size }))?;
            }
            Destination::File(writer, size) => {
                writer.finish()?;
                came(Came::Whole(Arrived { digest, bytes: &[], size }))?;
            }
        }
        Ok(())
    }

    /// What was kept is complete, or was not what it should be: either way of no use.
    fn forget(&mut self, disk: &Arc<dyn Disk>) {
        self.partial = None;
        if self.is_kept {
            let _ = disk.remove_file(&layout::partial(self.digest));
        }
    }
}
