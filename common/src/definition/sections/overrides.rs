//! `overrides` of an environment: what may be set otherwise for one rollout, and how far.

use toml::de::DeValue;

use crate::definition::reader::Section;
use crate::strategy::{Knob, KnobKind, Range, Ranges};

/// `[environment.NAME.overrides]`.
pub(super) fn overrides(environment: &Section<'_>) -> Option<Ranges> {
    let section = environment.table("overrides", "overrides", "`overrides`")?;
    let named = Knob::ALL.into_iter().filter(|(_, key)| section.has(key));
    let ranges = named.filter_map(|(knob, key)| Some((knob, range(&section, knob, key)?)));
    Some(Ranges::new(ranges.collect()))
}

/// `batch = true`, `batch = { max = "50%" }`, `analysis = ["on"]`.
fn range(section: &Section<'_>, knob: Knob, key: &str) -> Option<Range> {
    let found = section.value(key)?;
    let before = section.reader.found.borrow().len();
    let range = match (found.value, knob.kind()) {
        (DeValue::Boolean(true), _) => Range::Any,
        (DeValue::Boolean(false), _) => {
            let help = Some(format!("remove `{key}`: what is not named cannot be set"));
            section.reader.wrong(found.span, format!("`{key}` is false"), help);
            return None;
        }
        (DeValue::Table(_), KnobKind::Hosts) => {
            let bounds = section.table(key, "range", &format!("`{key}`"))?;
            Range::Hosts { min: bounds.amount("min"), max: bounds.amount("max") }
        }
        (DeValue::Table(_), KnobKind::Time) => {
            let bounds = section.table(key, "range", &format!("`{key}`"))?;
            let bound = |key: &str| bounds.duration(key).map(|at| at.value);
            Range::Time { min: bound("min"), max: bound("max") }
        }
        (DeValue::Array(_), KnobKind::Words(_) | KnobKind::Label) => {
            Range::OneOf(section.strings(key)?.value.into_iter().map(|word| word.value).collect())
        }
        (_, kind) => {
            let message = format!("the range of `{key}` must be {}", kind.example());
            section.reader.wrong(found.span, message, None);
            return None;
        }
    };
    let sound = section.reader.found.borrow().len() == before;
    if let (true, Err(sentence)) = (sound, range.check(knob)) {
        section.reader.wrong(found.span, sentence, None);
    }
    Some(range)
}
