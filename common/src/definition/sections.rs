//! Each table of the definition, read into the types of the manifest, with its defaults. What runs has a room
//! of its own, [`services`].

mod analysis;
mod docker;
mod environments;
mod evidence;
mod gates;
mod limits;
mod metrics;
mod overrides;
mod services;
mod traffic;

use std::collections::BTreeMap;

use super::reader::{At, Reader, Section};
use crate::assignment::MAX_LEASE;
use crate::ids::StepName;
use crate::manifest::{
    Check, Contract, Headers, Migration, Probe, Retention, Shared, Step, WayBack, component,
};
use crate::time::{Duration, human};
use crate::words;
pub(super) use environments::{LeadsAway, Measured, environments};
pub(super) use metrics::metrics;
pub(super) use services::services;
pub(super) use traffic::traffic;

/// A build may compile a whole application.
pub(super) const BUILD_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Preparation installs and collects, host by host.
pub(super) const PREPARE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// A smoke test asks a few questions.
pub(super) const SMOKE_TIMEOUT: Duration = Duration::from_secs(60);
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// By so much the lease outlasts the migration's timeout unless it is given: time to end the step and to
/// report.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RETENTION: u32 = 1000;
const MIB: u64 = 1024 * 1024;

/// Whether the words `{…}` of a text are replaced: on hosts they are, in a build they cannot be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Build,
    Host,
}

/// The names that are taken, and what took them.
pub(super) type Taken = BTreeMap<String, String>;

/// `"512MiB"`, in powers of two.
fn bytes(section: &Section<'_>, key: &str, text: &At<String>) -> Option<u64> {
    let digits = text.value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.value.split_at(digits);
    let unit = match unit {
        "KiB" => Some(1024),
        "MiB" => Some(MIB),
        "GiB" => Some(1024 * MIB),
        _ => None,
    };
    let bytes = unit.and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit));
    let bytes = bytes.filter(|bytes| i64::try_from(*bytes).is_ok());
    if bytes.is_none() {
        let message = format!("`{key}`: {:?} is not a size", text.value);
        let help = "write a whole number with its unit, such as \"512MiB\" or \"2GiB\"";
        section.reader.wrong(text.span.clone(), message, Some(help.to_owned()));
    }
    bytes
}

/// Refuses a name that something else has.
pub(super) fn unique(section: &Section<'_>, name: &At<impl ToString>, taken: &mut Taken) {
    let text = name.value.to_string();
    if let Some(other) = taken.get(&text) {
        let message = format!("the name {text:?} is taken by {other}");
        let help = Some("steps, checks and services are told apart by their names in the log".to_owned());
        section.reader.wrong(name.span.clone(), message, help);
    } else {
        taken.insert(text, format!("another {}", section.title));
    }
}

fn check_words(reader: &Reader<'_>, text: &At<String>, place: Place) {
    if text.value.contains('\0') {
        reader.wrong(text.span.clone(), "a NUL byte cannot be part of a command or a variable", None);
    }
    for word in words::names(&text.value) {
        let known = words::KNOWN.contains(&word);
        if place == Place::Build && known {
            let message =
                format!("`{{{word}}}` means nothing in a build: it stands for a directory of a host");
            let help = Some("a build runs in the root of a clean tree; write a relative path".to_owned());
            reader.wrong(text.span.clone(), message, help);
        }
        let near = words::KNOWN.iter().find(|like| strsim::damerau_levenshtein(word, like) <= 1);
        if let (Place::Host, false, Some(like)) = (place, known, near) {
            let help = Some(format!("did you mean `{{{like}}}`? A variable of the host needs another name"));
            reader.wrong(text.span.clone(), format!("unknown word `{{{word}}}`"), help);
        }
    }
}

/// An argv: not empty, its program named, its words known.
fn command(section: &Section<'_>, key: &str, place: Place) -> Option<Vec<String>> {
    let list = section.strings(key)?;
    let named = list.value.first().is_some_and(|program| !program.value.trim().is_empty());
    if !named {
        let message = format!("`{key}` names no program");
        let help = format!("write `{key} = [\"program\", \"argument\"]`");
        section.reader.wrong(list.span, message, Some(help));
        return None;
    }
    list.value.iter().for_each(|argument| check_words(section.reader, argument, place));
    Some(list.value.into_iter().map(|argument| argument.value).collect())
}

