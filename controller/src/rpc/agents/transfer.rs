//! Sending objects to a host, at the pace of that host, as long as it reads at all.

use landfall_common::{Duration, Sha256};
use landfall_proto::v1 as pb;
use tokio::sync::mpsc;
use tonic::Status;

use crate::error::{ControllerError, Reason};
use crate::objects::{Depot, Piece, not_here};

/// Objects whose first pieces are read together.
const READ_AHEAD: usize = 64;

/// A host that takes nothing for so long is taken for gone, and what its transfer holds is given to others. It
/// asks again for the rest when it can.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why a transfer ended before its end.
#[derive(Debug)]
pub enum Ended {
    /// Nobody listens any more.
    Gone,
    /// To be told to whoever may still listen.
    Failed(ControllerError),
}

/// What a host asked for.
#[derive(Debug)]
pub struct Wanted {
    /// Objects of the host's own application, and from where on.
    pub ranges: Vec<(Sha256, u64)>,
    /// After these: one that its application does not have.
    pub unknown: Option<Sha256>,
}

/// Sends what was asked for, in that order, as long as something is taken within `patience`.
///
/// # Errors
/// [`Ended`].
pub async fn send(
    depot: &Depot,
    wanted: &Wanted,
    out: &mpsc::Sender<Result<pb::ObjectChunk, Status>>,
    patience: Duration,
) -> Result<(), Ended> {
    let mut rest = &wanted.ranges[..];
    while !rest.is_empty() {
        let ahead = rest[..rest.len().min(READ_AHEAD)].to_vec();
        let pieces = depot.first_pieces(ahead).await.map_err(Ended::Failed)?;
        let (now, later) = rest.split_at(pieces.len().min(rest.len()));
        rest = later;
        for ((digest, offset), piece) in now.iter().zip(pieces) {
            send_object(depot, *digest, *offset, piece, out, patience).await?;
        }
    }
    match wanted.unknown {
        Some(digest) => Err(Ended::Failed(not_here(digest))),
        None => Ok(()),
    }
}

/// Sends one object from its first piece on.
async fn send_object(
    depot: &Depot,
    digest: Sha256,
    mut offset: u64,
    mut piece: Piece,
    out: &mpsc::Sender<Result<pb::ObjectChunk, Status>>,
    patience: Duration,
) -> Result<(), Ended> {
    let mut first = true;
    loop {
        offset += piece.data.len() as u64;
        let last = offset >= piece.compressed_bytes;
        let chunk = pb::ObjectChunk {
            digest: if first { digest.to_string() } else { String::new() },
            compressed_bytes: if first { piece.compressed_bytes } else { 0 },
            data: piece.data.into(),
            last,
        };
        send_chunk(chunk, out, patience).await?;
        if last {
            return Ok(());
        }
        first = false;
        piece = depot.piece(digest, offset).await.map_err(Ended::Failed)?;
    }
}

async fn send_chunk(
    chunk: pb::ObjectChunk,
    out: &mpsc::Sender<Result<pb::ObjectChunk, Status>>,
    patience: Duration,
) -> Result<(), Ended> {
    match out.send_timeout(Ok(chunk), patience).await {
        Ok(()) => Ok(()),
        Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Ended::Gone),
        Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
            let message = format!("nothing was read for {patience:?}; ask again for the rest");
            Err(Ended::Failed(ControllerError::refused(Reason::Overloaded, message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transfer_that_nobody_reads_ends() {
        let place = tempfile::tempdir().unwrap();
        let depot = Depot::open(&place.path().join("o"), &place.path().join("u")).await.unwrap();
        let digest = depot.store(b"hello".to_vec()).await.unwrap();
        let wanted = Wanted { ranges: vec![(digest, 0); 3], unknown: None };
        let (out, mut chunks) = mpsc::channel(1);
        let patience = Duration::from_millis(1);
        let ended = send(&depot, &wanted, &out, patience).await.unwrap_err();
        assert!(matches!(&ended, Ended::Failed(error) if error.to_string().contains("1ms")), "{ended:?}");
        assert!(chunks.recv().await.unwrap().unwrap().last);
        drop(chunks);
        assert!(matches!(send(&depot, &wanted, &out, PATIENCE).await.unwrap_err(), Ended::Gone));
    }
}
