use std::sync::Arc;

use landfall_common::assignment::ReleaseRef;
use landfall_common::strategy::Ask;
use landfall_common::{AppName, Duration, EnvName, GateName, ReleaseCounter, ReleaseName, RolloutId};
use landfall_controller_core::record::Place;
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server that answers one question.
struct Server {
    port: u16,
    /// What it was asked.
    seen: JoinHandle<String>,
}

async fn serves(reply: Vec<u8>, tls: Option<TlsAcceptor>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        match tls {
            None => serve(stream, &reply).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => serve(stream, &reply).await,
                Err(error) => format!("no handshake: {error}"),
            },
        }
    });
    Server { port, seen }
}

/// Reads a question to the end of its JSON, and answers.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: &[u8]) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"}") && (seen.is_empty() || seen.starts_with(b"POST")) {
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => seen.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    // Whoever asked may have gone away.
    let _ = stream.write_all(reply).await;
    if reply.is_empty() {
        // It says nothing, for as long as anybody waits.
        let _ = stream.read(&mut [0; 1]).await;
    }
    let _ = stream.shutdown().await;
    String::from_utf8_lossy(&seen).into_owned()
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn access(url: &str, token: Option<&Path>, ca: Option<&Path>) -> GateAccess {
    GateAccess {
        url: url.parse().unwrap(),
        token_file: token.map(Path::to_owned),
        ca_file: ca.map(Path::to_owned),
    }
}

fn question(url: &str, timeout: Duration) -> Question {
    let place = Place {
        application: AppName::new("tenants").unwrap(),
        environment: EnvName::new("production").unwrap(),
    };
    let release = ReleaseRef {
        name: ReleaseName::new("v1.5").unwrap(),
        counter: ReleaseCounter(7),
        digest: Sha256::of(b"v1.5"),
        length: 100,
    };
    Question {
        number: 1,
        ask: Ask { url: url.parse().unwrap(), every: Duration::from_secs(10), timeout },
        allowed_by: 0,
        about: About {
            place,
            gate: GateName::new("slo").unwrap(),
            release,
            rollout: RolloutId::new("r-1").unwrap(),
            batch: 2,
            batches: 3,
        },
    }
}

/// What comes of a question that is answered with these bytes.
async fn answered(reply: Vec<u8>) -> Result<Word, String> {
    let server = serves(reply, None).await;
    let base = format!("http://127.0.0.1:{}/gates", server.port);
    let asker = Asker::open(&[access(&base, None, None)]).unwrap();
    let came = asker.ask(&question(&format!("{base}/slo"), Duration::from_secs(20))).await;
    server.seen.await.unwrap();
    came
}

