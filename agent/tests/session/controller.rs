//! A controller in memory: real TLS, real metadata, real signatures, and faults where a test wants them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use landfall_common::assignment::{ASSIGNMENT_TYPE, Assignment, OnFailure, Order, ReleaseRef};
use landfall_common::manifest::Manifest;
use landfall_common::token::{Bearer, Token};
use landfall_common::{AppName, Generation, ReleaseCounter, Sha256, Timestamp};
use landfall_proto::v1::agents_server::{Agents, AgentsServer};
use landfall_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};
use landfall_proto::v1::*;
use landfall_trust::director::sign_document;
use landfall_trust::metadata::{Root, TOP_LEVEL, Targets};
use landfall_trust::policy::{ReleaseCustom, app_role};
use landfall_trust::repository::{Lifetimes, Repository};
use landfall_trust::{Envelope, KeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, IsCa,
    KeyPair as TlsKey,
};
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub const SECRET: &str = "c2VjcmV0";

/// What a test sees and changes.
#[derive(Default)]
pub struct Shared {
    pub files: BTreeMap<String, Vec<u8>>,
    pub objects: BTreeMap<Sha256, Vec<u8>>,
    pub reports: Vec<HostReport>,
    pub figures: Vec<HostFigures>,
    /// What the host said last of its drift.
    pub drift: Option<Drift>,
    pub renewals: usize,
    /// Certificates are issued for another key than that of the request.
    pub is_careless: bool,
    pub token_used: bool,
    /// Offsets other than 0 that were asked for.
    pub resumed_at: Vec<u64>,
    /// How many objects were asked for.
    pub asked: usize,
    /// Answers to this object are changed so many times.
    pub tamper: BTreeMap<Sha256, usize>,
    /// Whoever asks for this object is answered so.
    pub refuse: BTreeMap<Sha256, tonic::Code>,
    /// Before this object's compressed form comes a frame of so many bytes that unpack to nothing.
    pub padding: BTreeMap<Sha256, usize>,
    /// The stream of this object is cut after so many chunks, once.
    pub cut: BTreeMap<Sha256, usize>,
    /// The stream of this object goes on after so many chunks only once it is told to.
    pub hold: BTreeMap<Sha256, (usize, Arc<tokio::sync::Notify>)>,
}

pub struct Controller {
    pub shared: Arc<Mutex<Shared>>,
    pub address: SocketAddr,
    ca: Arc<CertifiedIssuer<'static, TlsKey>>,
    root: Vec<u8>,
    root_key: KeyPair,
    director: KeyPair,
    release_key: KeyPair,
    online: KeyPair,
    repository: Repository,
    shop: Targets,
    assignment: watch::Sender<Option<Vec<u8>>>,
    /// The last repair that was asked for.
    pub repair: watch::Sender<Option<String>>,
    stop: Option<(CancellationToken, Vec<tokio::task::JoinHandle<Option<()>>>)>,
    /// Of host certificates, from now.
    pub lifetime: Duration,
}

fn now() -> Timestamp {
    landfall_agent::clock::wall()
}

