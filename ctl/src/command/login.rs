//! `ctl login`: a one-time token becomes an operator's certificate, and a context.

use landfall_common::Token;
use serde_json::json;

use super::Session;
use crate::cli::Login;
use crate::client::Client;
use crate::client::identity;
use crate::clock;
use crate::config::{Context, DEFAULT_CONTEXT, Profile, check_context_name};
use crate::error::{Error, Exit};
use crate::output::format;
use crate::trust;
use crate::view;

pub(super) async fn run(session: &mut Session, arguments: &Login) -> Result<Exit, Error> {
    let token = identity::parse_token(&arguments.token)?;
    let root = arguments.root.as_deref().map(trust::read_root).transpose()?;
    let name = session.global.context.clone().or_else(|| session.config.current.clone());
    let name = name.unwrap_or_else(|| DEFAULT_CONTEXT.to_owned());
    check_context_name(&name)?;
    let mut context = match (session.config.contexts.get(&name), &arguments.controller) {
        (Some(context), _) => context.clone(),
        (None, Some(address)) => Context::new(address.clone()),
        (None, None) => {
            return Err(Error::usage("which controller is meant?", "ctl login TOKEN --controller HOST:PORT"));
        }
    };
    if let Some(address) = &arguments.controller {
        context.controller.clone_from(address);
    }
    let profile = Profile::new(&session.places, &name, context.clone());
    let joined = identity::join(&profile, &token).await?;
    session.config.contexts.insert(name.clone(), context);
    session.config.current = Some(name.clone());
    session.config.save(&session.places)?;
    take_root(&profile, &token, root.as_deref()).await?;

    let output = session.output;
    let expires = format::relative(joined.expires, clock::now());
    output.line(format!(
        "logged in to {} as {} ({}); the certificate expires {expires}",
        profile.context.controller, joined.operator, joined.role
    ));
    if let Some(next) = next(&profile, &joined.role).await {
        output.line(format!("next: {next}"));
    }
    output.json(
        "login",
        &json!({
            "context": name,
            "controller": profile.context.controller,
            "operator": joined.operator,
            "role": joined.role,
            "expires": joined.expires,
        }),
    );
    Ok(Exit::Succeeded)
}

/// What follows, as far as the controller says what there is.
async fn next(profile: &Profile, role: &str) -> Option<String> {
    let info = Client::connect(profile).await.ok()?.info().await.ok()?;
    let is_initialised = trust::is_initialised(&profile.trust_directory());
    Some(match (info.root_version, role) {
        (0, "admin") => "ctl init, in the application's repository".to_owned(),
        (0, _) => "an admin begins with ctl init; until then there is nothing to release".to_owned(),
        (_, role) if view::looks_only(role) => "ctl status".to_owned(),
        _ if !is_initialised => {
            "ctl init --root root.json, with that file from a colleague (ctl context show names its directory there)"
                .to_owned()
        }
        _ => "ctl status; ctl init, in the application's repository, says whether releases can be signed here".to_owned(),
    })
}

/// Trusts the root that the operator brought, or the one that the token's maker vouches for.
async fn take_root(profile: &Profile, token: &Token, root: Option<&[u8]>) -> Result<(), Error> {
    let directory = profile.trust_directory();
    if let Some(root) = root {
        return trust::initialise(&directory, root);
    }
    match token.root {
        Some(digest) if !trust::is_initialised(&directory) => {
            let client = Client::connect(profile).await?;
            trust::initialise_by_digest(&directory, &digest, &client).await
        }
        _ => Ok(()),
    }
}
