//! Answers that go on for as long as somebody listens: they end when whoever asked is removed.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Frame;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes};
use tonic::{Code, Status};

use super::{DenyList, deny_key, shut_out};
use crate::identity::PeerCertificate;
use crate::rpc::errors::status;

/// The methods that answer with a stream.
pub const STREAMS: [&str; 7] = [
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/landfall.v1.Agents/FetchObjects",
    "/landfall.v1.Agents/Session",
    "/landfall.v1.Operators/GetObject",
    "/landfall.v1.Operators/StreamOutput",
    "/landfall.v1.Operators/WatchRollout",
];

/// The answer to this caller, until it is removed: then its end says so.
pub(super) fn until_removed(
    answer: http::Response<Body>,
    certificate: PeerCertificate,
    denied: DenyList,
) -> http::Response<Body> {
    let removed = async move {
        denied.denial(&deny_key(&certificate.identity), certificate.issued_at).await;
        status(shut_out(&certificate.identity))
    };
    answer.map(|body| Body::new(Lasting { body, removed: Some(Box::pin(removed)) }))
}

struct Lasting {
    body: Body,
    /// Gone once it has come.
    removed: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
}

impl HttpBody for Lasting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(removed) = &mut self.removed else { return Poll::Ready(None) };
        let Poll::Ready(status) = removed.as_mut().poll(context) else {
            return Pin::new(&mut self.body).poll_frame(context);
        };
        self.removed = None;
        // Whoever writes into it sees that nobody reads any more.
        self.body = Body::empty();
        let mut trailers = http::HeaderMap::new();
        let written = status.add_header(&mut trailers);
        Poll::Ready(Some(
            written
                .map(|()| Frame::trailers(trailers))
                .map_err(|error| Status::new(Code::PermissionDenied, error.message())),
        ))
    }
}
