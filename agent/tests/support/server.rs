//! A small threaded HTTP server on the sockets that it is given, or its own, which ends gracefully: after SIGTERM it
//! accepts no more, answers what was asked, tells clients to close, and ends when the last has gone.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// After SIGTERM an idle connection stays open for this long, so that a request which is on its way is
/// still answered, however busy the machine is. The load's clients drop theirs long before.
const LINGER: Duration = Duration::from_secs(3);

#[derive(Default)]
struct State {
    ending: AtomicBool,
    open: AtomicUsize,
}

/// `key=value` arguments: `start_ms` (sleep before it is ready), `status` of all answers, `exit` (a code, at
/// once), `notify` (send READY=1), `ignore_term`, `accept=no` (never accept), `say` (print this and a flood),
/// `bind` (an address to listen on, besides what is given), `alone` (a file that no other process may have locked).
pub fn run(arguments: &[String]) -> Result<(), String> {
    let get = |name: &str| {
        arguments
            .iter()
            .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let number = |name: &str| get(name).and_then(|value| value.parse::<u64>().ok());
    block_sigterm();
    if let Some(text) = get("say") {
        println!("{text}");
    }
    // Locked until this process has ended.
    let alone = get("alone").map(std::fs::File::create).transpose().map_err(|error| error.to_string())?;
    if alone.as_ref().is_some_and(|file| file.try_lock().is_err()) {
        return Err("another one runs beside this one".to_owned());
    }
    if let Some(code) = number("exit") {
        eprintln!("the database is not there");
        #[expect(clippy::exit, reason = "this is the process that fails")]
        std::process::exit(i32::try_from(code).map_err(|error| error.to_string())?);
    }
    std::thread::sleep(Duration::from_millis(number("start_ms").unwrap_or(0)));
    if std::env::var("LISTEN_FDS").is_ok() {
        let pid = std::env::var("LISTEN_PID").ok().and_then(|pid| pid.parse().ok());
        assert_eq!(pid, Some(std::process::id()), "LISTEN_PID is not this process");
    }
    let count: i32 = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    let state = Arc::new(State::default());
    let status = number("status").unwrap_or(200);
    if get("accept").as_deref() != Some("no") {
        for fd in 3..3 + count {
            // SAFETY: these descriptors were passed to this process, and nobody else here uses them.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            let state = state.clone();
            std::thread::spawn(move || accept(fd, &state, status));
        }
    }
    if let Some(address) = get("bind") {
        let listener = TcpListener::bind(address).map_err(|error| error.to_string())?;
        let state = state.clone();
        std::thread::spawn(move || accept(listener.into(), &state, status));
    }
    if get("notify").is_some() {
        let path = std::env::var("NOTIFY_SOCKET").map_err(|error| error.to_string())?;
        let socket = UnixDatagram::unbound().map_err(|error| error.to_string())?;
        socket.send_to(b"STATUS=up\nREADY=1", path).map_err(|error| error.to_string())?;
    }
    if get("flood").is_some() {
        std::thread::spawn(|| {
            let line = [b'x'; 4096];
            while std::io::stdout().write_all(&line).is_ok() {}
        });
    }
    if let Some(after) = number("crash_after_ms") {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(after));
            std::process::abort();
        });
    }
    wait_for_sigterm();
    if get("ignore_term").is_some() {
        std::thread::sleep(Duration::from_secs(600));
    }
    state.ending.store(true, SeqCst);
    // The accepting threads look every few milliseconds; a connection that one has just taken counts.
    std::thread::sleep(Duration::from_millis(50));
    while state.open.load(SeqCst) > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn term_set() -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        set
    }
}

fn block_sigterm() {
    let set = term_set();
    // SAFETY: the set is initialised; there is one thread, and those to come inherit its mask.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

fn wait_for_sigterm() {
    let (set, mut signal) = (term_set(), 0);
    // SAFETY: both pointers are to live values.
    unsafe { libc::sigwait(&raw const set, &raw mut signal) };
}

trait Stream: std::io::Read + std::io::Write + Send + 'static {
    fn wake_every(&self, period: Duration);
}

impl Stream for TcpStream {
    fn wake_every(&self, period: Duration) {
        self.set_nonblocking(false).unwrap();
        self.set_nodelay(true).unwrap();
        self.set_read_timeout(Some(period)).unwrap();
    }
}

impl Stream for UnixStream {
    fn wake_every(&self, period: Duration) {
        self.set_nonblocking(false).unwrap();
        self.set_read_timeout(Some(period)).unwrap();
    }
}

fn accept(fd: OwnedFd, state: &Arc<State>, status: u64) {
    let name = rustix::net::getsockname(&fd).unwrap();
    if name.address_family() == rustix::net::AddressFamily::UNIX {
        let listener = UnixListener::from(fd);
        listener.set_nonblocking(true).unwrap();
        accept_loop(state, status, || listener.accept().map(|(stream, _)| stream));
    } else {
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true).unwrap();
        accept_loop(state, status, || listener.accept().map(|(stream, _)| stream));
    }
}

fn accept_loop<S: Stream>(state: &Arc<State>, status: u64, take: impl Fn() -> std::io::Result<S>) {
    loop {
        // Counted before it is known to be there, so that it cannot be overlooked at the end.
        state.open.fetch_add(1, SeqCst);
        if state.ending.load(SeqCst) {
            state.open.fetch_sub(1, SeqCst);
            return;
        }
        match take() {
            Ok(stream) => {
                let state = state.clone();
                std::thread::spawn(move || {
                    talk(stream, &state, status);
                    state.open.fetch_sub(1, SeqCst);
                });
            }
            Err(_) => {
                state.open.fetch_sub(1, SeqCst);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

fn talk(mut stream: impl Stream, state: &State, status: u64) {
    stream.wake_every(Duration::from_millis(20));
    let mut request = Vec::new();
    let mut idle_since = Instant::now();
    loop {
        let ending = state.ending.load(SeqCst);
        if let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..end]).into_owned();
            request.drain(..end + 4);
            if text.contains("/slow") {
                std::thread::sleep(Duration::from_millis(200));
            }
            let close = state.ending.load(SeqCst) || text.contains("Connection: close");
            let body =
                format!("{} {}", std::env::var("LANDFALL_RELEASE").unwrap_or_default(), std::process::id());
            let connection = if close { "close" } else { "keep-alive" };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: {connection}\r\nX-Release: {}\r\n\r\n{body}",
                body.len(),
                std::env::var("LANDFALL_RELEASE").unwrap_or_default(),
            );
            if stream.write_all(answer.as_bytes()).is_err() || close {
                return;
            }
            idle_since = Instant::now();
            continue;
        }
        if ending && request.is_empty() && idle_since.elapsed() > LINGER {
            return;
        }
        let mut buffer = [0; 2048];
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => request.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}
