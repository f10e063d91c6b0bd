//! `ctl operators`: who may call the controller; a colleague, or a pipeline, gets in or is shut out.

use landfall_common::{OperatorName, Right, Rights, Sha256};
use serde_json::json;

use super::Session;
use crate::cli::{Operators, OperatorsCommand};
use crate::client::Bearer;
use crate::clock;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::trust::{self, Trust};

pub(super) async fn run(session: &Session, arguments: &Operators) -> Result<Exit, Error> {
    match &arguments.command {
        None => list(session).await,
        Some(OperatorsCommand::Token { name, role, valid_for }) => {
            token(session, name, role.clone(), *valid_for).await
        }
        Some(OperatorsCommand::Remove { name, yes }) => remove(session, name, *yes).await,
    }
}

async fn list(session: &Session) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    let operators = client.operators().await?;
    let now = clock::now();
    let rows = operators.iter().map(|operator| {
        let expires = operator.expires.map(|expires| format::relative(expires, now));
        let state = match (operator.issued, operator.expires) {
            (None, _) => "has a token",
            (Some(_), Some(expires)) if expires <= now => "expired",
            (Some(_), _) => "is in",
        };
        vec![
            operator.name.clone(),
            operator.role.clone(),
            state.to_owned(),
            format::or_dash(expires),
            format::or_dash(operator.since.map(|since| format::relative(since, now))),
            operator.origin.clone(),
        ]
    });
    output.table(&["operator", "role", "state", "expires", "first came in", "last from"], rows.collect());
    output.json("operators", &operators);
    Ok(Exit::Succeeded)
}

async fn remove(session: &Session, name: &str, yes: bool) -> Result<Exit, Error> {
    let output = session.output;
    let (_, client) = session.connect().await?;
    if !yes {
        output.confirm(&format!("deny {name} from now on?"))?;
    }
    client.remove_operator(name).await?;
    output.line(format!("{name} is shut out; a new token lets {name} in again"));
    output.note("signing keys are another matter: ctl trust show, and ctl trust change release --remove KEY");
    output.json("removed", &name);
    Ok(Exit::Succeeded)
}

async fn token(
    session: &Session,
    name: &str,
    role: Vec<Right>,
    valid_for: std::time::Duration,
) -> Result<Exit, Error> {
    let output = session.output;
    OperatorName::new(name).map_err(|error| Error::usage(error.to_string(), "choose another name"))?;
    let rights = Rights::new(role).map_err(|error| Error::usage(error.to_string(), "give fewer roles"))?;
    let (profile, client) = session.connect().await?;
    let bearer = Bearer::Operator { name: name.to_owned(), role: rights.to_string() };
    let mut new = client.create_token(bearer, valid_for).await?;
    // With it the colleague trusts the same root as this machine, on this machine's word.
    let directory = profile.trust_directory();
    if trust::is_initialised(&directory) {
        Trust::refresh(directory.clone(), &client).await?;
        new.token.root = Some(Sha256::of(&trust::root_file(&directory)?));
    }
    let text = new.token.to_text();
    let expires = format::relative(new.expires, clock::now());
    output.line(&text);
    output.note(format!(
        "for {name} as {rights}, to be used once, expires {expires}:\n  ctl login TOKEN --controller {}",
        client.address()
    ));
    output.json("token", &json!({ "token": text, "expires": new.expires }));
    Ok(Exit::Succeeded)
}
