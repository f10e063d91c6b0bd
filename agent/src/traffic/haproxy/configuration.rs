//! A backend of haproxy.cfg, as far as it matters where its servers are.

use std::collections::BTreeMap;

use landfall_agent_core::drift::beside::{Settings, Things, Value};

/// The words that begin a section (HAProxy 2.2 to 3.0, its configuration manual's section 1 and 2.4).
const SECTIONS: [&str; 19] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "mailers",
    "userlist",
    "program",
    "http-errors",
    "ring",
    "cache",
    "fcgi-app",
    "crt-store",
    "traces",
    "log-forward",
    "acme",
    "log-profile",
];

/// A backend.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// The addresses of its servers; `None` for one that is made up when HAProxy starts.
    pub servers: BTreeMap<String, Option<String>>,
    /// Whether these are all of them.
    pub is_whole: bool,
    /// All of it, for the record: what is only written otherwise is the same.
    pub things: Things,
}

/// The section of a backend, if there is one in this file.
pub(super) fn backend(text: &str, name: &str) -> Option<Section> {
    let mut lines: Option<Vec<Vec<String>>> = None;
    let mut is_inside = false;
    for line in text.lines() {
        let words = words(line);
        let Some(first) = words.first() else { continue };
        if SECTIONS.contains(&first.as_str()) {
            is_inside = matches!(first.as_str(), "backend" | "listen")
                && words.get(1).is_some_and(|word| word == name);
            if is_inside {
                lines.get_or_insert_default();
            }
        }
        if let (true, Some(lines)) = (is_inside, &mut lines) {
            lines.push(words);
        }
    }
    let lines = lines?;
    let servers = lines.iter().filter_map(|words| match &words[..] {
        [keyword, name, at, ..] if keyword == "server" => Some((name.clone(), address(at))),
        _ => None,
    });
    let servers = servers.collect();
    let is_whole = !lines.iter().any(|words| words[0] == "server-template");
    let whole = lines.iter().map(|words| words.join(" ")).collect::<Vec<_>>().join("\n");
    // It may hold passwords, in headers that it sets.
    let section: Settings = [("section".to_owned(), Value::secret(&whole))].into();
    Some(Section { servers, is_whole, things: [(format!("backend {name}"), section)].into() })
}

/// The words of a line without its comment; quotes and backslashes keep blanks and number signs together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => {
                word.push(letter);
                word.extend(letters.next());
            }
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.push(letter);
            }
            (_, Some(open)) => {
                quote = (letter != open).then_some(open);
                word.push(letter);
            }
            ('#', None) => break,
            (blank, None) if blank.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, None) => word.push(letter),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// An address in the words of a definition, where it stands there as such.
fn address(word: &str) -> Option<String> {
    if word.contains(['$', '"', '\'', '\\']) {
        return None;
    }
    if let Some(path) = word.strip_prefix("unix@").or_else(|| word.starts_with('/').then_some(word)) {
        return Some(format!("unix:{path}"));
    }
    let word = word.strip_prefix("ipv4@").or_else(|| word.strip_prefix("ipv6@")).unwrap_or(word);
    let (_, port) = word.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port.then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "global\n    log /dev/log local0\nfrontend front\n    default_backend shop\n\
        backend shop   # ours\n    option httpchk\n    http-request set-header X \"a # b\"\n\
        \tserver blue   127.0.0.1:8001 disabled\n    server green unix@/run/green.sock\n    \
        server env ${HOST}:80\n    server bare 10.0.0.1\nbackend other\n    server blue 10.0.0.1:1\n";

    #[test]
    fn the_servers_of_a_backend_are_read_and_nobody_elses() {
        let section = backend(TEXT, "shop").unwrap();
        let expected = [
            ("bare", None),
            ("blue", Some("127.0.0.1:8001")),
            ("env", None),
            ("green", Some("unix:/run/green.sock")),
        ];
        let servers: Vec<_> =
            section.servers.iter().map(|(name, address)| (&**name, address.as_deref())).collect();
        assert_eq!(servers, expected);
        assert_eq!(backend(TEXT, "shop2"), None);
        assert_eq!(backend("listen shop\n bind :80\n server a 1.2.3.4:5", "shop").unwrap().servers.len(), 1);
    }

    #[test]
    fn only_what_is_written_otherwise_is_the_same_section() {
        let known = backend(TEXT, "shop").unwrap().things;
        let same =
            TEXT.replace("blue   127", "blue 127").replace("# ours", "").replace("10.0.0.1:1", "10.0.0.2:1");
        assert_eq!(backend(&same, "shop").unwrap().things, known);
        for other in [TEXT.replace("disabled", "weight 3"), TEXT.replace("a # b", "a # c")] {
            assert_ne!(backend(&other, "shop").unwrap().things, known, "{other}");
        }
    }
}
