//! `[[metric]]`: what the application shows of itself and is compared by.

use std::collections::BTreeMap;

use toml::de::DeValue;

use super::analysis::{missing, share, tolerance};
use super::{Taken, host_url, name, one_of, unique};
use crate::definition::reader::{At, Section};
use crate::ids::MetricName;
use crate::manifest::metric::{AppMetric, Asked, Decimal, Direction, MAX_METRICS, Series};
use crate::strategy::{FailureMetric, MAX_TOLERANCE_PERCENT, Missing, Share};

/// `[[metric]]`, each.
pub(in crate::definition) fn metrics(sections: Vec<Section<'_>>) -> Vec<AppMetric> {
    if let Some(first_too_many) = sections.get(MAX_METRICS) {
        let message = format!("there are {} metrics; at most {MAX_METRICS} are compared", sections.len());
        first_too_many.reader.wrong(first_too_many.span.clone(), message, None);
    }
    let mut taken = Taken::new();
    sections.iter().filter_map(|section| metric(section, &mut taken)).collect()
}

fn metric(section: &Section<'_>, taken: &mut Taken) -> Option<AppMetric> {
    let name = name(section, MetricName::new);
    if let Some(name) = &name {
        unique(section, name, taken);
    }
    if !section.has("url") {
        section.missing("url", "url = \"http://127.0.0.1:8000/metrics\"");
    }
    let url = section.string("url").filter(|url| host_url(section.reader, url, "a metric is read from"));
    let kind = one_of(section, &["gauge", "counter", "ratio", "histogram"])?;
    let of_levels = matches!(kind, "gauge" | "counter");
    let worse = worse(section, of_levels);
    let idle = match (of_levels, worse) {
        (true, _) => section.has("floor").then_some(("floor", format!("of a {kind}"), "`slack`")),
        (false, _) if section.has("slack") => Some(("slack", format!("of a {kind}"), "`floor`")),
        (false, Some(Direction::Lower)) if section.has("floor") => {
            Some(("floor", "where lower is worse".to_owned(), "`tolerance`"))
        }
        _ => None,
    };
    if let Some((key, where_, instead)) = idle {
        let message = format!("`{key}` has no meaning {where_}");
        section.reader.wrong(section.key_span(key), message, Some(format!("use {instead}")));
    }
    let slack = || decimal(section, "slack").unwrap_or_else(Decimal::zero);
    let floor = || floor(section);
    let asked = match kind {
        "gauge" => series(section, "gauge").map(|of| Asked::Gauge { of, slack: slack() }),
        "counter" => series(section, "counter").map(|of| Asked::Counter { of, slack: slack() }),
        "ratio" => ratio(section).map(|(events, of)| Asked::Ratio { events, of, floor: floor() }),
        _ => histogram(section).map(|(of, above)| Asked::Histogram { of, above, floor: floor() }),
    };
    let percent = section.has("tolerance").then(|| tolerance(section));
    if let Some(Some(percent)) = percent.filter(|percent| percent.is_some_and(|p| p > MAX_TOLERANCE_PERCENT))
    {
        let message = format!("`tolerance` ({percent}%) must be at most {MAX_TOLERANCE_PERCENT}%");
        section.reader.wrong(section.key_span("tolerance"), message, None);
    }
    Some(AppMetric {
        name: name?.value,
        url: url?.value,
        asked: asked?,
        worse: worse?,
        tolerance_percent: percent.flatten().unwrap_or(FailureMetric::default().tolerance_percent),
        // Of a share what may be is known by default; of a level only who says it knows.
        critical: section.boolean("critical").unwrap_or(!of_levels || section.has("tolerance")),
        missing: missing(section).unwrap_or(Missing::Pause),
    })
}

/// Of a share it is its failures by default; of a level nobody can guess it.
fn worse(section: &Section<'_>, of_levels: bool) -> Option<Direction> {
    if !section.has("worse") {
        if of_levels {
            section.missing("worse", "worse = \"higher\"` or `worse = \"lower\"");
            return None;
        }
        return Some(Direction::Higher);
    }
    let text = section.string("worse")?;
    match text.value.as_str() {
        "higher" => Some(Direction::Higher),
        "lower" => Some(Direction::Lower),
        other => {
            let message = format!("`worse`: {other:?} is neither \"higher\" nor \"lower\"");
            section.reader.wrong(text.span, message, None);
            None
        }
    }
}

