//! Every method of the operators' service, called by its descriptor: whoever has a role elsewhere gets nothing of what
//! is here, and changes nothing of it. A method that nobody has thought about does not pass: its requests are made of
//! the names of their fields, and what it answers is held against all that must not be told.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _};
use landfall_common::Sha256;
use landfall_common::evidence::Verdict;
use landfall_controller::authorise::{Access, Reach, access};
use landfall_proto::v1 as pb;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::fleet::{Credentials, Server, Signer, reason, release, strategy};
use crate::queue::lock;
use crate::rollouts::start;

/// What only those may see who look at shop in production.
const MARKS: [&str; 9] = [
    "shop",
    "production",
    "web-1",
    "web-2",
    "this is v1",
    "notes of v1",
    "hush",
    "a change",
    "bob-the-builder",
];

/// Answers in which even an admin finds none of them.
const TELL_NOTHING: [&str; 4] = ["GetCheckpoint", "MissingObjects", "PutObjects", "RepairDrift"];

/// Messages as their bytes.
#[derive(Debug, Default, Clone)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

/// Calls a method, whatever it is; gives its first message.
async fn call(
    server: &Server,
    credentials: &Credentials,
    path: &str,
    request: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let channel: Channel = server.connect(Some(credentials)).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = path.parse::<http::uri::PathAndQuery>().unwrap();
    let mut answer = grpc.server_streaming(tonic::Request::new(request), path, Raw).await?.into_inner();
    Ok(answer.message().await?.unwrap_or_default())
}

/// What requests name, by the fields' names.
struct Here {
    rollout: String,
    object: Vec<u8>,
    manifest: pb::PublishReleaseRequest,
    messages: BTreeMap<String, DescriptorProto>,
}

/// What CI says of a commit of the application.
fn evidence() -> Vec<u8> {
    crate::evidence::document("shop", 1, Verdict::Passed)
}

impl Here {
    fn text(&self, method: &str, field: &str) -> String {
        let text = match (method, field) {
            (_, "request_id") => return format!("as-{}-{method}", self.rollout),
            ("GetRelease", "name") => "v1",
            ("GetRepositoryFile", "name") => "2.apps%2Fshop.json",
            ("RemoveOperator", "name") => "bob-the-builder",
            ("CreateToken", "name") => "web-3",
            ("LabelHosts", "remove") => "zone",
            (_, "application") => "shop",
            (_, "environment") => "production",
            (_, "release") => "v1",
            (_, "rollout" | "subject") => &self.rollout,
            (_, "host" | "hosts") => "web-1",
            (_, "reason" | "message" | "notes") => "because",
            (_, "gate") => "qa",
            (_, "role") => "viewer",
            (_, "step") => "migrate",
            ("ApproveRollout", "content") => return Sha256::of(b"content").to_string(),
            (_, "digest" | "digests") => return Sha256::of(&self.object).to_string(),
            // What may be left out.
            (
                _,
                "page_token" | "plan_id" | "changes" | "outside_window" | "proven_in" | "unproven"
                | "without_evidence" | "commit" | "services" | "service" | "beyond_budget",
            ) => "",
            other => panic!("what of another place can {other:?} name? say it here"),
        };
        text.to_owned()
    }

    fn bytes(&self, method: &str, field: &str) -> Vec<u8> {
        match (method, field) {
            (_, "manifest") => self.manifest.manifest.clone(),
            (_, "role_metadata") => self.manifest.role_metadata.clone(),
            ("PutObjects", "data") => zstd::bulk::compress(&self.object, 3).unwrap(),
            (_, "root" | "targets") => b"{}".to_vec(),
            ("SubmitEvidence", "document") => evidence(),
            other => panic!("what of another place can {other:?} hold? say it here"),
        }
    }

