//! A controller in a temporary directory, and those who call it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use landfall_common::manifest::{Directory, Entry, FORMAT, Manifest, Origin, Program};
use landfall_common::strategy::{Amount, Strategy};
use landfall_common::{
    AppName, Duration, EnvName, OperatorName, ReleaseCounter, ReleaseName, Rights, Role, Sha256, Timestamp,
};
use landfall_controller::admin::{self, Answer, Request};
use landfall_controller::asker::Asker;
use landfall_controller::clock::Clock;
use landfall_controller::config::{Layout, Retention};
use landfall_controller::serve::{self, Running};
use landfall_controller::{ControllerError, initialise};
use landfall_proto::v1 as pb;
use landfall_proto::v1::agents_client::AgentsClient;
use landfall_proto::v1::enrolment_client::EnrolmentClient;
use landfall_proto::v1::operators_client::OperatorsClient;
use landfall_trust::metadata::{Root, Targets};
use landfall_trust::policy::{POLICY_ROLE, ReleaseCustom, app_role};
use landfall_trust::{Envelope, KeyPair, PublicKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tonic::transport::{Channel, Endpoint};

/// A controller, its directory and its clock.
pub struct Server {
    pub layout: Layout,
    pub retention: Retention,
    pub address: SocketAddr,
    running: Option<Running>,
    ahead_ms: Arc<AtomicU64>,
    pub admin_token: String,
    _directory: tempfile::TempDir,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Credentials {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl Server {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        Self::start_in(directory, state, true).await
    }

    pub async fn start_in(directory: tempfile::TempDir, state: PathBuf, fresh: bool) -> Self {
        let layout = Layout { objects: state.join("objects"), state };
        let mut server = Self {
            layout,
            retention: Retention::default(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            running: None,
            ahead_ms: Arc::default(),
            admin_token: String::new(),
            _directory: directory,
        };
        if fresh {
            let name = OperatorName::new("alice").unwrap();
            server.admin_token = initialise::initialise(&server.layout, name, &server.clock()).await.unwrap();
        }
        server.run().await;
        server
    }

    pub async fn run(&mut self) {
        let listener = serve::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        self.address = listener.local_addr().unwrap();
        let started = serve::start(
            self.layout.clone(),
            self.retention,
            Asker::default(),
            listener,
            self.address,
            self.clock(),
        )
        .await;
        self.running = Some(started.unwrap_or_else(|error| panic!("{}", error.chain())));
    }

    pub fn clock(&self) -> Clock {
        let (system, ahead) = (Clock::system(), self.ahead_ms.clone());
        Clock::of(move || system.now() + Duration::from_millis(ahead.load(Ordering::Relaxed)))
    }

    pub fn sleep(&self, time: Duration) {
        self.ahead_ms.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub async fn stop(&mut self) -> Result<(), ControllerError> {
        self.running.take().unwrap().stop().await
    }

    pub async fn restart(&mut self) {
        self.stop().await.unwrap();
        self.run().await;
    }

    pub fn authority(&self) -> CertificateDer<'static> {
        use rustls_pki_types::pem::PemObject as _;
        CertificateDer::from_pem_file(self.layout.ca().join("ca.crt")).unwrap()
    }

    /// A connection, with a certificate or without.
    pub async fn connect(
        &self,
        credentials: Option<&Credentials>,
    ) -> Result<Channel, tonic::transport::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match credentials {
            None => config.with_no_client_auth(),
            Some(credentials) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credentials.key.clone()));
                config.with_client_auth_cert(vec![credentials.certificate.clone().into()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.time_provider = Arc::new(Now(self.clock()));
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let address = self.address;
        let endpoint = Endpoint::from_static("http://landfall-controller");
        endpoint
            .connect_with_connector(tower::service_fn(move |_| {
                let connector = connector.clone();
                async move {
                    let stream = tokio::net::TcpStream::connect(address).await?;
                    let name = ServerName::try_from("landfall-controller").unwrap();
                    Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
                }
            }))
            .await
    }

    pub async fn operators(&self, credentials: &Credentials) -> OperatorsClient<Channel> {
        OperatorsClient::new(self.connect(Some(credentials)).await.unwrap())
            .max_decoding_message_size(64 << 20)
    }

    pub async fn agents(&self, credentials: &Credentials) -> AgentsClient<Channel> {
        AgentsClient::new(self.connect(Some(credentials)).await.unwrap())
    }

    pub async fn enrolment(&self) -> EnrolmentClient<Channel> {
        EnrolmentClient::new(self.connect(None).await.unwrap())
    }

    /// Trades a token for a certificate.
    pub async fn join(
        &self,
        id: &str,
        secret: &str,
        host: &str,
    ) -> Result<(Credentials, pb::JoinResponse), tonic::Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = pb::JoinRequest {
            token_id: id.to_owned(),
            secret: secret.to_owned(),
            csr: csr(&key),
            host: host.to_owned(),
            version: "0.1.0".to_owned(),
        };
        let answer = self.enrolment().await.join(request).await?.into_inner();
        Ok((Credentials { certificate: answer.certificate.clone(), key: key.serialize_der() }, answer))
    }

    pub async fn admin(&self) -> Credentials {
        self.log_in(&self.admin_token).await
    }

    /// An admin by a token that is made on the controller's own host.
    pub async fn recovered_admin(&self) -> Credentials {
        let socket = self.layout.admin_socket();
        let (name, rights) = (OperatorName::new("alice").unwrap(), Rights::everywhere(Role::Admin));
        let request = Request::OperatorToken { name, rights, valid_for_ms: 60_000 };
        let answer = tokio::task::spawn_blocking(move || admin::ask(&socket, &request).unwrap().unwrap().0);
        let Answer::Token { text } = answer.await.unwrap() else { panic!("no token") };
        self.log_in(&text).await
    }

    pub async fn log_in(&self, text: &str) -> Credentials {
        let (id, secret) = token(text);
        self.join(&id, &secret, "").await.unwrap().0
    }

    /// A host of the application, enrolled by an admin.
    pub async fn enrol(&self, admin: &Credentials, host: &str) -> Credentials {
        let token = self.host_token(admin, host).await;
        self.join(&token.token_id, &token.secret, "").await.unwrap().0
    }

    /// An operator whom an admin lets in with these roles.
    pub async fn operator(&self, admin: &Credentials, name: &str, role: &str) -> Credentials {
        let request = pb::CreateTokenRequest {
            request_id: format!("token-{name}-{}", self.clock().now().ms()),
            operator: Some(pb::OperatorToken { name: name.to_owned(), role: role.to_owned() }),
            ..pb::CreateTokenRequest::default()
        };
        let token = self.operators(admin).await.create_token(request).await.unwrap().into_inner();
        self.join(&token.token_id, &token.secret, "").await.unwrap().0
    }

    /// A host of another environment.
    pub async fn enrol_in(
        &self,
        admin: &Credentials,
        (application, environment): (&str, &str),
        host: &str,
    ) -> Result<Credentials, tonic::Status> {
        let request = pb::CreateTokenRequest {
            request_id: format!("token-{host}-{}", self.clock().now().ms()),
            host: Some(pb::HostToken {
                application: application.to_owned(),
                environment: environment.to_owned(),
                name: host.to_owned(),
                ..pb::HostToken::default()
            }),
            ..pb::CreateTokenRequest::default()
        };
        let token = self.operators(admin).await.create_token(request).await?.into_inner();
        Ok(self.join(&token.token_id, &token.secret, "").await.unwrap().0)
    }

    pub async fn host_token(&self, admin: &Credentials, host: &str) -> pb::CreateTokenResponse {
        let request = pb::CreateTokenRequest {
            request_id: format!("token-{host}-{}", self.clock().now().ms()),
            host: Some(pb::HostToken {
                application: "shop".to_owned(),
                environment: "production".to_owned(),
                labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
                name: host.to_owned(),
            }),
            ..pb::CreateTokenRequest::default()
        };
        self.operators(admin).await.create_token(request).await.unwrap().into_inner()
    }
}

/// Clients live at the same time as their controller.
struct Now(Clock);

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Now")
    }
}

