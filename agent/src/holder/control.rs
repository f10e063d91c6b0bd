//! The control socket: one request line in, one reply line out, then the connection is closed.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::socket;
use super::spec::{MAX_LINE_BYTES, Reply, Request, UNREADABLE};

/// Whoever asks sends a whole line at once; this is for one that died halfway.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);

/// More are not needed, and each may hold a request of a megabyte.
const MAX_CONNECTIONS: usize = 16;

/// Where the agent asks.
pub(super) struct Control {
    listener: UnixListener,
    pub connections: Vec<Connection>,
}

/// Somebody who has not finished a request yet.
pub(super) struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
    pub until: Instant,
}

/// What became of a connection.
pub(super) enum Heard {
    /// More is to come.
    Part,
    /// A whole request.
    Request(Box<Request>),
    /// A line that is none.
    Nonsense(String),
    /// It is gone.
    Closed,
}

impl Control {
    /// Binds in a directory that only this user and its group enter, and only this user writes to; the caller
    /// holds the lock, so nobody else is there.
    pub fn bind(path: &Path) -> Result<Self, String> {
        socket::clear(path)?;
        let listener = UnixListener::bind(path)
            .map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
        // Whoever may ask can have anything run as this user.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| format!("cannot protect {}: {error}", path.display()))?;
        listener.set_nonblocking(true).map_err(|error| format!("cannot use {}: {error}", path.display()))?;
        Ok(Self { listener, connections: Vec::new() })
    }

    /// Readable when somebody connects; nothing while enough are connected.
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        (self.connections.len() < MAX_CONNECTIONS).then(|| self.listener.as_fd())
    }

    /// Takes those who wait.
    pub fn accept(&mut self, now: Instant) {
        while self.connections.len() < MAX_CONNECTIONS
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection { stream, line: Vec::new(), until: now + LINE_TIMEOUT });
            }
        }
    }
}

impl Connection {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads what has come.
    pub fn hear(&mut self) -> Heard {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Heard::Closed,
                Ok(count) => self.line.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Heard::Closed,
            }
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                return match serde_json::from_slice(&self.line[..end]) {
                    Ok(request) => Heard::Request(Box::new(request)),
                    Err(error) => Heard::Nonsense(format!("{UNREADABLE}: {error}")),
                };
            }
            if self.line.len() > MAX_LINE_BYTES {
                return Heard::Nonsense(format!("the request has more than {MAX_LINE_BYTES} bytes"));
            }
        }
    }

    /// Answers and closes. Whoever does not read has only harmed itself.
    pub fn answer(mut self, reply: &Reply) {
        let mut line = serde_json::to_vec(reply).expect("a reply holds nothing that JSON cannot express");
        line.push(b'\n');
        let _ = self.stream.set_nonblocking(false);
        let _ = self.stream.set_write_timeout(Some(Duration::from_secs(1)));
        let _ = self.stream.write_all(&line);
    }
}
