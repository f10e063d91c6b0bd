//! `evidence` of an environment: what CI must have said of a release's commit before it begins there.

use crate::definition::reader::Section;
use crate::evidence::{Demand, EvidenceKey};
use crate::ids::EvidenceName;

/// `evidence = [{ name = "tests", keys = ["…"] }]`, or `[[environment.NAME.evidence]]`.
pub(super) fn evidence(environment: &Section<'_>) -> Vec<Demand> {
    environment.tables("evidence", "evidence").iter().filter_map(demand).collect()
}

fn demand(section: &Section<'_>) -> Option<Demand> {
    if !section.has("name") {
        section.missing("name", "name = \"tests\"");
    }
    if !section.has("keys") {
        section.missing("keys", "keys = [\"…\"]");
    }
    let keys = section.strings("keys").map(|at| at.value).unwrap_or_default();
    let read = |text: crate::definition::reader::At<String>| match EvidenceKey::new(text.value) {
        Ok(key) => Some(key),
        Err(error) => {
            section.reader.wrong(text.span, error.to_string(), None);
            None
        }
    };
    let keys = keys.into_iter().filter_map(read).collect();
    let name = section.name("name", EvidenceName::new)?.value;
    Some(Demand { name, keys })
}
