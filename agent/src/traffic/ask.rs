//! Asking whoever listens at an address: one connection, one `GET`, a bounded answer.

use std::time::Duration;

use landfall_common::manifest::Headers;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// Head and body together are read up to here.
const MAX_BYTES: u64 = 64 * 1024;

/// One question may take so long.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn open(address: &str) -> Result<Box<dyn Stream>, String> {
    let connecting = async {
        match address.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as Box<dyn Stream>),
            None => TcpStream::connect(address).await.map(|stream| Box::new(stream) as Box<dyn Stream>),
        }
    };
    match tokio::time::timeout(TIMEOUT, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {} s", TIMEOUT.as_secs())),
    }
}

/// Whether a connection is accepted.
pub(super) async fn connect(address: &str) -> Result<(), String> {
    open(address).await.map(drop)
}

/// The status and the body of the answer.
pub(super) async fn get(address: &str, path: &str, headers: &Headers) -> Result<(u16, String), String> {
    let mut stream = open(address).await?;
    let host = if address.starts_with("unix:") { "localhost" } else { address };
    let request = headers.get(path, host);
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_BYTES).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    };
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.get(..3)?.parse().ok());
    status.map(|status| (status, body.to_owned())).ok_or_else(|| "the answer is not HTTP/1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_asked_for_with_the_headers_of_the_definition() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let https = ("X-Forwarded-Proto".to_owned(), "https".to_owned());
        let headers = Headers::try_from(std::collections::BTreeMap::from([https])).unwrap();
        assert_eq!(get(&address, "/login", &headers).await, Ok((204, String::new())));
        let request = server.await.unwrap();
        assert!(request.contains(&format!("\r\nHost: {address}\r\nUser-Agent: landfall\r\n")), "{request}");
        assert!(request.contains("\r\nX-Forwarded-Proto: https\r\n"), "{request}");
    }
}
