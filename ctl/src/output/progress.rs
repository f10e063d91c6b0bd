//! Bars on a terminal, and off one a line every 15 seconds that names what is awaited.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use super::format;
use crate::builder::Listener;
use crate::pack::Progress;

/// How often a program that waits says so off a terminal.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// A thread that says every [`HEARTBEAT`] what is awaited, until it is dropped.
pub struct Heartbeat {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Begins; `message` is asked each time.
    pub fn start(output: Output, message: impl Fn() -> String + Send + 'static) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = stop.clone();
        let thread = std::thread::spawn(move || {
            let (stopped, wake) = &*shared;
            let mut stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stopped {
                let (guard, waited) =
                    wake.wait_timeout(stopped, HEARTBEAT).unwrap_or_else(PoisonError::into_inner);
                stopped = guard;
                if waited.timed_out() && !*stopped {
                    output.note(message());
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let (stopped, wake) = &*self.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // It prints and waits; it has nothing to fail with.
            let _ = thread.join();
        }
    }
}

#[derive(Default)]
struct Counts {
    files: AtomicU64,
    total_files: AtomicU64,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
}

/// The progress of packing or of an upload.
pub struct Bar {
    bar: ProgressBar,
    counts: Arc<Counts>,
    _heartbeat: Option<Heartbeat>,
}

impl Bar {
    /// A bar with this label, such as `packing`.
    #[must_use]
    pub fn new(output: Output, label: &'static str) -> Self {
        let counts = Arc::new(Counts::default());
        if output.is_live() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = "{prefix:>10} [{bar:30}] {bytes}/{total_bytes}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(label);
            return Self { bar, counts, _heartbeat: None };
        }
        let shared = counts.clone();
        let message = move || {
            let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let (done, total) = (format::bytes(get(&shared.bytes)), format::bytes(get(&shared.total_bytes)));
            format!(
                "{label}: {} of {} files, {done} of {total}",
                get(&shared.files),
                get(&shared.total_files)
            )
        };
        Self { bar: ProgressBar::hidden(), counts, _heartbeat: Some(Heartbeat::start(output, message)) }
    }
}

impl Progress for Bar {
    fn total(&self, files: u64, bytes: u64) {
        self.counts.total_files.store(files, Ordering::Relaxed);
        self.counts.total_bytes.store(bytes, Ordering::Relaxed);
        self.bar.set_length(bytes);
    }

    fn file(&self, bytes: u64) {
        let done = self.counts.files.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.counts.total_files.load(Ordering::Relaxed);
        self.bar.set_message(format!("{done} of {total} files"));
        self.bytes(bytes);
    }

    fn bytes(&self, bytes: u64) {
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bar.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows what build commands write: each line, under the name of its step.
pub struct BuildOutput {
    output: Output,
    step: String,
}

impl BuildOutput {
    /// For this output.
    #[must_use]
    pub fn new(output: Output) -> Self {
        Self { output, step: String::new() }
    }
}

impl Listener for BuildOutput {
    fn step(&mut self, name: &str, command: &[String]) {
        name.clone_into(&mut self.step);
        self.output.note(format!("build {name}: {}", command.join(" ")));
    }

    fn line(&mut self, line: &str) {
        // What a build writes may hold anything; a terminal must not obey it.
        let clean: String = line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
        self.output.note(format!("  {} | {clean}", self.step));
    }
}
