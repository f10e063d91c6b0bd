//! A constant load on HTTP servers, and an honest count of what came back.
//!
//! The loop is open: requests start on a schedule whether or not earlier ones have been answered, so that
//! a stall shows as latency and not as fewer requests; a latency counts from when its request was to start, also
//! where this program itself was late. Half of the requests use kept-alive connections.
//! A kept-alive connection that the server closed *before a single byte of an answer* is what every
//! browser repeats on a new connection; it is counted by itself (`repeated`) and never hidden.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

/// No request may take longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to close a connection that it was asked to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A response of more than this is cut off: the pages of the tests are small.
const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// One request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was to be sent.
    pub due: Instant,
    /// From then to its end.
    pub took: Duration,
    /// Whether it was to go over a kept-alive connection.
    pub kept: bool,
    /// How it ended.
    pub end: End,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With an answer, and a status below 400.
    Answered,
    /// The same, on a second connection: the kept-alive one was closed before an answer.
    Repeated,
    /// Without an answer, or with a status of 400 and more.
    Failed,
}

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
    /// Of each of those releases, when the first and when the last of its answers came.
    pub spans: BTreeMap<String, (Instant, Instant)>,
    /// What the first failures were, at most 5.
    pub failures: Vec<String>,
    /// Each request that has ended, in that order.
    pub samples: Vec<Sample>,
}

impl Counts {
    /// The latency below which this share (0 to 1) of the requests was answered.
    #[must_use]
    pub fn latency(&self, share: f64) -> Duration {
        let mut sorted: Vec<_> = self.samples.iter().map(|sample| sample.took).collect();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index"
        )]
        let index = (sorted.len() as f64 * share) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// Adds another phase's counts.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.repeated += other.repeated;
        for (release, count) in &other.by_release {
            *self.by_release.entry(release.clone()).or_default() += count;
        }
        for (release, (first, last)) in &other.spans {
            let span = self.spans.entry(release.clone()).or_insert((*first, *last));
            *span = (span.0.min(*first), span.1.max(*last));
        }
        self.failures.extend(other.failures.iter().take(5 - self.failures.len().min(5)).cloned());
        self.samples.extend(&other.samples);
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

/// Tells when each request is due. A thread of its own: the runtime's clock knows milliseconds only.
fn pace(rate_per_s: u32) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let began = Instant::now();
        for number in 0.. {
            let due = began + offset(number, rate_per_s);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    receiver
}

/// When the request with this number is due, counted from the first; exact over any time.
fn offset(number: u64, rate_per_s: u32) -> Duration {
    let rate = u64::from(rate_per_s.max(1));
    Duration::from_secs(number / rate) + Duration::from_nanos(number % rate * 1_000_000_000 / rate)
}

async fn send_forever(targets: &[Arc<Target>], rate_per_s: u32, counts: &Arc<Mutex<Counts>>) {
    let mut schedule = pace(rate_per_s);
    let mut number = 0_usize;
    while let Some(due) = schedule.recv().await {
        let target = Arc::clone(&targets[number % targets.len()]);
        let kept = (number / targets.len()).is_multiple_of(2);
        number += 1;
        let counts = Arc::clone(counts);
        tokio::spawn(async move {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, one_request(&target, kept)).await;
            let took = due.elapsed();
            let mut counts = counts.lock().expect("no holder of this lock panics");
            counts.sent += 1;
            let mut end = End::Answered;
            let failure = match answer {
                Err(_) => Some(format!("{}: no answer within {REQUEST_TIMEOUT:?}", target.address)),
                Ok(Err(error)) => Some(format!("{}: {error}", target.address)),
                Ok(Ok(answer)) => {
                    if answer.repeated {
                        counts.repeated += 1;
                        end = End::Repeated;
                    }
                    let now = Instant::now();
                    counts.spans.entry(answer.release.clone()).or_insert((now, now)).1 = now;
                    *counts.by_release.entry(answer.release).or_default() += 1;
                    (answer.status >= 400).then(|| format!("{}: status {}", target.address, answer.status))
                }
            };
            if let Some(failure) = failure {
                counts.failed += 1;
                end = End::Failed;
                if counts.failures.len() < 5 {
                    counts.failures.push(failure);
                }
            }
            counts.samples.push(Sample { due, took, kept, end });
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
    } else {
        tokio::spawn(let_server_close(stream));
    }
    Answer { status: response.status, release: response.release.clone(), repeated }
}

/// Whoever closes a connection first keeps its port for a minute, and this side would run out of ports after some
/// 28,000 requests.
async fn let_server_close(mut stream: TcpStream) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, stream.read(&mut [0; 64])).await;
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
    fn the_schedule_keeps_its_rate_over_any_time() {
        assert_eq!(offset(0, 3), Duration::ZERO);
        assert_eq!(offset(1, 3), Duration::from_nanos(333_333_333));
        assert_eq!(offset(3 * 86_400, 3), Duration::from_secs(86_400));
        assert_eq!(offset(5_000_000_000, 1_000), Duration::from_secs(5_000_000));
        assert_eq!(offset(7, 0), Duration::from_secs(7));
    }

    #[test]
    fn answers_are_counted_by_release() {
        let counts = run(vec![server(usize::MAX, "200 OK")]);
        assert!(counts.sent > 20 && counts.failed == 0 && counts.repeated == 0, "{counts:?}");
        assert_eq!(counts.by_release["v1"], counts.sent);
        let (first, last) = counts.spans["v1"];
        let mut twice = Counts::default();
        twice.add(&Counts { spans: [("v1".to_owned(), (last, last))].into(), ..Counts::default() });
        twice.add(&counts);
        assert!(first < last && twice.spans["v1"] == (first, last), "{:?}", twice.spans);
        assert!(counts.latency(0.99) >= counts.latency(0.5));
        assert_eq!(counts.samples.len() as u64, counts.sent);
        assert!(counts.samples.iter().all(|sample| sample.end == End::Answered));
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