impl Controller {
    pub async fn start() -> Self {
        let year = now() + Duration::from_secs(365 * 86_400);
        let (root_key, release_key, online) =
            (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = Root::first(year);
        for role in TOP_LEVEL {
            let key = if matches!(role, "root" | "targets") { &root_key } else { &online };
            root.set_role(role, &[key.public().clone()], 1);
        }
        let app: AppName = "shop".parse().unwrap();
        let mut targets = Targets::first(year);
        targets.delegate_app(&app, &[release_key.public().clone()], 1);
        let sign = |envelope: Envelope, key: &KeyPair| {
            let mut envelope = envelope;
            envelope.sign(key).unwrap();
            envelope.to_bytes()
        };
        let root = sign(Envelope::unsigned(&root).unwrap(), &root_key);
        let mut repository = Repository::new(root.clone()).unwrap();
        let mut files = repository.files();
        let signed = sign(Envelope::unsigned(&targets).unwrap(), &root_key);
        files.push(repository.submit("targets", signed, now()).unwrap());

        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca = CertifiedIssuer::self_signed(params, TlsKey::generate().unwrap()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut controller = Self {
            shared: Arc::default(),
            address,
            ca: Arc::new(ca),
            root,
            root_key,
            director: KeyPair::generate().unwrap(),
            release_key,
            online,
            repository,
            shop: Targets::first(year),
            assignment: watch::channel(None).0,
            repair: watch::channel(None).0,
            stop: None,
            lifetime: Duration::from_secs(3600),
        };
        controller.keep(files);
        controller.publish_metadata();
        controller.serve().await;
        controller
    }

    fn keep(&self, files: Vec<landfall_trust::repository::File>) {
        let mut shared = self.shared.lock().unwrap();
        shared.files.extend(files.into_iter().map(|file| (file.name, file.bytes)));
    }

    /// Gives root and targets another key.
    pub fn rotate_root(&mut self) {
        let (year, new) = (now() + Duration::from_secs(365 * 86_400), KeyPair::generate().unwrap());
        let mut root = self.repository.root().next(year);
        root.set_role("root", &[new.public().clone()], 1);
        root.set_role("targets", &[new.public().clone()], 1);
        let targets = self.repository.targets_role("targets").unwrap().next(year);
        let mut root = Envelope::unsigned(&root).unwrap();
        root.sign(&self.root_key).unwrap();
        root.sign(&new).unwrap();
        let mut targets = Envelope::unsigned(&targets).unwrap();
        targets.sign(&new).unwrap();
        let mut files = vec![self.repository.submit("root", root.to_bytes(), now()).unwrap()];
        files.push(self.repository.submit("targets", targets.to_bytes(), now()).unwrap());
        let online = [&self.online];
        files.extend(self.repository.publish(&online, &online, now(), &Lifetimes::default()).unwrap());
        self.keep(files);
        self.root_key = new;
    }

    fn publish_metadata(&mut self) {
        let mut signed = Envelope::unsigned(&self.shop).unwrap();
        signed.sign(&self.release_key).unwrap();
        let role = app_role(&"shop".parse().unwrap());
        let mut files = vec![self.repository.submit(&role, signed.to_bytes(), now()).unwrap()];
        let online = [&self.online];
        files.extend(self.repository.publish(&online, &online, now(), &Lifetimes::default()).unwrap());
        self.keep(files);
    }

    /// Makes a release's objects available.
    pub fn upload(
        &self,
        objects: &BTreeMap<Sha256, Vec<u8>>,
        manifest: &Manifest,
        counter: u64,
    ) -> ReleaseRef {
        let bytes = manifest.to_bytes().unwrap();
        let digest = Sha256::of(&bytes);
        let mut shared = self.shared.lock().unwrap();
        shared.objects.extend(objects.clone());
        shared.objects.insert(digest, bytes.clone());
        ReleaseRef {
            name: manifest.release.clone(),
            counter: ReleaseCounter(counter),
            digest,
            length: bytes.len() as u64,
        }
    }

    /// Lets the signers list it as well.
    pub fn publish(
        &mut self,
        objects: &BTreeMap<Sha256, Vec<u8>>,
        manifest: &Manifest,
        counter: u64,
    ) -> ReleaseRef {
        let release = self.upload(objects, manifest, counter);
        let custom = ReleaseCustom {
            app: manifest.application.clone(),
            release: manifest.release.clone(),
            counter: release.counter,
            environments: None,
        };
        self.shop.add_release(&manifest.to_bytes().unwrap(), &custom).unwrap();
        if counter > 1 {
            self.shop.header.version += 1;
        } else {
            self.shop.header.version = 2;
        }
        self.publish_metadata();
        release
    }

    /// Its signers list no release any more.
    pub fn unlist_all(&mut self) {
        self.shop.targets.clear();
        self.shop.header.version += 1;
        self.publish_metadata();
    }

    pub fn assign(&self, generation: u64, release: &ReleaseRef, order: Order) {
        self.assign_as(&self.director, generation, release, order);
    }

    /// One that is past its time when it arrives.
    pub fn assign_late(&self, generation: u64, release: &ReleaseRef, order: Order) {
        self.assign_until(&self.director, now(), generation, release, order);
    }

    pub fn assign_as(&self, key: &KeyPair, generation: u64, release: &ReleaseRef, order: Order) {
        self.assign_until(key, now() + Duration::from_secs(600), generation, release, order);
    }

    fn assign_until(
        &self,
        key: &KeyPair,
        expires_at: Timestamp,
        generation: u64,
        release: &ReleaseRef,
        order: Order,
    ) {
        let assignment = Assignment {
            host: "web-1".parse().unwrap(),
            application: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
            generation: Generation(generation),
            issued_at: now(),
            expires_at,
            rollout: "r1".parse().unwrap(),
            release: release.clone(),
            order,
        };
        let signed = sign_document(ASSIGNMENT_TYPE, &assignment, key).unwrap();
        self.assignment.send_replace(Some(signed.to_bytes()));
    }

    pub fn activate(&self, generation: u64, release: &ReleaseRef) {
        let order = Order::Activate {
            on_failure: OnFailure::Revert,
            min_healthy: Duration::from_millis(300),
            healthy_deadline: Duration::from_secs(3),
        };
        self.assign(generation, release, order);
    }

    pub fn token(&self) -> String {
        self.token_in("production")
    }

    pub fn token_in(&self, environment: &str) -> String {
        let ca = landfall_agent::tls::key_digest(self.ca.der()).unwrap();
        self.token_for(ca, Sha256::of(&self.root), environment)
    }

    pub fn token_with(&self, ca: Sha256, root: Sha256) -> String {
        self.token_for(ca, root, "production")
    }

    fn token_for(&self, ca: Sha256, root: Sha256, environment: &str) -> String {
        let bearer = Bearer::Host {
            application: "shop".parse().unwrap(),
            environment: environment.parse().unwrap(),
            name: Some("web-1".parse().unwrap()),
        };
        Token { id: "t1".into(), secret: SECRET.into(), ca, root: Some(root), bearer }.to_text()
    }

    /// Waits for a report that fits.
    pub async fn report(&self, what: &str, fits: impl Fn(&HostReport) -> bool) -> HostReport {
        // Five minutes, for machines that have much else to do.
        for _ in 0..6_000 {
            if let Some(report) = self.shared.lock().unwrap().reports.iter().rev().find(|r| fits(r)) {
                return report.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let last = self.shared.lock().unwrap().reports.last().cloned();
        panic!("no report said {what}; the last was {last:?}");
    }

    /// The same of the newest report alone, however it was before.
    #[allow(dead_code, reason = "only the tests of traffic ask")]
    pub async fn newest(&self, what: &str, fits: impl Fn(&HostReport) -> bool) -> HostReport {
        for _ in 0..6_000 {
            if let Some(report) = self.shared.lock().unwrap().reports.last().filter(|report| fits(report)) {
                return report.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let last = self.shared.lock().unwrap().reports.last().cloned();
        panic!("no report says {what}; the last was {last:?}");
    }

    pub async fn outcome(&self, generation: u64, kind: OutcomeKind) -> HostReport {
        self.report(&format!("{kind:?} of generation {generation}"), |report| {
            report.outcome.as_ref().is_some_and(|o| o.generation == generation && o.kind() == kind)
        })
        .await
    }

    /// Goes down, connections and all.
    pub async fn stop(&mut self) {
        let Some((stop, tasks)) = self.stop.take() else { return };
        stop.cancel();
        for task in tasks {
            task.await.unwrap();
        }
    }

    pub async fn serve(&mut self) {
        let key = TlsKey::generate().unwrap();
        let params = CertificateParams::new(vec!["landfall-controller".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &*self.ca).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .allow_unauthenticated()
                .build()
                .unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![leaf.der().clone(), self.ca.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind(self.address).await.unwrap();
        let stop = CancellationToken::new();
        let (accepted, incoming) = mpsc::channel::<std::io::Result<_>>(8);
        let accepting = stop.clone();
        let accepting = tokio::spawn(accepting.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = accepted.send(Ok(Plain(stream))).await;
                }
            }
        }));
        let service = Service {
            shared: self.shared.clone(),
            ca: self.ca.clone(),
            director: serde_json::to_string(self.director.public()).unwrap(),
            assignment: self.assignment.subscribe(),
            repair: self.repair.subscribe(),
            lifetime: self.lifetime,
        };
        let server = tonic::transport::Server::builder()
            .add_service(EnrolmentServer::new(service.clone()))
            .add_service(AgentsServer::new(service))
            .serve_with_incoming(ReceiverStream::new(incoming));
        let serving = tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let _ = server.await;
        }));
        self.stop = Some((stop, vec![accepting, serving]));
    }
}

/// A TLS stream that tells nothing of its peer.
struct Plain(tokio_rustls::server::TlsStream<tokio::net::TcpStream>);

impl tonic::transport::server::Connected for Plain {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }
    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[derive(Clone)]
struct Service {
    shared: Arc<Mutex<Shared>>,
    ca: Arc<CertifiedIssuer<'static, TlsKey>>,
    director: String,
    assignment: watch::Receiver<Option<Vec<u8>>>,
    repair: watch::Receiver<Option<String>>,
    lifetime: Duration,
}

impl Service {
    fn issue(&self, csr: &[u8]) -> Vec<u8> {
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        let mut request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        let is_careless = self.shared.lock().unwrap().is_careless;
        let other = CertificateParams::default().serialize_request(&TlsKey::generate().unwrap()).unwrap();
        if is_careless {
            request = CertificateSigningRequestParams::from_der(other.der()).unwrap();
        }
        let at =
            |moment: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(moment.ms() / 1000);
        request.params.not_before = at(now());
        request.params.not_after = at(now() + self.lifetime);
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.signed_by(&*self.ca).unwrap().der().to_vec()
    }
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let mut shared = self.shared.lock().unwrap();
        if std::mem::replace(&mut shared.token_used, true) || request.secret != SECRET {
            return Err(Status::unauthenticated("the token is unknown, expired or was used before"));
        }
        let roots =
            (1..).map_while(|version| shared.files.get(&format!("{version}.root.json")).cloned()).collect();
        drop(shared);
        Ok(Response::new(JoinResponse {
            certificate: self.issue(&request.csr),
            ca_certificate: self.ca.der().to_vec(),
            host: "web-1".into(),
            application: "shop".into(),
            environment: "production".into(),
            director_keys: vec![self.director.clone()],
            roots,
            ..JoinResponse::default()
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let request = request.into_inner();
        assert!(!request.signature.is_empty() && !request.certificate.is_empty());
        self.shared.lock().unwrap().renewals += 1;
        Ok(Response::new(RenewResponse {
            certificate: self.issue(&request.csr),
            ca_certificate: self.ca.der().to_vec(),
        }))
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agents for Service {
    type SessionStream = BoxStream<ControllerMessage>;
    type FetchObjectsStream = BoxStream<ObjectChunk>;

    async fn send_output(
        &self,
        _: Request<Streaming<SendOutputRequest>>,
    ) -> Result<Response<SendOutputResponse>, Status> {
        Err(Status::not_found("nobody has asked for this output"))
    }

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = inbound.next().await {
                let mut shared = shared.lock().unwrap();
                match message.message {
                    Some(agent_message::Message::Hello(hello)) => shared.reports.extend(hello.report),
                    Some(agent_message::Message::Report(report)) => shared.reports.push(report),
                    Some(agent_message::Message::Figures(figures)) => shared.figures.push(figures),
                    Some(agent_message::Message::Drift(drift)) => shared.drift = Some(drift),
                    None => {}
                }
            }
        });
        let welcome = Welcome { heartbeat_ms: 200, now_ms: now().ms() };
        let welcome = ControllerMessage { message: Some(controller_message::Message::Welcome(welcome)) };
        let assignments = tokio_stream::wrappers::WatchStream::new(self.assignment.clone())
            .filter_map(|assignment| assignment)
            .map(|bytes| {
                Ok(ControllerMessage { message: Some(controller_message::Message::Assignment(bytes)) })
            });
        let repairs = tokio_stream::wrappers::WatchStream::new(self.repair.clone())
            .filter_map(|request| request)
            .map(|request_id| {
                let repair = controller_message::Message::RepairDrift(RepairDrift { request_id });
                Ok(ControllerMessage { message: Some(repair) })
            });
        let told = tokio_stream::once(Ok(welcome)).chain(assignments.merge(repairs));
        Ok(Response::new(Box::pin(told)))
    }

    async fn get_metadata(
        &self,
        request: Request<GetMetadataRequest>,
    ) -> Result<Response<GetMetadataResponse>, Status> {
        let name = request.into_inner().name;
        let found = self.shared.lock().unwrap().files.get(&name).cloned();
        found
            .map(|content| Response::new(GetMetadataResponse { content }))
            .ok_or_else(|| Status::not_found(format!("no {name}")))
    }

    async fn fetch_objects(
        &self,
        request: Request<FetchObjectsRequest>,
    ) -> Result<Response<Self::FetchObjectsStream>, Status> {
        let mut answers = Vec::new();
        let mut held = None;
        let mut shared = self.shared.lock().unwrap();
        for range in request.into_inner().objects {
            shared.asked += 1;
            if range.offset > 0 {
                shared.resumed_at.push(range.offset);
            }
            let digest: Sha256 = range.digest.parse().unwrap();
            let Some(mut content) = shared.objects.get(&digest).cloned() else {
                answers.push(Err(Status::not_found(format!("no object {digest}"))));
                break;
            };
            if let Some(code) = shared.refuse.get(&digest) {
                return Err(Status::new(*code, "the test says no"));
            }
            if let Some(times) = shared.tamper.get_mut(&digest).filter(|times| **times > 0) {
                *times -= 1;
                content[0] ^= 1;
            }
            let mut compressed = zstd::encode_all(content.as_slice(), 3).unwrap();
            if let Some(length) = shared.padding.get(&digest) {
                // A skippable frame (RFC 8878, section 3.1.2).
                let mut frame = 0x184D_2A50u32.to_le_bytes().to_vec();
                frame.extend(u32::try_from(*length).unwrap().to_le_bytes());
                frame.resize(frame.len() + length, 0);
                frame.append(&mut compressed);
                compressed = frame;
            }
            let rest = &compressed[usize::try_from(range.offset).unwrap()..];
            let mut chunks: Vec<_> = rest
                .chunks(64 * 1024)
                .map(|data| ObjectChunk { data: data.to_vec(), ..ObjectChunk::default() })
                .collect();
            chunks[0].digest = digest.to_string();
            chunks[0].compressed_bytes = compressed.len() as u64;
            chunks.last_mut().unwrap().last = true;
            if let Some(after) = shared.cut.remove(&digest) {
                answers.extend(chunks.into_iter().take(after).map(Ok));
                answers.push(Err(Status::unavailable("the test cut the stream")));
                break;
            }
            held = shared.hold.remove(&digest).map(|(after, go_on)| (answers.len() + after, go_on)).or(held);
            answers.extend(chunks.into_iter().map(Ok));
        }
        let answers = tokio_stream::iter(answers.into_iter().enumerate()).then(move |(index, answer)| {
            let held = held.clone().filter(|(after, _)| *after == index);
            async move {
                if let Some((_, go_on)) = held {
                    go_on.notified().await;
                }
                answer
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
