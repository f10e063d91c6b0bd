//! What the file of another deployment tool becomes here: a first definition, and an account of all that it could
//! not become.
//!
//! A file is read as text and never executed. Its commands are put where a definition has a place for them
//! ([`work`]); what needs a decision is marked in the definition and listed in the account. The pages below `docs/from`
//! say the same by hand, and what is made here agrees with them.

pub mod account;
mod appspec;
mod capistrano;
mod checkout;
mod deed;
mod draft;
mod fabric;
mod kamal;
pub mod report;
mod script;
mod shell;
mod work;
mod yaml;

use landfall_common::AppName;
use landfall_common::definition::{Definition, Diagnostic, FILE_NAME};

pub use checkout::{Checkout, MAX_BYTES};

use crate::error::Error;
use account::{Account, Place};
use draft::{Section, Table};
use work::Work;

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Capistrano's config/deploy.rb
    Capistrano,
    /// AWS CodeDeploy's appspec.yml
    Codedeploy,
    /// Fabric's fabfile.py
    Fabric,
    /// Kamal's config/deploy.yml
    Kamal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Capistrano, Self::Codedeploy, Self::Fabric, Self::Kamal];

    /// What people call it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Capistrano => "Capistrano",
            Self::Codedeploy => "CodeDeploy",
            Self::Fabric => "Fabric",
            Self::Kamal => "Kamal",
        }
    }

    /// The name that it is given by.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Capistrano => "capistrano",
            Self::Codedeploy => "codedeploy",
            Self::Fabric => "fabric",
            Self::Kamal => "kamal",
        }
    }

    /// The page that says the same by hand.
    #[must_use]
    pub fn page(self) -> String {
        format!("docs/from/{}.md", self.word())
    }

    /// By the name of the file, or else by what it says.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let begins = |key: &str| text.lines().any(|line| line.starts_with(key));
        let is_yaml = name.ends_with(".yml") || name.ends_with(".yaml");
        match name.as_str() {
            _ if is_yaml && name.starts_with("appspec") => Some(Self::Codedeploy),
            _ if is_yaml && begins("version:") && begins("os:") && begins("hooks:") => Some(Self::Codedeploy),
            _ if is_yaml && begins("service:") && (begins("image:") || begins("servers:")) => {
                Some(Self::Kamal)
            }
            _ if is_yaml && name.starts_with("deploy") => Some(Self::Kamal),
            "fabfile.py" => Some(Self::Fabric),
            "deploy.rb" | "capfile" => Some(Self::Capistrano),
            _ if name.ends_with(".py") && (begins("from fabric") || begins("import fabric")) => {
                Some(Self::Fabric)
            }
            _ if name.ends_with(".rb") && begins("set :application") => Some(Self::Capistrano),
            _ => None,
        }
    }
}

/// A file that is imported.
#[derive(Debug, Clone, Copy)]
pub struct Source<'s> {
    /// Its path, relative to the repository.
    pub name: &'s str,
    /// Its text.
    pub text: &'s str,
}

impl Source<'_> {
    /// A line of it, from 1.
    fn at(&self, line: usize) -> Place {
        Place::new(self.name, line)
    }

    /// That it cannot be what it was taken for; `next` is what to do.
    fn refused(&self, kind: Kind, mistake: Diagnostic, next: impl Into<String>) -> Error {
        Error::Import { what: kind.title(), mistakes: vec![mistake], next: next.into() }
    }

    /// The same of a whole line.
    fn refused_at(&self, kind: Kind, line: usize, message: &str, next: impl Into<String>) -> Error {
        let start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let end = self.text[start.min(self.text.len())..].find('\n').map_or(self.text.len(), |at| start + at);
        self.refused(kind, Diagnostic::new(self.name, self.text, start..end, message, None), next)
    }
}

/// What a file became.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The application's name.
    pub application: AppName,
    /// The definition: valid, as it stands.
    pub definition: String,
    /// What became of each part.
    pub account: Account,
}

