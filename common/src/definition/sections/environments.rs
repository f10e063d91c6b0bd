//! `[environment.NAME]`: how a rollout to that environment goes.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::{analysis, duration, evidence, gates, limits, overrides};
use crate::definition::diagnostic::nearest;
use crate::definition::keys;
use crate::definition::reader::{At, Section, Span, tame};
use crate::ids::{EnvName, LabelKey};
use crate::manifest::traffic::{Proxy, Traffic};
use crate::manifest::{AppMetric, Check};
use crate::strategy::{Calendar, Canary, Entry, Freeze, MAX_APPROVALS, Strategy, StrategyKind, Window};

/// What there is to measure of a release.
#[derive(Debug, Clone, Copy)]
pub(in crate::definition) struct Measured<'a> {
    pub checks: &'a [Check],
    pub metrics: &'a [AppMetric],
    /// Whether it has services.
    pub services: bool,
}

/// What `[traffic]` can lead requests away from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::definition) enum LeadsAway {
    /// There is none.
    Nothing,
    /// From a slot, to the other one of the same host.
    FromASlot,
    /// From the host.
    FromTheHost,
}

impl LeadsAway {
    pub(in crate::definition) fn of(traffic: &Traffic) -> Self {
        match traffic.proxy {
            Proxy::Slots { .. } => Self::FromASlot,
            Proxy::Gate { .. } => Self::FromTheHost,
        }
    }
}

/// `[environment.NAME]`, each.
pub(in crate::definition) fn environments(
    sections: Vec<(At<String>, Section<'_>)>,
    measured: Measured<'_>,
    away: LeadsAway,
) -> BTreeMap<EnvName, Strategy> {
    let mut environments = BTreeMap::new();
    let mut named = Vec::new();
    for (name, section) in sections {
        let (strategy, after) = strategy(&section, measured);
        must_lead_away(&section, &strategy, away);
        match EnvName::new(name.value.clone()) {
            Ok(name) => {
                environments.insert(name.clone(), strategy);
                named.extend(after.into_iter().map(|after| (name.clone(), after, section.reader)));
            }
            Err(error) => {
                let tamed = tame(&name.value);
                let help = EnvName::new(tamed).ok().map(|name| format!("write `environment.{name}`"));
                section.reader.wrong(name.span, error.to_string(), help);
            }
        }
    }
    for (name, after, reader) in named {
        if !environments.contains_key(&after.value) {
            let message = format!("there is no `[environment.{}]` to prove a release in", after.value);
            let help = nearest(after.value.as_str(), environments.keys().map(EnvName::as_str))
                .map(|name| format!("write \"{name}\""));
            reader.wrong(after.span, message, help);
        } else if leads_to(&environments, &after.value, &name) {
            let message = match after.value == name {
                true => format!("{name} cannot come after itself"),
                false => format!("{name} cannot come after {}, which comes after {name}", after.value),
            };
            reader.wrong(after.span, message, None);
        }
    }
    environments
}

/// Whether an environment is another one, or comes after it, directly or not.
fn leads_to(environments: &BTreeMap<EnvName, Strategy>, from: &EnvName, to: &EnvName) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(name) = open.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            open.extend(environments.get(name).into_iter().flat_map(|strategy| &strategy.entry.after));
        }
    }
    false
}