impl rustls::time_provider::TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now().ms())))
    }
}

pub fn csr(key: &rcgen::KeyPair) -> Vec<u8> {
    rcgen::CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

/// The id and the secret in a token's text.
pub fn token(text: &str) -> (String, String) {
    let json = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix("lft1_").unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    (value["id"].as_str().unwrap().to_owned(), value["secret"].as_str().unwrap().to_owned())
}

/// The root and the release key, and what was last signed with the latter.
pub struct Signer {
    pub root: KeyPair,
    root_file: Vec<u8>,
    pub release: KeyPair,
    pub role: Targets,
}

pub fn application() -> AppName {
    AppName::new("shop").unwrap()
}

pub fn signed<T: serde::Serialize>(body: &T, pair: &KeyPair) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(body).unwrap();
    envelope.sign(pair).unwrap();
    envelope.to_bytes()
}

impl Signer {
    /// Makes keys and publishes the trust root.
    pub async fn publish_root(server: &Server, admin: &Credentials) -> Self {
        let mut operators = server.operators(admin).await;
        let info = operators.get_info(pb::GetInfoRequest {}).await.unwrap().into_inner();
        let (root, release) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let request = Self::root_request(&root, &release, &info.snapshot_key, &info.timestamp_key, server);
        let root_file = request.root.clone();
        let answer = operators.publish_root(request).await.unwrap().into_inner();
        assert_eq!(answer.root_version, 1);
        let role = Targets::first(server.clock().now() + YEAR);
        Self { root, root_file, release, role }
    }

