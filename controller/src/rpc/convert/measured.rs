//! What a host has measured, from the form of the wire.

use landfall_common::{Duration, MetricName, ServiceName, StepName, printable};
use landfall_controller_core::observation::{CheckFigures, Figures, MetricFigures, ServiceFigures, Shown};
use landfall_proto::v1 as pb;

use crate::rpc::live;

/// What a host has measured. What has no name that could be one is left out: nothing could be compared by it.
pub fn figures(figures: &pb::HostFigures) -> Figures {
    let check = |check: &pb::CheckLatency| {
        Some(CheckFigures {
            check: StepName::new(check.check.as_str()).ok()?,
            count: check.count,
            failed: check.failed,
            p50: Duration::from_micros(check.p50_us),
        })
    };
    let service = |service: &pb::ServiceFigures| {
        Some(ServiceFigures {
            service: ServiceName::new(service.service.as_str()).ok()?,
            period: Duration::from_millis(service.period_ms),
            cpu: service.cpu_us.map(Duration::from_micros),
            memory_bytes: service.memory_bytes,
            restarts: service.restarts,
        })
    };
    let metric = |metric: &pb::MetricFigures| {
        let figure = match (metric.level, metric.events, metric.of) {
            (Some(level), _, _) => Ok(Shown::Level(level)),
            (None, Some(events), Some(of)) => Ok(Shown::Events { events, of }),
            _ => Err(live::cut(printable::line(&metric.missing))),
        };
        Some(MetricFigures {
            metric: MetricName::new(metric.metric.as_str()).ok()?,
            period: Duration::from_millis(metric.period_ms),
            figure,
        })
    };
    Figures {
        metrics: figures.metrics.iter().take(live::MAX_METRICS).filter_map(metric).collect(),
        checks: figures.checks.iter().take(live::MAX_CHECKS).filter_map(check).collect(),
        services: figures.services.iter().take(live::MAX_SERVICES).filter_map(service).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_taken_as_far_as_it_can_be_compared() {
        let check = |name: &str| pb::CheckLatency {
            check: name.to_owned(),
            count: 9,
            failed: 1,
            p50_us: 1_500,
            max_us: 90_000,
        };
        let checks = vec![check("web"), check("no name"), check("")];
        let service = |name: &str| pb::ServiceFigures {
            service: name.to_owned(),
            period_ms: 10_000,
            cpu_us: Some(7),
            memory_bytes: None,
            restarts: 2,
        };
        let services = vec![service("app"), service("no name")];
        let read = figures(&pb::HostFigures { checks, services, ..pb::HostFigures::default() });
        let [app] = &read.services[..] else { panic!("{read:?}") };
        assert_eq!((app.service.as_str(), app.period), ("app", Duration::from_secs(10)));
        assert_eq!((app.cpu, app.memory_bytes, app.restarts), (Some(Duration::from_micros(7)), None, 2));
        let metric =
            |name: &str| pb::MetricFigures { metric: name.to_owned(), ..pb::MetricFigures::default() };
        let metrics = vec![
            pb::MetricFigures { level: Some(0.0), ..metric("queue") },
            pb::MetricFigures { events: Some(3), of: Some(50), period_ms: 10_000, ..metric("errors") },
            pb::MetricFigures { missing: "it answered\u{1b}[2J".repeat(100), ..metric("done") },
            metric("no name"),
        ];
        let shown = figures(&pb::HostFigures { metrics, ..pb::HostFigures::default() }).metrics;
        let [queue, errors, done] = &shown[..] else { panic!("{shown:?}") };
        assert_eq!(queue.figure, Ok(Shown::Level(0.0)), "zero is a figure");
        assert_eq!(errors.figure, Ok(Shown::Events { events: 3, of: 50 }));
        assert_eq!(errors.period, Duration::from_secs(10));
        let why = done.figure.as_ref().unwrap_err();
        assert!(why.starts_with("it answered\\u{1b}") && why.len() <= 256, "{why}");
        let [web] = &read.checks[..] else { panic!("{read:?}") };
        assert_eq!((web.check.as_str(), web.count, web.failed), ("web", 9, 1));
        assert_eq!(web.p50, Duration::from_micros(1_500));
        let (checks, services) = (vec![check("web"); 1000], vec![service("app"); 1000]);
        let metrics = vec![metric("queue"); 1000];
        let many = figures(&pb::HostFigures { checks, services, metrics, ..pb::HostFigures::default() });
        assert_eq!(many.metrics.len(), live::MAX_METRICS);
        assert_eq!(many.checks.len(), live::MAX_CHECKS);
        assert_eq!(many.services.len(), live::MAX_SERVICES);
    }
}