fn floor(section: &Section<'_>) -> Share {
    let by_default = FailureMetric::default().floor;
    let floor = share(section, "floor").unwrap_or(by_default);
    if floor >= Share::percent(50) {
        let message = format!("`floor` ({floor}) must be below 50%: so much may be in any case");
        section.reader.wrong(section.key_span("floor"), message, None);
    }
    floor
}

fn decimal(section: &Section<'_>, key: &str) -> Option<Decimal> {
    let text = section.string(key)?;
    Decimal::new(text.value)
        .map_err(|error| {
            let help = Some(format!("write `{key} = \"0.5\"`"));
            section.reader.wrong(text.span, format!("`{key}`: {error}"), help);
        })
        .ok()
}

fn ratio(section: &Section<'_>) -> Option<(Series, Series)> {
    let ratio = section.table("ratio", "ratio", "`ratio`")?;
    for (key, example) in [
        ("events", "events = { series = \"http_requests_total\", labels = { code = \"5*\" } }"),
        ("of", "of = \"http_requests_total\""),
    ] {
        if !ratio.has(key) {
            ratio.missing(key, example);
        }
    }
    let (events, of) = (series(&ratio, "events"), series(&ratio, "of"));
    if events.is_some() && events == of {
        let message = "`events` and `of` of the ratio are the same series: it would always be all of them";
        let help = "give `events` its labels, such as `labels = { code = \"5*\" }`";
        section.reader.wrong(ratio.key_span("events"), message, Some(help.to_owned()));
    }
    events.zip(of)
}

fn histogram(section: &Section<'_>) -> Option<(Series, Decimal)> {
    let histogram = section.table("histogram", "histogram", "`histogram`")?;
    if !histogram.has("above") {
        histogram.missing("above", "above = \"0.5\"` as one of its buckets has it in `le");
    }
    let (of, above) = (chosen(&histogram), decimal(&histogram, "above"));
    if let Some(of) = &of {
        if let Some(name) = of.name.strip_suffix("_bucket") {
            let message = format!("`series`: {} names the buckets of a histogram", of.name);
            let help = Some(format!("write `series = {name:?}`"));
            section.reader.wrong(histogram.key_span("series"), message, help);
        }
        if of.labels.contains_key("le") {
            let message = "`labels` cannot name `le`, which tells the buckets of a histogram apart";
            let help = Some("say with `above` which bucket is meant".to_owned());
            section.reader.wrong(histogram.key_span("labels"), message, help);
        }
    }
    of.zip(above)
}

/// `key = "name"`, or a table with labels as well.
fn series(section: &Section<'_>, key: &str) -> Option<Series> {
    let found = section.value(key)?;
    if let DeValue::String(text) = found.value {
        let name = At { value: text.to_string(), span: found.span };
        return series_name(section, key, name).map(|name| Series { name, labels: BTreeMap::new() });
    }
    chosen(&section.table(key, "selection", &format!("`{key}`"))?)
}

/// `series` and `labels` of a table.
fn chosen(section: &Section<'_>) -> Option<Series> {
    if !section.has("series") {
        section.missing("series", "series = \"http_requests_total\"");
    }
    let mut labels = BTreeMap::new();
    for (label, value) in section.map("labels").unwrap_or_default() {
        if Series::is_label(&label) {
            labels.insert(label, value.value);
        } else {
            let message = format!("{label:?} is not the name of a label");
            let help = Some("letters, digits and '_', not beginning with a digit".to_owned());
            section.reader.wrong(value.span, message, help);
        }
    }
    let name = series_name(section, "series", section.string("series")?)?;
    Some(Series { name, labels })
}

fn series_name(section: &Section<'_>, key: &str, text: At<String>) -> Option<String> {
    if Series::is_name(&text.value) {
        return Some(text.value);
    }
    let message = format!("`{key}`: {:?} is not the name of a series", text.value);
    let help = match text.value.split_once('{') {
        Some((name, _)) if Series::is_name(name) => {
            format!("write `{key} = {{ series = {name:?}, labels = {{ code = \"5*\" }} }}`")
        }
        _ => {
            "letters, digits, '_' and ':', not beginning with a digit, as the application shows it".to_owned()
        }
    };
    section.reader.wrong(text.span, message, Some(help));
    None
}