fn required_command(section: &Section<'_>, key: &str, place: Place) -> Option<Vec<String>> {
    if !section.has(key) {
        section.missing(key, &format!("{key} = [\"program\", \"argument\"]"));
    }
    command(section, key, place)
}

fn environment(section: &Section<'_>, place: Place) -> BTreeMap<String, String> {
    let entries = section.map("environment").unwrap_or_default();
    for (name, value) in &entries {
        let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !good {
            let message = format!("{name:?} is not the name of an environment variable");
            let help = Some("letters, digits and '_', not beginning with a digit".to_owned());
            section.reader.wrong(value.span.clone(), message, help);
        } else if name.starts_with("LANDFALL_") {
            let message =
                format!("`{name}` is reserved: names beginning with LANDFALL_ are set by the agent");
            section.reader.wrong(value.span.clone(), message, None);
        }
        check_words(section.reader, value, place);
    }
    entries.into_iter().map(|(name, value)| (name, value.value)).collect()
}

fn name<T>(
    section: &Section<'_>,
    new: impl Fn(String) -> Result<T, crate::ids::InvalidName>,
) -> Option<At<T>> {
    if !section.has("name") {
        section.missing("name", "name = \"…\"");
    }
    section.name("name", new)
}

fn duration(section: &Section<'_>, key: &str, default: Duration) -> Duration {
    section.duration(key).map_or(default, |at| at.value)
}

/// `[[build]]`, `[[prepare]]` and `[[smoke]]`.
pub(super) fn steps(
    sections: Vec<Section<'_>>,
    place: Place,
    default_timeout: Duration,
    taken: &mut Taken,
) -> Vec<Step> {
    let read = |section: Section<'_>| {
        let name = name(&section, StepName::new);
        if let Some(name) = &name {
            unique(&section, name, taken);
        }
        let command = required_command(&section, "command", place);
        let environment = environment(&section, place);
        let timeout = duration(&section, "timeout", default_timeout);
        let network = section.boolean("network");
        Some(Step { name: name?.value, command: command?, environment, timeout, network })
    };
    sections.into_iter().filter_map(read).collect()
}

/// `[contract]`: what takes away what only older releases need.
pub(super) fn contract(section: &Section<'_>) -> Option<Contract> {
    let command = required_command(section, "command", Place::Host);
    let environment = environment(section, Place::Host);
    let (timeout, lease) = lease(section, "contract");
    let network = section.boolean("network");
    let idempotent = section.boolean("idempotent").unwrap_or(false);
    let name = StepName::new("contract").expect("a literal that is a valid name");
    let step = Step { name, command: command?, environment, timeout, network };
    Some(Contract { step, lease, idempotent })
}

/// The timeout of a step that runs under a lease, and the lease.
fn lease(section: &Section<'_>, what: &str) -> (Duration, Duration) {
    let timeout = duration(section, "timeout", MIGRATE_TIMEOUT);
    let lease = section.duration("lease");
    if let Some(lease) = lease.as_ref().filter(|lease| lease.value <= timeout) {
        let (have, need) = (human::format(lease.value), human::format(timeout));
        let message = format!("`lease` ({have}) must be longer than `timeout` ({need})");
        let help = format!("write `lease = {:?}` or more", human::format(timeout + LEASE_MARGIN));
        section.reader.wrong(lease.span.clone(), message, Some(help));
    }
    let span = lease.as_ref().map_or_else(|| section.key_span("timeout"), |at| at.span.clone());
    let lease = lease.map_or(timeout.saturating_add(LEASE_MARGIN), |at| at.value);
    if lease > MAX_LEASE {
        let (have, most) = (human::format(lease), human::format(MAX_LEASE));
        section.reader.wrong(span, format!("the lease of the {what} ({have}) must be at most {most}"), None);
    }
    (timeout, lease)
}

/// What `[migrate]` says.
pub(super) struct Migrate {
    pub migration: Migration,
    /// The globs of the files that define the schema.
    pub files: Vec<String>,
    /// What names the migrations where the release is built.
    pub list: Option<Step>,
}

