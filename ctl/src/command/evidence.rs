//! `ctl evidence`: what CI says of a commit, signed, handed in, shown.

use std::path::{Path, PathBuf};

use landfall_common::AppName;
use landfall_common::evidence::{CommitId, Statement};
use landfall_trust::evidence::{Evidence, key_of};
use serde_json::json;

use super::Session;
use crate::cli;
use crate::client::Client;
use crate::error::{Error, Exit};
use crate::output::{error_text, error_value, format};
use crate::{clock, git, keys, view};

pub(super) async fn run(session: &Session, arguments: &cli::Evidence) -> Result<Exit, Error> {
    match arguments {
        cli::Evidence::Key { file } => key(session, file)?,
        cli::Evidence::Sign(said) => {
            let application = session.known_application()?.ok_or_else(|| {
                Error::usage("which application is meant?", "run this in its repository, or add --app NAME")
            })?;
            let mut document = sign(session, application, said)?.to_bytes();
            document.push(b'\n');
            session.output.raw(&document);
        }
        cli::Evidence::Submit { files } => {
            let (_, client) = session.connect().await?;
            return submit(session, &client, files).await;
        }
        cli::Evidence::Add(said) => {
            let (_, client) = session.connect().await?;
            let evidence = sign(session, session.application(&client).await?, said)?;
            client.submit_evidence(&evidence).await?;
            session.output.line(told(&evidence.statement));
            session.output.json("evidence", &evidence.statement);
        }
        cli::Evidence::List { commit, limit } => {
            let commit = commit.as_ref().map(|commit| resolve(session, commit)).transpose()?;
            let (_, client) = session.connect().await?;
            let application = session.application(&client).await?;
            let (all, more) = client.evidence(&application, commit.as_ref(), *limit).await?;
            if all.is_empty() {
                let of = commit
                    .as_ref()
                    .map_or_else(String::new, |commit| format!(" of commit {}", commit.short()));
                session.output.line(format!("there is no evidence{of} of {application}"));
            } else {
                table(session, &all);
            }
            if more > 0 {
                session
                    .output
                    .note(format!("and {more} before these; --limit shows up to 500, COMMIT those of one"));
            }
            session.output.json("evidence", &all);
        }
    }
    Ok(Exit::Succeeded)
}

/// Hands in what can be, and says of each other file why it could not: of what many jobs have signed nothing is lost for
/// the first that is bad.
async fn submit(session: &Session, client: &Client, files: &[PathBuf]) -> Result<Exit, Error> {
    let output = session.output;
    let mut submitted = Vec::new();
    let mut failed = Vec::new();
    for file in files {
        let handed_in = match read(file) {
            Ok(evidence) => client.submit_evidence(&evidence).await.map(|()| evidence.statement),
            Err(error) => Err(error),
        };
        match handed_in {
            Ok(statement) => {
                output.line(told(&statement));
                submitted.push(json!({ "file": file, "evidence": statement }));
            }
            Err(error) if files.len() == 1 => return Err(error),
            Err(error) => {
                output.note(format!("{}: {}", file.display(), error_text(&error, false)));
                submitted.push(json!({ "file": file, "error": error_value(&error) }));
                failed.push(file.display().to_string());
            }
        }
    }
    output.json("submitted", &submitted);
    if failed.is_empty() {
        return Ok(Exit::Succeeded);
    }
    output.note(format!(
        "{} of {} files were not handed in: {}",
        failed.len(),
        files.len(),
        failed.join(", ")
    ));
    Ok(Exit::Failed)
}

fn key(session: &Session, file: &Path) -> Result<(), Error> {
    let (pair, made) = keys::read_or_generate(file)?;
    if made {
        session.output.note(format!("{} is made: it is CI's secret", file.display()));
    }
    let key = key_of(&pair);
    session.output.line(key.as_str());
    session.output.json("key", &key);
    Ok(())
}

fn sign(session: &Session, application: AppName, said: &cli::Said) -> Result<Evidence, Error> {
    let pair = keys::read(&said.key)?.ok_or_else(|| {
        let next = format!("put CI's key there, or make one: ctl evidence key {}", said.key.display());
        Error::missing(format!("the key {} is not on this machine", said.key.display()), next)
    })?;
    let at = clock::now();
    let statement = Statement {
        application,
        commit: resolve(session, &said.commit)?,
        name: said.name.clone(),
        result: said.result.into(),
        run: said.run.unwrap_or_else(|| at.ms()),
        url: said.url.clone(),
        at,
        key: key_of(&pair),
    };
    statement.check().map_err(|reason| Error::usage(reason, "ctl evidence add --help"))?;
    Evidence::sign(statement, &pair).map_err(Error::trust("the evidence cannot be signed"))
}

/// A full id needs no repository, which a job that only tells the result may not have.
fn resolve(session: &Session, commit: &str) -> Result<CommitId, Error> {
    if let Ok(full) = CommitId::new(commit) {
        return Ok(full);
    }
    let next = "name it by its full id, or run this in its repository";
    let repository = git::Repository::discover(&session.directory).map_err(|_| {
        Error::usage(format!("{commit:?} is no full commit id, and this is no Git repository"), next)
    })?;
    let found = repository.resolve(commit)?;
    CommitId::new(found).map_err(|error| Error::usage(error.to_string(), next))
}

fn read(file: &Path) -> Result<Evidence, Error> {
    let bytes = std::fs::read(file).map_err(|source| Error::io("read", file, source))?;
    // The line end that a shell has put behind it.
    let document = bytes.trim_ascii_end();
    Evidence::parse(document).map_err(Error::trust(format!("{} is no evidence", file.display())))
}

fn told(statement: &Statement) -> String {
    let Statement { application, commit, name, result, run, .. } = statement;
    format!("{name} of commit {} of {application}: {result} in run {run}", commit.short())
}

fn table(session: &Session, all: &[view::Evidence]) {
    let row = |evidence: &view::Evidence| {
        let Statement { commit, name, result, run, url, key, .. } = &evidence.statement;
        vec![
            commit.short().to_owned(),
            name.to_string(),
            result.to_string(),
            run.to_string(),
            key.short().to_owned(),
            format::time(evidence.handed_in_at),
            evidence.by.clone(),
            if url.is_empty() { "-".to_owned() } else { url.clone() },
        ]
    };
    let header = ["COMMIT", "NAME", "RESULT", "RUN", "KEY", "HANDED IN", "BY", "URL"];
    session.output.table(&header, all.iter().map(row).collect());
}
