//! `ctl operators token`: a colleague, or a pipeline, gets in.

use landfall_common::{OperatorName, Sha256};
use serde_json::json;

use super::Session;
use crate::cli::Operators;
use crate::client::Bearer;
use crate::clock;
use crate::error::{Error, Exit};
use crate::output::format;
use crate::trust::{self, Trust};

pub(super) async fn run(session: &Session, arguments: &Operators) -> Result<Exit, Error> {
    let Operators::Token { name, role, valid_for } = arguments;
    let output = session.output;
    OperatorName::new(name.as_str())
        .map_err(|error| Error::usage(error.to_string(), "choose another name"))?;
    let (profile, client) = session.connect().await?;
    let bearer = Bearer::Operator { name: name.clone(), role: role.clone() };
    let mut new = client.create_token(bearer, *valid_for).await?;
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
        "for {name} as {role}, to be used once, expires {expires}:\n  ctl login TOKEN --controller {}",
        client.address()
    ));
    output.json("token", &json!({ "token": text, "expires": new.expires }));
    Ok(Exit::Succeeded)
}