/// `[migrate]`.
pub(super) fn migrate(section: &Section<'_>) -> Option<Migrate> {
    let command = required_command(section, "command", Place::Host);
    let environment = environment(section, Place::Host);
    let (timeout, lease) = lease(section, "migration");
    let down = self::command(section, "down", Place::Host);
    let compatible = section.boolean("compatible_with_previous");
    if section.has("down") && compatible == Some(true) {
        let message = "`down` is never run when `compatible_with_previous` is true";
        let help =
            Some("remove one of the two: the release before either runs on the new schema, or not".into());
        section.reader.wrong(section.key_span("down"), message, help);
    }
    let network = section.boolean("network");
    let step = |name: &str, command| Step {
        name: StepName::new(name).expect("a literal that is a valid name"),
        command,
        environment: environment.clone(),
        timeout,
        network,
    };
    let way_back = match (compatible, down) {
        (Some(true), _) => WayBack::Compatible,
        (_, Some(down)) => WayBack::Reversible { down: step("migrate-down", down) },
        (_, None) => WayBack::None,
    };
    let idempotent = section.boolean("idempotent").unwrap_or(false);
    let files = globs(section, "files");
    let migration = Migration {
        step: step("migrate", command?),
        lease,
        way_back,
        idempotent,
        schema: None,
        names: Vec::new(),
    };
    let list = self::command(section, "list_command", Place::Build).map(|command| Step {
        name: StepName::new("list-migrations").expect("a literal that is a valid name"),
        command,
        environment: BTreeMap::new(),
        timeout: BUILD_TIMEOUT,
        network: None,
    });
    Some(Migrate { migration, files, list })
}

/// A list of globs over paths relative to the root of the tree.
pub(super) fn globs(section: &Section<'_>, key: &str) -> Vec<String> {
    let list = section.strings(key).map(|list| list.value).unwrap_or_default();
    for glob in &list {
        let inside = !glob.value.starts_with('/') && !glob.value.split('/').any(|part| part == "..");
        if glob.value.is_empty() || !inside {
            let message = format!("{:?} does not name files of the tree", glob.value);
            let help =
                Some("write a path relative to the repository's root, such as \"**/*.map\"".to_owned());
            section.reader.wrong(glob.span.clone(), message, help);
        } else if let Err(error) = globset::Glob::new(&glob.value) {
            let message = format!("{:?} is not a glob: {}", glob.value, error.kind());
            section.reader.wrong(glob.span.clone(), message, None);
        }
    }
    list.into_iter().map(|glob| glob.value).collect()
}

/// Checks `host:port` (or `unix:/path`, where `unix` says so); either may be or hold words.
fn address(section: &Section<'_>, text: &At<String>, unix: bool) -> bool {
    check_words(section.reader, text, Place::Host);
    let good = match text.value.strip_prefix("unix:") {
        // The whole address of a slot.
        _ if text.value == "{address}" => true,
        Some(path) => unix && (path.starts_with('/') || path.starts_with('{')),
        None => text.value.rsplit_once(':').is_some_and(|(host, port)| {
            let number = port.parse::<u16>().is_ok_and(|port| port > 0);
            !host.is_empty() && !port.is_empty() && (number || words::names(port).next().is_some())
        }),
    };
    if !good {
        let forms = if unix { "\"host:port\" or \"unix:/path\"" } else { "\"host:port\"" };
        let message = format!("{:?} is not an address", text.value);
        section.reader.wrong(text.span.clone(), message, Some(format!("write {forms}")));
    }
    good
}

