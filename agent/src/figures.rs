//! Figures of the host: processor, memory, disk, load, network, and the agent's own memory.
//!
//! Each reading looks at five small files of `/proc` and asks one file system; between two readings nothing
//! runs. They are reported, never stored, and no rollout is decided by a single one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sysinfo::{Networks, System};

/// One reading.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of all processors together since the last reading, in per mille.
    pub cpu_per_mille: u32,
    /// Memory that programs could not get any more, in bytes.
    pub memory_used_bytes: u64,
    /// All memory, in bytes.
    pub memory_total_bytes: u64,
    /// What an unprivileged program can still write to the file system of the releases, in bytes.
    pub disk_free_bytes: u64,
    /// The size of that file system, in bytes.
    pub disk_total_bytes: u64,
    /// The load average over one minute, times 100.
    pub load1_centi: u32,
    /// Over all interfaces but loopback, since the last reading, in bytes per second.
    pub network_received_bytes_per_s: u64,
    /// As above, sent.
    pub network_sent_bytes_per_s: u64,
    /// Resident memory of this process, in bytes.
    pub agent_rss_bytes: u64,
}

/// What has to be kept between two readings.
pub struct Meter {
    disk: PathBuf,
    system: Option<System>,
    networks: Option<Networks>,
    read_at: Instant,
}

impl Meter {
    /// Begins; the first reading has no rates yet. `disk` is where the releases are.
    #[must_use]
    pub fn new(disk: &Path) -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        let networks = Networks::new_with_refreshed_list().ok();
        Self { disk: disk.to_owned(), system, networks, read_at: Instant::now() }
    }

    /// Reads. What the host does not tell (a `/proc` that is hidden, say) stays zero.
    pub fn read(&mut self) -> Figures {
        let mut figures = Figures { agent_rss_bytes: own_rss().unwrap_or(0), ..Figures::default() };
        let elapsed = self.read_at.elapsed();
        self.read_at = Instant::now();
        if let Some(system) = &mut self.system {
            system.refresh_cpu_usage();
            system.refresh_memory();
            figures.cpu_per_mille = scaled(f64::from(system.global_cpu_usage()), 10.0);
            figures.memory_total_bytes = system.total_memory();
            figures.memory_used_bytes = system.total_memory().saturating_sub(system.available_memory());
        }
        if let Ok(load) = System::load_average() {
            figures.load1_centi = scaled(load.one, 100.0);
        }
        if let Ok(disk) = rustix::fs::statvfs(&self.disk) {
            figures.disk_free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
            figures.disk_total_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        }
        if let Some(networks) = &mut self.networks {
            networks.refresh(true);
            let outside = networks.iter().filter(|(name, _)| name.as_os_str() != "lo");
            let (received, sent) = outside.fold((0u64, 0u64), |(received, sent), (_, data)| {
                (received.saturating_add(data.received()), sent.saturating_add(data.transmitted()))
            });
            figures.network_received_bytes_per_s = per_second(received, elapsed);
            figures.network_sent_bytes_per_s = per_second(sent, elapsed);
        }
        figures
    }
}

fn per_second(bytes: u64, elapsed: Duration) -> u64 {
    let ms = elapsed.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / ms).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
fn scaled(value: f64, factor: f64) -> u32 {
    (value * factor).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// The second number of `/proc/self/statm`, in pages.
fn own_rss() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_of_this_host() {
        let mut meter = Meter::new(Path::new("/"));
        let figures = meter.read();
        assert!(figures.memory_total_bytes > figures.memory_used_bytes);
        assert!(figures.disk_total_bytes > 0 && figures.agent_rss_bytes > 0);
        assert!(figures.cpu_per_mille <= 1000);
    }

    #[test]
    fn a_directory_that_is_gone_gives_no_disk_figures() {
        assert_eq!(Meter::new(Path::new("/nonexistent")).read().disk_total_bytes, 0);
    }

    #[test]
    fn a_rate_survives_a_moment_of_no_length() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2000);
        assert_eq!(per_second(1, Duration::ZERO), 1000);
    }
}
