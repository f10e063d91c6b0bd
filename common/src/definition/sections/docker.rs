//! A `[[service]]` with the driver `docker`: a container, and what it may ask for.

use super::services::{JOB_TIMEOUT, SETTLE, STOP_TIMEOUT};
use super::{Place, address, check_words, command, duration, environment, one_of};
use crate::definition::diagnostic::nearest;
use crate::definition::reader::{At, Section};
use crate::manifest::container::{Container, Image, LogDriver, Port, Protocol, Volume, VolumeSource};
use crate::manifest::{Driver, component};
use crate::words;

/// What is read here.
pub(super) const KEYS: &[&str] = &[
    "image",
    "image_file",
    "command",
    "environment",
    "publish",
    "volumes",
    "network",
    "user",
    "memory",
    "cpus",
    "pids",
    "privileged",
    "log_driver",
    "settle",
    "timeout",
    "stop_timeout",
];

/// Docker refuses less.
const MIN_MEMORY: u64 = 6 * super::MIB;

/// More cores than this have not been built into one machine.
const MAX_CPUS_MILLI: u32 = 4_096_000;

/// A container.
pub(super) fn docker(section: &Section<'_>) -> Option<Driver> {
    let image = match one_of(section, &["image", "image_file"]) {
        Some("image") => section.string("image").and_then(|text| reference(section, text)),
        Some(_) => section.string("image_file").and_then(|text| file(section, text)),
        None => None,
    };
    let network = section.string("network").and_then(|text| network(section, text));
    let publish = publish(section);
    if network.as_deref() == Some("host") && !publish.is_empty() {
        let message =
            "`publish` has no meaning with `network = \"host\"`: the container listens on the host itself";
        section.reader.wrong(section.key_span("publish"), message, Some("remove `publish`".to_owned()));
    }
    let log_driver = match section.string("log_driver") {
        None => LogDriver::Local,
        Some(text) => log_driver(section, &text),
    };
    let container = Container {
        command: command(section, "command", Place::Host).unwrap_or_default(),
        environment: environment(section, Place::Host),
        volumes: volumes(section),
        user: section.string("user").and_then(|text| user(section, text)),
        memory_bytes: section.string("memory").and_then(|text| memory(section, &text)),
        cpus_milli: section.string("cpus").and_then(|text| cpus(section, &text)),
        pids: section.integer("pids", 1..=u32::MAX),
        privileged: section.boolean("privileged").unwrap_or(false),
        settle: duration(section, "settle", SETTLE),
        timeout: duration(section, "timeout", JOB_TIMEOUT),
        stop_timeout: duration(section, "stop_timeout", STOP_TIMEOUT),
        image: image?,
        network,
        publish,
        log_driver,
    };
    Some(Driver::Docker(Box::new(container)))
}

/// `name@sha256:…`. A tag beside the digest says nothing to a host and is left out.
fn reference(section: &Section<'_>, text: At<String>) -> Option<Image> {
    let value = &text.value;
    let (name, digest) = value.split_once('@').map_or((value.as_str(), None), |(n, d)| (n, Some(d)));
    // A colon before the last slash belongs to the registry's port.
    let tag = name.rfind('/').map_or(0, |slash| slash + 1);
    let name = name[tag..].find(':').map_or(name, |colon| &name[..tag + colon]);
    let good_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:[]".contains(&b))
        && name.split('/').all(|part| !part.is_empty());
    let read = digest.and_then(|digest| digest.strip_prefix("sha256:")?.parse().ok());
    if let Some(digest) = read.filter(|_| good_name) {
        return Some(Image::Registry { name: name.to_owned(), digest });
    }
    let (message, help) = match digest {
        _ if !good_name => (format!("{value:?} is not the name of an image"), None),
        None => (
            format!(
                "{value:?} names no digest: what a tag stands for may change after the release was signed"
            ),
            Some(format!(
                "write `image = \"{name}@sha256:…\"`; `docker inspect --format '{{{{index .RepoDigests 0}}}}' {value}` prints it"
            )),
        ),
        Some(digest) => (
            format!("{digest:?} is not a digest"),
            Some("write `sha256:` and 64 digits of 0-9 and a-f".to_owned()),
        ),
    };
    section.reader.wrong(text.span, message, help);
    None
}

/// A file of the release.
fn file(section: &Section<'_>, text: At<String>) -> Option<Image> {
    let good = text.value.split('/').all(|part| component(part).is_ok())
        && words::names(&text.value).next().is_none();
    if good {
        return Some(Image::File { path: text.value, digest: None });
    }
    let message = format!("{:?} is not the path of a file in the release", text.value);
    let help = "write it relative to the root of the release, such as `image_file = \"images/web.tar\"`";
    section.reader.wrong(text.span, message, Some(help.to_owned()));
    None
}

fn network(section: &Section<'_>, text: At<String>) -> Option<String> {
    if is_name(&text.value) {
        return Some(text.value);
    }
    let message = format!("{:?} is not the name of a network", text.value);
    let help = "letters, digits, '_', '-' and '.'; the network of another container cannot be shared";
    section.reader.wrong(text.span, message, Some(help.to_owned()));
    None
}

/// The names that Docker takes.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn publish(section: &Section<'_>) -> Vec<Port> {
    let list = section.strings("publish").map(|list| list.value).unwrap_or_default();
    list.into_iter().filter_map(|text| port(section, text)).collect()
}