    pub fn root_request(
        root: &KeyPair,
        release: &KeyPair,
        snapshot: &str,
        timestamp: &str,
        server: &Server,
    ) -> pb::PublishRootRequest {
        let online = |text: &str| serde_json::from_str::<PublicKey>(text).unwrap();
        let expires = server.clock().now() + YEAR;
        let mut body = Root::first(expires);
        body.set_role("root", std::slice::from_ref(root.public()), 1);
        body.set_role("targets", std::slice::from_ref(root.public()), 1);
        body.set_role("snapshot", &[online(snapshot)], 1);
        body.set_role("timestamp", &[online(timestamp)], 1);
        let mut targets = Targets::first(expires);
        targets.delegate_app(&application(), std::slice::from_ref(release.public()), 1);
        pb::PublishRootRequest {
            request_id: "root-1".to_owned(),
            root: signed(&body, root),
            targets: signed(&targets, root),
            roles: BTreeMap::from([(app_role(&application()), signed(&Targets::first(expires), release))]),
            resume: None,
        }
    }

    /// Lets the release key sign floors too, and signs the floor of the application.
    pub async fn raise_floor(&self, server: &Server, admin: &Credentials, floor: ReleaseCounter) {
        let expires = server.clock().now() + YEAR;
        let mut targets = Targets::first(expires).next(expires);
        targets.delegate_app(&application(), std::slice::from_ref(self.release.public()), 1);
        targets.delegate_policy(std::slice::from_ref(self.release.public()), 1);
        let mut policy = Targets::first(expires);
        policy.set_floor(&application(), floor).unwrap();
        let request = pb::PublishRootRequest {
            request_id: format!("floor-{floor}"),
            root: self.root_file.clone(),
            targets: signed(&targets, &self.root),
            roles: BTreeMap::from([(POLICY_ROLE.to_owned(), signed(&policy, &self.release))]),
            resume: None,
        };
        server.operators(admin).await.publish_root(request).await.unwrap();
    }

