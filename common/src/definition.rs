//! `landfall.toml`, the definition of an application, read and checked as a whole.
//!
//! Everything wrong with a definition is found at once, each with its file, line, the offending text and
//! what to write instead. What a definition becomes in a release is in [`crate::manifest`]; the digest of
//! the files that define the schema is added by whoever has the files. Every key and its default is
//! documented in `docs/reference/landfall-toml.md`.

mod diagnostic;
mod keys;
mod reader;
mod sections;

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

pub use diagnostic::Diagnostic;
pub use keys::TABLES;

use crate::ids::{AppName, EnvName, ReleaseName};
use crate::manifest::{Program, Step};
use crate::strategy::Strategy;
use reader::{Reader, Section};
use sections::{LeadsAway, Measured, Migrate, Place, Taken};

/// The name of the file in the root of an application's repository.
pub const FILE_NAME: &str = "landfall.toml";

/// What an application is and how it is released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub application: AppName,
    /// The release that a host must have run before. Its number is still open: whoever signs knows it.
    pub follows: Option<ReleaseName>,
    /// Globs of files that are left out of a release.
    pub exclude: Vec<String>,
    /// Run once per release, where it is packed, in this order.
    pub build: Vec<Step>,
    /// What executes on hosts. The migration's `schema` is still open: it takes the files.
    pub program: Program,
    /// Globs of the files that define the schema.
    pub schema_files: Vec<String>,
    /// Run where the release is built, after `build`: writes the name of each migration that it knows, one a line.
    pub list_migrations: Option<Step>,
    /// How each environment wants to be rolled out; at least one.
    pub environments: BTreeMap<EnvName, Strategy>,
}

impl Definition {
    /// Reads and checks a definition; `file` is its name in messages.
    ///
    /// # Errors
    /// All that is wrong, in the order of the text.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let reader = Reader { file, text, found: std::cell::RefCell::default() };
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What the parser guessed after a syntax error would only raise false alarms.
            let wrong = |error: &toml::de::Error| {
                let end = text.trim_end().len();
                let span = error.span().unwrap_or(end..end);
                Diagnostic::new(file, text, span, format!("this is not TOML: {}", error.message()), None)
            };
            return Err(errors.iter().map(wrong).collect());
        }
        let definition = read(&reader, document.get_ref());
        let mut found = reader.found.into_inner();
        found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        match definition {
            Some(definition) if found.is_empty() => Ok(definition),
            _ => Err(found),
        }
    }
}

fn read(reader: &Reader<'_>, document: &DeTable<'_>) -> Option<Definition> {
    let root = Section::new(reader, "", String::new(), 0..0, document);
    let (application, follows) = application(&root);
    let exclude =
        root.table("source", "[source]", "[source]").map(|source| sections::globs(&source, "exclude"));
    let build = root.tables("build", "[[build]]");
    let build = sections::steps(build, Place::Build, sections::BUILD_TIMEOUT, &mut Taken::new());

    let mut taken = Taken::new();
    for reserved in ["migrate", "migrate-down", "contract"] {
        taken.insert(reserved.to_owned(), "a step that Landfall itself runs".to_owned());
    }
    let prepare = root.tables("prepare", "[[prepare]]");
    let prepare = sections::steps(prepare, Place::Host, sections::PREPARE_TIMEOUT, &mut taken);
    let migrate = root.table("migrate", "[migrate]", "[migrate]");
    let migrate = migrate.and_then(|section| sections::migrate(&section));
    let contract = root.table("contract", "[contract]", "[contract]");
    let contract = contract.and_then(|section| sections::contract(&section));
    let services = sections::services(root.tables("service", "[[service]]"), slotted(&root));
    let checks = sections::checks(root.tables("check", "[[check]]"), &mut taken);
    let metrics = sections::metrics(root.tables("metric", "[[metric]]"));
    let smoke = root.tables("smoke", "[[smoke]]");
    let smoke = sections::steps(smoke, Place::Host, sections::SMOKE_TIMEOUT, &mut taken);
    let shared = root.table("shared", "[shared]", "[shared]");
    let shared = shared.map(|section| sections::shared(&section)).unwrap_or_default();
    let retention = root.table("retention", "[retention]", "[retention]");
    let retention = retention.map(|section| sections::retention(&section)).unwrap_or_default();
    let named = application.as_ref().map(AppName::as_str);
    let traffic = root.table("traffic", "[traffic]", "[traffic]");
    let has_traffic = traffic.is_some();
    let traffic = traffic.and_then(|section| sections::traffic(&section, named, &services));
    let away = match &traffic {
        Some(traffic) => LeadsAway::of(traffic),
        // What is wrong with it was said.
        None if has_traffic => LeadsAway::FromTheHost,
        None => LeadsAway::Nothing,
    };
    let measured = Measured { checks: &checks, metrics: &metrics, services: root.has("service") };
    let named_environments = root.named_tables("environment", "[environment.NAME]");
    let mut environments = sections::environments(named_environments, measured, away);
    if environments.is_empty() {
        let production = EnvName::new("production").expect("a literal that is a valid name");
        environments.insert(production, Strategy::default());
    }
    let (migrate, schema_files, list_migrations) = match migrate {
        Some(Migrate { migration, files, list }) => (Some(migration), files, list),
        None => (None, Vec::new(), None),
    };
    Some(Definition {
        application: application?,
        follows,
        exclude: exclude.unwrap_or_default(),
        build,
        program: Program {
            prepare,
            migrate,
            contract,
            services,
            checks,
            metrics,
            smoke,
            shared,
            retention,
            traffic,
            follows: None,
        },
        schema_files,
        list_migrations,
        environments,
    })
}

/// The name that `slots` of `[traffic]` give as the service which has them; whether it is one is seen later.
fn slotted<'d>(root: &Section<'d>) -> Option<&'d str> {
    root.value("traffic")?.value.get("slots")?.get_ref().get("service")?.get_ref().as_str()
}

/// Its name, and what its releases follow.
fn application(root: &Section<'_>) -> (Option<AppName>, Option<ReleaseName>) {
    // `application = "tenants"` is what one would guess; say how it is written.
    if let Some(DeValue::String(name)) = root.value("application").map(|at| at.value) {
        let help = format!("write `[application]` and below it `name = {:?}`", name.as_ref());
        root.reader.wrong(root.key_span("application"), "`application` must be a table", Some(help));
        return (None, None);
    }
    if !root.has("application") {
        let help = Some("begin with `[application]` and `name = \"…\"`".to_owned());
        root.reader.wrong(0..0, "the definition has no [application]", help);
    }
    let Some(section) = root.table("application", "[application]", "[application]") else {
        return (None, None);
    };
    if !section.has("name") {
        section.missing("name", "name = \"…\"");
    }
    let name = section.name("name", AppName::new).map(|at| at.value);
    (name, section.name("follows", ReleaseName::new).map(|at| at.value))
}

#[cfg(test)]
mod tests;
