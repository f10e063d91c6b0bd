//! The smallest HTTP/1.1 client that a health check needs: one `GET`, no redirects, no TLS, bounded.

use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Head and body are read up to here each; what a check looks for must come before.
const MAX_BYTES: usize = 64 * 1024;

pub(super) async fn ask(url: &str, expected: u16, contains: Option<&str>) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url:?} is not a URL of the form http://host:port/path"));
    };
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let said = |what: &str, error: std::io::Error| format!("{url}: {what}: {error}");

    let mut stream = TcpStream::connect((host, port)).await.map_err(|error| said("cannot connect", error))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: landfall\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        authority.as_str()
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| said("cannot ask", error))?;

    let mut answer = Vec::new();
    let head = loop {
        if let Some(head) = Head::parse(&answer).map_err(|why| format!("{url}: {why}"))? {
            break head;
        }
        if answer.len() >= MAX_BYTES {
            return Err(format!("{url}: the head of the answer has more than {MAX_BYTES} bytes"));
        }
        if more(&mut stream, &mut answer).await.map_err(|error| said("no answer", error))? == 0 {
            return Err(format!("{url}: the connection was closed before an answer"));
        }
    };
    if head.status != expected {
        return Err(format!("{url} answered {}, expected {expected}", head.status));
    }
    let Some(wanted) = contains else { return Ok(()) };
    while answer.len() < head.body_at + head.length.unwrap_or(MAX_BYTES).min(MAX_BYTES)
        && !head.ends(&answer)
        && more(&mut stream, &mut answer).await.map_err(|error| said("the answer broke off", error))? > 0
    {
    }
    let body = head.body(&answer);
    if String::from_utf8_lossy(&body).contains(wanted) {
        Ok(())
    } else {
        Err(format!("{url} answered {}, but without {wanted:?}", head.status))
    }
}

async fn more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0; 8 * 1024];
    let count = stream.read(&mut buffer).await?;
    answer.extend_from_slice(&buffer[..count]);
    Ok(count)
}

/// What matters of the head of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    body_at: usize,
    length: Option<usize>,
    chunked: bool,
}

impl Head {
    /// Nothing while it is incomplete.
    fn parse(answer: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            let begins = &answer[..answer.len().min(5)];
            if !b"HTTP/".starts_with(begins) {
                return Err("the answer is not HTTP".to_owned());
            }
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&answer[..end]);
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split_ascii_whitespace();
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http);
        let status = status.ok_or_else(|| "the answer is not HTTP/1".to_owned())?;
        let (mut length, mut chunked) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
            if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.to_ascii_lowercase().contains("chunked");
            }
        }
        Ok(Some(Self { status, body_at: end + 4, length: length.filter(|_| !chunked), chunked }))
    }

    /// Whether a chunked body has come to its end.
    fn ends(&self, answer: &[u8]) -> bool {
        self.chunked && answer[self.body_at..].ends_with(b"0\r\n\r\n")
    }

    /// The body, with its chunks put together.
    fn body(&self, answer: &[u8]) -> Vec<u8> {
        let mut rest = &answer[self.body_at..];
        if !self.chunked {
            return rest.to_vec();
        }
        let mut body = Vec::new();
        while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
            let text = String::from_utf8_lossy(&rest[..line]).into_owned();
            let size = text.split(';').next().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
            let Some(size) = size.filter(|size| *size > 0) else { break };
            let from = (line + 2).min(rest.len());
            let to = from.saturating_add(size).min(rest.len());
            body.extend_from_slice(&rest[from..to]);
            rest = &rest[to.saturating_add(2).min(rest.len())..];
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_put_together() {
        let answer =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhea\r\n4;x=y\r\nlthy\r\n0\r\n\r\n";
        let head = Head::parse(answer).unwrap().unwrap();
        assert!(head.ends(answer));
        assert_eq!(head.body(answer), b"healthy");
    }

    #[test]
    fn what_is_not_http_is_seen_at_its_first_bytes() {
        assert!(Head::parse(b"SSH-2.0").is_err());
        assert_eq!(Head::parse(b"HTT"), Ok(None));
        assert!(Head::parse(b"HTTP/1.1 abc\r\n\r\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn rubbish_is_never_a_panic(tail in proptest::collection::vec(0u8..=255, 0..200), chunked: bool) {
            let head: &[u8] = if chunked { b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" } else { b"HTTP/1.1 200\r\n\r\n" };
            let answer = [head, &tail].concat();
            if let Ok(Some(head)) = Head::parse(&answer) {
                let _ = head.body(&answer);
                let _ = head.ends(&answer);
            }
            let _ = Head::parse(&tail);
        }
    }
}
