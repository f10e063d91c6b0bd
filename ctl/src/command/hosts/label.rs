//! `ctl hosts label`: what is said of hosts, set and taken away.

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::{HostId, LabelKey};
use serde_json::json;

use super::super::Session;
use crate::client::Client;
use crate::error::{Error, Exit};
use crate::view::HostPart;

const NEXT: &str = "ctl hosts label HOST… KEY=VALUE… KEY-…, hosts first";

pub(super) async fn run(
    session: &Session,
    client: &Client,
    words: &[String],
    reason: &str,
) -> Result<Exit, Error> {
    let Asked { hosts, set, remove } = asked(words)?;
    let (hosts, parts) = client.label(&hosts, (set, remove), reason.to_owned()).await?;
    let output = session.output;
    for host in &hosts {
        output.line(format!(
            "{} of {} in {}: {}",
            host.id,
            host.application,
            host.environment,
            told(&host.labels)
        ));
    }
    parts.iter().for_each(|part| output.line(describe(part)));
    let next = match parts.first() {
        Some(part) => format!("next: ctl status {}", part.rollout),
        None => "next: ctl plan RELEASE, which shows the batches".to_owned(),
    };
    output.line(next);
    output.json("labelled", &json!({ "hosts": hosts, "parts": parts }));
    Ok(Exit::Succeeded)
}

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    hosts: Vec<HostId>,
    set: BTreeMap<String, String>,
    remove: BTreeSet<String>,
}

/// Hosts come first: a host's name may end as a label that is taken away does.
fn asked(words: &[String]) -> Result<Asked, Error> {
    let invalid = |what: String| Error::usage(what, NEXT);
    let is_label = |word: &String| word.contains('=') || word.ends_with('-');
    let at = words.iter().position(is_label).unwrap_or(words.len());
    let (hosts, labels) = words.split_at(at);
    if hosts.is_empty() {
        return Err(invalid("no host is named".to_owned()));
    }
    let host = |name: &String| HostId::new(name.clone()).map_err(|error| invalid(error.to_string()));
    let hosts = hosts.iter().map(host).collect::<Result<_, _>>()?;
    if labels.is_empty() {
        return Err(invalid("no label is named".to_owned()));
    }
    let key = |text: &str| match LabelKey::new(text) {
        Ok(key) => Ok(key.to_string()),
        Err(error) => Err(invalid(error.to_string())),
    };
    let mut asked = Asked { hosts, set: BTreeMap::new(), remove: BTreeSet::new() };
    for word in labels {
        let again = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((label, value)), _) => asked.set.insert(key(label)?, value.to_owned()).is_some(),
            (None, Some(label)) => !asked.remove.insert(key(label)?),
            (None, None) => {
                return Err(invalid(format!("{word:?} is no label; hosts are named before labels")));
            }
        };
        if again {
            return Err(invalid(format!("the label of {word:?} is given twice")));
        }
    }
    match asked.remove.iter().find(|label| asked.set.contains_key(*label)) {
        Some(label) => Err(invalid(format!("label {label} is to be set and taken away at once"))),
        None => Ok(asked),
    }
}

/// `role=canary, zone=b`.
fn told(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    if labels.is_empty() { "no label".to_owned() } else { labels.join(", ") }
}

fn describe(part: &HostPart) -> String {
    let HostPart { host, rollout, batch, batches, let_go } = part;
    let what = if *let_go { "was let go already, with" } else { "changes with" };
    format!("rollout {rollout} is under way: {host} {what} batch {batch} of {batches}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Asked, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        asked(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_come_first_then_what_is_set_and_what_is_taken_away() {
        let asked = of("web-1 web-2 zone=b=c role= colour-").unwrap();
        assert_eq!(asked.hosts, ["web-1", "web-2"].map(|host| HostId::new(host).unwrap()));
        let set = [("zone", "b=c"), ("role", "")].map(|(label, value)| (label.to_owned(), value.to_owned()));
        assert_eq!(asked.set, set.into());
        assert_eq!(asked.remove, ["colour".to_owned()].into());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = [
            "zone=b",
            "web-1",
            "web-1 zone=a zone=b",
            "web-1 zone=a zone-",
            "web-1 zone- web-2",
            "web-1 a/b=c",
        ];
        let refused: Vec<String> = refused.iter().map(|text| of(text).unwrap_err()).collect();
        insta::assert_snapshot!(refused.join("\n"), @r#"
        no host is named
        no label is named
        the label of "zone=b" is given twice
        label zone is to be set and taken away at once
        "web-2" is no label; hosts are named before labels
        label "a/b" is not valid: only ASCII letters, digits, '.', '-', '_' and '+' are allowed
        "#);
    }
}