#[tokio::test]
async fn an_answer_is_a_word_and_a_reason() {
    let word = |verdict, reason: &str| Ok(Word { verdict, reason: reason.to_owned() });
    let full = r#"{"state": "closed", "reason": "the budget is used up"}"#;
    assert_eq!(answered(ok(full)).await, word(GateVerdict::Closed, "the budget is used up"));
    assert_eq!(answered(ok(r#"{"state":"open"}"#)).await, word(GateVerdict::Open, ""));
    assert_eq!(answered(ok(r#"{"state":"failed"}"#)).await, word(GateVerdict::Failed, ""));
    // Its end may be told by the end of the connection, or by chunks.
    let by_end = b"HTTP/1.1 200 OK\r\n\r\n{\"state\":\"open\"}".to_vec();
    assert_eq!(answered(by_end).await, word(GateVerdict::Open, ""));
    let chunks =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"state\":\"open\"}\r\n0\r\n\r\n";
    assert_eq!(answered(chunks.to_vec()).await, word(GateVerdict::Open, ""));
}

#[tokio::test]
async fn anything_else_is_no_answer() {
    let head = |status: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: 16\r\n\r\n{{\"state\":\"open\"}}").into_bytes()
    };
    let large = format!("{{\"state\":\"open\",\"reason\":\"{}\"}}", "a".repeat(MAX_ANSWER));
    let mut short = ok(r#"{"state":"open","reason":"all is well"}"#);
    short.truncate(short.len() - 10);
    let redirect =
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
    let cases = [
        head("201 Created"),
        head("401 Unauthorized"),
        head("503 Service Unavailable"),
        redirect,
        ok(&large),
        short,
        ok(""),
        ok("open"),
        ok("true"),
        ok(r#"{"state":"OPEN"}"#),
        ok(r#"{"reason":"well"}"#),
        ok(r#"{"state":"open","state":"closed"}"#),
        ok(r#"{"state":"open","reson":"well"}"#),
        ok(r#"{"state":"open"}{"state":"closed"}"#),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nX: ".to_vec(),
    ];
    let mut told = Vec::new();
    for reply in cases {
        told.push(answered(reply).await.unwrap_err());
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    it answered 201
    it answered 401
    it answered 503
    it answered 302, and no redirect is followed
    its answer has more than 16384 bytes
    its answer broke off: error reading a body from connection: end of file before message length reached
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: EOF while parsing a value at line 1 column 0
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: expected value at line 1 column 1
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: invalid type: boolean `true`, expected struct Answer at line 1 column 4
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: unknown variant `OPEN`, expected one of `open`, `closed`, `failed` at line 1 column 15
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: missing field `state` at line 1 column 17
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: duplicate field `state` at line 1 column 23
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: unknown field `reson`, expected `state` or `reason` at line 1 column 23
    its answer is not {"state": "open"|"closed"|"failed", "reason": "…"}: trailing characters at line 1 column 17
    no answer: invalid HTTP version parsed
    no answer: connection closed before message completed
    "#);
}

#[tokio::test]
async fn whoever_does_not_answer_in_time_has_not_answered() {
    let server = serves(Vec::new(), None).await;
    let base = format!("http://127.0.0.1:{}/", server.port);
    let asker = Asker::open(&[access(&base, None, None)]).unwrap();
    let came = asker.ask(&question(&base, Duration::from_secs(1))).await;
    assert_eq!(came.unwrap_err(), "no answer within 1s");
    // The question has ended with that: nothing holds the connection.
    server.seen.await.unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let base = format!("http://127.0.0.1:{nobody}/");
    let asker = Asker::open(&[access(&base, None, None)]).unwrap();
    let came = asker.ask(&question(&base, Duration::from_secs(20))).await.unwrap_err();
    assert!(came.starts_with("cannot connect: "), "{came}");
}

#[tokio::test]
async fn what_is_asked_names_what_it_is_about_and_shows_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let server = serves(ok(r#"{"state":"open"}"#), None).await;
    let base = format!("http://127.0.0.1:{}/gates", server.port);
    let asker = Asker::open(&[access(&base, Some(&file), None)]).unwrap();
    // It may have been replaced since.
    std::fs::write(&file, "s3cr3t\n").unwrap();
    asker.ask(&question(&format!("{base}/slo?of=us"), Duration::from_secs(20))).await.unwrap();
    let seen = server.seen.await.unwrap().replace(&server.port.to_string(), "PORT").replace('\r', "");
    let seen = seen.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(seen, @r#"
    POST /gates/slo?of=us HTTP/1.1
    host: 127.0.0.1:PORT
    content-type: application/json
    accept: application/json
    user-agent: landfall-controller/VERSION
    authorization: Bearer s3cr3t
    content-length: 210

    {"application":"tenants","environment":"production","gate":"slo","release":"v1.5","digest":"23a9684d597d9018d0a56ce0dc74cace472ee8e15c5db2c6a7b220f796d146ed","rollout":"r-1","batch":2,"batches":3,"watch":false}
    "#);
    std::fs::write(&file, "two words\n").unwrap();
    let came = asker.ask(&question(&base, Duration::from_secs(20))).await.unwrap_err();
    assert!(came.ends_with("holds no token: one word of ASCII letters"), "{came}");
    assert!(Asker::open(&[access(&base, Some(&file), None)]).is_err());
    assert!(Asker::open(&[access(&base, Some(&directory.path().join("none")), None)]).is_err());
}

#[tokio::test]
async fn nobody_is_asked_beside_what_is_allowed() {
    let asker = Asker::open(&[access("http://127.0.0.1:1/gates", None, None)]).unwrap();
    for url in ["http://127.0.0.1:1/", "http://127.0.0.1:2/gates", "http://127.0.0.1:1/gates-too"] {
        let came = asker.ask(&question(url, Duration::from_secs(20))).await;
        assert_eq!(came.unwrap_err(), "controller.toml does not allow that it is asked");
    }
}

/// An authority of its own, and a server that it vouches for by this name.
fn authority(directory: &Path, name: &str) -> (PathBuf, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let file = directory.join(format!("{name}.pem"));
    std::fs::write(&file, ca.pem()).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der())),
        )
        .unwrap();
    (file, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn over_tls_only_who_is_vouched_for_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, good) = authority(directory.path(), "127.0.0.1");
    let (others, other_name) = authority(directory.path(), "localhost");
    let open = || ok(r#"{"state":"open"}"#);
    let ask = async |tls: Option<TlsAcceptor>, ca: &Path| {
        let server = serves(open(), tls).await;
        let base = format!("https://127.0.0.1:{}/", server.port);
        let asker = Asker::open(&[access(&base, None, Some(ca))]).unwrap();
        let came = asker.ask(&question(&base, Duration::from_secs(20))).await;
        (came, server.seen.await.unwrap())
    };
    let (came, _) = ask(Some(good.clone()), &ca).await;
    assert_eq!(came.unwrap().verdict, GateVerdict::Open);
    for (tls, ca) in [(Some(good), &others), (Some(other_name), &others), (None, &ca)] {
        let (came, seen) = ask(tls, ca).await;
        assert!(came.unwrap_err().starts_with("cannot connect: "));
        assert!(!seen.contains("tenants"), "{seen}");
    }
    std::fs::write(&ca, "nothing of the kind").unwrap();
    let empty = Asker::open(&[access("https://127.0.0.1/", None, Some(&ca))]);
    assert!(empty.err().unwrap().to_string().ends_with("has no certificate"));
}
