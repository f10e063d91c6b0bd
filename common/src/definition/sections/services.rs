//! `[[service]]`: what runs, by its driver.

use std::collections::BTreeMap;

use super::docker;
use super::{Place, Taken, address, check_words, command, duration, environment, headers, name};
use super::{one_of, required_command, unique};
use crate::definition::diagnostic::nearest;
use crate::definition::keys;
use crate::definition::reader::{At, Section};
use crate::ids::{ServiceName, StepName};
use crate::manifest::{Driver, Ready, ReloadSignal, Renewal, Seat, Service, Step, Supervised, Unit};
use crate::time::{Duration, human};
use crate::words;

const READY_ALIVE: Duration = Duration::from_secs(2);
const READY_TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const EXEC_TIMEOUT: Duration = Duration::from_secs(2 * 60);
/// Above the 90 s that systemd itself gives a unit to start, so that its own word is heard.
pub(super) const JOB_TIMEOUT: Duration = Duration::from_secs(2 * 60);
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// Where Debian's package puts it.
const SUPERVISOR: &str = "/var/run/supervisor.sock";
/// The word for one of two slots.
const SLOT: &str = "{slot}";
/// systemd takes names of at most 255 bytes.
const MAX_UNIT: usize = 255;

/// The drivers, and the keys that each reads.
const OWN: [(&str, &[&str]); 5] = [
    ("process", &["command", "environment", "listen", "ready", "stop_timeout", "hold"]),
    ("exec", &["restart", "stop", "status", "environment", "timeout"]),
    ("systemd", &["unit", "how", "socket", "settle", "timeout"]),
    ("supervisor", &["program", "group", "server", "signal", "settle", "timeout"]),
    ("docker", docker::KEYS),
];

/// `[[service]]`; the one of this name has `slots` of `[traffic]`.
pub(in crate::definition) fn services(sections: Vec<Section<'_>>, slotted: Option<&str>) -> Vec<Service> {
    let mut taken = Taken::new();
    let read = |section: Section<'_>| {
        let name = name(&section, ServiceName::new);
        let has_slots = name.as_ref().is_some_and(|name| Some(name.value.as_str()) == slotted);
        if let Some(name) = &name {
            unique(&section, name, &mut taken);
        }
        let kind = section.string("driver");
        if !section.has("driver") {
            section.missing("driver", "driver = \"process\"");
        }
        let kind = kind?;
        let known = OWN.map(|(driver, _)| driver);
        if known.contains(&kind.value.as_str()) {
            only_own(&section, &kind.value);
        }
        let driver = match kind.value.as_str() {
            "process" => process(&section),
            "exec" => exec(&section, name.as_ref().map_or("service", |name| name.value.as_str())),
            "systemd" => systemd(&section, has_slots),
            "supervisor" => supervisor(&section, has_slots),
            "docker" => docker::docker(&section),
            other => {
                let help = match nearest(other, known) {
                    Some(like) => format!("did you mean \"{like}\"?"),
                    None => format!("known drivers: {}", known.map(|name| format!("{name:?}")).join(", ")),
                };
                section.reader.wrong(kind.span, format!("unknown driver {other:?}"), Some(help));
                None
            }
        };
        let on = on(&section);
        Some(Service { name: name?.value, driver: driver?, on })
    };
    sections.into_iter().filter_map(read).collect()
}

/// `on = { init = "supervisor" }`: the hosts that run the service, by their own variables.
fn on(section: &Section<'_>) -> BTreeMap<String, String> {
    let entries = section.map("on").unwrap_or_default();
    for (name, value) in &entries {
        let is_word = words::names(&format!("{{{name}}}")).next() == Some(name.as_str());
        let is_taken = words::KNOWN.contains(&name.as_str()) || ["slot", "address"].contains(&name.as_str());
        if !is_word || is_taken {
            let message = format!("{name:?} cannot be the name of a host's variable");
            let help = "lower-case letters, digits and '_', and none of the words that Landfall itself sets; \
                        see [variables] of the host's agent.toml";
            section.reader.wrong(value.span.clone(), message, Some(help.to_owned()));
        } else if words::names(&value.value).next().is_some() {
            let message = format!("{:?} holds a word, and is compared as it stands", value.value);
            let help = format!("write the value itself, such as `on = {{ {name} = \"supervisor\" }}`");
            section.reader.wrong(value.span.clone(), message, Some(help));
        }
    }
    entries.into_iter().map(|(name, value)| (name, value.value)).collect()
}

