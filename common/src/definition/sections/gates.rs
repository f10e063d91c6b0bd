//! `gates` of an environment: what others open before a batch begins.

use super::duration;
use crate::definition::diagnostic::nearest;
use crate::definition::reader::{At, Section};
use crate::ids::GateName;
use crate::strategy::{Before, Gate};

/// `gates = [{ name = "qa-signoff" }]`, or `[[environment.NAME.gates]]`.
pub(super) fn gates(environment: &Section<'_>) -> Vec<Gate> {
    environment.tables("gates", "gates").iter().filter_map(gate).collect()
}

fn gate(section: &Section<'_>) -> Option<Gate> {
    if !section.has("name") {
        section.missing("name", "name = \"qa-signoff\"");
    }
    let before = section.string("before").map_or(Before::default(), |text| before(section, &text));
    let deadline = duration(section, "deadline", Gate::DEADLINE);
    let name = section.name("name", GateName::new)?.value;
    Some(Gate { name, before, deadline })
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