    /// Uploads the objects of a release and publishes it.
    pub async fn release(
        &mut self,
        server: &Server,
        operator: &Credentials,
        name: &str,
    ) -> pb::PublishReleaseResponse {
        let (request, objects) = self.prepare(server, name, strategy());
        let mut operators = server.operators(operator).await;
        upload(&mut operators, &objects).await;
        operators.publish_release(request).await.unwrap().into_inner()
    }

    /// A signed release, and the objects that it needs.
    pub fn prepare(
        &mut self,
        server: &Server,
        name: &str,
        strategy: Strategy,
    ) -> (pb::PublishReleaseRequest, Vec<Vec<u8>>) {
        self.prepare_with(server, name, strategy, format!("this is {name}").as_bytes())
    }

    /// The same, of a file with this content.
    pub fn prepare_with(
        &mut self,
        server: &Server,
        name: &str,
        strategy: Strategy,
        content: &[u8],
    ) -> (pb::PublishReleaseRequest, Vec<Vec<u8>>) {
        let (manifest, objects) = release_with(name, strategy, content);
        let bytes = manifest.to_bytes().unwrap();
        let mut role = self.role.next(server.clock().now() + YEAR);
        let counter = ReleaseCounter(role.highest_counter().0 + 1);
        let custom = ReleaseCustom {
            app: application(),
            release: manifest.release.clone(),
            counter,
            environments: None,
        };
        role.add_release(&bytes, &custom).unwrap();
        let request = pb::PublishReleaseRequest {
            request_id: format!("publish-{name}"),
            manifest: bytes,
            role_metadata: signed(&role, &self.release),
            notes: format!("notes of {name}"),
        };
        self.role = role;
        (request, objects)
    }
}

pub const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Knobs for a rollout in moments.
pub fn strategy() -> Strategy {
    Strategy {
        canary: landfall_common::strategy::Canary::Count(1),
        batch: Amount::Percent(100),
        max_unavailable: Amount::Percent(100),
        min_healthy: Duration::from_millis(1),
        ..Strategy::default()
    }
}

pub fn release(name: &str, strategy: Strategy) -> (Manifest, Vec<Vec<u8>>) {
    release_with(name, strategy, format!("this is {name}").as_bytes())
}

fn release_with(name: &str, strategy: Strategy, content: &[u8]) -> (Manifest, Vec<Vec<u8>>) {
    let content = content.to_vec();
    let file = Entry::File { digest: Sha256::of(&content), size: content.len() as u64, executable: false };
    let tree = Directory { entries: BTreeMap::from([("file".to_owned(), file)]) }.to_bytes().unwrap();
    let manifest = Manifest {
        format: FORMAT,
        application: application(),
        release: ReleaseName::new(name).unwrap(),
        origin: Origin::Git {
            commit: "0123456789abcdef".to_owned(),
            author: "Alice".to_owned(),
            committed_at: Timestamp::from_ms(0),
            subject: "a change".to_owned(),
        },
        tree: Sha256::of(&tree),
        file_count: 1,
        total_bytes: content.len() as u64,
        program: Program::default(),
        environments: ["production", "staging"]
            .map(|name| (EnvName::new(name).unwrap(), strategy.clone()))
            .into(),
    };
    (manifest, vec![content, tree])
}

pub async fn upload(operators: &mut OperatorsClient<Channel>, objects: &[Vec<u8>]) -> pb::PutObjectsResponse {
    let pieces: Vec<_> = objects
        .iter()
        .map(|content| pb::PutObjectsRequest {
            digest: Sha256::of(content).to_string(),
            offset: 0,
            data: zstd::bulk::compress(content, 3).unwrap(),
            last: true,
        })
        .collect();
    operators.put_objects(tokio_stream::iter(pieces)).await.unwrap().into_inner()
}

/// The word for programs in a refusal.
pub fn reason(status: &tonic::Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
