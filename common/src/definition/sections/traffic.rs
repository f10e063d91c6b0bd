//! `[traffic]`: what stands in front of a service, and how a release is led around.

use super::{Place, address, check_words, duration, environment, headers, required_command};
use crate::definition::diagnostic::nearest;
use crate::definition::keys;
use crate::definition::reader::{At, Section};
use crate::ids::{ServiceName, StepName};
use crate::manifest::container::{Port, Protocol};
use crate::manifest::traffic::{Gate, MAX_SLOTTED, Proxy, Slot, Slots, Switch};
use crate::manifest::{Driver, Service, Step, Traffic};
use crate::time::Duration;

/// Most requests end within seconds; those that do not must not hold a release up for long.
const DRAIN: Duration = Duration::from_secs(30);
/// As long as somebody usually looks at a release after it went out.
const KEEP: Duration = Duration::from_secs(10 * 60);
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(60);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// The proxies, and the keys that each reads with slots and without.
const OWN: [(&str, &[&str], &[&str]); 3] = [
    ("nginx", &["upstream"], &[]),
    ("haproxy", &["backend"], &["backend", "server"]),
    (
        "command",
        &["switch", "environment", "timeout"],
        &["drain_command", "undrain_command", "environment", "timeout"],
    ),
];

/// `[traffic]`, for an application with this name and these services.
pub(in crate::definition) fn traffic(
    section: &Section<'_>,
    application: Option<&str>,
    services: &[Service],
) -> Option<Traffic> {
    if !section.has("proxy") {
        section.missing("proxy", "proxy = \"nginx\"");
    }
    let drain = duration(section, "drain", DRAIN);
    let kind = section.string("proxy")?;
    let known = OWN.map(|(proxy, ..)| proxy);
    let Some((_, with_slots, without)) = OWN.iter().find(|(proxy, ..)| *proxy == kind.value) else {
        let help = match nearest(&kind.value, known) {
            Some(like) => format!("did you mean \"{like}\"?"),
            None => format!("known proxies: {}", known.map(|name| format!("{name:?}")).join(", ")),
        };
        section.reader.wrong(kind.span, format!("unknown proxy {:?}", kind.value), Some(help));
        return None;
    };
    let has_slots = section.has("slots");
    only_own(section, &kind.value, if has_slots { with_slots } else { without });
    let slots = section.table("slots", "slots", "`slots`");
    let slots = slots.map(|table| self::slots(&table, services));
    let proxy = if has_slots {
        let switch = switch(section, &kind.value, application);
        Proxy::Slots { slots: slots??, switch: switch? }
    } else {
        Proxy::Gate { gate: gate(section, &kind)? }
    };
    Some(Traffic { proxy, drain })
}

/// Refuses the keys of another proxy, which would else be silently without effect.
fn only_own(section: &Section<'_>, proxy: &str, own: &[&str]) {
    let common = ["proxy", "drain", "slots"];
    for key in keys::of("[traffic]").iter().filter(|key| section.has(key)) {
        if common.contains(key) || own.contains(key) {
            continue;
        }
        let with = if section.has("slots") { "with" } else { "without" };
        let message = format!("`{key}` has no meaning for proxy {proxy:?} {with} `slots`");
        section.reader.wrong(section.key_span(key), message, Some(format!("remove `{key}`")));
    }
}

fn switch(section: &Section<'_>, proxy: &str, application: Option<&str>) -> Option<Switch> {
    match proxy {
        "nginx" => Some(Switch::Nginx { upstream: proxy_name(section, "upstream", application)? }),
        "haproxy" => Some(Switch::Haproxy { backend: proxy_name(section, "backend", application)? }),
        _ => Some(Switch::Command { switch: command(section, "switch", "switch")? }),
    }
}

fn gate(section: &Section<'_>, proxy: &At<String>) -> Option<Gate> {
    match proxy.value.as_str() {
        "nginx" => {
            let message =
                "nginx on a host leads requests to slots; without `slots` there is nowhere else to lead them";
            let help = "add `slots = { service = \"web\", blue = \"127.0.0.1:{blue}\", green = \"127.0.0.1:{green}\" }`";
            section.reader.wrong(proxy.span.clone(), message, Some(help.to_owned()));
            None
        }
        "haproxy" => {
            for (key, example) in [("backend", "backend = \"web\""), ("server", "server = \"{server}\"")] {
                if !section.has(key) {
                    section.missing(key, example);
                }
            }
            let backend = proxy_name(section, "backend", None);
            let server = proxy_name(section, "server", None);
            Some(Gate::Haproxy { backend: backend?, server: server? })
        }
        _ => {
            let drain = command(section, "drain_command", "drain");
            let undrain = command(section, "undrain_command", "undrain");
            Some(Gate::Command { drain: drain?, undrain: undrain? })
        }
    }
}

fn command(section: &Section<'_>, key: &str, step: &str) -> Option<Step> {
    let command = required_command(section, key, Place::Host);
    let environment = environment(section, Place::Host);
    let timeout = duration(section, "timeout", COMMAND_TIMEOUT);
    let name = StepName::new(step).expect("a literal that is a valid name");
    Some(Step { name, command: command?, environment, timeout, network: None })
}

/// A name in a proxy's configuration; it may hold words where it is a server's.
fn proxy_name(section: &Section<'_>, key: &str, default: Option<&str>) -> Option<String> {
    let Some(text) = section.string(key) else { return default.map(str::to_owned) };
    check_words(section.reader, &text, Place::Host);
    let good =
        |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c) || (key == "server" && "{}".contains(c));
    if !text.value.is_empty() && text.value.chars().all(good) {
        return Some(text.value);
    }
    let message = format!("{:?} is not a name that a proxy takes", text.value);
    section.reader.wrong(text.span, message, Some("letters, digits, '-', '_' and '.'".to_owned()));
    None
}

