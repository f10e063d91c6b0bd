//! The addresses that a holder listens on.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Connections wait here while no process accepts; the kernel lowers it to its own limit (somaxconn).
const BACKLOG: i32 = 4096;

/// What a service listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`, resolved.
    Tcp(Vec<SocketAddr>),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Address {
    /// Reads `host:port` or `unix:/path`.
    ///
    /// # Errors
    /// A sentence with the text and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(format!("the address {text:?} needs an absolute path: unix:/run/app.sock"));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let resolved = text.to_socket_addrs().map_err(|error| {
            format!(
                "the address {text:?} is neither host:port nor unix:/path, or its host is not known: {error}"
            )
        })?;
        Ok(Self::Tcp(resolved.collect()))
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listening {
    pub fd: OwnedFd,
    /// Names the socket in `/proc/<pid>/fd`.
    pub inode: u64,
    unix: Option<PathBuf>,
}

impl Listening {
    /// Binds and listens.
    pub fn bind(text: &str) -> Result<Self, String> {
        match Address::parse(text)? {
            Address::Tcp(addresses) => {
                let mut last = format!("{text:?} resolves to nothing");
                for address in addresses {
                    match tcp(address) {
                        Ok(fd) => return Self::new(fd, None),
                        Err(error) => last = format!("cannot listen on {address}: {error}"),
                    }
                }
                Err(last)
            }
            Address::Unix(path) => Self::new(unix(&path)?, Some(path)),
        }
    }

    /// Takes over a socket that another process had bound.
    pub fn adopted(text: &str, fd: OwnedFd) -> Result<Self, String> {
        let unix = match Address::parse(text)? {
            Address::Tcp(_) => None,
            Address::Unix(path) => Some(path),
        };
        Self::new(fd, unix)
    }

    fn new(fd: OwnedFd, unix: Option<PathBuf>) -> Result<Self, String> {
        let inode = rustix::fs::fstat(&fd).map_err(|error| format!("a socket has no inode: {error}"))?.st_ino;
        Ok(Self { fd, inode, unix })
    }

    /// Whether it is a socket in the file system.
    pub fn is_unix(&self) -> bool {
        self.unix.is_some()
    }

    /// Stops listening for good: nobody will be there behind the path.
    pub fn close(self) {
        if let Some(path) = &self.unix {
            let _ = fs::remove_file(path);
        }
    }
}

fn tcp(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Otherwise old connections in TIME_WAIT would keep the port for a minute.
    rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

fn unix(path: &Path) -> Result<OwnedFd, String> {
    let fail = |error: rustix::io::Errno| format!("cannot listen on unix:{}: {error}", path.display());
    clear(path)?;
    let address = SocketAddrUnix::new(path)
        .map_err(|_| format!("the path {} is too long for a socket: at most 107 bytes", path.display()))?;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(fail)?;
    rustix::net::bind(&fd, &address).map_err(fail)?;
    // Who may connect is said by the directory, as with systemd's SocketMode=0666.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o666));
    rustix::net::listen(&fd, BACKLOG).map_err(fail)?;
    Ok(fd)
}

/// Removes a socket that nobody listens on any more; anything else in its place is left alone.
pub(super) fn clear(path: &Path) -> Result<(), String> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(format!("{} exists and is not a socket; move it away", path.display()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(format!("somebody else listens on {}", path.display()));
    }
    fs::remove_file(path).map_err(|error| format!("cannot remove the old socket {}: {error}", path.display()))
}

/// A socket on which only the holder asks, of the same family as the shared one: a program that can serve
/// the one can serve the other.
pub(super) enum Private {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Private {
    /// Binds one; `path` is used if it is to be a socket in the file system.
    pub fn bind(unix_path: Option<&Path>) -> Result<(Self, OwnedFd), String> {
        if let Some(path) = unix_path {
            return Ok((Self::Unix(path.to_owned()), unix(path)?));
        }
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let fail = |error| format!("no private socket on the loopback address: {error}");
        let fd = tcp(any).map_err(fail)?;
        let name = rustix::net::getsockname(&fd).map_err(fail)?;
        let address = SocketAddr::try_from(name).map_err(fail)?;
        Ok((Self::Tcp(address), fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_a_port_or_an_absolute_path() {
        assert_eq!(Address::parse("127.0.0.1:80"), Ok(Address::Tcp(vec!["127.0.0.1:80".parse().unwrap()])));
        assert_eq!(Address::parse("unix:/run/a.sock"), Ok(Address::Unix("/run/a.sock".into())));
        for text in ["", "80", "unix:a.sock", "127.0.0.1", "127.0.0.1:http:"] {
            assert!(Address::parse(text).unwrap_err().contains(&format!("{text:?}")));
        }
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let address = format!("unix:{}", path.display());
        drop(Listening::bind(&address).unwrap());
        let second = Listening::bind(&address).unwrap();
        assert!(Listening::bind(&address).unwrap_err().contains("somebody else"));
        second.close();
        std::fs::write(&path, "x").unwrap();
        assert!(Listening::bind(&address).unwrap_err().contains("not a socket"));
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert!(Listening::bind(&address).unwrap_err().contains(&address));
    }
}
