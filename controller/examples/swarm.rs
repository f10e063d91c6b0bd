//! Connects many pretended agents to a controller and tells what they cost it.
//!
//! `swarm CONTROLLER_BINARY COUNT SECONDS` starts a controller in a temporary directory, enrols and connects
//! so many agents, lets them report every ten seconds, then ends the controller and starts it again, and
//! tells how long it took until all were back.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that tells what it measured")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::{StreamExt as _, TryStreamExt as _};
use hyper_util::rt::TokioIo;
use landfall_common::{AppName, Timestamp};
use landfall_proto::v1 as pb;
use landfall_proto::v1::agents_client::AgentsClient;
use landfall_proto::v1::enrolment_client::EnrolmentClient;
use landfall_proto::v1::operators_client::OperatorsClient;
use landfall_trust::metadata::{Root, Targets};
use landfall_trust::policy::app_role;
use landfall_trust::{Envelope, KeyPair, PublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// Joins and connections at the same time.
const AT_ONCE: usize = 64;

const HEARTBEAT: Duration = Duration::from_secs(10);

type Certified = (Vec<u8>, Vec<u8>);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [binary, count, seconds] = &arguments[..] else { bail!("swarm CONTROLLER_BINARY COUNT SECONDS") };
    let (count, seconds): (usize, u64) = (count.parse()?, seconds.parse()?);
    let directory = tempfile::tempdir()?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = directory.path().join("controller.toml");
    let state = directory.path().join("state");
    let text = format!("listen = \"{address}\"\nstate_dir = {state:?}\n[log]\nfilter = \"warn\"\n");
    std::fs::write(&config, text)?;
    let token = Command::new(binary).arg("--config").arg(&config).arg("init").output()?;
    let token = String::from_utf8(token.stdout)?;
    let mut controller = Controller::start(binary, &config).await?;

    let root = CertificateDer::from_pem_file(state.join("ca/ca.crt"))?;
    let wire = Wire { address, root };
    let admin = wire.join(&token_of(token.trim())?, "").await?;
    let mut operators = OperatorsClient::new(wire.connect(Some(&admin)).await?);
    publish_root(&mut operators).await?;
    let begun = Instant::now();
    let hosts: Vec<Certified> = futures::stream::iter(0..count)
        .map(|number| enrol(wire.clone(), operators.clone(), number))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    println!("{count} hosts enrolled in {:.1?}", begun.elapsed());
    drop(operators);

    let before = controller.memory_kib()?;
    let connected = Arc::new(AtomicUsize::new(0));
    let (begun, cpu) = (Instant::now(), controller.cpu_seconds()?);
    for (number, host) in hosts.into_iter().enumerate() {
        tokio::spawn(agent(wire.clone(), host, number, connected.clone()));
    }
    wait(&connected, count).await;
    println!(
        "{count} agents connected in {:.1?}, {:.2} CPU s of the controller",
        begun.elapsed(),
        controller.cpu_seconds()? - cpu
    );
    let cpu = controller.cpu_seconds()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let memory = controller.memory_kib()?;
    println!(
        "memory {memory} KiB, before {before} KiB: {:.1} KiB for each agent; CPU {:.1} % of a core at rest",
        (memory - before) as f64 / count as f64,
        (controller.cpu_seconds()? - cpu) * 100.0 / seconds as f64
    );

    controller.kill()?;
    while connected.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    controller = Controller::start(binary, &config).await?;
    wait(&connected, count).await;
    println!("killed and started again: all {count} back after {:.1?}", begun.elapsed());
    controller.kill()
}