/// Refuses the keys of other drivers, which would else be silently without effect.
fn only_own(section: &Section<'_>, driver: &str) {
    let own = OWN.iter().find(|(name, _)| *name == driver).map_or(&[][..], |(_, keys)| keys);
    for key in keys::of("[[service]]").iter().filter(|key| section.has(key) && !own.contains(key)) {
        let others: Vec<_> =
            OWN.iter().filter(|(_, keys)| keys.contains(key)).map(|(name, _)| name).collect();
        let others = match others[..] {
            [] => continue,
            [only] => format!("driver {only:?}"),
            [first, second, ..] => format!("driver {first:?} or {second:?}"),
        };
        let message = format!("`{key}` is for services with {others} only");
        let help = match (*key, driver) {
            ("hold", "systemd") => {
                "remove `hold`; connections wait while a `socket` unit keeps their socket, as long as its unit may take"
            }
            ("hold", _) => {
                "remove `hold`; nothing keeps the socket of such a service while it is stopped, and neither nginx nor \
                 HAProxy holds requests back. Driver \"process\" does, and `slots` need not"
            }
            _ => &format!("remove `{key}`"),
        };
        section.reader.wrong(section.key_span(key), message, Some(help.to_owned()));
    }
}

fn process(section: &Section<'_>) -> Option<Driver> {
    let command = required_command(section, "command", Place::Host);
    let environment = environment(section, Place::Host);
    let listen = section.string("listen").filter(|listen| address(section, listen, true)).map(|at| at.value);
    let ready = if section.has("ready") {
        ready(section, listen.is_some())
    } else {
        Some(Ready::Alive { period: READY_ALIVE })
    };
    let stop_timeout = duration(section, "stop_timeout", STOP_TIMEOUT);
    let hold = hold(section, listen.is_some(), stop_timeout);
    Some(Driver::Process { command: command?, environment, listen, ready: ready?, stop_timeout, hold })
}

/// How long connections wait while the old process is stopped and the new one started.
fn hold(section: &Section<'_>, listens: bool, stop_timeout: Duration) -> Option<Duration> {
    let hold = section.duration("hold")?;
    if !listens {
        let message = "`hold` needs `listen`: connections wait on the socket that the holder keeps";
        let help = Some("add `listen = \"127.0.0.1:8000\"`".to_owned());
        section.reader.wrong(section.key_span("hold"), message, help);
    }
    if hold.value <= stop_timeout {
        let (stop, held) = (human::format(stop_timeout), human::format(hold.value));
        let message =
            format!("the old process may take {stop} to stop, and connections are held for {held} only");
        let help = "let `hold` be longer than `stop_timeout` and the start of the new one together";
        section.reader.wrong(hold.span, message, Some(help.to_owned()));
    }
    Some(hold.value)
}

fn ready(service: &Section<'_>, listens: bool) -> Option<Ready> {
    let section = service.table("ready", "ready", "`ready`")?;
    let timeout = duration(&section, "timeout", READY_TIMEOUT);
    let asked = one_of(&section, &["http", "notify", "alive"])?;
    if asked != "http" && section.has("headers") {
        let help = Some("remove `headers`".to_owned());
        section.reader.wrong(section.key_span("headers"), "`headers` are those of `http`", help);
    }
    match asked {
        "http" => {
            let path = section.string("http")?;
            if !path.value.starts_with('/') {
                let help = Some("write the path alone, such as `http = \"/healthz\"`".to_owned());
                section.reader.wrong(path.span, "`http` must be a path beginning with '/'", help);
                return None;
            }
            if !listens {
                let message = "`ready.http` needs `listen`: the holder asks over a socket like that one";
                let help = Some("add `listen = \"127.0.0.1:8000\"`, or use `notify` or `alive`".to_owned());
                section.reader.wrong(section.key_span("http"), message, help);
            }
            Some(Ready::Http { path: path.value, headers: headers(&section, "headers")?, timeout })
        }
        "notify" => {
            if section.boolean("notify")? {
                return Some(Ready::Notify { timeout });
            }
            let help = Some("write `notify = true`, or use `http` or `alive`".to_owned());
            section.reader.wrong(section.key_span("notify"), "`notify = false` says nothing", help);
            None
        }
        _ => {
            if section.has("timeout") {
                let help = Some("remove `timeout`".to_owned());
                section.reader.wrong(section.key_span("timeout"), "`alive` has no timeout", help);
            }
            Some(Ready::Alive { period: section.duration("alive")?.value })
        }
    }
}

