//! What hosts write, read by operators: who is asked, who may answer, and what is said when nobody does.

use landfall_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::fleet::{Credentials, Server, Signer, reason};

fn request(host: &str) -> pb::StreamOutputRequest {
    let source = Some(pb::Source { source: Some(pb::source::Source::Step("migrate".to_owned())) });
    pb::StreamOutputRequest { host: host.to_owned(), source, lines: 50_000, follow: true }
}

/// A host's session, as far as this matters here.
struct Session {
    inbound: Streaming<pb::ControllerMessage>,
    _out: mpsc::Sender<pb::AgentMessage>,
}

impl Session {
    async fn begin(server: &Server, credentials: &Credentials) -> Self {
        let (out, messages) = mpsc::channel(4);
        let hello = pb::Hello { protocol: 1, version: "0.1.0".to_owned(), ..pb::Hello::default() };
        let hello = pb::AgentMessage { message: Some(pb::agent_message::Message::Hello(hello)) };
        out.send(hello).await.unwrap();
        let mut agents = server.agents(credentials).await;
        let mut inbound = agents.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let welcome = inbound.next().await.unwrap().unwrap().message;
        assert!(matches!(welcome, Some(pb::controller_message::Message::Welcome(_))));
        Self { inbound, _out: out }
    }

    async fn wanted(&mut self) -> pb::OutputWanted {
        loop {
            let message = self.inbound.next().await.unwrap().unwrap().message;
            if let Some(pb::controller_message::Message::OutputWanted(wanted)) = message {
                return wanted;
            }
        }
    }
}

/// Answers, and tells how that ended.
async fn answer(
    server: &Server,
    credentials: &Credentials,
    pieces: Vec<pb::SendOutputRequest>,
) -> Result<(), Status> {
    let mut agents = server.agents(credentials).await;
    agents.send_output(tokio_stream::iter(pieces)).await.map(drop)
}

fn piece(id: u64, data: &str) -> pb::SendOutputRequest {
    pb::SendOutputRequest { id, data: data.as_bytes().to_vec(), refusal: String::new() }
}

#[tokio::test]
async fn an_operator_reads_what_the_host_that_was_asked_answers() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let (one, two) = (server.enrol(&admin, "web-1").await, server.enrol(&admin, "web-2").await);
    let mut operators = server.operators(&admin).await;
    let unknown = operators.stream_output(request("web-9")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let away = operators.stream_output(request("web-1")).await.unwrap_err();
    assert_eq!(away.code(), Code::FailedPrecondition);
    assert!(away.message().contains("web-1 is not connected"), "{away:?}");

    let mut session = Session::begin(&server, &one).await;
    let read = operators.stream_output(request("web-1")).await.unwrap().into_inner();
    let wanted = session.wanted().await;
    assert_eq!((wanted.lines, wanted.follow, wanted.source), (10_000, true, request("").source));
    // Another host has nothing to say to that, nor has one that was not asked for this.
    for (host, id) in [(&two, wanted.id), (&one, wanted.id + 1)] {
        let refused = answer(&server, host, vec![piece(id, "forged")]).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
    answer(&server, &one, vec![piece(wanted.id, "one "), piece(0, "two")]).await.unwrap();
    let said: Vec<_> = read.map(|message| message.unwrap().data).collect().await;
    assert_eq!(said.concat(), b"one two");
    // It is answered once.
    let again = answer(&server, &one, vec![piece(wanted.id, "more")]).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);

    // What the host refuses the operator is told.
    let mut read = operators.stream_output(request("web-1")).await.unwrap().into_inner();
    let id = session.wanted().await.id;
    let refusal =
        pb::SendOutputRequest { id, data: Vec::new(), refusal: "there is no such output".to_owned() };
    answer(&server, &one, vec![refusal]).await.unwrap();
    let refused = read.next().await.unwrap().unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "web-1: there is no such output"));
}

#[tokio::test]
async fn a_host_stops_when_its_reader_is_gone() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let mut session = Session::begin(&server, &host).await;
    let mut operators = server.operators(&admin).await;
    let mut read = operators.stream_output(request("web-1")).await.unwrap().into_inner();
    let id = session.wanted().await.id;
    let (out, pieces) = mpsc::channel(1);
    out.send(piece(id, "first")).await.unwrap();
    let mut agents = server.agents(&host).await;
    let sending =
        tokio::spawn(async move { agents.send_output(ReceiverStream::new(pieces)).await.map(drop) });
    assert_eq!(read.next().await.unwrap().unwrap().data, b"first");
    drop(read);
    // Nothing more is sent: the host is answered all the same.
    sending.await.unwrap().unwrap();
    drop(out);
}

#[tokio::test]
async fn whoever_is_removed_reads_no_further() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let mut session = Session::begin(&server, &host).await;
    let bob = server.operator(&admin, "bob", "deployer").await;
    let mut read = server.operators(&bob).await.stream_output(request("web-1")).await.unwrap().into_inner();
    let id = session.wanted().await.id;
    let (out, pieces) = mpsc::channel(1);
    out.send(piece(id, "first")).await.unwrap();
    let mut agents = server.agents(&host).await;
    let sending =
        tokio::spawn(async move { agents.send_output(ReceiverStream::new(pieces)).await.map(drop) });
    assert_eq!(read.next().await.unwrap().unwrap().data, b"first");

    let removal = pb::RemoveOperatorRequest { request_id: "r-1".to_owned(), name: "bob".to_owned() };
    server.operators(&admin).await.remove_operator(removal).await.unwrap();
    let ended = read.next().await.unwrap().unwrap_err();
    assert_eq!((ended.code(), &*reason(&ended)), (Code::PermissionDenied, "REMOVED"), "{ended:?}");
    assert!(read.next().await.is_none());
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn there_is_room_for_so_many_readers_and_it_comes_back() {
    let server = Server::start().await;
    let admin = server.admin().await;
    Signer::publish_root(&server, &admin).await;
    let host = server.enrol(&admin, "web-1").await;
    let mut session = Session::begin(&server, &host).await;
    let mut operators = server.operators(&admin).await;
    let mut reading = Vec::new();
    let refused = loop {
        match operators.stream_output(request("web-1")).await {
            Ok(read) => reading.push(read.into_inner()),
            Err(refused) => break refused,
        }
    };
    assert!(reading.len() >= 32 && refused.message().contains("try again later"), "{refused:?}");
    let id = session.wanted().await.id;
    answer(&server, &host, vec![piece(id, "")]).await.unwrap();
    operators.stream_output(request("web-1")).await.unwrap();
}
