//! The holder's own process: waits for what happens, tells the [machine](super::machine), and carries out
//! what it decides. One thread, no runtime.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Pid, Signal};

use super::adopt;
use super::control::{Control, Heard};
use super::machine::{Effect, Event, Machine, Mono, Serial, Wanted};
use super::record::{ProcessId, Record, Recorded};
use super::refusal::Refusal;
use super::service::{Names, Service};
use super::socket::Listening;
use super::spec::{ChildKey, ChildSpec, EndNote, HandoverEnd, HolderSpec, Reply};
use super::written::Written;
use crate::steps::process;

/// How often what a process left behind is looked at, until it has ended.
const LEFTOVER_POLL: Duration = Duration::from_millis(50);

/// For what an earlier holder left ending when nothing served.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a holder cannot run.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// Its specification.
    #[error("cannot read the specification {path}: {reason}")]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is one already.
    #[error("another holder has the lock {path}")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The host does not give what it needs.
    #[error("cannot {action}")]
    System {
        /// What it was doing.
        action: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// Its control socket.
    #[error("{0}")]
    Control(String),
}

/// Runs the holder that a file specifies, until it is told to stop (by a request, SIGTERM or SIGINT).
///
/// # Errors
/// [`HolderError`], before it has started anything.
pub fn run(spec_file: &Path) -> Result<(), HolderError> {
    let unreadable = |reason: String| HolderError::Spec { path: spec_file.to_owned(), reason };
    let bytes = fs::read(spec_file).map_err(|error| unreadable(error.to_string()))?;
    let spec: HolderSpec = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    // Fails if it leads a session already, which is what is wanted.
    let _ = rustix::process::setsid();
    let mut holder = Holder::new(spec)?;
    holder.restore();
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    holder.serve();
    Ok(())
}

struct Holder {
    spec: HolderSpec,
    /// Descriptors 3 and 4 stay taken, so that nothing of the holder's own is where a child expects its
    /// sockets when they are put there.
    _reserved: Vec<OwnedFd>,
    _lock: OwnedFd,
    termination: OwnedFd,
    control: Control,
    written: Written,
    machine: Machine,
    sockets: BTreeMap<String, Listening>,
    /// Why the socket of an address is not among them although a process listens on it.
    not_adopted: BTreeMap<String, String>,
    services: BTreeMap<Serial, Service>,
    /// Groups whose main process has ended.
    leftovers: Vec<Leftover>,
    /// Refuses connections that have waited for too long.
    refusal: Option<Refusal>,
    recorded: Record,
    boot_id: String,
    origin: Instant,
    exit: Option<bool>,
}

/// What a process has left behind in its group.
struct Leftover {
    group: Pid,
    kill_at: Instant,
    /// What the machine is told once the group has ended too, if something waits for that.
    end: Option<Event>,
}

/// What a descriptor in the poll set belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Termination,
    Listener,
    Connection(usize),
    End(Serial),
    Output(Serial),
    Watch,
}