fn exec(section: &Section<'_>, service: &str) -> Option<Driver> {
    let environment = environment(section, Place::Host);
    let timeout = duration(section, "timeout", EXEC_TIMEOUT);
    let step = |verb: &str, command| {
        // A service's name has at most 63 bytes, and so has a step's.
        let stem = &service[..service.len().min(63 - verb.len() - 1)];
        let name = StepName::new(format!("{stem}-{verb}")).ok()?;
        Some(Step { name, command, environment: environment.clone(), timeout, network: None })
    };
    let restart = required_command(section, "restart", Place::Host);
    let stop = command(section, "stop", Place::Host).and_then(|command| step("stop", command));
    let status = command(section, "status", Place::Host).and_then(|command| step("status", command));
    Some(Driver::Exec { restart: step("restart", restart?)?, stop, status })
}

fn systemd(section: &Section<'_>, has_slots: bool) -> Option<Driver> {
    if !section.has("unit") {
        section.missing("unit", "unit = \"tenants-web.service\"");
    }
    let socket = section.string("socket").and_then(|text| socket(section, text, has_slots));
    let settle = duration(section, "settle", SETTLE);
    let timeout = duration(section, "timeout", JOB_TIMEOUT);
    let text = section.string("unit")?;
    let span = text.span.clone();
    let unit = unit(section, text, has_slots)?;
    if !has_slots {
        return Some(Driver::Systemd { unit, socket, settle, timeout, slot: None });
    }
    let slot = Some(Seat::of_words());
    let (message, help) = match unit {
        Unit::Slots { template } => {
            let unit = Unit::Fixed { name: of_slots(&template), how: Renewal::Restart };
            return Some(Driver::Systemd { unit, socket, settle, timeout, slot });
        }
        Unit::Fixed { ref name, .. } => (
            format!("{name:?} is one unit, and the service has two slots that run side by side"),
            format!("write `unit = \"{}@{{slot}}.service\"`: an instance for each slot", stem(name)),
        ),
        Unit::Releases { ref template } => (
            "with slots a release may run in either, and there is one instance for each release".to_owned(),
            format!("write `unit = {:?}`", of_slots(template)),
        ),
    };
    section.reader.wrong(span, message, Some(help));
    Some(Driver::Systemd { unit, socket, settle, timeout, slot })
}

/// A socket unit; one for each slot where there are slots.
fn socket(section: &Section<'_>, text: At<String>, has_slots: bool) -> Option<String> {
    let template = text.value.replacen(SLOT, "", 1);
    if template == text.value {
        let name = unit_name(section, At { value: template, span: text.span.clone() }, ".socket", "socket")?;
        if has_slots {
            let message = format!("{name:?} would lead to both slots, and the proxy to one of them");
            let help = format!(
                "write `socket = \"{}@{{slot}}.socket\"`, which listens at its slot's address, or remove `socket`",
                stem(&name)
            );
            section.reader.wrong(text.span, message, Some(help));
        }
        return Some(name);
    }
    let (message, help) = if !has_slots {
        let message = format!("{:?} needs `slots` of [traffic] for this service", text.value);
        (message, format!("write `socket = \"{}.socket\"`: its instances share one", stem(&template)))
    } else if !template.ends_with("@.socket") {
        let message = format!("{:?} does not name instances of a template", text.value);
        (message, "write `socket = \"web@{slot}.socket\"`".to_owned())
    } else {
        let name = unit_name(section, At { value: template, span: text.span }, ".socket", "socket")?;
        return Some(of_slots(&name));
    };
    section.reader.wrong(text.span, message, Some(help));
    None
}

