//! A constant load on HTTP servers, and an honest count of what came back.
//!
//! The loop is open: requests start on a schedule whether or not earlier ones have been answered, so that
//! a stall shows as latency and not as fewer requests. Half of the requests use kept-alive connections.
//! A kept-alive connection that the server closed *before a single byte of an answer* is what every
//! browser repeats on a new connection; it is counted by itself (`repeated`) and never hidden.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// No request may take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A response of more than this is cut off: the pages of the tests are small.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// What came back since the counts were last taken.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Requests that were begun and have ended.
    pub sent: u64,
    /// Requests without an answer, or with a status of 400 and more.
    pub failed: u64,
    /// Requests on a kept-alive connection that was closed before an answer, repeated on a new one.
    pub repeated: u64,
    /// By release, as the answer's `X-Release` header names it.
    pub by_release: BTreeMap<String, u64>,
    /// What the first failures were, at most 5.
    pub failures: Vec<String>,
    latencies_us: Vec<u64>,
}

impl Counts {
    /// The latency below which this share (0 to 1) of the requests was answered.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (sorted.len() as f64 * share) as usize;
        Duration::from_micros(sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0))
    }

    /// Adds another phase's counts.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.repeated += other.repeated;
        for (release, count) in &other.by_release {
            *self.by_release.entry(release.clone()).or_default() += count;
        }
        self.failures.extend(other.failures.iter().take(5 - self.failures.len().min(5)).cloned());
        self.latencies_us.extend(&other.latencies_us);
    }
}

/// A load that is running; stopped when dropped.
pub struct Load {
    counts: Arc<Mutex<Counts>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Begins to send `rate_per_s` requests for `path`, in turn to each of `targets` (`host:port`).
    ///
    /// # Errors
    /// If no runtime can be started.
    pub fn start(targets: Vec<String>, path: &str, rate_per_s: u32) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (stop, stopped) = oneshot::channel();
        let (shared, path) = (Arc::clone(&counts), path.to_owned());
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let targets: Vec<_> =
                    targets.into_iter().map(|address| Arc::new(Target::new(address, &path))).collect();
                tokio::select! {
                    () = send_forever(&targets, rate_per_s, &shared) => {}
                    _ = stopped => {}
                }
                // Requests under way still count.
                let drained = async {
                    while targets.iter().any(|target| Arc::strong_count(target) > 1) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                let _ = tokio::time::timeout(REQUEST_TIMEOUT, drained).await;
            });
        });
        Ok(Self { counts, stop: Some(stop), thread: Some(thread) })
    }

    /// The counts since they were last taken.
    #[must_use]
    pub fn take(&self) -> Counts {
        std::mem::take(&mut self.counts.lock().expect("no holder of this lock panics"))
    }

    /// Stops sending, waits for the requests under way, and gives the last counts.
    #[must_use]
    pub fn stop(mut self) -> Counts {
        self.finish();
        self.take()
    }

    fn finish(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Target {
    address: String,
    keep_alive: String,
    close: String,
    idle: Mutex<VecDeque<TcpStream>>,
}

impl Target {
    fn new(address: String, path: &str) -> Self {
        let request = |connection| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: {connection}\r\nUser-Agent: landfall-load\r\n\r\n"
            )
        };
        let (keep_alive, close) = (request("keep-alive"), request("close"));
        Self { address, keep_alive, close, idle: Mutex::default() }
    }
}

async fn send_forever(targets: &[Arc<Target>], rate_per_s: u32, counts: &Arc<Mutex<Counts>>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate_per_s.max(1));
    let mut number = 0_usize;
    loop {
        ticks.tick().await;
        let target = Arc::clone(&targets[number % targets.len()]);
        let kept = (number / targets.len()).is_multiple_of(2);
        number += 1;
        let counts = Arc::clone(counts);
        tokio::spawn(async move {
            let began = Instant::now();
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, one_request(&target, kept)).await;
            let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut counts = counts.lock().expect("no holder of this lock panics");
            counts.sent += 1;
            counts.latencies_us.push(took_us);
            let failure = match answer {
                Err(_) => Some(format!("{}: no answer within {REQUEST_TIMEOUT:?}", target.address)),
                Ok(Err(error)) => Some(format!("{}: {error}", target.address)),
                Ok(Ok(answer)) => {
                    counts.repeated += u64::from(answer.repeated);
                    *counts.by_release.entry(answer.release).or_default() += 1;
                    (answer.status >= 400).then(|| format!("{}: status {}", target.address, answer.status))
                }
            };
            if let Some(failure) = failure {
                counts.failed += 1;
                if counts.failures.len() < 5 {
                    counts.failures.push(failure);
                }
            }
        });
    }
}

struct Answer {
    status: u16,
    release: String,
    repeated: bool,
}

