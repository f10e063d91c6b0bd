//! Objects on their way in and out.

use futures::StreamExt as _;
use landfall_common::Sha256;
use landfall_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Status, Streaming};

use crate::error::{ControllerError, Reason};
use crate::objects::upload::Upload;
use crate::objects::{Depot, Unpacking};
use crate::rpc::{Context, agents, convert};

/// The most digests in one question.
const MAX_DIGESTS: usize = 10_000;

/// The most content in one message of GetObject.
const CONTENT_BYTES: usize = 256 * 1024;

pub(super) async fn missing(
    context: &Context,
    request: pb::MissingObjectsRequest,
) -> Result<pb::MissingObjectsResponse, ControllerError> {
    if request.digests.len() > MAX_DIGESTS {
        let message = format!("at most {MAX_DIGESTS} digests can be asked for at once");
        return Err(ControllerError::invalid(message));
    }
    let digests = request.digests.iter().map(|text| convert::digest(text)).collect::<Result<_, _>>()?;
    let missing = context.depot.missing(digests).await?;
    let missing = missing
        .into_iter()
        .map(|(digest, offset)| pb::MissingObject { digest: digest.to_string(), offset })
        .collect();
    Ok(pb::MissingObjectsResponse { missing })
}

pub(super) async fn put(
    context: &Context,
    mut pieces: Streaming<pb::PutObjectsRequest>,
) -> Result<pb::PutObjectsResponse, Status> {
    let mut answer = pb::PutObjectsResponse::default();
    let mut open: Option<Upload> = None;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let mut upload = match (open.take(), piece.digest.is_empty()) {
            (Some(upload), true) => upload,
            (None, false) => context.depot.upload(convert::digest(&piece.digest)?, piece.offset)?,
            (Some(_), false) => {
                let message = "an object begins before the one before it has ended (`last` is missing)";
                return Err(ControllerError::invalid(message).into());
            }
            (None, true) => {
                let message = "the first piece of an object must name its digest";
                return Err(ControllerError::invalid(message).into());
            }
        };
        upload.write(&piece.data).await?;
        if piece.last {
            answer.stored_bytes += upload.finish().await?;
            answer.stored += 1;
        } else {
            open = Some(upload);
        }
    }
    if open.is_some() {
        return Err(ControllerError::invalid("the stream ended in the middle of an object").into());
    }
    Ok(answer)
}

pub(super) async fn get(
    context: &Context,
    request: &pb::GetObjectRequest,
) -> Result<BoxStream<pb::GetObjectResponse>, ControllerError> {
    let digest = convert::digest(&request.digest)?;
    let is_there = context.depot.size(digest).await?.is_some();
    let is_its = match &*request.application {
        "" => true,
        _ if !is_there => false,
        name => agents::belonging(context, &convert::application(name)?, &[digest]).await? == 1,
    };
    if !is_its {
        let of = if request.application.is_empty() { "" } else { " of a release of " };
        let message = format!("there is no object {digest}{of}{}", request.application);
        return Err(ControllerError::refused(Reason::NotFound, message));
    }
    let depot = context.depot.clone();
    let (out, messages) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(Some(error)) = unpack(&depot, digest, &out).await {
            let _ = out.send(Err(error.into())).await;
        }
    });
    Ok(Box::pin(ReceiverStream::new(messages)))
}

/// Sends an object's content; `Err(None)` when nobody listens any more.
async fn unpack(
    depot: &Depot,
    digest: Sha256,
    out: &mpsc::Sender<Result<pb::GetObjectResponse, Status>>,
) -> Result<(), Option<ControllerError>> {
    let mut unpacking = Unpacking::new(digest).map_err(Some)?;
    let mut offset = 0;
    loop {
        let piece = depot.piece(digest, offset).await.map_err(Some)?;
        offset += piece.data.len() as u64;
        // A piece of rubbish-free zstd can unpack to a lot: it is taken in small steps, each sent at once.
        for step in piece.data.chunks(1024) {
            let mut content = Vec::new();
            if unpacking.feed(step, |bytes| content.extend_from_slice(bytes)).is_err() {
                return Err(Some(depot.damaged(digest).await));
            }
            for data in content.chunks(CONTENT_BYTES) {
                out.send(Ok(pb::GetObjectResponse { data: data.to_vec() })).await.map_err(|_| None)?;
            }
        }
        if offset >= piece.compressed_bytes {
            return match unpacking.end() {
                Ok(()) => Ok(()),
                Err(_) => Err(Some(depot.damaged(digest).await)),
            };
        }
    }
}