/// `web@{slot}.service` of `web@.service`.
fn of_slots(template: &str) -> String {
    template.replacen('@', &format!("@{SLOT}"), 1)
}

/// A unit's name without what follows `@` or the kind.
fn stem(unit: &str) -> &str {
    unit.split(['@', '.']).next().unwrap_or(unit)
}

/// A unit, or the instances of a template: `web@{slot}.service`, `web@{release}.service`.
fn unit(section: &Section<'_>, text: At<String>, has_slots: bool) -> Option<Unit> {
    let how = section.string("how");
    let instances = |word: &str| text.value.contains(word).then(|| text.value.replacen(word, "", 1));
    let (slots, releases) = (instances("{slot}"), instances("{release}"));
    if let Some(template) = slots.as_ref().or(releases.as_ref()) {
        if !template.ends_with("@.service") {
            let message = format!("{:?} does not name instances of a template", text.value);
            let help = match has_slots {
                true => "write `unit = \"web@{slot}.service\"`",
                false => "write `unit = \"web@{slot}.service\"` or `unit = \"web@{release}.service\"`",
            };
            section.reader.wrong(text.span, message, Some(help.to_owned()));
            return None;
        }
        if how.is_some() {
            let message =
                "`how` has no meaning for instances: the new one is started before the old one stops";
            section.reader.wrong(section.key_span("how"), message, Some("remove `how`".to_owned()));
        }
        let is_slots = slots.is_some();
        let template =
            unit_name(section, At { value: template.clone(), span: text.span }, ".service", "unit")?;
        return Some(if is_slots { Unit::Slots { template } } else { Unit::Releases { template } });
    }
    if text.value.ends_with("@.service") {
        let stem = text.value.trim_end_matches(".service");
        let message = format!("{:?} is a template, which cannot run itself", text.value);
        let help =
            format!("write `unit = \"{stem}{{slot}}.service\"` or `unit = \"{stem}{{release}}.service\"`");
        section.reader.wrong(text.span, message, Some(help));
        return None;
    }
    let how = match how.as_ref().map(|how| how.value.as_str()) {
        None | Some("restart") => Renewal::Restart,
        Some("reload") => Renewal::Reload,
        Some(other) => {
            let help = match nearest(other, ["restart", "reload"]) {
                Some(like) => format!("did you mean \"{like}\"?"),
                None => "write `how = \"restart\"` or `how = \"reload\"`".to_owned(),
            };
            let span = how.as_ref().map_or_else(|| section.span.clone(), |how| how.span.clone());
            section.reader.wrong(span, format!("`how` is {other:?}"), Some(help));
            Renewal::Restart
        }
    };
    let name = unit_name(section, text, ".service", "unit")?;
    Some(Unit::Fixed { name, how })
}

/// The name of a unit with its suffix, in systemd's characters.
fn unit_name(section: &Section<'_>, text: At<String>, suffix: &str, key: &str) -> Option<String> {
    let stem = text.value.strip_suffix(suffix);
    let good = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let wrong = match stem {
        None => format!("{:?} does not end in {suffix}", text.value),
        Some("" | "@") => format!("{:?} has no name before {suffix}", text.value),
        Some(_) if text.value.len() > MAX_UNIT => format!("`{key}` has more than {MAX_UNIT} bytes"),
        Some(stem) if !stem.bytes().all(good) => {
            format!("{:?} is not the name of a unit: systemd takes letters, digits and :-_.\\@", text.value)
        }
        Some(_) => return Some(text.value),
    };
    let bare = text.value.split_once('.').map_or(text.value.as_str(), |(bare, _)| bare);
    let likely = stem.is_none() && !bare.is_empty() && bare.bytes().all(good);
    let help = likely.then(|| format!("write `{key} = \"{bare}{suffix}\"`"));
    section.reader.wrong(text.span, wrong, help);
    None
}