async fn one_request(target: &Target, kept: bool) -> io::Result<Answer> {
    let request = if kept { &target.keep_alive } else { &target.close };
    let idle =
        if kept { target.idle.lock().expect("no holder of this lock panics").pop_front() } else { None };
    let mut repeated = false;
    if let Some(mut stream) = idle {
        match exchange(&mut stream, request).await {
            Ok(response) => return Ok(finish(target, kept, stream, &response, false)),
            Err(Broken { before_answer: true, .. }) => repeated = true,
            Err(Broken { error, .. }) => return Err(error),
        }
    }
    let mut stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    let response = exchange(&mut stream, request).await.map_err(|broken| broken.error)?;
    Ok(finish(target, kept, stream, &response, repeated))
}

fn finish(target: &Target, kept: bool, stream: TcpStream, response: &Response, repeated: bool) -> Answer {
    if kept && response.reusable {
        target.idle.lock().expect("no holder of this lock panics").push_back(stream);
    }
    Answer { status: response.status, release: response.release.clone(), repeated }
}

struct Broken {
    before_answer: bool,
    error: io::Error,
}

struct Response {
    status: u16,
    release: String,
    reusable: bool,
}

async fn exchange(stream: &mut TcpStream, request: &str) -> Result<Response, Broken> {
    let early = |error| Broken { before_answer: true, error };
    stream.write_all(request.as_bytes()).await.map_err(early)?;
    let mut received = Vec::with_capacity(16 * 1024);
    let mut chunk = [0; 16 * 1024];
    let mut head: Option<(usize, Head)> = None;
    loop {
        if let Some((body_at, head)) = &head
            && let Some(length) = head.content_length
            && received.len() >= body_at + length
        {
            return Ok(Response {
                status: head.status,
                release: head.release.clone(),
                reusable: head.keep_alive,
            });
        }
        let count = match stream.read(&mut chunk).await {
            Ok(count) => count,
            Err(error) => return Err(Broken { before_answer: received.is_empty(), error }),
        };
        if count == 0 {
            return match head {
                // Without a length, the end of the connection is the end of the body.
                Some((_, head)) if head.content_length.is_none() => {
                    Ok(Response { status: head.status, release: head.release, reusable: false })
                }
                _ => Err(Broken {
                    before_answer: received.is_empty(),
                    error: io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "connection closed in the middle of an answer",
                    ),
                }),
            };
        }
        received.extend_from_slice(&chunk[..count]);
        if received.len() > MAX_RESPONSE_BYTES {
            let error = io::Error::other("the answer is larger than 4 MiB");
            return Err(Broken { before_answer: false, error });
        }
        if head.is_none()
            && let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let parsed =
                Head::parse(&received[..end]).map_err(|error| Broken { before_answer: false, error })?;
            head = Some((end + 4, parsed));
        }
    }
}

struct Head {
    status: u16,
    release: String,
    content_length: Option<usize>,
    keep_alive: bool,
}

impl Head {
    fn parse(bytes: &[u8]) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1");
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.split("\r\n");
        let status_line = lines.next().ok_or_else(invalid)?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(invalid)?;
        let mut head = Self { status, release: String::new(), content_length: None, keep_alive: true };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.content_length = value.parse().ok(),
                "connection" => head.keep_alive = !value.eq_ignore_ascii_case("close"),
                "x-release" => head.release = value.to_owned(),
                _ => {}
            }
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    /// A server that answers `answers` requests on each connection and then closes it without a word.
    fn server(answers: usize, status: &'static str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    for _ in 0..answers {
                        if stream.read(&mut buffer).unwrap_or(0) == 0 {
                            return;
                        }
                        let answer =
                            format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nX-Release: v1\r\n\r\nok");
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn run(targets: Vec<String>) -> Counts {
        let load = Load::start(targets, "/", 200).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        load.stop()
    }

    #[test]
    fn answers_are_counted_by_release() {
        let counts = run(vec![server(usize::MAX, "200 OK")]);
        assert!(counts.sent > 20 && counts.failed == 0 && counts.repeated == 0, "{counts:?}");
        assert_eq!(counts.by_release["v1"], counts.sent);
        assert!(counts.latency(0.99) >= counts.latency(0.5));
    }

    #[test]
    fn a_closed_kept_connection_is_repeated_and_told() {
        let counts = run(vec![server(2, "200 OK")]);
        assert!(counts.failed == 0 && counts.repeated > 0, "{counts:?}");
    }

    #[test]
    fn an_error_status_and_a_dead_port_are_failures() {
        let counts = run(vec![server(usize::MAX, "502 Bad Gateway")]);
        assert_eq!(counts.failed, counts.sent, "{counts:?}");
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let counts = run(vec![dead]);
        assert!(counts.failed == counts.sent && counts.failures.len() == 5, "{counts:?}");
    }
}
