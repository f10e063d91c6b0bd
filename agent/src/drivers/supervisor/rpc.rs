//! Asking Supervisor: XML-RPC over HTTP over the socket in the file system, of which it uses little.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Supervisor is one thread: it answers at once, or it is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer is a few lines for each process.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Numbers of the faults that mean something here.
pub(super) mod fault {
    pub const BAD_NAME: i64 = 10;
    pub const SPAWN_ERROR: i64 = 50;
    pub const ALREADY_STARTED: i64 = 60;
    pub const NOT_RUNNING: i64 = 70;
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
    /// Nobody listens there.
    #[error("Supervisor does not answer at {}: {source}", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    /// The agent may not ask.
    #[error(
        "Supervisor refuses the agent at {}: {reason}; in [unix_http_server] write `chmod=0770` and `chown=root:landfall`, without a password, then `supervisorctl reload`",
        path.display()
    )]
    Denied { path: PathBuf, reason: String },
    /// It was asked and did not answer properly.
    #[error("Supervisor at {} does not answer properly: {reason}", path.display())]
    Broken { path: PathBuf, reason: String },
    /// It refused.
    #[error("Supervisor refused {method}: {text}")]
    Fault { method: &'static str, code: i64, text: String },
}

/// What is sent.
pub(super) enum Param<'a> {
    Text(&'a str),
    Number(i64),
    Flag(bool),
}

/// What comes back, as far as Supervisor uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    Text(String),
    List(Vec<Self>),
    Table(BTreeMap<String, Self>),
}

impl Value {
    pub fn number(&self) -> Option<i64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// Asks once, on a connection of its own.
///
/// # Errors
/// [`RpcError`].
pub(super) async fn call(
    server: &Path,
    method: &'static str,
    params: &[Param<'_>],
) -> Result<Value, RpcError> {
    let broken = |reason: String| RpcError::Broken { path: server.to_owned(), reason };
    let stream = UnixStream::connect(server).await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => {
            RpcError::Denied { path: server.to_owned(), reason: source.to_string() }
        }
        _ => RpcError::Unreachable { path: server.to_owned(), source },
    })?;
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let request = http::Request::post("/RPC2")
            .header("Host", "localhost")
            .header("Content-Type", "text/xml")
            .body(Full::<bytes::Bytes>::from(request(method, params)))
            .map_err(|error| error.to_string())?;
        let asking = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BYTES).collect().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((head.status, body.to_bytes()))
        };
        let mut asking = std::pin::pin!(asking);
        tokio::select! {
            answer = &mut asking => answer,
            // It ends with the connection, having read all of it.
            _ = connection => asking.await,
        }
    };
    let (status, body) = tokio::time::timeout(ANSWER_TIMEOUT, exchange)
        .await
        .map_err(|_| broken(format!("nothing for {} s", ANSWER_TIMEOUT.as_secs())))?
        .map_err(broken)?;
    match status.as_u16() {
        200 => {}
        401 | 403 => {
            return Err(RpcError::Denied {
                path: server.to_owned(),
                reason: format!("HTTP status {status}"),
            });
        }
        _ => return Err(broken(format!("HTTP status {status}"))),
    }
    match read(&body).map_err(broken)? {
        Ok(value) => Ok(value),
        Err((code, text)) => Err(RpcError::Fault { method, code, text }),
    }
}