async fn wait(connected: &AtomicUsize, count: usize) {
    while connected.load(Ordering::SeqCst) < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Controller(Child);

impl Controller {
    async fn start(binary: &str, config: &Path) -> anyhow::Result<Self> {
        let child = Command::new(binary).arg("--config").arg(config).stdin(Stdio::null()).spawn()?;
        Ok(Self(child))
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = PathBuf::from(format!("/proc/{}/{file}", self.0.id()));
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn memory_kib(&self) -> anyhow::Result<i64> {
        let status = self.proc("status")?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        // The kernel's ticks are a hundredth of a second on every Linux that Debian ships.
        Ok(ticks / 100.0)
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

#[derive(Clone)]
struct Wire {
    address: SocketAddr,
    root: CertificateDer<'static>,
}

impl Wire {
    async fn connect(&self, certified: Option<&Certified>) -> anyhow::Result<Channel> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut config = match certified {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
                config.with_client_auth_cert(vec![certificate.clone().into()], key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let address = self.address;
        let connector = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = tokio::net::TcpStream::connect(address).await?;
                let name = ServerName::try_from("landfall-controller").expect("a host name");
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        let endpoint = Endpoint::from_static("http://landfall-controller");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match endpoint.connect_with_connector(connector.clone()).await {
                Ok(channel) => return Ok(channel),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn join(&self, (id, secret): &(String, String), host: &str) -> anyhow::Result<Certified> {
        let key = rcgen::KeyPair::generate()?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?;
        let request = pb::JoinRequest {
            token_id: id.clone(),
            secret: secret.clone(),
            csr: csr.der().to_vec(),
            host: host.to_owned(),
            ..pb::JoinRequest::default()
        };
        let answer = EnrolmentClient::new(self.connect(None).await?).join(request).await?.into_inner();
        Ok((answer.certificate, key.serialize_der()))
    }
}

fn token_of(text: &str) -> anyhow::Result<(String, String)> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(text.strip_prefix("lft1_").context("no token")?)?;
    let value: serde_json::Value = serde_json::from_slice(&json)?;
    let field = |name: &str| value[name].as_str().map(str::to_owned).context("no token");
    Ok((field("id")?, field("secret")?))
}

async fn publish_root(operators: &mut OperatorsClient<Channel>) -> anyhow::Result<()> {
    let info = operators.get_info(pb::GetInfoRequest {}).await?.into_inner();
    let (root, release) = (KeyPair::generate()?, KeyPair::generate()?);
    let expires = Timestamp::from_ms(info.now_ms) + Duration::from_secs(86_400);
    let online = |text: &str| serde_json::from_str::<PublicKey>(text);
    let mut body = Root::first(expires);
    body.set_role("root", std::slice::from_ref(root.public()), 1);
    body.set_role("targets", std::slice::from_ref(root.public()), 1);
    body.set_role("snapshot", &[online(&info.snapshot_key)?], 1);
    body.set_role("timestamp", &[online(&info.timestamp_key)?], 1);
    let application = AppName::new("shop")?;
    let mut targets = Targets::first(expires);
    targets.delegate_app(&application, std::slice::from_ref(release.public()), 1);
    let request = pb::PublishRootRequest {
        request_id: "root".to_owned(),
        root: signed(&body, &root)?,
        targets: signed(&targets, &root)?,
        roles: [(app_role(&application), signed(&Targets::first(expires), &release)?)].into(),
        resume: None,
    };
    operators.publish_root(request).await?;
    Ok(())
}

fn signed<T: serde::Serialize>(body: &T, pair: &KeyPair) -> anyhow::Result<Vec<u8>> {
    let mut envelope = Envelope::unsigned(body)?;
    envelope.sign(pair)?;
    Ok(envelope.to_bytes())
}

async fn enrol(
    wire: Wire,
    mut operators: OperatorsClient<Channel>,
    number: usize,
) -> anyhow::Result<Certified> {
    let request = pb::CreateTokenRequest {
        request_id: format!("token-{number}"),
        host: Some(pb::HostToken {
            application: "shop".to_owned(),
            environment: "production".to_owned(),
            name: format!("web-{number}"),
            ..pb::HostToken::default()
        }),
        ..pb::CreateTokenRequest::default()
    };
    let token = operators.create_token(request).await?.into_inner();
    wire.join(&(token.token_id, token.secret), "").await
}

/// One agent, which connects again whenever its session ends.
async fn agent(wire: Wire, certified: Certified, number: usize, connected: Arc<AtomicUsize>) {
    let mut incarnation = 0;
    loop {
        incarnation += 1;
        if let Err(error) = session(&wire, &certified, incarnation, &connected).await
            && number == 0
        {
            eprintln!("web-0: {error:#}");
        }
        // As the real agent does: those that lost their connection together do not come back together.
        let pause = 50 + (number as u64 * 7919 + incarnation * 104_729) % 1000;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn session(
    wire: &Wire,
    certified: &Certified,
    incarnation: u64,
    connected: &AtomicUsize,
) -> anyhow::Result<()> {
    let channel = wire.connect(Some(certified)).await?;
    let mut client = AgentsClient::new(channel);
    let (out, messages) = mpsc::channel(2);
    let mut report = pb::HostReport {
        incarnation,
        sequence: 1,
        phase: Some(pb::Phase { kind: pb::PhaseKind::Idle.into(), ..pb::Phase::default() }),
        ..pb::HostReport::default()
    };
    let hello = pb::Hello { protocol: 1, report: Some(report.clone()), ..pb::Hello::default() };
    let message = |message| pb::AgentMessage { message: Some(message) };
    out.send(message(pb::agent_message::Message::Hello(hello))).await?;
    let mut inbound = client.session(ReceiverStream::new(messages)).await?.into_inner();
    inbound.message().await?.context("no welcome")?;
    connected.fetch_add(1, Ordering::SeqCst);
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            received = inbound.message() => match received {
                Ok(Some(_)) => {}
                _ => break,
            },
            _ = beat.tick() => {
                report.sequence += 1;
                let beat = message(pb::agent_message::Message::Report(report.clone()));
                if out.send(beat).await.is_err() {
                    break;
                }
            }
        }
    }
    connected.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}
