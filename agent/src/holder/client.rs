//! Asking a holder. Each request is a connection of its own, so that an agent that dies in the middle
//! leaves nothing behind.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::record::Record;
use super::spec::{HolderSpec, MAX_LINE_BYTES, Reply, Request};

/// A holder answers at once; one that does not for this long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no holder answers at {path}")]
    Gone {
        /// Its socket.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It was there, and then something went wrong.
    #[error("the holder at {path} does not answer: {reason}")]
    Broken {
        /// Its socket.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// Where a holder answers.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The client of the holder whose control socket is here.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`ClientError::Gone`] if there is no holder, [`ClientError::Broken`] if there is no answer.
    pub async fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        let broken = |reason: String| ClientError::Broken { path: self.path.clone(), reason };
        let mut stream = UnixStream::connect(&self.path).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::Gone { path: self.path.clone(), source }
            }
            _ => broken(source.to_string()),
        })?;
        let exchange = async {
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            let mut answer = Vec::new();
            let bound = (MAX_LINE_BYTES + 1) as u64;
            (&mut stream).take(bound).read_to_end(&mut answer).await?;
            Ok::<_, io::Error>(serde_json::from_slice(&answer)?)
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(broken(error.to_string())),
            Err(_) => Err(broken(format!("nothing for {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }
}

/// Whether an earlier holder of this service has died rather than been stopped, and which of its processes
/// goes on serving. None if there is nothing to take over or to start again.
pub(crate) fn orphan(spec: &HolderSpec) -> Option<Option<u32>> {
    let record = Record::read(&spec.record())?;
    let serving = record.serving.as_ref()?;
    let process = serving.process.as_ref().filter(|process| record.is_of_this_boot() && process.lives());
    Some(process.map(|process| process.pid))
}
