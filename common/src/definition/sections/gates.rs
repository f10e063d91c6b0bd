//! `gates` of an environment: what others open before a batch begins.

use super::duration;
use crate::definition::diagnostic::nearest;
use crate::definition::reader::{At, Section};
use crate::ids::GateName;
use crate::strategy::{Ask, Before, Gate, GateUrl};

/// `gates = [{ name = "qa-signoff" }]`, or `[[environment.NAME.gates]]`.
pub(super) fn gates(environment: &Section<'_>) -> Vec<Gate> {
    environment.tables("gates", "gates").iter().filter_map(gate).collect()
}

fn gate(section: &Section<'_>) -> Option<Gate> {
    if !section.has("name") {
        section.missing("name", "name = \"qa-signoff\"");
    }
    let before = section.string("before").map_or(Before::default(), |text| before(section, &text));
    let is_asked = section.has("url");
    let ask = if is_asked { ask(section) } else { not_asked(section) };
    let deadline = duration(section, "deadline", if is_asked { Ask::DEADLINE } else { Gate::DEADLINE });
    let name = section.name("name", GateName::new)?.value;
    Some(Gate { name, before, deadline, ask })
}

fn ask(section: &Section<'_>) -> Option<Ask> {
    let every = duration(section, "every", Ask::EVERY);
    let timeout = duration(section, "timeout", Ask::TIMEOUT);
    let text = section.string("url")?;
    match GateUrl::parse(&text.value) {
        Ok(url) => Some(Ask { url, every, timeout }),
        Err(error) => {
            section.reader.wrong(text.span.clone(), format!("`url`: {error}"), None);
            None
        }
    }
}

fn not_asked(section: &Section<'_>) -> Option<Ask> {
    for key in ["every", "timeout"].into_iter().filter(|key| section.has(key)) {
        let message = format!("`{key}` has no meaning without `url`: others open this gate");
        section.reader.wrong(section.key_span(key), message, Some("add `url`, or remove it".to_owned()));
    }
    None
}

fn before(section: &Section<'_>, text: &At<String>) -> Before {
    Before::named(&text.value).unwrap_or_else(|| {
        let words = Before::ALL.map(|(_, word)| word);
        let help = match nearest(&text.value, words) {
            Some(like) => format!("did you mean {like:?}?"),
            None => format!("write one of {}", words.map(|word| format!("{word:?}")).join(", ")),
        };
        let message = format!("`before`: {:?} names no batch", text.value);
        section.reader.wrong(text.span.clone(), message, Some(help));
        Before::default()
    })
}
