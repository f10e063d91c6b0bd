//! What happens on one host as it comes to run a release, as its signed manifest says it: one line for each thing.

use landfall_common::assignment::ReleaseRef;
use landfall_common::manifest::traffic::{Gate, Proxy, Switch};
use landfall_common::manifest::{Driver, Program, Renewal, Service, Supervised, Traffic, Unit};
use landfall_common::time::human;

/// The lines, in the order in which it happens.
pub(super) fn lines(release: &ReleaseRef, program: &Program) -> Vec<String> {
    let mut all = Vec::new();
    let gate = match program.traffic.as_ref() {
        Some(Traffic { proxy: Proxy::Gate { gate }, drain }) => Some((gate, human::format(*drain))),
        _ => None,
    };
    if let Some((gate, drain)) = &gate {
        all.push(format!("requests are led away ({}), those under way get {drain}", by_gate(gate)));
    }
    let slots = program.traffic.as_ref().and_then(|traffic| match &traffic.proxy {
        Proxy::Slots { slots, switch } => Some((slots, switch)),
        Proxy::Gate { .. } => None,
    });
    if let Some((slots, switch)) = slots {
        all.push(format!("{} starts in the slot that is free, and answers there", slots.service));
        all.push(format!("`current` names {}", release.name));
        all.push(format!("requests are led to that slot ({})", by_switch(switch)));
    } else {
        all.push(format!("`current` names {}", release.name));
    }
    let others = program.services.iter().filter(|s| slots.is_none_or(|(slots, _)| slots.service != s.name));
    all.extend(others.map(service));
    if let Some((gate, _)) = &gate {
        all.push(format!("requests are led back once its checks hold ({})", by_gate(gate)));
    }
    let checks: Vec<&str> = program.checks.iter().map(|check| check.name.as_str()).collect();
    if !checks.is_empty() {
        all.push(format!("its checks hold: {}", checks.join(", ")));
    }
    all.extend(
        program.smoke.iter().map(|step| format!("{} runs once: {}", step.name, command(&step.command))),
    );
    all
}

fn by_gate(gate: &Gate) -> String {
    match gate {
        Gate::Haproxy { backend, server } => format!("HAProxy, server {backend}/{server}"),
        Gate::Command { .. } => "by the release's own command".to_owned(),
    }
}

fn by_switch(switch: &Switch) -> String {
    match switch {
        Switch::Nginx { upstream } => format!("nginx, upstream {upstream}"),
        Switch::Haproxy { backend } => format!("HAProxy, backend {backend}"),
        Switch::Command { .. } => "by the release's own command".to_owned(),
    }
}

fn service(service: &Service) -> String {
    let name = &service.name;
    match &service.driver {
        Driver::Process { hold: None, stop_timeout, .. } => format!(
            "{name}: the new process starts beside the old one and is ready, then the old one finishes its requests, \
             for {} at most",
            human::format(*stop_timeout)
        ),
        Driver::Process { hold: Some(hold), .. } => format!(
            "{name}: the old process ends, then the new one starts; connections wait, for {} at most",
            human::format(*hold)
        ),
        Driver::Exec { restart, .. } => format!("{name}: {}", command(&restart.command)),
        Driver::Systemd { unit, .. } => match unit {
            Unit::Fixed { name: unit, how: Renewal::Restart } => format!("{name}: systemctl restart {unit}"),
            Unit::Fixed { name: unit, how: Renewal::Reload } => format!("{name}: systemctl reload {unit}"),
            Unit::Slots { template } | Unit::Releases { template } => {
                format!("{name}: another instance of {template} is started, then the old one is stopped")
            }
        },
        Driver::Supervisor { target, signal, .. } => {
            let target = match target {
                Supervised::Program { name } => name.clone(),
                Supervised::Group { name } => format!("{name}:*"),
            };
            match signal {
                Some(signal) => format!("{name}: supervisorctl signal {} {target}", signal.name()),
                None => format!("{name}: supervisorctl restart {target}"),
            }
        }
        Driver::Docker(_) => format!("{name}: the container is stopped, and made anew of the older image"),
    }
}

/// As it would be typed; nothing of it goes through a shell.
pub(super) fn command(argv: &[String]) -> String {
    let is_plain = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+{}".contains(c))
    };
    let word = |word: &String| {
        if is_plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_common::definition::Definition;
    use landfall_common::{ReleaseCounter, ReleaseName, Sha256};

    fn told(definition: &str) -> String {
        let program = Definition::parse("landfall.toml", definition).unwrap().program;
        let name = ReleaseName::new("v1.3").unwrap();
        let release = ReleaseRef { name, counter: ReleaseCounter(3), digest: Sha256::of(b"v1.3"), length: 1 };
        lines(&release, &program).join("\n")
    }

    #[test]
    fn what_happens_on_a_host_is_told_in_its_order() {
        insta::assert_snapshot!(told(r#"
[application]
name = "shop"

[[service]]
name = "web"
driver = "process"
command = ["gunicorn", "shop.wsgi"]
listen = "127.0.0.1:8000"
ready = { http = "/healthz", timeout = "15s" }

[[service]]
name = "worker"
driver = "systemd"
unit = "shop-worker.service"

[[service]]
name = "mail"
driver = "exec"
restart = ["bin/mail", "restart now"]

[[check]]
name = "healthz"
http = { url = "http://127.0.0.1:8000/healthz", status = 200 }

[traffic]
proxy = "haproxy"
drain = "20s"
backend = "shop"
server = "{host}"
"#), @r"
requests are led away (HAProxy, server shop/{host}), those under way get 20s
`current` names v1.3
web: the new process starts beside the old one and is ready, then the old one finishes its requests, for 30s at most
worker: systemctl restart shop-worker.service
mail: bin/mail 'restart now'
requests are led back once its checks hold (HAProxy, server shop/{host})
its checks hold: healthz
");
    }

    #[test]
    fn a_slot_is_filled_before_requests_are_led_there() {
        insta::assert_snapshot!(told(r#"
[application]
name = "shop"

[[service]]
name = "web"
driver = "process"
command = ["gunicorn", "shop.wsgi"]
listen = "{address}"
ready = { http = "/healthz", timeout = "15s" }

[traffic]
proxy = "nginx"
slots = { service = "web", blue = "127.0.0.1:8001", green = "127.0.0.1:8002" }
"#), @r"
web starts in the slot that is free, and answers there
`current` names v1.3
requests are led to that slot (nginx, upstream shop)
");
    }
}
