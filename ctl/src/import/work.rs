//! The commands of a deployment, put where a definition has a place for them.
//!
//! They are gathered first, since one says how another is written: a virtualenv which program migrates.

mod services;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use landfall_common::time::{Duration, human};

use super::account::{Account, Place};
use super::checkout::Checkout;
use super::deed::{Deed, deed};
use super::draft::{Draft, Section, Table, literal};
use super::shell::{Call, base};

/// What is being made: the definition and the account of it.
pub struct Work<'c> {
    /// The definition.
    pub draft: Draft,
    /// The account.
    pub account: Account,
    /// Where other files of the repository are.
    pub checkout: &'c Checkout,
    /// A name for the application, where it was found, and whether that is what it is there for.
    pub name: Option<(String, Place, bool)>,
    /// Links into each release, and where each was found.
    shared: BTreeMap<(bool, String), Place>,
    /// The files that name Python's packages.
    requirements: Vec<String>,
    found: Vec<Found>,
}

/// A command and where it stands.
struct Found {
    from: Place,
    call: Call,
    deed: Deed,
    timeout_s: Option<u64>,
}

/// The words on a command that only the host's administrator should give.
const HOST: &str = "it sets up the host, and a release brings only the application";
/// What to do about those.
const HOST_INSTEAD: &str = "leave it to what sets up your hosts, such as Ansible";

impl<'c> Work<'c> {
    /// Nothing yet.
    #[must_use]
    pub fn new(checkout: &'c Checkout) -> Self {
        Self {
            draft: Draft::default(),
            account: Account::default(),
            checkout,
            name: None,
            shared: BTreeMap::new(),
            requirements: Vec::new(),
            found: Vec::new(),
        }
    }

    /// What may be the application's name, unless one was found before.
    pub fn guess_name(&mut self, name: &str, from: &Place) {
        if self.name.is_none() {
            self.name = Some((name.to_owned(), from.clone(), false));
        }
    }

    /// The application's name.
    pub fn name(&mut self, name: &str, from: &Place) {
        self.name = Some((name.to_owned(), from.clone(), true));
    }

    /// A command that deploys; `timeout_s` is what it was given there.
    pub fn command(&mut self, from: Place, call: Call, timeout_s: Option<u64>) {
        let deed = deed(&call);
        self.deed(from, call, deed, timeout_s);
    }

    /// A command whose purpose is known.
    pub fn deed(&mut self, from: Place, call: Call, deed: Deed, timeout_s: Option<u64>) {
        self.found.push(Found { from, call, deed, timeout_s });
    }

    /// Something that outlives a release.
    pub fn share(&mut self, path: &str, is_directory: bool, from: &Place) {
        let path = path.trim_start_matches("./").trim_matches('/');
        let good = !path.is_empty()
            && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            && !path.contains(|c: char| c.is_control() || "$<>*".contains(c));
        if !good {
            let why = "it is not a plain path inside the release";
            self.account.left(from, format!("shared {path:?}"), why, "add it to [shared] as it is");
            return;
        }
        // One inside of another would be two links at one place: the outer one stays.
        let inside =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
        if let Some((_, other)) = self.shared.keys().find(|(_, other)| inside(path, other) || path == other) {
            let to = format!("[shared] {other}");
            self.account.carried(from, format!("shared {path}"), to);
            return;
        }
        self.shared.retain(|(_, other), _| !inside(other, path));
        let key = if is_directory { "directories" } else { "files" };
        self.account.carried(from, format!("shared {path}"), format!("[shared] {key}"));
        self.shared.insert((is_directory, path.to_owned()), from.clone());
    }

    /// Writes down all that was gathered.
    pub fn settle(&mut self) {
        let found = std::mem::take(&mut self.found);
        let has_python = found.iter().any(|one| matches!(one.deed, Deed::Pip { .. } | Deed::Virtualenv));
        self.packages(&found);
        self.builds(&found);
        self.statics(&found, has_python);
        self.migration(&found, has_python);
        self.services(&found, has_python);
        self.checks(&found);
        self.retention(&found);
        self.sharing(&found);
        self.rest(&found);
        self.account.settle();
    }