/// Exactly one of these keys must be there.
fn one_of<'k>(section: &Section<'_>, keys: &[&'k str]) -> Option<&'k str> {
    let present: Vec<&&str> = keys.iter().filter(|key| section.has(key)).collect();
    match present[..] {
        [only] => Some(only),
        [] => {
            let list = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let message = format!("{} needs one of {list}", section.title);
            section.reader.wrong(section.span.clone(), message, None);
            None
        }
        [first, second, ..] => {
            let message = format!("{} has both `{first}` and `{second}`", section.title);
            let help = Some("keep one of them".to_owned());
            section.reader.wrong(section.key_span(second), message, help);
            None
        }
    }
}

/// `[[check]]`.
pub(super) fn checks(sections: Vec<Section<'_>>, taken: &mut Taken) -> Vec<Check> {
    let read = |section: Section<'_>| {
        let name = name(&section, StepName::new);
        if let Some(name) = &name {
            unique(&section, name, taken);
        }
        let interval = duration(&section, "interval", CHECK_INTERVAL);
        let timeout = duration(&section, "timeout", CHECK_TIMEOUT);
        let probe = match one_of(&section, &["http", "tcp", "exec"])? {
            "http" => http(&section),
            "tcp" => {
                let found = section.string("tcp").filter(|text| address(&section, text, false));
                found.map(|text| Probe::Tcp { address: text.value })
            }
            _ => command(&section, "exec", Place::Host).map(|command| Probe::Exec { command }),
        };
        Some(Check { name: name?.value, probe: probe?, interval, timeout })
    };
    sections.into_iter().filter_map(read).collect()
}

fn http(check: &Section<'_>) -> Option<Probe> {
    let section = check.table("http", "http", "`http`")?;
    if !section.has("url") {
        section.missing("url", "url = \"http://127.0.0.1:8000/healthz\"");
    }
    let status = if section.has("status") { section.integer("status", 100..=599) } else { Some(200) };
    let contains = section.string("contains").map(|text| text.value);
    let headers = headers(&section, "headers");
    let url = section.string("url")?;
    if !host_url(section.reader, &url, "a check asks") {
        return None;
    }
    let status = u16::try_from(status?).ok()?;
    Some(Probe::Http { url: url.value, status, contains, headers: headers? })
}

/// Whether a URL can be asked on a host; `who` asks.
fn host_url(reader: &Reader<'_>, url: &At<String>, who: &str) -> bool {
    check_words(reader, url, Place::Host);
    if url.value.starts_with("http://") {
        return true;
    }
    let help = if url.value.starts_with("https://") {
        format!("{who} the service on its own host, over plain HTTP")
    } else {
        "write `url = \"http://127.0.0.1:8000/healthz\"`".to_owned()
    };
    let message = format!("{:?} is not a URL beginning with http://", url.value);
    reader.wrong(url.span.clone(), message, Some(help));
    false
}

/// Headers of a request; none if the key is not there.
fn headers(section: &Section<'_>, key: &str) -> Option<Headers> {
    let Some(found) = section.map(key) else {
        return (!section.has(key)).then(Headers::default);
    };
    let mut headers = BTreeMap::new();
    for (name, value) in found {
        let help = "write it as in `headers = { X-Forwarded-Proto = \"https\" }`";
        match Headers::check(&name, &value.value) {
            Ok(()) => drop(headers.insert(name, value.value)),
            Err(problem) => section.reader.wrong(value.span, problem.to_string(), Some(help.to_owned())),
        }
    }
    Headers::try_from(headers)
        .map_err(|problem| section.reader.wrong(section.key_span(key), problem.to_string(), None))
        .ok()
}

/// `[shared]`.
pub(super) fn shared(section: &Section<'_>) -> Shared {
    let mut taken: Vec<String> = Vec::new();
    let mut read = |key: &str| {
        let mut paths = Vec::new();
        for path in section.strings(key).map(|list| list.value).unwrap_or_default() {
            let text = path.value.trim_end_matches('/').to_owned();
            let message = match text.split('/').try_for_each(component) {
                Err(_) => format!("{:?} is not a path inside the release", path.value),
                Ok(()) => match taken.iter().find(|other| overlap(other, &text)) {
                    Some(other) if *other == text => format!("{text:?} is listed twice"),
                    Some(other) => format!("{text:?} and {other:?} lie one inside the other"),
                    None => {
                        taken.push(text.clone());
                        paths.push(text);
                        continue;
                    }
                },
            };
            let help = Some("write a path relative to the release, such as \"media\"".to_owned());
            section.reader.wrong(path.span, message, help);
        }
        paths
    };
    Shared { directories: read("directories"), files: read("files") }
}

fn overlap(a: &str, b: &str) -> bool {
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    inside(a, b) || inside(b, a)
}

/// `[retention]`.
pub(super) fn retention(section: &Section<'_>) -> Retention {
    let default = Retention::default();
    Retention { releases: section.integer("releases", 2..=MAX_RETENTION).unwrap_or(default.releases) }
}