/// How a rollout goes, and the places of the environments that it comes after.
fn strategy(section: &Section<'_>, measured: Measured<'_>) -> (Strategy, Vec<At<EnvName>>) {
    let Measured { checks, metrics, services } = measured;
    let before = section.reader.found.borrow().len();
    let default = Strategy::default();
    let kind = section.string("strategy").map_or(default.kind, |text| kind(section, &text));
    let idle: &[&str] = match kind {
        StrategyKind::Rolling => &[],
        StrategyKind::OneAtATime => &["batch", "window"],
        StrategyKind::AllAtOnce => {
            &["canary", "canary_hold", "auto_promote", "analysis", "batch", "window", "spread", "stagger"]
        }
        StrategyKind::BlueGreen => &["canary", "analysis", "batch", "window", "stagger"],
    };
    for key in idle.iter().filter(|key| section.has(key)) {
        let how = match kind {
            StrategyKind::AllAtOnce => "every host changes at once",
            StrategyKind::BlueGreen => "one of two groups changes after the other",
            StrategyKind::Rolling | StrategyKind::OneAtATime => "one host changes at a time",
        };
        let message = format!("`{key}` has no meaning when {how}");
        let help = Some(format!("remove `{key}`, or write `strategy = \"rolling\"`"));
        section.reader.wrong(section.key_span(key), message, help);
    }
    let canary_hold = duration(section, "canary_hold", default.canary_hold);
    let after = after(section);
    let strategy = Strategy {
        kind,
        canary: canary(section).unwrap_or(default.canary),
        canary_hold,
        auto_promote: section.boolean("auto_promote").unwrap_or(default.auto_promote),
        analysis: analysis::analysis(section, canary_hold),
        limits: limits::limits(section, metrics),
        batch: section.amount("batch").unwrap_or(default.batch),
        window: section.string("window").map_or(default.window, |text| window(section, &text)),
        spread: section.name("spread", LabelKey::new).map(|at| at.value),
        stagger: duration(section, "stagger", default.stagger),
        max_unavailable: section.amount("max_unavailable").unwrap_or(default.max_unavailable),
        min_healthy: duration(section, "min_healthy", default.min_healthy),
        healthy_deadline: duration(section, "healthy_deadline", default.healthy_deadline),
        progress_deadline: duration(section, "progress_deadline", default.progress_deadline),
        rollout_deadline: duration(section, "rollout_deadline", default.rollout_deadline),
        failure_budget: section.amount("failure_budget").unwrap_or(default.failure_budget),
        auto_rollback: section.boolean("auto_rollback").unwrap_or(default.auto_rollback),
        late_rollback: section.boolean("late_rollback").unwrap_or(default.late_rollback),
        watch: duration(section, "watch", default.watch),
        gates: gates::gates(section),
        overrides: overrides::overrides(section),
        entry: Entry {
            approvals: section.integer("approvals", 0..=MAX_APPROVALS).unwrap_or_default(),
            calendar: calendar(section),
            after: after.iter().map(|at| at.value.clone()).collect(),
            evidence: evidence::evidence(section),
        },
    };
    let sound = section.reader.found.borrow().len() == before;
    if let (true, Err(sentence)) = (sound, strategy.check()) {
        section.reader.wrong(knob_span(section, &sentence), sentence, None);
    }
    if sound {
        limits::must_hold(section, &strategy, checks, services);
    }
    if let (true, Some(analysis)) = (sound, &strategy.analysis) {
        analysis::must_compare(section, analysis, checks);
    }
    (strategy, after)
}

/// Between two groups of hosts requests can only be led by what stands before the hosts.
fn must_lead_away(section: &Section<'_>, strategy: &Strategy, away: LeadsAway) {
    let why = match away {
        _ if strategy.kind != StrategyKind::BlueGreen => return,
        LeadsAway::FromTheHost => return,
        LeadsAway::Nothing => "there is no `[traffic]` that could",
        LeadsAway::FromASlot => "`[traffic]` with `slots` leads them between two slots of one host",
    };
    let message = format!("blue_green leads requests from one group of hosts to the other, and {why}");
    let help = "add `[traffic]` with `proxy = \"haproxy\"`, `backend` and `server`, or with `proxy = \"command\"`, \
                `drain_command` and `undrain_command`; or remove `strategy`";
    section.reader.wrong(section.key_span("strategy"), message, Some(help.to_owned()));
}

/// Where the release must have been proven before.
fn after(section: &Section<'_>) -> Vec<At<EnvName>> {
    let names = section.strings("after").map(|at| at.value).unwrap_or_default();
    let read = |text: At<String>| match EnvName::new(text.value) {
        Ok(value) => Some(At { value, span: text.span }),
        Err(error) => {
            section.reader.wrong(text.span, error.to_string(), None);
            None
        }
    };
    names.into_iter().filter_map(read).collect()
}

/// When rollouts may begin.
fn calendar(section: &Section<'_>) -> Calendar {
    let windows = match section.value("release_windows") {
        // One window, as a text: its days and hours are not two of them.
        Some(At { value: DeValue::String(text), span }) => {
            let help = Some(format!("write `release_windows = [{text:?}]`"));
            section.reader.wrong(
                span,
                "`release_windows` must be a list of strings, not a string".to_owned(),
                help,
            );
            Vec::new()
        }
        _ => section.strings("release_windows").map(|at| at.value).unwrap_or_default(),
    };
    let windows = windows.into_iter().filter_map(|text| read(section, &text)).collect();
    let zone = section.string("time_zone").and_then(|text| read(section, &text)).unwrap_or_default();
    let freezes = section.tables("freezes", "freezes");
    Calendar { zone, windows, freezes: freezes.iter().filter_map(freeze).collect() }
}

