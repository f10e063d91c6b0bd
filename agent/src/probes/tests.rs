use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::steps::{Identity, Words};
use landfall_common::manifest::Headers;

fn context() -> StepContext {
    StepContext {
        identity: Identity {
            application: "tenants".parse().unwrap(),
            environment: "production".parse().unwrap(),
            release: "v1".parse().unwrap(),
        },
        words: Words::default(),
        directory: Path::new("/").to_owned(),
        home: Path::new("/").to_owned(),
        log: None,
        fence: None,
        group_note: None,
        deadline: None,
        cancel: Default::default(),
    }
}

fn check(probe: Probe) -> Check {
    let ms = Duration::from_millis;
    Check { name: "health".parse().unwrap(), probe, interval: ms(1000), timeout: ms(400) }
}

/// A server that reads a request and writes this; nothing means that it never answers.
async fn server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer).await;
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        }
    });
    address
}

async fn ask(answer: &'static [u8], status: u16, contains: Option<&str>) -> Result<(), String> {
    let url = format!("http://{}/healthz?x=1", server(answer).await);
    probe(
        &check(Probe::Http {
            url,
            status,
            contains: contains.map(str::to_owned),
            headers: Headers::default(),
        }),
        &context(),
    )
    .await
}

#[tokio::test]
async fn an_answer_is_health_only_with_the_status_and_the_text_that_were_asked_for() {
    let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";
    assert_eq!(ask(fine, 200, None).await, Ok(()));
    assert_eq!(ask(fine, 200, Some("well")).await, Ok(()));
    assert!(ask(fine, 200, Some("ill")).await.unwrap_err().contains("but without \"ill\""));
    assert!(ask(fine, 204, None).await.unwrap_err().contains("answered 200, expected 204"));
    assert!(ask(b"HTTP/1.1 503 No\r\n\r\n", 200, None).await.unwrap_err().contains("503"));
    let word = ask(b"HTTP/1.1 503 No\r\nContent-Length: 30\r\n\r\nno MAIL_FROM\x1b\nmore", 200, None).await;
    assert!(
        word.as_ref().unwrap_err().ends_with("answered 503, expected 200: no MAIL_FROM\\u{1b}"),
        "{word:?}"
    );
    assert!(ask(b"220 smtp\r\n", 200, None).await.unwrap_err().contains("not HTTP"));
}

#[tokio::test]
async fn an_application_that_knows_its_hosts_and_wants_https_is_asked_as_its_proxy_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/accounts/login/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let has = |line: &str| request.lines().filter(|found| *found == line).count() == 1;
            let answer = match (has("Host: tenants.example.org"), has("X-Forwarded-Proto: https")) {
                (false, _) => "HTTP/1.1 400 Bad Request\r\n\r\n",
                (true, false) => "HTTP/1.1 301 Moved Permanently\r\n\r\n",
                (true, true) => "HTTP/1.1 200 OK\r\n\r\n",
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    for (headers, expected) in [
        (&[][..], Err("answered 400, expected 200")),
        (&[("Host", "tenants.example.org")], Err("answered 301, expected 200")),
        (&[("Host", "tenants.example.org"), ("X-Forwarded-Proto", "https")], Ok(())),
    ] {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let headers = Headers::try_from(headers.collect::<std::collections::BTreeMap<_, _>>()).unwrap();
        let http = check(Probe::Http { url: url.clone(), status: 200, contains: None, headers });
        match (probe(&http, &context()).await, expected) {
            (Ok(()), Ok(())) => {}
            (Err(said), Err(word)) => assert!(said.contains(word), "{said}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_check_that_never_answers_has_failed_at_its_timeout() {
    let error = ask(b"", 200, None).await.unwrap_err();
    assert!(error.contains("gave no answer within 400ms"), "{error}");
    let command = vec!["sleep".to_owned(), "60".to_owned()];
    let error = probe(&check(Probe::Exec { command }), &context()).await.unwrap_err();
    assert!(error.contains("gave no answer within 400ms"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_told_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tcp = check(Probe::Tcp { address: address.clone() });
    assert_eq!(probe(&tcp, &context()).await, Ok(()));
    drop(listener);
    assert!(probe(&tcp, &context()).await.unwrap_err().contains(&address));
    let url = format!("http://{address}/");
    let http = check(Probe::Http { url, status: 200, contains: None, headers: Headers::default() });
    assert!(probe(&http, &context()).await.unwrap_err().contains("cannot connect"));
}

#[tokio::test]
async fn a_command_is_health_if_it_exits_with_0_and_its_last_line_is_told_if_not() {
    let run = |script: &str| {
        let command = vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        check(Probe::Exec { command })
    };
    assert_eq!(probe(&run("exit 0"), &context()).await, Ok(()));
    let error = probe(&run("echo queue is stuck; exit 3"), &context()).await.unwrap_err();
    assert_eq!(error, "the command exited with code 3: queue is stuck");
}

#[tokio::test]
async fn an_endless_answer_is_read_within_bounds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let url = format!("http://{address}/");
    let check =
        check(Probe::Http { url, status: 200, contains: Some("y".to_owned()), headers: Headers::default() });
    assert!(probe(&check, &context()).await.unwrap_err().contains("but without"));
}

async fn fetched(answer: &'static [u8], max_bytes: usize) -> Result<String, String> {
    let address = server(answer).await;
    let fetched = fetch(&format!("http://{address}/metrics"), max_bytes).await;
    let text = fetched.map(|body| String::from_utf8(body).unwrap());
    text.map_err(|why| why.replace(&address, "host"))
}

#[tokio::test]
async fn what_is_fetched_is_whole_and_bounded_and_no_redirect_is_followed() {
    let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n";
    assert_eq!(fetched(whole, 100).await.unwrap(), "a 1\n");
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n";
    assert_eq!(fetched(chunked, 100).await.unwrap(), "a 1\n");
    let to_the_end = b"HTTP/1.1 200 OK\r\n\r\na 1\n";
    assert_eq!(fetched(to_the_end, 100).await.unwrap(), "a 1\n");
    for (answer, why) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n"[..],
            "http://host/metrics: the answer broke off",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na ",
            "http://host/metrics: the answer broke off",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "http://host/metrics answered 302, expected 200"),
        (b"HTTP/1.1 200 OK\r\n\r\nabcdefghij\n", "http://host/metrics answered with more than 10 bytes"),
    ] {
        assert_eq!(fetched(answer, 10).await.unwrap_err(), why);
    }
}
