//! `ctl context`: which controllers this machine knows.

use serde_json::json;

use super::Session;
use crate::cli::Context;
use crate::client::identity::Identity;
use crate::clock;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::output::format;

pub(super) fn run(session: &mut Session, arguments: &Context) -> Result<Exit, Error> {
    match arguments {
        Context::List => list(session),
        Context::Show => show(session)?,
        Context::Use { name } => {
            session.config.profile(&session.places, Some(name))?;
            session.config.current = Some(name.clone());
            session.config.save(&session.places)?;
            session.output.line(format!("context {name} is in use"));
            session.output.json("current", name);
        }
        Context::Set { application, env } => {
            let name = session.profile()?.name;
            if let Some(context) = session.config.contexts.get_mut(&name) {
                context.application = application.clone().or(context.application.take());
                context.environment = env.clone().or(context.environment.take());
            }
            session.config.save(&session.places)?;
            show(session)?;
        }
        Context::Remove { name } => remove(session, name)?,
    }
    Ok(Exit::Succeeded)
}

fn certificate(profile: &Profile) -> String {
    match Identity::load(profile) {
        Ok(identity) => format::relative(identity.expires, clock::now()),
        Err(_) => "none".to_owned(),
    }
}

fn list(session: &Session) {
    let output = session.output;
    let current = session.config.current.as_deref();
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (name, context) in &session.config.contexts {
        let profile = Profile::new(&session.places, name, context.clone());
        let mark = if current == Some(name) { "*" } else { "" };
        rows.push(vec![mark.to_owned(), name.clone(), context.controller.clone(), certificate(&profile)]);
        values.push(
            json!({ "name": name, "controller": context.controller, "current": current == Some(name) }),
        );
    }
    if rows.is_empty() {
        output.line("this machine knows no controller; next: ctl login TOKEN --controller HOST:PORT");
    } else {
        output.table(&["", "context", "controller", "certificate expires"], rows);
    }
    output.json("contexts", &values);
}

fn show(session: &Session) -> Result<(), Error> {
    let output = session.output;
    let profile = session.profile()?;
    let path = |path: std::path::PathBuf| path.display().to_string();
    let paths = |paths: Vec<std::path::PathBuf>| paths.into_iter().map(path).collect::<Vec<_>>().join(", ");
    let context = &profile.context;
    let rows = [
        ("context", profile.name.clone()),
        ("controller", context.controller.clone()),
        ("application", format::or_dash(context.application.as_ref().map(ToString::to_string))),
        ("environment", format::or_dash(context.environment.as_ref().map(ToString::to_string))),
        ("certificate", format!("{} ({})", path(profile.identity_file()), certificate(&profile))),
        ("trusted root", path(profile.trust_directory().join("root.json"))),
        ("release keys", paths(profile.release_key_files())),
        ("root keys", paths(profile.root_key_files())),
    ];
    for (label, value) in &rows {
        output.line(format!("{label:<13} {value}"));
    }
    output.json("context", &rows.iter().cloned().collect::<std::collections::BTreeMap<_, _>>());
    Ok(())
}

fn remove(session: &mut Session, name: &str) -> Result<(), Error> {
    session.config.profile(&session.places, Some(name))?;
    session.config.contexts.remove(name);
    if session.config.current.as_deref() == Some(name) {
        session.config.current = None;
    }
    session.config.save(&session.places)?;
    let directory = session.places.config.join("contexts").join(name);
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &directory, error));
        }
        _ => {}
    }
    session.output.line(format!("context {name} is forgotten; the signing keys stay"));
    session.output.json("removed", &name);
    Ok(())
}
