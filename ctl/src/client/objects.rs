//! The upload: what the controller lacks, compressed as it lies in the cache, going on where it stopped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use landfall_common::Sha256;
use landfall_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Client;
use crate::error::Error;
use crate::pack::{ObjectCache, Progress};

/// The interface's bound on a question for missing objects.
const QUESTION: usize = 10_000;
/// The interface's bound on a piece.
const PIECE_BYTES: usize = 256 * 1024;
/// So often an upload that breaks off is taken up again without asking anybody.
const ATTEMPTS: u32 = 5;
/// So often, every two seconds, an upload waits for another one of the same object to end: a large object
/// that somebody else has just sent is being verified for a while.
const WAITS: u32 = 60;
/// Pieces that wait for the network: 4 MiB.
const QUEUE: usize = 16;

/// What went over the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Objects that the controller lacked.
    pub objects: u64,
    /// Their compressed bytes.
    pub bytes: u64,
}

/// An object that the controller lacks, in whole or in part.
#[derive(Debug, Clone, Copy)]
struct Missing {
    digest: Sha256,
    offset: u64,
}

impl Client {
    /// Uploads what the controller lacks of these objects (with their compressed sizes).
    ///
    /// # Errors
    /// [`Error::CacheDamaged`], [`Error::Unreachable`] after several attempts, [`Error::Refused`].
    pub async fn upload(
        &self,
        objects: &BTreeMap<Sha256, u64>,
        cache: &ObjectCache,
        progress: &impl Progress,
    ) -> Result<Uploaded, Error> {
        let mut missing = self.missing(objects).await?;
        let bytes = |missing: &[Missing]| -> u64 {
            missing
                .iter()
                .map(|m| objects.get(&m.digest).map_or(0, |size| size.saturating_sub(m.offset)))
                .sum()
        };
        let uploaded = Uploaded { objects: missing.len() as u64, bytes: bytes(&missing) };
        progress.total(uploaded.objects, uploaded.bytes);
        // A damaged object would be refused at the far end, after all its bytes; it is found here first.
        for object in &missing {
            cache.verify(&object.digest)?;
        }
        let (mut attempt, mut waits) = (0, 0);
        while !missing.is_empty() {
            attempt += 1;
            match self.put(&missing, cache, progress).await {
                Ok(()) => {}
                Err(Error::Unreachable { .. }) if attempt < ATTEMPTS => {
                    tokio::time::sleep(std::time::Duration::from_secs(1 << attempt)).await;
                }
                // Somebody else uploads the same object, perhaps this very command before it was interrupted.
                Err(Error::Refused(refusal)) if waits < WAITS && refusal.is_transient() => {
                    (attempt, waits) = (attempt - 1, waits + 1);
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                }
                // The kept part has grown or gone since it was asked for.
                Err(Error::Refused(refusal)) if attempt < ATTEMPTS && refusal.reason == "WRONG_OFFSET" => {}
                Err(error) => return Err(error),
            }
            missing = self.missing(objects).await?;
            if attempt >= ATTEMPTS && !missing.is_empty() {
                let count = missing.len();
                return Err(Error::Answer(format!(
                    "it still lacks {count} objects after they were uploaded"
                )));
            }
        }
        Ok(uploaded)
    }

    async fn missing(&self, objects: &BTreeMap<Sha256, u64>) -> Result<Vec<Missing>, Error> {
        let digests: Vec<&Sha256> = objects.keys().collect();
        let mut missing = Vec::new();
        for question in digests.chunks(QUESTION) {
            let digests = question.iter().map(ToString::to_string).collect();
            let request = v1::MissingObjectsRequest { digests };
            let answer = self.call(request, |mut o, q| async move { o.missing_objects(q).await }).await?;
            for object in answer.missing {
                let digest: Sha256 = object
                    .digest
                    .parse()
                    .map_err(|_| Error::Answer("it names an object wrongly".to_owned()))?;
                let Some(size) = objects.get(&digest) else {
                    return Err(Error::Answer(format!(
                        "it asks for object {digest}, which is not in this release"
                    )));
                };
                // More kept bytes than there are: the kept part is of another compression; begin anew.
                let offset = if object.offset < *size { object.offset } else { 0 };
                missing.push(Missing { digest, offset });
            }
        }
        Ok(missing)
    }

    /// One stream with all of these objects.
    async fn put(
        &self,
        missing: &[Missing],
        cache: &ObjectCache,
        progress: &impl Progress,
    ) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut operators = self.operators.clone();
        let answer = tokio::spawn(async move { operators.put_objects(ReceiverStream::new(receiver)).await });
        let sent = send(missing, cache, progress, sender).await;
        let answer = answer.await.map_err(|_| Error::Answer("the upload was broken off".to_owned()))?;
        // The controller's word comes first: a stream that it closed is why sending failed.
        answer.map_err(|status| self.error(&status))?;
        sent
    }
}

async fn send(
    missing: &[Missing],
    cache: &ObjectCache,
    progress: &impl Progress,
    sender: mpsc::Sender<v1::PutObjectsRequest>,
) -> Result<(), Error> {
    for object in missing {
        let path = cache.path(&object.digest);
        let failed = |source| Error::io("read", &path, source);
        let mut file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(object.offset)).map_err(failed)?;
        let mut at = object.offset;
        let mut first = true;
        loop {
            let mut data =
                Vec::with_capacity(PIECE_BYTES.min(usize::try_from(size - at).unwrap_or(PIECE_BYTES)));
            (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut data).map_err(failed)?;
            at += data.len() as u64;
            let (length, last) = (data.len() as u64, at >= size || data.is_empty());
            let digest = if first { object.digest.to_string() } else { String::new() };
            let offset = if first { object.offset } else { 0 };
            let message = v1::PutObjectsRequest { digest, offset, data, last };
            if sender.send(message).await.is_err() {
                // The call has ended; its status says why.
                return Ok(());
            }
            if last {
                progress.file(length);
                break;
            }
            progress.bytes(length);
            first = false;
        }
    }
    Ok(())
}
