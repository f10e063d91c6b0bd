//! One service in one window: the processor and the memory that it used on a host, and how often it was started again.

use landfall_common::ServiceName;
use landfall_common::strategy::CanaryAnalysis;

use crate::analysis::{Count, Metric, Tolerance, Unit, Worse};
use crate::observation::ServiceFigures;

use super::{on_missing, ratio};

/// What a service of a host used in a window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    /// The seconds over which it was looked at.
    seconds: f64,
    /// Those over which its processor time was seen, and that time.
    cpu_over: f64,
    cpu: f64,
    /// How often its memory was read, and the sum of that in bytes.
    readings: u32,
    memory: f64,
    restarts: u64,
}

impl Use {
    pub fn add(&mut self, figures: &ServiceFigures) {
        let seconds = figures.period.as_secs_f64();
        self.seconds += seconds;
        if let Some(cpu) = figures.cpu {
            self.cpu_over += seconds;
            self.cpu += cpu.as_secs_f64();
        }
        if let Some(bytes) = figures.memory_bytes {
            self.readings += 1;
            self.memory += crate::analysis::window::number(bytes);
        }
        self.restarts += u64::from(figures.restarts);
    }

    /// In cores.
    pub fn cpu(self) -> Option<f64> {
        (self.cpu_over > 0.0).then(|| self.cpu / self.cpu_over)
    }

    /// In bytes.
    pub fn memory(self) -> Option<f64> {
        (self.readings > 0).then(|| self.memory / f64::from(self.readings))
    }

    /// Each second is a chance.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the seconds of a few windows"
    )]
    pub fn restarts(self) -> Count {
        let of = self.seconds.round() as u64;
        Count { events: self.restarts.min(of), of }
    }
}

pub(super) fn cpu_of(service: &ServiceName) -> String {
    format!("cpu of {service}")
}

pub(super) fn memory_of(service: &ServiceName) -> String {
    format!("memory of {service}")
}

pub(super) fn restarts_of(service: &ServiceName) -> String {
    format!("restarts of {service}")
}

pub(super) fn metrics(service: &ServiceName, asked: &CanaryAnalysis) -> [Metric; 3] {
    let (cpu, memory, restarts) = (&asked.cpu, &asked.memory, &asked.restarts);
    let slack = crate::analysis::window::number(memory.slack_bytes);
    [
        Metric {
            name: cpu_of(service),
            worse: Worse::Higher,
            tolerance: Tolerance::Level { ratio: ratio(cpu.tolerance_percent), slack: cpu.slack.fraction() },
            critical: cpu.critical,
            on_missing: on_missing(cpu.missing),
            unit: Unit::Cores,
        },
        Metric {
            name: memory_of(service),
            worse: Worse::Higher,
            tolerance: Tolerance::Level { ratio: ratio(memory.tolerance_percent), slack },
            critical: memory.critical,
            on_missing: on_missing(memory.missing),
            unit: Unit::Bytes,
        },
        Metric {
            name: restarts_of(service),
            worse: Worse::Higher,
            tolerance: Tolerance::Events {
                ratio: ratio(restarts.tolerance_percent),
                floor: restarts.floor_per_second(),
            },
            critical: restarts.critical,
            on_missing: on_missing(restarts.missing),
            unit: Unit::PerSecond,
        },
    ]
}

#[cfg(test)]
mod tests {
    use landfall_common::Duration;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_none_and_every_second_is_a_chance_to_end() {
        let figures = |cpu_ms: Option<u64>, memory_bytes, restarts| ServiceFigures {
            service: ServiceName::new("web").unwrap(),
            period: Duration::from_secs(10),
            cpu: cpu_ms.map(Duration::from_millis),
            memory_bytes,
            restarts,
        };
        let mut seen = Use::default();
        assert_eq!((seen.cpu(), seen.memory(), seen.restarts()), (None, None, Count::default()));
        seen.add(&figures(None, None, 1));
        assert_eq!((seen.cpu(), seen.memory(), seen.restarts()), (None, None, Count { events: 1, of: 10 }));
        seen.add(&figures(Some(2_000), Some(100), 0));
        seen.add(&figures(Some(4_000), Some(200), 100));
        assert_eq!((seen.cpu(), seen.memory()), (Some(0.3), Some(150.0)));
        assert_eq!(seen.restarts(), Count { events: 30, of: 30 });
    }
}
