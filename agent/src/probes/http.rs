//! The smallest HTTP/1.1 client that a health check and a reading of metrics need: one `GET`, no redirects, no TLS, bounded.

use std::time::Duration;

use http::Uri;
use landfall_common::manifest::Headers;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::{self, Head};

/// Head and body are read up to here each; what a check looks for must come before.
const MAX_BYTES: usize = 64 * 1024;

/// A body comes with its head or right after it.
const WORD_TIMEOUT: Duration = Duration::from_millis(100);

pub(super) async fn ask(
    url: &str,
    expected: u16,
    contains: Option<&str>,
    headers: &Headers,
) -> Result<(), String> {
    let (mut stream, mut answer, head) = begin(url, headers).await?;
    if head.status != expected {
        // What it says is of use to a person, and no reason to wait: the answer itself was no.
        let rest = async {
            while !answer::has_first_line(&head, &answer)
                && more(&mut stream, &mut answer).await.is_ok_and(|count| count > 0)
            {}
        };
        let _ = timeout(WORD_TIMEOUT, rest).await;
        let word = answer::first_line(&head, &answer);
        return Err(format!("{url} answered {}, expected {expected}{word}", head.status));
    }
    let Some(wanted) = contains else { return Ok(()) };
    while answer.len() < head.body_at + head.length.unwrap_or(MAX_BYTES).min(MAX_BYTES)
        && !head.ends(&answer)
        && more(&mut stream, &mut answer).await.map_err(|error| said(url, "the answer broke off", error))? > 0
    {
    }
    let body = head.body(&answer);
    if String::from_utf8_lossy(&body).contains(wanted) {
        Ok(())
    } else {
        Err(format!("{url} answered {}, but without {wanted:?}", head.status))
    }
}

/// All that is answered with status 200, which has to be whole and to have no more bytes than these.
pub(super) async fn fetch(url: &str, max_bytes: usize) -> Result<Vec<u8>, String> {
    let (mut stream, mut answer, head) = begin(url, &Headers::default()).await?;
    if head.status != 200 {
        return Err(format!("{url} answered {}, expected 200", head.status));
    }
    loop {
        if let Some(body) = head.whole_body(&answer) {
            return Ok(body);
        }
        if answer.len() - head.body_at > max_bytes {
            return Err(format!("{url} answered with more than {max_bytes} bytes"));
        }
        let count = more(&mut stream, &mut answer).await;
        if count.map_err(|error| said(url, "the answer broke off", error))? == 0 {
            // Without a length, the end of the connection is the end of the answer.
            return match head.ends_with_connection() {
                true => Ok(head.body(&answer)),
                false => Err(format!("{url}: the answer broke off")),
            };
        }
    }
}

fn said(url: &str, what: &str, error: std::io::Error) -> String {
    format!("{url}: {what}: {error}")
}

/// Asks, and reads as far as the end of the head.
async fn begin(url: &str, headers: &Headers) -> Result<(TcpStream, Vec<u8>, Head), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url:?} is not a URL of the form http://host:port/path"));
    };
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let path = uri.path_and_query().map_or("/", |path| path.as_str());

    let connected = TcpStream::connect((host, port)).await;
    let mut stream = connected.map_err(|error| said(url, "cannot connect", error))?;
    let request = headers.get(path, authority.as_str());
    stream.write_all(request.as_bytes()).await.map_err(|error| said(url, "cannot ask", error))?;

    let mut answer = Vec::new();
    loop {
        if let Some(head) = Head::parse(&answer).map_err(|why| format!("{url}: {why}"))? {
            return Ok((stream, answer, head));
        }
        if answer.len() >= MAX_BYTES {
            return Err(format!("{url}: the head of the answer has more than {MAX_BYTES} bytes"));
        }
        if more(&mut stream, &mut answer).await.map_err(|error| said(url, "no answer", error))? == 0 {
            return Err(format!("{url}: the connection was closed before an answer"));
        }
    }
}

async fn more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0; 8 * 1024];
    let count = stream.read(&mut buffer).await?;
    answer.extend_from_slice(&buffer[..count]);
    Ok(count)
}
