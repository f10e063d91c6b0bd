//! Watching a new process for the sign that it is ready.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use landfall_common::manifest::Headers;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::socket::Private;
use crate::probes::answer::{self, Head};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// A question without an answer for this long is asked anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The status line comes first; more than this without its end is no HTTP.
const STATUS_LINE_BYTES: usize = 256;

/// What is watched.
pub(super) enum Watch {
    /// Its time decides.
    Alive,
    /// The socket named by `NOTIFY_SOCKET`. Read as long as the process lives: one that nobody reads would
    /// block it when it is full.
    Notify { socket: UnixDatagram, path: PathBuf },
    /// The private socket.
    Http(Question),
}

impl Watch {
    pub fn notify(path: &Path) -> Result<Self, String> {
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path)
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            .map_err(|error| format!("cannot bind {}: {error}", path.display()))?;
        Ok(Self::Notify { socket, path: path.to_owned() })
    }

    /// What to wait for.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Self::Alive => None,
            Self::Notify { socket, .. } => Some((socket.as_fd(), PollFlags::IN)),
            Self::Http(question) => question.interest(),
        }
    }

    /// When to look without being woken.
    pub fn wake_at(&self) -> Option<Instant> {
        match self {
            Self::Http(question) => Some(question.wake_at()),
            _ => None,
        }
    }

    /// Looks; true once the process has shown that it is ready.
    pub fn look(&mut self, now: Instant) -> bool {
        match self {
            Self::Alive => false,
            Self::Notify { socket, .. } => {
                let mut message = [0; 4096];
                let mut ready = false;
                while let Ok(count) = socket.recv(&mut message) {
                    ready |= message[..count].split(|byte| *byte == b'\n').any(|line| line == b"READY=1");
                }
                ready
            }
            Self::Http(question) => question.go_on(now),
        }
    }

    /// What the process did instead.
    pub fn instead(&self) -> Option<String> {
        match self {
            Self::Http(question) => question.last.clone(),
            _ => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let path = match self {
            Self::Notify { path, .. } => path,
            Self::Http(Question { private: Private::Unix(path), .. }) => path,
            _ => return,
        };
        let _ = std::fs::remove_file(path);
    }
}

/// `GET path`, asked again and again without ever blocking.
pub(super) struct Question {
    private: Private,
    request: Vec<u8>,
    stage: Stage,
    last: Option<String>,
    answered: bool,
}

enum Stage {
    Pause { until: Instant },
    Sending { stream: OwnedFd, since: Instant },
    Reading { stream: OwnedFd, since: Instant, answer: Vec<u8> },
}

impl Question {
    /// `host` becomes the `Host` header if `headers` have none: the shared address, since applications refuse
    /// hosts that they do not know.
    pub fn new(private: Private, path: &str, host: &str, headers: &Headers, now: Instant) -> Self {
        let request = headers.get(path, host);
        let stage = Stage::Pause { until: now };
        Self { private, request: request.into_bytes(), stage, last: None, answered: false }
    }

    fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.stage {
            Stage::Pause { .. } => None,
            Stage::Sending { stream, .. } => Some((stream.as_fd(), PollFlags::OUT)),
            Stage::Reading { stream, .. } => Some((stream.as_fd(), PollFlags::IN)),
        }
    }

    fn wake_at(&self) -> Instant {
        match &self.stage {
            Stage::Pause { until } => *until,
            Stage::Sending { since, .. } | Stage::Reading { since, .. } => *since + ANSWER_TIMEOUT,
        }
    }

    fn go_on(&mut self, now: Instant) -> bool {
        match self.try_go_on(now) {
            Ok(()) => {}
            Err(problem) => {
                self.last = Some(problem);
                self.stage = Stage::Pause { until: now + PAUSE };
            }
        }
        self.answered
    }

    /// One stage further, as far as that goes without waiting.
    fn try_go_on(&mut self, now: Instant) -> Result<(), String> {
        if !matches!(self.stage, Stage::Pause { .. }) && now >= self.wake_at() {
            if let Stage::Reading { answer, .. } = &self.stage
                && let Some(refusal) = refusal(answer)
            {
                return Err(refusal);
            }
            return Err(format!("it accepted nothing or gave no answer for {} s", ANSWER_TIMEOUT.as_secs()));
        }
        match &mut self.stage {
            Stage::Pause { until } => {
                if now >= *until {
                    let stream = self.private.connect().map_err(|error| format!("connecting: {error}"))?;
                    self.stage = Stage::Sending { stream, since: now };
                }
            }
            Stage::Sending { stream, since } => {
                match rustix::net::send(&*stream, &self.request, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                    // A request of some hundred bytes fits the buffer of a fresh connection as a whole.
                    Ok(_) => {
                        let stream = stream.try_clone().map_err(|error| format!("sending: {error}"))?;
                        self.stage = Stage::Reading { stream, since: *since, answer: Vec::new() };
                    }
                    Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => {}
                    Err(error) => return Err(format!("sending: {error}")),
                }
            }
            Stage::Reading { stream, answer, .. } => {
                let mut buffer = [0; 4096];
                let mut is_over = false;
                match rustix::net::recv(&*stream, &mut buffer, RecvFlags::DONTWAIT) {
                    Ok((0, _)) => is_over = true,
                    Ok((count, _)) => answer.extend_from_slice(&buffer[..count]),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => return Err(refusal(answer).unwrap_or_else(|| format!("reading: {error}"))),
                }
                match status(answer) {
                    None if is_over => return Err("it closed the connection without an answer".to_owned()),
                    None => {}
                    Some(Ok(200..=399)) => self.answered = true,
                    Some(Ok(_)) if is_over || is_told(answer) => {
                        return Err(refusal(answer).unwrap_or_default());
                    }
                    // Its status is not all that it says.
                    Some(Ok(_)) => {}
                    Some(Err(())) => return Err("its answer is not HTTP".to_owned()),
                }
            }
        }
        Ok(())
    }
}

