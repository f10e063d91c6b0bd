//! Refusing connections on a socket that others may accept from at the same time.
//!
//! Nobody can be asked whether a connection waits and take it in one step: between the two somebody else may have
//! taken it, and the holder would stand still until the next one came. So a process of its own does nothing but
//! accept and close, and is killed when that is over. A connection that it has in hand then is closed with it.

use std::io;
use std::os::fd::AsRawFd as _;

use rustix::process::Pid;

use super::socket::Listening;

/// A process that refuses connections, as long as this is there.
pub(super) struct Refusal {
    /// Where.
    pub address: String,
    process: libc::pid_t,
}

impl Refusal {
    /// Begins.
    ///
    /// # Errors
    /// If no process can be made.
    pub fn begin(listening: &Listening, address: &str) -> io::Result<Self> {
        let socket = listening.fd.as_raw_fd();
        let holder = rustix::process::getpid();
        // SAFETY: a holder has one thread, so that the child is a whole copy of it; and the child makes system calls
        // alone, allocates nothing, and never comes back from here.
        let process = unsafe { libc::fork() };
        match process {
            0 => refuse(socket, holder),
            ..0 => Err(io::Error::last_os_error()),
            _ => Ok(Self { address: address.to_owned(), process }),
        }
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        // SAFETY: the process is a child that nobody else waits for, so that its id is still its own.
        unsafe {
            libc::kill(self.process, libc::SIGKILL);
            libc::waitpid(self.process, std::ptr::null_mut(), 0);
        }
    }
}

/// Closes each connection with a reset, which says most clearly that nobody serves it.
fn refuse(socket: libc::c_int, holder: Pid) -> ! {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap_or_default();
    // SAFETY: only system calls, on descriptors of this process and on values that live on its stack.
    unsafe {
        // Not even a holder that is killed leaves it behind: it would refuse for ever.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != holder.as_raw_nonzero().get() {
            libc::_exit(0);
        }
        loop {
            let connection = libc::accept(socket, std::ptr::null_mut(), std::ptr::null_mut());
            if connection < 0 {
                // Somebody has made it one that does not block; or it is in trouble, which may pass.
                let blocks = *libc::__errno_location() != libc::EAGAIN;
                let mut wanted = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
                libc::poll(&raw mut wanted, libc::nfds_t::from(!blocks), if blocks { 50 } else { -1 });
                continue;
            }
            libc::setsockopt(
                connection,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const at_once).cast(),
                length,
            );
            libc::close(connection);
        }
    }
}