fn slots(section: &Section<'_>, services: &[Service]) -> Option<Slots> {
    for (key, example) in [
        ("service", "service = \"web\""),
        ("blue", "blue = \"127.0.0.1:{blue}\""),
        ("green", "green = \"127.0.0.1:{green}\""),
    ] {
        if !section.has(key) {
            section.missing(key, example);
        }
    }
    let service = section.name("service", ServiceName::new);
    if let Some(service) = &service {
        check_service(section, service, services);
    }
    let place = |key: &str| section.string(key).filter(|text| address(section, text, true));
    let (blue, green) = (place("blue"), place("green"));
    if let (Some(blue), Some(green)) = (&blue, &green)
        && blue.value == green.value
    {
        let message = format!("both slots are at {:?}", green.value);
        let help = Some("each release needs an address of its own while both run".to_owned());
        section.reader.wrong(green.span.clone(), message, help);
    }
    if let Some(service) = &service {
        check_container(section, service, services, [&blue, &green]);
    }
    let mut warm_up = Vec::new();
    for path in section.strings("warm_up").map(|list| list.value).unwrap_or_default() {
        let plain = path.value.starts_with('/')
            && !path.value.contains(|c: char| c.is_whitespace() || c.is_control());
        if !plain {
            let message = format!("{:?} is not a path that can be asked for", path.value);
            section.reader.wrong(
                path.span,
                message,
                Some("write the path alone, such as \"/login\"".to_owned()),
            );
            continue;
        }
        warm_up.push(path.value);
    }
    let warm_up_headers = headers(section, "warm_up_headers");
    Some(Slots {
        service: service?.value,
        blue: blue?.value,
        green: green?.value,
        keep: duration(section, "keep", KEEP),
        warm_up,
        warm_up_headers: warm_up_headers?,
        warm_up_timeout: duration(section, "warm_up_timeout", WARM_UP_TIMEOUT),
    })
}

/// The service that has slots must be there, and be one that can run twice.
fn check_service(section: &Section<'_>, name: &At<ServiceName>, services: &[Service]) {
    let wrong = |message: String, help: &str| {
        section.reader.wrong(name.span.clone(), message, Some(help.to_owned()));
    };
    let Some(service) = services.iter().find(|service| service.name == name.value) else {
        let names = services.iter().map(|service| service.name.as_str());
        let help = match nearest(name.value.as_str(), names) {
            Some(like) => format!("did you mean {like:?}?"),
            None => "name one of the [[service]] tables".to_owned(),
        };
        return wrong(format!("there is no service {:?}", name.value.as_str()), &help);
    };
    let text = service.name.as_str();
    if !service.on.is_empty() {
        wrong(format!("{text:?} has slots, and runs on some hosts only"), "remove its `on`");
    }
    if text.len() > MAX_SLOTTED {
        wrong(
            format!("{text:?} has more than {MAX_SLOTTED} bytes"),
            "its slots need longer names; shorten it",
        );
    }
    for taken in [Slot::Blue, Slot::Green].map(|slot| slot.instance(&service.name)) {
        if services.iter().any(|other| other.name == taken) {
            wrong(format!("the slots of {text:?} need the name {taken:?}"), "rename the other service");
        }
    }
    match &service.driver {
        Driver::Process { hold: Some(_), .. } => wrong(
            format!("service {text:?} has `hold`: it cannot run twice, and slots run side by side"),
            "remove its `hold`, or the `slots`",
        ),
        Driver::Process { listen: Some(listen), .. } if listen == "{address}" => {}
        Driver::Process { .. } => wrong(
            format!("service {text:?} does not listen where its slot is"),
            "write `listen = \"{address}\"` there: the word stands for the slot's address",
        ),
        Driver::Docker(container) => {
            let in_slot = |port: &Port| port.host == "{address}" && port.protocol == Protocol::Tcp;
            if container.network.as_deref() != Some("host") && !container.publish.iter().any(in_slot) {
                wrong(
                    format!("service {text:?} does not publish a port where its slot is"),
                    "write `publish = [\"{address}:8000\"]` there: the slot's address, the container's port",
                );
            }
        }
        // What their units and programs need is said where they are named.
        Driver::Exec { .. } | Driver::Systemd { .. } | Driver::Supervisor { .. } => {}
    }
}

/// Docker accepts connections for a container before anybody listens in it, and knows no sockets with paths.
fn check_container(
    section: &Section<'_>,
    name: &At<ServiceName>,
    services: &[Service],
    places: [&Option<At<String>>; 2],
) {
    let found = services.iter().find(|service| service.name == name.value);
    let Some(Driver::Docker(_)) = found.map(|service| &service.driver) else { return };
    if section.strings("warm_up").is_none_or(|paths| paths.value.is_empty()) {
        let message =
            "a container needs `warm_up`: Docker accepts connections for it before it listens itself";
        let help = Some("add `warm_up = [\"/healthz\"]`, a path that it answers once it is ready".to_owned());
        section.reader.wrong(name.span.clone(), message, help);
    }
    for place in places.into_iter().flatten().filter(|place| place.value.starts_with("unix:")) {
        let message = "a port of a container cannot be published on a path";
        section.reader.wrong(place.span.clone(), message, Some("write \"127.0.0.1:8001\"".to_owned()));
    }
}