    /// A request with all that it can name; `asks` says which fields it leaves out.
    fn request(&self, method: &str, message: &str, leaves_out: &dyn Fn(&str) -> bool) -> Vec<u8> {
        let mut out = Vec::new();
        let put = |number: i32, bytes: &[u8], out: &mut Vec<u8>| {
            prost::encoding::encode_key(
                u32::try_from(number).unwrap(),
                prost::encoding::WireType::LengthDelimited,
                out,
            );
            prost::encoding::encode_varint(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        };
        let descriptor = &self.messages[message];
        for field in &descriptor.field {
            let (name, number) = (field.name(), field.number());
            if leaves_out(name) {
                continue;
            }
            match field.r#type() {
                Type::String => {
                    let text = self.text(method, name);
                    if !text.is_empty() {
                        put(number, text.as_bytes(), &mut out);
                    }
                }
                Type::Bytes => put(number, &self.bytes(method, name), &mut out),
                Type::Enum | Type::Bool => {
                    let one = name == "last" || field.r#type() == Type::Enum;
                    prost::encoding::encode_key(
                        u32::try_from(number).unwrap(),
                        prost::encoding::WireType::Varint,
                        &mut out,
                    );
                    prost::encoding::encode_varint(u64::from(one), &mut out);
                }
                Type::Message => {
                    let inner = field.type_name().trim_start_matches('.').to_owned();
                    let is_map = field.label() == Label::Repeated && self.messages[&inner].options.is_some();
                    // Of a token's two bearers one; of strategies and resumed repositories none.
                    let skipped = ["overrides", "operator", "resume"].contains(&name) && !leaves_out("host");
                    if !is_map && !skipped {
                        put(number, &self.request(method, &inner, leaves_out), &mut out);
                    }
                }
                Type::Uint32 | Type::Uint64 => {
                    let minutes = if name == "valid_for_ms" { 600_000 } else { 0 };
                    prost::encoding::encode_key(
                        u32::try_from(number).unwrap(),
                        prost::encoding::WireType::Varint,
                        &mut out,
                    );
                    prost::encoding::encode_varint(minutes, &mut out);
                }
                other => panic!("{method}.{name} is of a kind that this test does not know: {other:?}"),
            }
        }
        out
    }
}

fn messages(into: &mut BTreeMap<String, DescriptorProto>, prefix: &str, all: &[DescriptorProto]) {
    for message in all {
        let name = format!("{prefix}.{}", message.name());
        messages(into, &name, &message.nested_type);
        into.insert(name, message.clone());
    }
}

/// The methods of the operators' service, with the names of their requests; what removes comes last.
fn methods() -> (Vec<(String, String)>, BTreeMap<String, DescriptorProto>) {
    let (mut methods, mut all) = (Vec::new(), BTreeMap::new());
    for file in FileDescriptorSet::decode(landfall_proto::DESCRIPTOR).unwrap().file {
        messages(&mut all, file.package(), &file.message_type);
        for service in file.service.iter().filter(|service| service.name() == "Operators") {
            for method in &service.method {
                let request = method.input_type().trim_start_matches('.').to_owned();
                methods.push((method.name().to_owned(), request));
            }
        }
    }
    methods.sort_by_key(|(name, _)| (name.starts_with("Remove"), name.clone()));
    (methods, all)
}

async fn scene(server: &Server, admin: &Credentials) -> Here {
    let mut signer = Signer::publish_root(server, admin).await;
    server.enrol(admin, "web-1").await;
    server.enrol(admin, "web-2").await;
    server.operator(admin, "bob-the-builder", "viewer").await;
    signer.release(server, admin, "v1").await;
    let mut operators = server.operators(admin).await;
    let rollout = operators.start_rollout(start("v1")).await.unwrap().into_inner().rollout.unwrap().id;
    operators.lock_environment(lock("hush", 10)).await.unwrap();
    let evidence = pb::SubmitEvidenceRequest { request_id: "tests".to_owned(), document: evidence() };
    operators.submit_evidence(evidence).await.unwrap();
    let (manifest, _) = signer.prepare(server, "v2", strategy());
    let (_, objects) = release("v1", strategy());
    let (_, messages) = methods();
    Here { rollout, object: objects[0].clone(), manifest, messages }
}