fn request(method: &str, params: &[Param<'_>]) -> String {
    let mut text = format!("<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>");
    for param in params {
        let _ = match param {
            Param::Text(value) => {
                let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                write!(text, "<param><value><string>{value}</string></value></param>")
            }
            Param::Number(value) => write!(text, "<param><value><int>{value}</int></value></param>"),
            Param::Flag(value) => {
                write!(text, "<param><value><boolean>{}</boolean></value></param>", i32::from(*value))
            }
        };
    }
    text + "</params></methodCall>"
}

/// The result, or the fault.
fn read(body: &[u8]) -> Result<Result<Value, (i64, String)>, String> {
    // What a process wrote to its log is sent as it stands, with characters that XML cannot hold.
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .map(|c| if c.is_control() && !"\t\n\r".contains(c) { ' ' } else { c })
        .collect();
    let document = roxmltree::Document::parse(&text).map_err(|error| format!("no XML: {error}"))?;
    let root = document.root_element();
    let find = |name: &str| root.descendants().find(|node| node.has_tag_name(name));
    let value = find("value").ok_or("an answer without a value")?;
    let value = read_value(value)?;
    if find("fault").is_none() {
        return Ok(Ok(value));
    }
    let Value::Table(table) = value else { return Err("a fault without its number".to_owned()) };
    let code = table.get("faultCode").and_then(Value::number).ok_or("a fault without its number")?;
    let text = table.get("faultString").and_then(Value::text).unwrap_or_default();
    Ok(Err((code, text.to_owned())))
}

fn read_value(node: roxmltree::Node<'_, '_>) -> Result<Value, String> {
    let Some(typed) = node.children().find(roxmltree::Node::is_element) else {
        return Ok(Value::Text(node.text().unwrap_or_default().to_owned()));
    };
    let text = typed.text().unwrap_or_default();
    let of = |node: roxmltree::Node<'_, '_>, name: &str| {
        node.children().find(|child| child.has_tag_name(name)).map(|child| child.id())
    };
    match typed.tag_name().name() {
        "int" | "i4" | "boolean" => {
            text.trim().parse().map(Value::Number).map_err(|error| format!("{text:?}: {error}"))
        }
        "string" => Ok(Value::Text(text.to_owned())),
        "array" => {
            let data = typed.children().find(|child| child.has_tag_name("data"));
            let items = data.into_iter().flat_map(|data| data.children());
            let items = items.filter(|item| item.has_tag_name("value")).map(read_value);
            items.collect::<Result<_, _>>().map(Value::List)
        }
        "struct" => {
            let mut table = BTreeMap::new();
            for member in typed.children().filter(|child| child.has_tag_name("member")) {
                let document = member.document();
                let get = |name| of(member, name).and_then(|id| document.get_node(id));
                let (Some(name), Some(value)) = (get("name"), get("value")) else {
                    return Err("a member without name or value".to_owned());
                };
                table.insert(name.text().unwrap_or_default().to_owned(), read_value(value)?);
            }
            Ok(Value::Table(table))
        }
        other => Err(format!("a value of the type {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_supervisor_answers_is_read() {
        let answer = b"<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><array><data>\n\
            <value><struct>\n<member>\n<name>name</name>\n<value><string>a &amp; b\x1b[0m</string></value>\n</member>\n\
            <member>\n<name>pid</name>\n<value><int>7</int></value>\n</member>\n</struct></value>\n\
            </data></array></value>\n</param>\n</params>\n</methodResponse>\n";
        let table = [("name", Value::Text("a & b [0m".into())), ("pid", Value::Number(7))];
        let table = table.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(read(answer).unwrap(), Ok(Value::List(vec![Value::Table(table)])));

        let fault = b"<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n\
            <name>faultCode</name>\n<value><int>10</int></value>\n</member>\n<member>\n<name>faultString</name>\n\
            <value><string>BAD_NAME: web</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n";
        assert_eq!(read(fault).unwrap(), Err((10, "BAD_NAME: web".into())));
        for damaged in [&fault[..60], b"", b"<a/>", b"<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>"] {
            assert!(read(damaged).is_err(), "{}", String::from_utf8_lossy(damaged));
        }
    }

    #[test]
    fn a_text_that_is_sent_cannot_become_more_than_a_text() {
        let text = request("m", &[Param::Text("</string>&"), Param::Number(-1), Param::Flag(false)]);
        assert!(text.contains("<string>&lt;/string&gt;&amp;</string>"), "{text}");
        assert!(text.contains("<int>-1</int>") && text.contains("<boolean>0</boolean>"), "{text}");
    }
}