impl Private {
    fn connect(&self) -> rustix::io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, result) = match self {
            Self::Tcp(SocketAddr::V4(_)) => (AddressFamily::INET, None),
            Self::Tcp(SocketAddr::V6(_)) => (AddressFamily::INET6, None),
            Self::Unix(path) => (AddressFamily::UNIX, Some(SocketAddrUnix::new(path.as_path())?)),
        };
        let stream = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let connected = match (self, result) {
            (Self::Tcp(address), _) => rustix::net::connect(&stream, address),
            (Self::Unix(_), Some(address)) => rustix::net::connect(&stream, &address),
            (Self::Unix(_), None) => Err(Errno::INVAL),
        };
        match connected {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(stream),
            Err(error) => Err(error),
        }
    }
}

/// The status of an answer: nothing while its first line is incomplete.
fn status(answer: &[u8]) -> Option<Result<u16, ()>> {
    let Some(end) = answer.iter().position(|byte| *byte == b'\n') else {
        return (answer.len() >= STATUS_LINE_BYTES).then_some(Err(()));
    };
    let line = String::from_utf8_lossy(&answer[..end]);
    let mut words = line.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http);
    Some(status.ok_or(()))
}

/// An answer that is no yes, with what it says besides; nothing while there is none.
fn refusal(answer: &[u8]) -> Option<String> {
    let status = status(answer)?.ok()?;
    let head = Head::parse(answer).ok().flatten();
    let word = head.map_or_else(String::new, |head| answer::first_line(&head, answer));
    Some(format!("it answered with status {status}{word}"))
}

/// Whether all that is shown of such an answer is there.
fn is_told(answer: &[u8]) -> bool {
    match Head::parse(answer) {
        Ok(Some(head)) => answer::has_first_line(&head, answer),
        Ok(None) => answer.len() >= answer::SHOWN_BYTES,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_process_that_knows_its_hosts_is_asked_by_the_name_that_its_definition_gives() {
        let (private, listener) = Private::bind(None).unwrap();
        let name = ("Host".to_owned(), "tenants.example.org".to_owned());
        let headers = Headers::try_from(BTreeMap::from([name])).unwrap();
        let server = std::thread::spawn(move || {
            let listener = TcpListener::from(listener);
            listener.set_nonblocking(false).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(false).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            String::from_utf8(request).unwrap()
        });
        let mut question = Question::new(private, "/login", "127.0.0.1:8000", &headers, Instant::now());
        while !question.go_on(Instant::now()) {
            std::thread::yield_now();
        }
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /login HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nHost: tenants.example.org\r\n"), "{request}");
        assert!(!request.contains("127.0.0.1"), "{request}");
    }

    #[test]
    fn a_status_line_is_read_once_it_is_whole() {
        for (answer, expected) in [
            (&b"HTTP/1.1 20"[..], None),
            (b"HTTP/1.1 204 No Content\r\n", Some(Ok(204))),
            (b"HTTP/1.0 500\r\n", Some(Ok(500))),
            (b"SSH-2.0-OpenSSH\r\n", Some(Err(()))),
            (&[b'x'; 256], Some(Err(()))),
        ] {
            assert_eq!(status(answer), expected);
        }
    }
}