    fn checks(&mut self, found: &[Found]) {
        let mut seen = BTreeSet::new();
        for one in found {
            let Deed::Probe(url) = &one.deed else { continue };
            let last = url.splitn(4, '/').nth(3).unwrap_or_default();
            let last = base(last.split('?').next().unwrap_or_default());
            if !seen.insert(url) {
                self.account.carried(&one.from, one.call.text(), "[[check]], as above");
                continue;
            }
            let name = self.draft.name(if last.is_empty() { "front-page" } else { last });
            self.account.carried(&one.from, one.call.text(), format!("[[check]] {name}"));
            let http = toml::Table::from_iter([("url".to_owned(), toml::Value::from(literal(url)))]);
            let section =
                Section::new(Table::Check, &one.from, &one.call.text()).key("name", name).key("http", http);
            self.draft.add(section);
        }
    }

    fn retention(&mut self, found: &[Found]) {
        for one in found {
            let Deed::Retain(number) = one.deed else { continue };
            self.keep(number, &one.from, &one.call.text());
        }
    }

    /// So many releases stay on a host.
    pub fn keep(&mut self, releases: u32, from: &Place, what: &str) {
        if self.draft.has(Table::Retention) {
            return self.account.carried(from, what, "[retention], as above");
        }
        let kept = releases.clamp(2, 1000);
        self.account.carried(from, what, format!("[retention] releases = {kept}"));
        let mut section = Section::new(Table::Retention, from, what);
        if kept != releases {
            section = section.note("Between 2 and 1000: the active one and the last good one always stay.");
        }
        self.draft.add(section.key("releases", i64::from(kept)));
    }

    fn sharing(&mut self, found: &[Found]) {
        for one in found {
            let Deed::Share { path } = &one.deed else { continue };
            // As far as a name tells: files have an extension, or are dotfiles.
            let is_directory = !base(path).contains('.');
            self.share(path, is_directory, &one.from);
        }
        if self.shared.is_empty() {
            return;
        }
        let places: BTreeSet<String> = self.shared.values().map(ToString::to_string).collect();
        let places: Vec<String> = places.into_iter().collect();
        let of = |kind: bool| -> Option<Vec<String>> {
            let paths: Vec<String> =
                self.shared.keys().filter(|(is, _)| *is == kind).map(|(_, path)| path.clone()).collect();
            (!paths.is_empty()).then_some(paths)
        };
        let section = Section::noted(Table::Shared, &format!("From {}.", places.join(", ")))
            .maybe("directories", of(true))
            .maybe("files", of(false));
        self.draft.add(section);
    }

    /// What has no place in a definition, with the reason.
    fn rest(&mut self, found: &[Found]) {
        for one in found {
            let (why, instead) = match one.deed {
                Deed::Other => (
                    "nothing here says what it is for",
                    "what prepares files belongs into [[build]] or [[prepare]], what proves the release into [[smoke]]",
                ),
                Deed::Fetch => (
                    "no host fetches the code: the tag's tree is packed once, signed, and brought to each host",
                    "nothing, if it brings the application's own files; others belong to what sets up your hosts",
                ),
                Deed::Copy => (
                    "a release is read-only, and complete when it is staged",
                    "make files in [[build]], or below {prepared} in [[prepare]]; what a host keeps goes into [shared], \
                     what belongs to the system is for what sets up your hosts",
                ),
                Deed::Switch => ("`current` is changed by rename(2), as a step of its own", "nothing"),
                Deed::Stop => (
                    "what ran before is ended by the service's driver, once the new release serves",
                    "nothing, if it is the application's own process",
                ),
                Deed::Host => (HOST, HOST_INSTEAD),
                Deed::ProbeElsewhere => (
                    "a check asks the service on its own host, over plain HTTP, and without data",
                    "ask it from a script in [[smoke]]",
                ),
                _ => continue,
            };
            self.account.left(&one.from, one.call.text(), why, instead);
        }
    }
}

/// A duration as the definition writes it.
#[must_use]
pub fn seconds(seconds: u64) -> String {
    human::format(Duration::from_secs(seconds.clamp(1, 24 * 60 * 60)))
}

/// Whether a variable's name promises that its value is nobody else's business.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_uppercase();
    [
        "SECRET",
        "PASSWORD",
        "TOKEN",
        "PASS",
        "CREDENTIAL",
        "PRIVATE",
        "ACCESS_KEY",
        "API_KEY",
        "MASTER_KEY",
        "DSN",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// An environment as a value, if there is anything in it.
#[must_use]
pub fn environment_value(environment: &BTreeMap<String, String>, on_host: bool) -> Option<toml::Value> {
    if environment.is_empty() {
        return None;
    }
    let text = |value: &String| if on_host { literal(value) } else { value.clone() };
    let entries = environment.iter().map(|(name, value)| (name.clone(), toml::Value::from(text(value))));
    Some(toml::Value::Table(entries.collect()))
}