/// All that there is, as an admin sees it, but for what changes by itself.
async fn everything(server: &Server, admin: &Credentials) -> String {
    let mut operators = server.operators(admin).await;
    let log = pb::ReadLogRequest { last: true, limit: 1000, ..pb::ReadLogRequest::default() };
    let log: Vec<_> = operators.read_log(log).await.unwrap().into_inner().entries;
    let log: Vec<_> = log.into_iter().map(|entry| (entry.index, entry.summary)).collect();
    let hosts = operators.list_hosts(pb::ListHostsRequest::default()).await.unwrap().into_inner();
    let places =
        operators.list_environments(pb::ListEnvironmentsRequest::default()).await.unwrap().into_inner();
    let rollouts = operators.list_rollouts(pb::ListRolloutsRequest::default()).await.unwrap().into_inner();
    // Why they wait is told with how long they have.
    let known = |rollout: pb::Rollout| (rollout.id, rollout.status, rollout.batches, rollout.left_out);
    let rollouts: Vec<_> = rollouts.rollouts.into_iter().map(known).collect();
    let operators = operators.list_operators(pb::ListOperatorsRequest {}).await.unwrap().into_inner();
    format!("{log:?}\n{hosts:?}\n{places:?}\n{rollouts:?}\n{operators:?}")
}

fn told(bytes: &[u8], request: &[u8], rollout: &str) -> Vec<String> {
    let holds = |bytes: &[u8], mark: &str| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    // What the caller has said itself it may be told again.
    let marks = MARKS.iter().copied().chain([rollout]);
    marks.filter(|mark| holds(bytes, mark) && !holds(request, mark)).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_method_tells_or_changes_anything_outside_of_a_scope() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let here = scene(&server, &admin).await;
    let callers = [
        // The highest role that there is, for another application, and for another environment of this one.
        ("eve", "admin:blog", server.operator(&admin, "eve", "admin:blog").await),
        ("eva", "admin:blog/staging", server.operator(&admin, "eva", "admin:blog/staging").await),
    ];
    let before = everything(&server, &admin).await;
    let (methods, _) = methods();
    // As it comes, and as one that asks for all that there is.
    let whole: &dyn Fn(&str) -> bool = &|_| false;
    let all: &dyn Fn(&str) -> bool = &|field| ["application", "environment"].contains(&field);
    for (name, rights, credentials) in &callers {
        for (method, message) in &methods {
            let path = format!("/landfall.v1.Operators/{method}");
            let Some(Access::Operator(_, reach)) = access(&path) else {
                panic!("{method} is for no operator")
            };
            for leaves_out in [whole, all] {
                let request = here.request(method, message, leaves_out);
                let answer = call(&server, credentials, &path, request.clone()).await;
                let what = format!("{method} for {rights}: {answer:?}");
                match &answer {
                    Ok(bytes) => {
                        assert!(matches!(reach, Reach::Narrowed | Reach::Anywhere), "{what}");
                        assert_eq!(told(bytes, &[], &here.rollout), Vec::<String>::new(), "{what}");
                    }
                    Err(refused) => {
                        let said = refused.message();
                        assert_eq!(
                            told(said.as_bytes(), &request, &here.rollout),
                            Vec::<String>::new(),
                            "{what}"
                        );
                        assert_ne!(refused.code(), Code::Internal, "{what}");
                        if reach != Reach::Anywhere && std::ptr::eq(leaves_out, whole) {
                            let codes = [Code::PermissionDenied, Code::NotFound];
                            assert!(codes.contains(&refused.code()), "{what}");
                            // It names what there is, and by whom more is given, or that less is looked at.
                            let names = [format!("{name} is {rights}"), format!("{name} looks at blog")];
                            assert!(names.iter().any(|words| said.contains(words)), "{what}");
                        }
                    }
                }
            }
        }
    }
    let after = everything(&server, &admin).await;
    assert!(after == before, "{before}\n{after}");

    // The same requests are good ones: an admin is let in with each, and is told what others are not.
    for (method, message) in &methods {
        let path = format!("/landfall.v1.Operators/{method}");
        let Some(Access::Operator(role, _)) = access(&path) else { panic!("{method}") };
        // Evidence is listed of one application.
        let of_all = method.starts_with("List") && method != "ListEvidence";
        let request = here.request(method, message, if of_all { all } else { whole });
        let answer = call(&server, &admin, &path, request).await;
        if let Err(refused) = &answer {
            assert!(
                reason(refused) != "ROLE_TOO_LOW" && refused.code() != Code::Internal,
                "{method}: {refused:?}"
            );
        }
        if role == landfall_common::Role::Viewer && !TELL_NOTHING.contains(&method.as_str()) {
            let bytes = answer.unwrap_or_else(|refused| panic!("{method}: {refused:?}"));
            assert_ne!(told(&bytes, &[], &here.rollout), Vec::<String>::new(), "{method} tells nothing");
        }
    }
}