fn supervisor(section: &Section<'_>, has_slots: bool) -> Option<Driver> {
    let target = one_of(section, &["program", "group"]).and_then(|key| {
        let text = section.string(key)?;
        let span = text.span.clone();
        let name = supervised(section, text, key == "program")?;
        check_slots(section, &At { value: name.clone(), span }, key, has_slots);
        Some(if key == "program" { Supervised::Program { name } } else { Supervised::Group { name } })
    });
    let server = match section.string("server") {
        None => Some(SUPERVISOR.to_owned()),
        Some(server) => {
            check_words(section.reader, &server, Place::Host);
            let is_path = server.value.starts_with('/') || server.value.starts_with('{');
            if !is_path {
                let message = format!("{:?} is not the path of a socket", server.value);
                let help = match server.value.strip_prefix("unix://") {
                    Some(path) => format!("write `server = {path:?}`"),
                    None => {
                        format!("write `server = {SUPERVISOR:?}`; Supervisor is asked on its own host only")
                    }
                };
                section.reader.wrong(server.span, message, Some(help));
            }
            is_path.then_some(server.value)
        }
    };
    let signal = section.string("signal");
    if has_slots && let Some(signal) = &signal {
        let message =
            "`signal` has no meaning with slots: a process is started in the free one, and never renewed";
        section.reader.wrong(signal.span.clone(), message, Some("remove `signal`".to_owned()));
    }
    let read = signal.as_ref().map(|signal| match signal.value.trim_start_matches("SIG") {
        "HUP" => Some(ReloadSignal::Hup),
        "USR1" => Some(ReloadSignal::Usr1),
        "USR2" => Some(ReloadSignal::Usr2),
        other => {
            let message = format!("{other:?} is not a signal on which a process loads its program anew");
            let help = "write \"HUP\", \"USR1\" or \"USR2\", or leave `signal` out to stop and start it";
            section.reader.wrong(signal.span.clone(), message, Some(help.to_owned()));
            None
        }
    });
    if section.has("settle") && signal.is_none() {
        let message = "`settle` needs `signal`: a process that is started has Supervisor's own `startsecs`";
        section.reader.wrong(section.key_span("settle"), message, Some("remove `settle`".to_owned()));
    }
    let settle = duration(section, "settle", SETTLE);
    let timeout = duration(section, "timeout", JOB_TIMEOUT);
    let signal = match read {
        None => None,
        Some(signal) => Some(signal?),
    };
    let slot = has_slots.then(Seat::of_words);
    Some(Driver::Supervisor { target: target?, server: server?, signal, settle, timeout, slot })
}

/// Each slot has a program or a group of its own, and nothing else has.
fn check_slots(section: &Section<'_>, name: &At<String>, key: &str, has_slots: bool) {
    let (message, help) = match (has_slots, name.value.contains(SLOT)) {
        (true, true) | (false, false) => return,
        (true, false) => (
            format!("{:?} is one {key}, and the service has two slots that run side by side", name.value),
            format!("write `{key} = \"{}-{{slot}}\"`: Supervisor needs one for each slot", name.value),
        ),
        (false, true) => (
            format!("{:?} needs `slots` of [traffic] for this service", name.value),
            format!("write `{key} = {:?}`", name.value.replace("-{slot}", "").replace(SLOT, "")),
        ),
    };
    section.reader.wrong(name.span.clone(), message, Some(help));
}

/// The name of a program (`web`, `group:web`) or a group.
fn supervised(section: &Section<'_>, text: At<String>, in_group: bool) -> Option<String> {
    let good = |part: &str| {
        !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || ":/[]*".contains(c))
    };
    let parts: Vec<&str> = text.value.split(':').collect();
    let known = match parts[..] {
        [name] => good(name),
        [group, "*"] if good(group) => {
            let message = format!("{:?} names a whole group", text.value);
            section.reader.wrong(text.span, message, Some(format!("write `group = {group:?}`")));
            return None;
        }
        [group, name] => in_group && good(group) && good(name),
        _ => false,
    };
    if !known {
        let help = if in_group {
            "write \"web\" or \"group:web\""
        } else {
            "write the group's own name, such as \"web\""
        };
        section.reader.wrong(
            text.span,
            format!("{:?} is not a name of Supervisor's", text.value),
            Some(help.to_owned()),
        );
        return None;
    }
    Some(text.value)
}