fn freeze(section: &Section<'_>) -> Option<Freeze> {
    let moment = |key: &str| {
        let Some(text) = section.string(key) else {
            if !section.has(key) {
                section.missing(key, &format!("{key} = \"2026-12-18 12:00\""));
            }
            return None;
        };
        let moment = text.value.parse().ok();
        if moment.is_none() {
            let message = format!("`{key}`: {:?} is neither a day nor a moment", text.value);
            let help = format!("write `{key} = \"2026-12-18\"` or `{key} = \"2026-12-18 12:00\"`");
            section.reader.wrong(text.span, message, Some(help));
        }
        moment
    };
    let (from, until) = (moment("from"), moment("until"));
    let reason = section.string("reason").map(|at| at.value);
    if !section.has("reason") {
        section.missing("reason", "reason = \"holidays\"");
    }
    let freeze = Freeze { from: from?, until: until?, reason: reason? };
    if freeze.until <= freeze.from {
        let message = "`until` is not after `from`".to_owned();
        section.reader.wrong(section.key_span("until"), message, None);
    }
    Some(freeze)
}

/// Reads a text, or says what is wrong with it.
fn read<T: std::str::FromStr<Err: ToString>>(section: &Section<'_>, text: &At<String>) -> Option<T> {
    let wrong = |error: T::Err| section.reader.wrong(text.span.clone(), error.to_string(), None);
    text.value.parse().map_err(wrong).ok()
}

fn kind(section: &Section<'_>, text: &At<String>) -> StrategyKind {
    StrategyKind::named(&text.value).unwrap_or_else(|| {
        let words = StrategyKind::ALL.map(|(_, word)| word);
        let help = match nearest(&text.value, words) {
            Some(like) => format!("did you mean {like:?}?"),
            None => format!("known strategies: {}", words.map(|word| format!("{word:?}")).join(", ")),
        };
        let message = format!("unknown strategy {:?}", text.value);
        section.reader.wrong(text.span.clone(), message, Some(help));
        StrategyKind::Rolling
    })
}

fn window(section: &Section<'_>, text: &At<String>) -> Window {
    Window::named(&text.value).unwrap_or_else(|| {
        let words = Window::ALL.map(|(_, word)| format!("{word:?}")).join(" or ");
        let message = format!("unknown window {:?}", text.value);
        section.reader.wrong(text.span.clone(), message, Some(format!("write {words}")));
        Window::Batch
    })
}

/// `canary = 2`, `canary = "5%"`, or `canary = "role=canary"`.
fn canary(section: &Section<'_>) -> Option<Canary> {
    let found = section.value("canary")?;
    let DeValue::String(text) = found.value else {
        return section.integer("canary", 0..=u32::MAX).map(Canary::Count);
    };
    text.parse()
        .map_err(|error| {
            let help = "write `canary = 1`, `canary = \"5%\"` or `canary = \"role=canary\"`".to_owned();
            section.reader.wrong(found.span, format!("`canary`: {error}"), Some(help));
        })
        .ok()
}

/// Where the first knob that the sentence names and the section sets stands.
fn knob_span(section: &Section<'_>, sentence: &str) -> Span {
    if sentence.contains(" of gate ") {
        return section.key_span("gates");
    }
    if sentence.contains(" limits ") || sentence.ends_with(" limits") {
        return section.key_span("limits");
    }
    if sentence.contains("analysis")
        || sentence.contains(" of latency ")
        || sentence.contains(" of failures ")
        || sentence.contains(" of cpu ")
        || sentence.contains(" of memory ")
        || sentence.contains(" of restarts ")
    {
        return section.key_span("analysis");
    }
    let words: BTreeSet<&str> = sentence.split(|c: char| !c.is_ascii_lowercase() && c != '_').collect();
    let knobs = keys::of("[environment.NAME]");
    let named = knobs.iter().find(|knob| words.contains(**knob) && section.has(knob));
    named.map_or_else(|| section.span.clone(), |knob| section.key_span(knob))
}