/// `host:port:container`, where the first two may be words; `/udp` at its end for UDP.
fn port(section: &Section<'_>, text: At<String>) -> Option<Port> {
    let wrong = |message: String, help: String| {
        section.reader.wrong(text.span.clone(), message, Some(help));
    };
    let (rest, protocol) = match text.value.rsplit_once('/') {
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        _ => (text.value.as_str(), Protocol::Tcp),
    };
    let split = rest.rsplit_once(':');
    let container = split.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
    let (Some((host, _)), Some(container)) = (split, container) else {
        wrong(
            format!("{:?} does not say which port of the container is published where", text.value),
            "write \"127.0.0.1:8000:8000\": address and port on the host, port in the container".to_owned(),
        );
        return None;
    };
    let host = host.to_owned();
    if host.parse::<u16>().is_ok() {
        wrong(
            format!("{:?} says no address", text.value),
            format!(
                "write \"127.0.0.1:{rest}\"; for every address of the host, past its firewall, \"0.0.0.0:{rest}\""
            ),
        );
        return None;
    }
    let at = At { value: host, span: text.span.clone() };
    address(section, &at, false).then_some(Port { host: at.value, container, protocol })
}

fn volumes(section: &Section<'_>) -> Vec<Volume> {
    let list = section.strings("volumes").map(|list| list.value).unwrap_or_default();
    let volumes: Vec<_> = list.into_iter().filter_map(|text| volume(section, text)).collect();
    for (at, volume) in volumes.iter().enumerate() {
        if volumes[..at].iter().any(|other| other.target == volume.target) {
            let message = format!("two volumes are mounted at {:?}", volume.target);
            section.reader.wrong(section.key_span("volumes"), message, None);
        }
    }
    volumes
}

/// `source:target`, with `:ro` at its end for one that is not written to.
fn volume(section: &Section<'_>, text: At<String>) -> Option<Volume> {
    check_words(section.reader, &text, Place::Host);
    let wrong = |message: String, help: &str| {
        section.reader.wrong(text.span.clone(), message, Some(help.to_owned()));
    };
    let example = "write \"{shared}/media:/app/media\", or \"name:/data\" for a volume of Docker's; `:ro` behind it \
                   for one that is not written to";
    let parts: Vec<&str> = text.value.split(':').collect();
    let (source, target, read_only) = match parts[..] {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => {
            wrong(format!("{:?} is not a volume", text.value), example);
            return None;
        }
    };
    let is_inside = target.len() > 1
        && target.starts_with('/')
        && target[1..].split('/').all(|part| component(part).is_ok());
    if !is_inside {
        wrong(
            format!("{target:?} is not a place in a container"),
            "write an absolute path, such as \"/data\"",
        );
        return None;
    }
    let is_path = source.starts_with(['/', '{']);
    if !is_path && !is_name(source) {
        wrong(format!("{source:?} is neither an absolute path nor the name of a volume"), example);
        return None;
    }
    let first = words::names(source).next();
    if is_path && first == Some("current") {
        let message = "`{current}` may name another release than the one that the container runs".to_owned();
        wrong(message, "write `{release}`");
        return None;
    }
    if is_path && !read_only && matches!(first, Some("release" | "prepared")) {
        let message = format!("{source:?} is part of a release, which nothing may change once it is there");
        wrong(message, "add `:ro`, or mount something of `{shared}`");
        return None;
    }
    let source = if is_path {
        VolumeSource::Path { path: source.to_owned() }
    } else {
        VolumeSource::Named { name: source.to_owned() }
    };
    Some(Volume { source, target: target.to_owned(), read_only })
}

fn user(section: &Section<'_>, text: At<String>) -> Option<String> {
    let good = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    if text.value.split(':').count() <= 2 && text.value.split(':').all(good) {
        return Some(text.value);
    }
    let message = format!("{:?} is not a user", text.value);
    section.reader.wrong(
        text.span,
        message,
        Some("write \"user\", \"user:group\" or \"1000:1000\"".to_owned()),
    );
    None
}

/// `"512MiB"`, in powers of two.
fn memory(section: &Section<'_>, text: &At<String>) -> Option<u64> {
    let bytes = super::bytes(section, "memory", text)?;
    if bytes < MIN_MEMORY {
        let message = format!("`memory` is {}: Docker gives no container less than 6MiB", text.value);
        section.reader.wrong(text.span.clone(), message, None);
        return None;
    }
    Some(bytes)
}

/// `"1.5"` cores, to the thousandth.
fn cpus(section: &Section<'_>, text: &At<String>) -> Option<u32> {
    let (whole, part) = text.value.split_once('.').unwrap_or((&text.value, "0"));
    let is_plain = part.len() <= 3
        && [whole, part].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let read = || {
        let part: u32 = format!("{part:0<3}").parse().ok()?;
        whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(part)
    };
    let milli = if is_plain { read() } else { None };
    let known = milli.filter(|milli| (1..=MAX_CPUS_MILLI).contains(milli));
    if known.is_none() {
        let message = format!("`cpus`: {:?} is not a number of cores", text.value);
        section.reader.wrong(text.span.clone(), message, Some("write \"2\" or \"0.5\"".to_owned()));
    }
    known
}

fn log_driver(section: &Section<'_>, text: &At<String>) -> LogDriver {
    let known = [LogDriver::Local, LogDriver::JsonFile, LogDriver::Journald];
    if let Some(found) = known.into_iter().find(|driver| driver.as_str() == text.value) {
        return found;
    }
    let help = match nearest(&text.value, known.map(LogDriver::as_str)) {
        Some(like) => format!("did you mean \"{like}\"?"),
        None => {
            "write \"local\", \"json-file\" or \"journald\": their logs are bounded, and can be read back"
                .to_owned()
        }
    };
    section.reader.wrong(text.span.clone(), format!("`log_driver` is {:?}", text.value), Some(help));
    LogDriver::Local
}
