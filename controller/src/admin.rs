//! The socket by which the administrator of the controller's own host reaches the running controller.
//!
//! Whoever may open it may read the keys beside it, so that it asks for no certificate. One line of JSON in;
//! one line of JSON out, followed by the bytes of a backup where one was asked for.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::Arc;

use landfall_common::{Duration, OperatorName, Rights};
use landfall_controller_core::log::Actor;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::backup;
use crate::config::Layout;
use crate::enrolment::{Grant, operator_text};
use crate::error::ControllerError;
use crate::initialise::{deny_operator, fresh_request};
use crate::rpc::operators::approvals;
use crate::rpc::{Context, operators};
use crate::store::{Batch, SharedStore};

/// The longest line.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Who is connected and says nothing for this long is dropped.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A token for an operator.
    OperatorToken {
        /// The name.
        name: OperatorName,
        /// What the operator may do.
        #[serde(rename = "role")]
        rights: Rights,
        /// How long it is good; 0 for the default.
        valid_for_ms: u64,
    },
    /// An operator's certificates are denied from now on.
    RemoveOperator {
        /// The name.
        name: OperatorName,
    },
    /// A backup, which follows the answer.
    Backup {
        /// Whether the objects are left out.
        without_objects: bool,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The token's text.
    Token {
        /// As it is handed to the operator.
        text: String,
    },
    /// It was done.
    Done,
    /// The backup follows until the connection ends; its last byte is 1 if it is whole.
    Backup,
    /// It was refused.
    Failed {
        /// Why.
        message: String,
    },
}

/// Listens until the controller stops. A leftover socket is replaced: the store's lock proves that nobody
/// uses it.
///
/// # Errors
/// [`ControllerError::File`].
pub fn listen(
    layout: Layout,
    context: Arc<Context>,
    store: SharedStore,
) -> Result<tokio::task::JoinHandle<()>, ControllerError> {
    let path = layout.admin_socket();
    let failed = |source| ControllerError::File { doing: "listen on", path: path.clone(), source };
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = context.stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (context, layout, store) = (context.clone(), layout.clone(), store.clone());
                    tokio::spawn(async move {
                        if let Err(error) = answer(stream, &context, layout, store).await {
                            tracing::warn!(%error, "the administration socket failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the administration socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let _ = std::fs::remove_file(layout.admin_socket());
    }))
}

async fn answer(
    stream: UnixStream,
    context: &Context,
    layout: Layout,
    store: SharedStore,
) -> std::io::Result<()> {
    let mut stream = tokio::io::BufReader::new(stream);
    let mut line = String::new();
    let mut limited = (&mut stream).take(MAX_LINE_BYTES);
    tokio::time::timeout(LINE_TIMEOUT, limited.read_line(&mut line)).await??;
    let request: Result<Request, _> = serde_json::from_str(&line);
    let answer = match request {
        Err(error) => Answer::Failed { message: format!("the request cannot be read: {error}") },
        Ok(Request::OperatorToken { name, rights, valid_for_ms }) => {
            match token(context, name, rights, Duration::from_millis(valid_for_ms)).await {
                Ok(text) => Answer::Token { text },
                Err(error) => Answer::Failed { message: error.chain() },
            }
        }
        Ok(Request::RemoveOperator { name }) => {
            let removing = context.admission.remove(&context.clock).await;
            let withdrawn = approvals::withdraw(context, Actor::Controller, "", &name).await;
            let none = (Batch::new(), Vec::new());
            let removed = match withdrawn {
                Ok(()) => deny_operator(&*context.store, &context.writer, name, removing.now, none).await,
                Err(error) => Err(error),
            };
            match removed {
                Ok((denied, until)) => {
                    context.denied.deny(denied, until);
                    Answer::Done
                }
                Err(error) => Answer::Failed { message: error.chain() },
            }
        }
        Ok(Request::Backup { without_objects }) => {
            write_line(stream.get_mut(), &Answer::Backup).await?;
            let stream = stream.into_inner().into_std()?;
            stream.set_nonblocking(false)?;
            let now = context.clock.now();
            let write = move || {
                let mut out = std::io::BufWriter::new(&stream);
                let whole = backup::write(&layout, store.core(), without_objects, now, &mut out);
                let mark = u8::from(whole.is_ok());
                out.write_all(&[mark]).and_then(|()| out.flush())?;
                whole.map_err(std::io::Error::other)
            };
            return tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?;
        }
    };
    write_line(stream.get_mut(), &answer).await
}

async fn write_line(stream: &mut UnixStream, answer: &Answer) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer).expect("plain data");
    line.push(b'\n');
    stream.write_all(&line).await
}

async fn token(
    context: &Context,
    name: OperatorName,
    rights: Rights,
    valid_for: Duration,
) -> Result<String, ControllerError> {
    let grant = Grant::Operator { name, rights };
    let request = fresh_request()?;
    let (token, secret) =
        operators::create_token(context, &request, grant, Actor::Controller, String::new(), valid_for)
            .await?;
    Ok(operator_text(&token.id, &secret, context.authority.key_digest()))
}

/// Asks the running controller; `None` if none is running.
///
/// # Errors
/// [`ControllerError::Admin`] if it runs and does not answer, or refuses.
pub fn ask(path: &Path, request: &Request) -> Result<Option<(Answer, impl Read + use<>)>, ControllerError> {
    let failed = |message: String| ControllerError::Admin { path: path.to_owned(), message };
    let mut stream = match BlockingStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Err(failed("permission denied; run this as the controller's user or as root".to_owned()));
        }
        Err(_) => return Ok(None),
    };
    let mut line = serde_json::to_vec(request).expect("plain data");
    line.push(b'\n');
    stream.write_all(&line).map_err(|error| failed(error.to_string()))?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).map_err(|error| failed(error.to_string()))?;
    match serde_json::from_str(&line) {
        Ok(Answer::Failed { message }) => Err(failed(message)),
        Ok(answer) => Ok(Some((answer, stream))),
        Err(_) => Err(failed("it hung up".to_owned())),
    }
}