impl Holder {
    fn new(spec: HolderSpec) -> Result<Self, HolderError> {
        let system = |action: &str| {
            let action = action.to_owned();
            move |source: io::Error| HolderError::System { action, source }
        };
        let reserved = reserve().map_err(system("reserve descriptors"))?;
        for directory in [&spec.run, &spec.state] {
            fs::create_dir_all(directory).map_err(system(&format!("make {}", directory.display())))?;
        }
        let lock_path = spec.lock();
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&lock_path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| system(&format!("open {}", lock_path.display()))(error.into()))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| HolderError::Locked { path: lock_path })?;
        let termination = process::termination().map_err(system("take signals"))?;
        let control = Control::bind(&spec.control()).map_err(HolderError::Control)?;
        let written = Written::open(&spec.log, spec.log_bytes);
        Ok(Self {
            spec,
            _reserved: reserved,
            _lock: lock,
            termination,
            control,
            written,
            machine: Machine::new(std::process::id()),
            sockets: BTreeMap::new(),
            not_adopted: BTreeMap::new(),
            services: BTreeMap::new(),
            leftovers: Vec::new(),
            refusal: None,
            recorded: Record::default(),
            boot_id: process::boot_id(),
            // The machine's times begin here: it keeps none across holders.
            origin: Instant::now(),
            exit: None,
        })
    }

    fn now(&self) -> Mono {
        self.origin.elapsed()
    }

    /// Takes over what an earlier holder has left: processes that still run, or what should.
    fn restore(&mut self) {
        let Some(record) = Record::read(&self.spec.record()) else { return };
        let same_boot = record.is_of_this_boot();
        for end in record.recent {
            self.machine.recall(end);
        }
        let lives = |process: Option<ProcessId>| process.filter(|process| same_boot && process.lives());
        let stop_timeout = record.serving.as_ref().map_or(STOP_TIMEOUT, |serving| serving.child.stop_timeout);
        let mut ending: Vec<_> =
            record.ending.into_iter().map(|(key, process)| (key, process, stop_timeout)).collect();
        if let Some((Recorded { child, key, process }, attempt)) = record.candidate {
            let why = if same_boot { "the holder died" } else { "the host went down" };
            let reason = format!("{why} while {} was starting", child.release_name);
            self.machine.recall(HandoverEnd { key, attempt, failure: Some(EndNote::of(reason)) });
            ending.extend(process.map(|process| (key, process, child.stop_timeout)));
        }
        if let Some(Recorded { child, key, process }) = record.serving {
            match lives(process) {
                Some(process) => self.adopt(child, key, process, &record.sockets),
                None => self.machine.resume(child, key, self.now()),
            }
        }
        for (key, process, stop_timeout) in ending {
            let Some(process) = lives(Some(process)) else { continue };
            let serial = self.machine.adopt_ending(key, process.pid, self.now() + stop_timeout);
            match Service::adopt(process, stop_timeout) {
                Ok(service) => {
                    service.terminate();
                    self.services.insert(serial, service);
                }
                Err(reason) => drop(self.happened(Event::Ended { serial, note: EndNote::of(reason) })),
            }
        }
        self.save();
    }

    fn adopt(&mut self, child: ChildSpec, key: ChildKey, process: ProcessId, inodes: &BTreeMap<String, u64>) {
        let (pid, stop_timeout) = (process.pid, child.stop_timeout);
        if let Some(address) = &child.listen {
            let taken = inodes
                .get(address)
                .ok_or_else(|| "it is not recorded".to_owned())
                .and_then(|inode| adopt::take_socket(pid, *inode))
                .and_then(|fd| Listening::adopted(address, fd));
            match taken {
                Ok(listening) => {
                    self.sockets.insert(address.clone(), listening);
                }
                Err(reason) => {
                    let text = format!(
                        "process {pid} of {} goes on serving {address}, but its socket cannot be taken over: \
                         {reason}; `kill {pid}` makes the address free",
                        child.release_name
                    );
                    say(&text);
                    self.not_adopted.insert(address.clone(), text);
                }
            }
        }
        let serial = self.machine.adopt(child, key, pid, self.now());
        match Service::adopt(process, stop_timeout) {
            Ok(service) => {
                self.services.insert(serial, service);
            }
            Err(reason) => drop(self.happened(Event::Ended { serial, note: EndNote::of(reason) })),
        }
    }

    fn serve(&mut self) {
        loop {
            if self.machine.wake_at().is_some_and(|at| at <= self.now()) {
                self.happened(Event::Tick);
            }
            self.tend_leftovers();
            if let Some(forget) = self.exit
                && self.leftovers.is_empty()
            {
                return self.leave(forget);
            }
            for source in self.wait() {
                self.handle(source);
            }
            self.tend_watches();
        }
    }

    /// Waits until something happens or the next time comes.
    fn wait(&self) -> Vec<Source> {
        let mut wanted: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        let read = PollFlags::IN;
        use std::os::fd::AsFd as _;
        wanted.push((Source::Termination, self.termination.as_fd(), read));
        wanted.extend(self.control.listener().map(|fd| (Source::Listener, fd, read)));
        for (index, connection) in self.control.connections.iter().enumerate() {
            wanted.push((Source::Connection(index), connection.fd(), read));
        }
        let mut times: Vec<Instant> =
            self.control.connections.iter().map(|connection| connection.until).collect();
        for (serial, service) in &self.services {
            // Output before the end: what a process said last is part of how it ended.
            wanted.extend(service.output().map(|fd| (Source::Output(*serial), fd, read)));
            wanted.push((Source::End(*serial), service.pidfd(), read));
            if let Some(watch) = &service.watch {
                wanted.extend(watch.interest().map(|(fd, flags)| (Source::Watch, fd, flags)));
                times.extend(watch.wake_at());
            }
        }
        times.extend(self.machine.wake_at().and_then(|at| self.origin.checked_add(at)));
        if !self.leftovers.is_empty() {
            times.push(Instant::now() + LEFTOVER_POLL);
        }
        let timeout = times.into_iter().min().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up: the kernel may wake a fraction early, and this would turn in place.
            Timespec::try_from(left + Duration::from_micros(100))
                .unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 })
        });
        let mut fds: Vec<PollFd<'_>> =
            wanted.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = fds.iter().zip(&wanted).filter(|(fd, _)| !fd.revents().is_empty());
        let mut sources: Vec<Source> = ready.map(|(_, (source, _, _))| *source).collect();
        // From the last connection to the first: handling one may remove it.
        sources.reverse();
        sources.sort_by_key(|source| matches!(source, Source::End(_)));
        sources
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Termination => {
                let mut signal = [0; 128];
                let _ = rustix::io::read(&self.termination, &mut signal);
                self.happened(Event::Terminate);
            }
            Source::Listener => self.control.accept(Instant::now()),
            Source::Connection(index) => self.hear(index),
            Source::Output(serial) => {
                if let Some(service) = self.services.get_mut(&serial) {
                    service.read(&mut self.written);
                }
            }
            Source::End(serial) => self.ended(serial),
            // Looked at below, with those whose time has come.
            Source::Watch => {}
        }
    }

    fn hear(&mut self, index: usize) {
        let reply = match self.control.connections[index].hear() {
            Heard::Part => return,
            Heard::Closed => {
                self.control.connections.swap_remove(index);
                return;
            }
            Heard::Nonsense(reason) => Reply::Refused { reason },
            Heard::Request(request) => self
                .happened(Event::Request(*request))
                .unwrap_or(Reply::Refused { reason: "the holder has no answer to this".to_owned() }),
        };
        self.control.connections.swap_remove(index).answer(&reply);
    }

    fn ended(&mut self, serial: Serial) {
        let Some(mut service) = self.services.remove(&serial) else { return };
        // What is left in the pipe, but no more: somebody else may still be writing to it.
        for _ in 0..32 {
            if !service.read(&mut self.written) {
                break;
            }
        }
        let ended = Event::Ended { serial, note: service.end() };
        let group = service.group();
        if !process::group_lives(group) {
            drop(service);
            self.happened(ended);
            return;
        }
        process::signal_group(group, Signal::TERM);
        let kill_at = Instant::now() + service.stop_timeout;
        drop(service);
        // One that may not run beside others does not run beside their children either.
        let (end, now) = if self.machine.awaits_ends() { (Some(ended), None) } else { (None, Some(ended)) };
        self.leftovers.push(Leftover { group, kill_at, end });
        now.into_iter().for_each(|ended| drop(self.happened(ended)));
    }

    fn tend_watches(&mut self) {
        let now = Instant::now();
        self.control.connections.retain(|connection| connection.until > now);
        let ready: Vec<Serial> = self
            .services
            .iter_mut()
            .filter_map(|(serial, service)| service.watch.as_mut()?.look(now).then_some(*serial))
            .collect();
        for serial in ready {
            if let Some(service) = self.services.get_mut(&serial)
                && matches!(service.watch, Some(super::ready::Watch::Http(_)))
            {
                service.watch = None;
            }
            self.happened(Event::Ready { serial });
        }
    }

    fn tend_leftovers(&mut self) {
        let now = Instant::now();
        let mut ends = Vec::new();
        self.leftovers.retain_mut(|left| {
            if !process::group_lives(left.group) {
                ends.extend(left.end.take());
                return false;
            }
            if now >= left.kill_at {
                process::signal_group(left.group, Signal::KILL);
            }
            true
        });
        for end in ends {
            self.happened(end);
        }
    }

    /// Tells the machine, and carries out what it decides. Gives back the reply, if it was a request.
    fn happened(&mut self, event: Event) -> Option<Reply> {
        let mut reply = None;
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.now();
            for effect in self.machine.step(event, now) {
                match effect {
                    Effect::Answer(answer) => reply = Some(answer),
                    Effect::Exit { forget } => self.exit = Some(forget),
                    Effect::Terminate { serial } => {
                        self.services.get(&serial).into_iter().for_each(Service::terminate);
                    }
                    Effect::Refuse { address } => self.refuse(&address),
                    Effect::Admit => self.refusal = None,
                    Effect::Kill { serial } => self.services.get(&serial).into_iter().for_each(Service::kill),
                    Effect::Start { serial, child } => events.push_back(self.start(serial, &child)),
                    Effect::ReadTail { serial, attempt } => {
                        let service = self.services.get_mut(&serial);
                        let (lines, instead) = service.map_or_else(Default::default, |service| {
                            service.read(&mut self.written);
                            (service.tail(), service.watch.as_ref().and_then(super::ready::Watch::instead))
                        });
                        events.push_back(Event::Tail { attempt, lines, instead });
                    }
                }
            }
        }
        self.drop_sockets();
        self.save();
        reply
    }

    fn start(&mut self, serial: Serial, child: &ChildSpec) -> Event {
        let names = Names {
            run: &self.spec.run,
            stem: format!("{}.{}-{serial}", self.spec.name(), std::process::id()),
        };
        let started = socket(&mut self.sockets, child.listen.as_deref())
            .and_then(|shared| Service::start(child, shared, &names, Instant::now()));
        match started {
            Ok(service) => {
                let pid = service.id.pid;
                self.services.insert(serial, service);
                Event::Started { serial, pid }
            }
            Err(reason) => {
                let hint = child.listen.as_ref().and_then(|address| self.not_adopted.get(address));
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                let reason = format!("it could not be started: {reason}{hint}");
                Event::Ended { serial, note: EndNote::of(reason) }
            }
        }
    }

    /// Nobody is to wait any longer.
    fn refuse(&mut self, address: &str) {
        let Some(listening) = self.sockets.get(address) else { return };
        match Refusal::begin(listening, address) {
            Ok(refusal) => {
                say(&format!("nothing is ready to serve {address} in time: its connections are refused"));
                self.refusal = Some(refusal);
            }
            Err(error) => say(&format!("connections to {address} cannot be refused: {error}")),
        }
    }

    /// Closes the sockets of addresses that nothing serves any more.
    fn drop_sockets(&mut self) {
        let wanted = self.machine.addresses();
        let unwanted: Vec<String> =
            self.sockets.keys().filter(|address| !wanted.contains(&address.as_str())).cloned().collect();
        for address in unwanted {
            // It has the socket too.
            self.refusal.take_if(|refusal| refusal.address == address);
            self.sockets.remove(&address).into_iter().for_each(Listening::close);
        }
    }

    /// Writes the record if it has changed.
    fn save(&mut self) {
        let known = self.machine.remembered();
        let process = |pid: Option<u32>| {
            let service = self.services.values().find(|service| Some(service.id.pid) == pid)?;
            Some(service.id.clone())
        };
        let recorded = |wanted: Wanted<'_>| Recorded {
            child: wanted.child.clone(),
            key: wanted.key,
            process: process(wanted.pid),
        };
        let ending = known.ending.into_iter().filter_map(|(key, pid)| Some((key, process(Some(pid))?)));
        let record = Record {
            boot_id: self.boot_id.clone(),
            serving: known.serving.map(recorded),
            candidate: known.candidate.map(|(wanted, attempt)| (recorded(wanted), attempt.to_owned())),
            ending: ending.collect(),
            sockets: self.sockets.iter().map(|(address, socket)| (address.clone(), socket.inode)).collect(),
            recent: known.recent,
        };
        if record == self.recorded {
            return;
        }
        let path = self.spec.record();
        if let Err(error) = record.save(&path) {
            // A full disk must not end a service. The next holder would know an older state.
            say(&format!("cannot write {}: {error}", path.display()));
            return;
        }
        self.recorded = record;
    }

    fn leave(&mut self, forget: bool) {
        if forget {
            let _ = fs::remove_file(self.spec.record());
        }
        self.refusal = None;
        for (_, socket) in std::mem::take(&mut self.sockets) {
            socket.close();
        }
        let _ = fs::remove_file(self.spec.control());
    }
}

/// The socket for an address, bound if it is not yet.
fn socket<'s>(
    sockets: &'s mut BTreeMap<String, Listening>,
    address: Option<&str>,
) -> Result<Option<&'s Listening>, String> {
    let Some(address) = address else { return Ok(None) };
    if !sockets.contains_key(address) {
        sockets.insert(address.to_owned(), Listening::bind(address)?);
    }
    Ok(sockets.get(address))
}

/// Takes descriptors until 3 and 4 are taken.
fn reserve() -> io::Result<Vec<OwnedFd>> {
    let mut reserved = Vec::new();
    loop {
        let fd = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        if fd.as_raw_fd() > process::FIRST_PASSED + 1 {
            return Ok(reserved);
        }
        reserved.push(fd);
    }
}

/// To the holder's own log (its standard error): there is no subscriber in this process. `eprintln!` would
/// panic where the log cannot be written, and a full disk must not end what is held here.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
