//! Why a list is empty: there is nothing yet in a place that somebody knows, or the place was mistyped.

use std::collections::BTreeSet;

use landfall_common::{AppName, EnvName};

use super::Session;
use crate::client::Client;
use crate::error::Error;

/// Far enough back to find every environment in which anything was rolled out.
pub(super) const LOOK_BACK: u32 = 200;

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// What was looked for there, such as `rollout`.
    pub noun: &'a str,
    /// Of this application only.
    pub application: Option<&'a AppName>,
    /// In this environment only.
    pub environment: Option<&'a EnvName>,
}

/// The sentence for an empty list of a place that somebody knows: the controller, by a host or a rollout, or the
/// definition in the working tree.
///
/// # Errors
/// [`Error::Usage`] for a place that nobody knows, with those that there are.
pub(super) async fn nothing_in(
    session: &Session,
    client: &Client,
    asked: Asked<'_>,
) -> Result<String, Error> {
    if asked.application.is_none() && asked.environment.is_none() {
        return Ok(sentence(asked));
    }
    let mut places = Places::default();
    for host in client.hosts(None, None).await? {
        places.0.insert((host.application, host.environment));
    }
    for rollout in client.rollouts(None, None, LOOK_BACK).await? {
        places.0.insert((rollout.application, rollout.environment));
    }
    let mut defined = Vec::new();
    if let Some(application) = asked.application {
        defined = session.defined_environments(application).unwrap_or_default();
        // One with release signers and nothing else yet; or the one whose repository this is.
        let is_known = session.global.app.is_none()
            || !defined.is_empty()
            || client.info().await?.applications.contains(&application.to_string());
        if !is_known && !places.has(Some(application), None) {
            return Err(places.unknown(Asked { environment: None, ..asked }, None));
        }
    }
    match asked.environment {
        Some(environment)
            if !defined.contains(environment) && !places.has(asked.application, Some(environment)) =>
        {
            Err(places.unknown(asked, asked.application))
        }
        _ => Ok(sentence(asked)),
    }
}

/// `no rollout of shop in staging`.
fn sentence(asked: Asked<'_>) -> String {
    let of = asked.application.map(|application| format!(" of {application}")).unwrap_or_default();
    let within = asked.environment.map(|environment| format!(" in {environment}")).unwrap_or_default();
    format!("no {}{of}{within}", asked.noun)
}

/// Where the controller has hosts or rollouts: application and environment.
#[derive(Debug, Default)]
struct Places(BTreeSet<(String, String)>);

impl Places {
    fn has(&self, application: Option<&AppName>, environment: Option<&EnvName>) -> bool {
        self.0.iter().any(|(app, env)| {
            application.is_none_or(|asked| asked.as_str() == app)
                && environment.is_none_or(|asked| asked.as_str() == env)
        })
    }

    /// Refuses what nobody knows; names what there is, of this application only if one is given.
    fn unknown(&self, asked: Asked<'_>, of: Option<&AppName>) -> Error {
        let there: BTreeSet<String> = match of {
            Some(of) => self.0.iter().filter(|(app, _)| app == of.as_str()).map(|(_, e)| e.clone()).collect(),
            None => self.0.iter().map(|(app, env)| format!("{app} in {env}")).collect(),
        };
        let what = sentence(asked);
        if there.is_empty() {
            let next = "ctl hosts shows every host that has joined; ctl releases what is published";
            return Error::usage(format!("{what}; there is none anywhere yet"), next);
        }
        let names = there.into_iter().collect::<Vec<_>>().join(", ");
        let next = match asked.environment {
            Some(_) => "the same command with --env and one of these",
            None => "the same command with --app and one of these",
        };
        Error::usage(format!("{what}; there are: {names}"), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_nobody_knows_is_refused_with_those_that_there_are() {
        let known = [("shop", "production"), ("shop", "staging"), ("blog", "production")];
        let places = Places(known.into_iter().map(|(a, e)| (a.to_owned(), e.to_owned())).collect());
        let (shop, nope) = (AppName::new("shop").unwrap(), AppName::new("nope").unwrap());
        let typo = EnvName::new("prodction").unwrap();
        let asked = Asked { noun: "rollout", application: Some(&shop), environment: Some(&typo) };
        assert!(places.has(Some(&shop), None) && !places.has(Some(&shop), Some(&typo)));
        insta::assert_snapshot!(places.unknown(asked, Some(&shop)), @"no rollout of shop in prodction; there are: production, staging");
        let asked = Asked { noun: "host", application: Some(&nope), environment: None };
        insta::assert_snapshot!(places.unknown(asked, None), @"no host of nope; there are: blog in production, shop in production, shop in staging");
        insta::assert_snapshot!(Places::default().unknown(asked, None), @"no host of nope; there is none anywhere yet");
    }
}
