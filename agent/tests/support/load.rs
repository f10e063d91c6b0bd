//! A constant load: an open loop of 200 requests a second, half of them on kept connections, every tenth
//! slow. Nothing is repeated: a request that fails has failed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const EVERY: Duration = Duration::from_millis(5);

/// A kept connection that was idle for longer is closed by the client.
const MAX_IDLE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Counts {
    answered: BTreeMap<String, u32>,
    failed: Vec<String>,
    kept: VecDeque<(TcpStream, Instant)>,
}

/// A load that runs.
pub struct Load {
    counts: Arc<Mutex<Counts>>,
    stop: tokio_util::sync::CancellationToken,
    task: JoinHandle<()>,
}

/// What became of it.
#[derive(Debug)]
pub struct Told {
    /// By release.
    pub answered: BTreeMap<String, u32>,
    pub failed: Vec<String>,
}

impl Load {
    pub fn start(address: &str) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let stop = tokio_util::sync::CancellationToken::new();
        let task = tokio::spawn(run(address.to_owned(), counts.clone(), stop.clone()));
        Self { counts, stop, task }
    }

    pub fn answered(&self) -> u32 {
        self.counts.lock().unwrap().answered.values().sum()
    }

    /// Waits until so many more were answered.
    pub async fn more(&self, count: u32) {
        let until = self.answered() + count;
        let waiting = async {
            while self.answered() < until {
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the load got no answers");
    }

    pub async fn stop(self) -> Told {
        self.stop.cancel();
        self.task.await.unwrap();
        let mut counts = self.counts.lock().unwrap();
        Told { answered: std::mem::take(&mut counts.answered), failed: std::mem::take(&mut counts.failed) }
    }
}

async fn run(address: String, counts: Arc<Mutex<Counts>>, stop: tokio_util::sync::CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0u64.. {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let (address, counts) = (address.clone(), counts.clone());
        tasks.spawn(async move {
            let keep = number % 2 == 0;
            let path = if number % 10 == 5 || number % 20 == 0 { "/slow" } else { "/" };
            let asked = tokio::time::timeout(Duration::from_secs(10), ask(&address, &counts, path, keep));
            let result = asked.await.unwrap_or_else(|_| Err("no answer for 10 s".to_owned()));
            let mut counts = counts.lock().unwrap();
            match result {
                Ok(release) => *counts.answered.entry(release).or_default() += 1,
                Err(error) => counts.failed.push(format!("request {number} {path} keep {keep}: {error}")),
            }
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn ask(address: &str, counts: &Mutex<Counts>, path: &str, keep: bool) -> Result<String, String> {
    let kept = keep.then(|| counts.lock().unwrap().kept.pop_front()).flatten();
    let mut stream = match kept.filter(|(_, since)| since.elapsed() < MAX_IDLE) {
        Some((stream, _)) => stream,
        None => TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?,
    };
    let connection = if keep { "keep-alive" } else { "close" };
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| format!("write: {error}"))?;
    let mut answer = Vec::new();
    let (head, length) = loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length =
                head.split_once("Content-Length: ").and_then(|(_, rest)| rest.lines().next()?.parse().ok());
            break (head.to_owned(), length.unwrap_or(0usize));
        }
        read_more(&mut stream, &mut answer).await?;
    };
    while answer.len() < head.len() + 4 + length {
        read_more(&mut stream, &mut answer).await?;
    }
    if !head.starts_with("HTTP/1.1 200") {
        return Err(format!("answered {}", head.lines().next().unwrap_or_default()));
    }
    if keep && head.contains("Connection: keep-alive") {
        counts.lock().unwrap().kept.push_back((stream, Instant::now()));
    }
    let body = String::from_utf8_lossy(&answer[head.len() + 4..]).into_owned();
    Ok(body.split(' ').next().unwrap_or_default().to_owned())
}

async fn read_more(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; 1024];
    match stream.read(&mut buffer).await.map_err(|error| format!("read: {error}"))? {
        0 => Err(format!("closed after {} bytes", answer.len())),
        count => {
            answer.extend_from_slice(&buffer[..count]);
            Ok(())
        }
    }
}
