//! Commands whose arguments say what they are for: of init systems, containers, links, and what asks a URL.

use super::super::shell::{Call, base};
use super::Deed;

/// Proxies, databases and the like: restarted by a deployment now and then, and not its application.
const OF_THE_HOST: [&str; 18] = [
    "nginx",
    "postgresql",
    "mysql",
    "mysqld",
    "mariadb",
    "redis",
    "redis-server",
    "memcached",
    "cron",
    "crond",
    "rsyslog",
    "ssh",
    "sshd",
    "docker",
    "supervisor",
    "supervisord",
    "haproxy",
    "codedeploy-agent",
];

pub(super) fn units<'n>(names: impl IntoIterator<Item = &'n String>, is_reload: bool) -> Deed {
    let is_own = |name: &&String| {
        let stem = name.trim_end_matches(".service");
        !OF_THE_HOST.contains(&stem) && !stem.starts_with("postgresql") && !stem.ends_with(".timer")
    };
    let names: Vec<String> = names.into_iter().filter(is_own).cloned().collect();
    if names.is_empty() { Deed::Host } else { Deed::Unit { names, is_reload } }
}

pub(super) fn systemctl(arguments: &[String]) -> Deed {
    let mut plain = arguments.iter().filter(|argument| !argument.starts_with('-'));
    match plain.next().map(String::as_str) {
        Some("start" | "restart" | "try-restart") => units(plain, false),
        Some("reload" | "reload-or-restart") => units(plain, true),
        Some("stop" | "kill") => Deed::Stop,
        Some("status" | "is-active" | "show" | "list-units") => Deed::Nothing,
        _ => Deed::Host,
    }
}

pub(super) fn service(name: Option<&String>, verb: Option<&String>) -> Deed {
    match (name, verb.map(String::as_str)) {
        (Some(name), Some("start" | "restart")) => units([name], false),
        (Some(name), Some("reload" | "graceful" | "force-reload")) => units([name], true),
        (_, Some("stop")) => Deed::Stop,
        (_, Some("status")) => Deed::Nothing,
        _ => Deed::Host,
    }
}

pub(super) fn supervised(arguments: &[String]) -> Deed {
    let mut plain = arguments.iter().scan(false, |is_value, argument| {
        let skip = std::mem::replace(is_value, matches!(argument.as_str(), "-c" | "-s" | "-u" | "-p"));
        Some((!skip && !argument.starts_with('-')).then_some(argument))
    });
    let mut plain = plain.by_ref().flatten();
    match plain.next().map(String::as_str) {
        Some("restart" | "start" | "signal") => {
            let names: Vec<String> = plain.cloned().collect();
            if names.is_empty() { Deed::Host } else { Deed::Supervised(names) }
        }
        Some("stop") => Deed::Stop,
        Some("status" | "tail") => Deed::Nothing,
        _ => Deed::Host,
    }
}

pub(super) fn container(program: &str, arguments: &[String]) -> Deed {
    let verb = arguments.iter().find(|argument| !argument.starts_with('-')).map(String::as_str);
    let is_compose = program == "docker-compose" || verb == Some("compose");
    match verb {
        Some("run" | "start" | "restart" | "up" | "build" | "pull") => Deed::Container,
        _ if is_compose => {
            if arguments
                .iter()
                .any(|word| matches!(word.as_str(), "up" | "start" | "restart" | "build" | "pull"))
            {
                Deed::Container
            } else {
                Deed::Stop
            }
        }
        Some("stop" | "rm" | "kill" | "rmi" | "system" | "image" | "container") => Deed::Stop,
        Some("login") => Deed::Host,
        _ => Deed::Other,
    }
}

/// `ln -s FROM TO`: the link to the release itself, or one of what is shared.
pub(super) fn link(arguments: &[String]) -> Deed {
    let plain: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with('-')).collect();
    let [from, to] = plain[..] else { return Deed::Host };
    if let Some((_, path)) = from.split_once("/shared/") {
        let path = path.trim_end_matches('/');
        // Where the link stands says where the release wants it, if that can be read off.
        let inside = [to.split_once("/current/"), release_path(to)].into_iter().flatten().next();
        let path = inside.map_or(path, |(_, inside)| inside.trim_end_matches('/'));
        return Deed::Share { path: path.to_owned() };
    }
    if ["current", "previous", "live"].contains(&base(to)) || base(to).ends_with("current") {
        return Deed::Switch;
    }
    Deed::Host
}

/// Splits behind the directory of one release.
fn release_path(path: &str) -> Option<(&str, &str)> {
    path.split_once("/releases/").and_then(|(_, rest)| rest.split_once('/'))
}

/// `ls -t | tail -n +6 | xargs rm`: five stay.
pub(super) fn retained(call: &Call) -> Option<u32> {
    let is_listed = call.program() == "ls" || call.program() == "find";
    let tail = call.pipe.iter().find(|words| words.first().is_some_and(|word| base(word) == "tail"))?;
    let number = tail.iter().find_map(|word| word.rsplit_once('+')?.1.parse::<u32>().ok())?;
    (is_listed && number > 1).then(|| number - 1)
}

/// A URL that a command asks, if it is one of this host over plain HTTP.
pub(super) fn probe(arguments: &[String]) -> Deed {
    let value_of = |word: &str| {
        matches!(
            word,
            "-o" | "-H"
                | "-X"
                | "-d"
                | "-m"
                | "-w"
                | "-u"
                | "-A"
                | "-e"
                | "-b"
                | "-c"
                | "-F"
                | "--retry"
                | "--retry-delay"
                | "--max-time"
                | "--connect-timeout"
                | "--header"
                | "--data"
                | "--output"
                | "--write-out"
                | "--request"
                | "--user"
        )
    };
    let writes = arguments.iter().any(|word| {
        matches!(word.as_str(), "-X" | "-d" | "--data" | "-F" | "--request" | "-O" | "--upload-file" | "-T")
    });
    let mut urls = Vec::new();
    let mut skip = false;
    for word in arguments {
        if !skip && !word.starts_with('-') {
            urls.push(word.as_str());
        }
        skip = value_of(word);
    }
    let [url] = urls[..] else { return Deed::ProbeElsewhere };
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return Deed::ProbeElsewhere,
        None => url,
    };
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    let is_plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"${}\"'`\\".contains(&b));
    if writes || !is_plain || !["localhost", "127.0.0.1", "0.0.0.0"].contains(&host) {
        return Deed::ProbeElsewhere;
    }
    let rest = rest.replacen(host, "127.0.0.1", 1);
    let rest = if rest.contains('/') { rest } else { format!("{rest}/") };
    Deed::Probe(format!("http://{rest}"))
}
