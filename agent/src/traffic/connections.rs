//! The connections to an address, as the kernel counts them: whatever leads requests there, and however it
//! does, a slot is drained when it has none left.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use crate::holder::socket::Address;

/// How often they are counted.
const POLL: Duration = Duration::from_millis(100);

/// Waits until nobody is connected to an address any more, and returns how many still are when the time is
/// over.
pub async fn drained(address: &str, deadline: Duration) -> usize {
    let until = Instant::now() + deadline;
    loop {
        let open = count(address);
        if open == 0 || Instant::now() >= until {
            return open;
        }
        tokio::time::sleep(POLL.min(until.saturating_duration_since(Instant::now()))).await;
    }
}

/// How many connections to an address are open. What cannot be counted is none: it must not be waited for.
#[must_use]
pub fn count(address: &str) -> usize {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    match Address::parse(address) {
        Ok(Address::Tcp(addresses)) => {
            let tables = [read("/proc/self/net/tcp"), read("/proc/self/net/tcp6")];
            let open = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(established);
            open.filter(|local| addresses.iter().any(|listens| is_at(listens, local))).count()
        }
        Ok(Address::Unix(path)) => {
            let table = read("/proc/self/net/unix");
            let path = path.to_string_lossy();
            table.lines().skip(1).filter(|line| is_connected(line, &path)).count()
        }
        Err(_) => 0,
    }
}

/// The local address of a line of `/proc/net/tcp` whose connection is established.
fn established(line: &str) -> Option<SocketAddr> {
    const ESTABLISHED: &str = "01";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?;
    let _remote = fields.next()?;
    (fields.next()? == ESTABLISHED).then_some(())?;
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each group of four bytes is written as the machine's own number.
    let mut bytes = Vec::new();
    for at in (0..ip.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}

fn is_at(listens: &SocketAddr, local: &SocketAddr) -> bool {
    listens.port() == local.port() && (listens.ip().is_unspecified() || listens.ip() == local.ip())
}

/// Whether a line of `/proc/net/unix` is the accepting end of a connection to a path.
fn is_connected(line: &str, path: &str) -> bool {
    const CONNECTED: &str = "03";
    let fields: Vec<&str> = line.splitn(8, ' ').filter(|field| !field.is_empty()).collect();
    fields.get(5) == Some(&CONNECTED) && line.ends_with(&format!(" {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_connection_counts_for_its_address_and_for_no_other() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(count(&address), 0);
        let client = std::net::TcpStream::connect(&address).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(count(&address), 1);
        assert_eq!(count(&other.local_addr().unwrap().to_string()), 0);
        drop((client, server));
        assert_eq!(count(&address), 0);
    }

    #[test]
    fn a_connection_to_a_socket_in_the_file_system_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let address = format!("unix:{}", path.display());
        assert_eq!(count(&address), 0);
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(count(&address), 1);
        drop((client, server));
        assert_eq!(count(&address), 0);
    }

    #[tokio::test]
    async fn what_is_still_open_at_the_deadline_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let client = std::net::TcpStream::connect(&address).unwrap();
        let server = listener.accept().unwrap();
        assert_eq!(drained(&address, Duration::from_millis(20)).await, 1);
        drop((client, server));
        assert_eq!(drained(&address, Duration::from_secs(60)).await, 0);
    }
}