/// Makes a definition of a file; `name` is the application's, if that is settled.
///
/// # Errors
/// [`Error::Import`] for a file that is not what `kind` says, [`Error::Usage`] if no name can be found,
/// [`Error::ImportBroken`] if what was made is not valid, which is a mistake of this program.
pub fn import(
    kind: Kind,
    source: &Source<'_>,
    checkout: &Checkout,
    name: Option<&AppName>,
) -> Result<Imported, Error> {
    let mut work = Work::new(checkout);
    match kind {
        Kind::Capistrano => capistrano::read(source, &mut work)?,
        Kind::Codedeploy => appspec::read(source, &mut work)?,
        Kind::Fabric => fabric::read(source, &mut work)?,
        Kind::Kamal => kamal::read(source, &mut work)?,
    }
    work.settle();
    lacking(kind, source, &mut work);
    let (application, about) = application(&mut work, name)?;
    let head = [
        format!("A first definition, made from {} ({}).", source.name, kind.title()),
        "Look through it; what is marked DECIDE only you can know.".to_owned(),
        format!("Every key: docs/reference/landfall-toml.md. The same by hand: {}", kind.page()),
    ];
    let definition = work.draft.render(&head, application.as_str(), &about);
    if let Err(mistakes) = Definition::parse(FILE_NAME, &definition) {
        return Err(Error::ImportBroken { file: source.name.to_owned(), mistakes });
    }
    Ok(Imported { application, definition, account: work.account })
}

/// The application's name, and where it comes from.
fn application(work: &mut Work<'_>, given: Option<&AppName>) -> Result<(AppName, String), Error> {
    if let Some(name) = given {
        return Ok((name.clone(), String::new()));
    }
    let root = work.checkout.root().canonicalize().unwrap_or_else(|_| work.checkout.root().to_owned());
    let directory = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let found = work.name.take();
    let named = found.and_then(|(said, from, is_name)| {
        let name = AppName::new(draft::tame(&said)).ok()?;
        Some((is_name && name.as_str() == said, name, Some(from)))
    });
    let named = named.or_else(|| Some((false, AppName::new(draft::tame(&directory)).ok()?, None)));
    let Some((is_settled, name, from)) = named else {
        return Err(Error::usage(
            "nothing says how the application is called, and its directory's name cannot be its name",
            "the same command with --app NAME",
        ));
    };
    let by =
        from.as_ref().map_or_else(|| "by the name of the directory".to_owned(), |from| format!("by {from}"));
    let about = format!("{by}. Hosts are enrolled for it, and it never changes.");
    if is_settled {
        return Ok((name, about));
    }
    let question = format!("is {:?} right? Hosts are enrolled for it, and it never changes", name.as_str());
    work.account.open(from.as_ref(), "[application] name", format!("{by}: {question}"));
    Ok((name, format!("DECIDE: {about}")))
}

/// What every definition should have, and this one has not.
fn lacking(kind: Kind, source: &Source<'_>, work: &mut Work<'_>) {
    let says = format!("nothing in {}", source.name);
    if !work.draft.has(Table::Service)
        && !work.account.open.iter().any(|open| open.key.starts_with("[[service]]"))
    {
        let question = format!("{says} tells how the application is run (docs/recipes)");
        work.account.open(None, "[[service]]", &question);
        let section = Section::noted(Table::Service, &format!("DECIDE: {question}"))
            .key("name", "web")
            .key("driver", "process")
            .command("command", &["bin/web"])
            .key("listen", "127.0.0.1:8000")
            .raw("ready = { http = \"/healthz\" }")
            .commented_out();
        work.draft.add(section);
    }
    if !work.draft.has(Table::Check) {
        let question = format!(
            "{says} tells what to ask a healthy application; without a check only its services say that it is well"
        );
        work.account.open(None, "[[check]]", &question);
        let section = Section::noted(Table::Check, &format!("DECIDE: {question}"))
            .key("name", "healthz")
            .raw("http = { url = \"http://127.0.0.1:8000/healthz\" }")
            .commented_out();
        work.draft.add(section);
    }
    if !work.draft.has_header("[environment.production]") {
        let section = match kind {
            Kind::Codedeploy => Section::environment(
                "production",
                "As CodeDeployDefault.OneAtATime; the deployment configuration is not in the file.",
            )
            .key("canary", 1)
            .key("batch", 1),
            Kind::Kamal => {
                careful("Landfall's defaults: Kamal changes all hosts at once unless `boot` says otherwise.")
            }
            Kind::Capistrano => {
                careful("Landfall's defaults: Capistrano changes all hosts of a role at once.")
            }
            Kind::Fabric => careful("Landfall's defaults: how many hosts change at once is not in the file."),
        };
        work.draft.add(section);
    }
}

/// How a rollout goes unless it is said.
fn careful(note: &str) -> Section {
    Section::environment("production", note).key("canary", 1).key("batch", "25%")
}

#[cfg(test)]
mod tests;
