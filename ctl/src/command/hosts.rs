//! `ctl hosts`: state, release and health of each host; tokens for new ones; farewell to old ones. What brings the
//! agent to new ones is in [`add`].

mod add;
pub(super) mod drain;
mod label;

use std::collections::BTreeMap;

use serde_json::json;

use super::Session;
use super::leave_out;
use super::place::{self, Asked};
use crate::cli::{Hosts, HostsCommand};
use crate::client::{Bearer, Client, NewToken};
use crate::clock;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::output::{Output, Tone, format};
use crate::trust::Trust;
use crate::view::{Cordon, Figures, Host};
use landfall_common::{AppName, EnvName, HostId, Sha256, Timestamp};

pub(super) async fn run(session: &Session, arguments: &Hosts) -> Result<Exit, Error> {
    let (profile, client) = session.connect().await?;
    match &arguments.command {
        None => list(session, &client, arguments).await,
        Some(HostsCommand::Add(asked)) => add::run(session, &profile, &client, asked).await,
        Some(HostsCommand::Token { environment, name, labels, valid_for, yes }) => {
            let (application, environment) = settle(session, &client, environment.env.as_ref(), *yes).await?;
            let name = name.clone().map(HostId::new).transpose();
            let name = name.map_err(|error| Error::usage(error.to_string(), "choose another name"))?;
            let wanted = Wanted { application, environment, name, labels, valid_for: *valid_for };
            token(session, &profile, &client, wanted).await
        }
        Some(HostsCommand::Cordon { hosts, reason }) => {
            let cordoned = client.cordon(hosts, reason.clone()).await?;
            leave_out::cordoned(session, &client, &cordoned).await
        }
        Some(HostsCommand::Uncordon { hosts, reason }) => {
            let hosts = client.uncordon(hosts, reason.clone()).await?;
            leave_out::uncordoned(session, &hosts)
        }
        Some(HostsCommand::Drain { hosts, reason, beyond_budget }) => {
            let drained = client.drain(hosts, reason.clone(), beyond_budget.clone()).await?;
            drain::drained(session, &client, &drained).await
        }
        Some(HostsCommand::Undrain { hosts, reason }) => {
            let hosts = client.undrain(hosts, reason.clone()).await?;
            drain::undrained(session, &hosts)
        }
        Some(HostsCommand::Label { words, reason }) => label::run(session, &client, words, reason).await,
        Some(HostsCommand::Remove { host, reason, yes }) => {
            let output = session.output;
            if !yes {
                output.confirm(&format!("deny {host} from now on and forget it?"))?;
            }
            client.remove_host(host, reason.clone()).await?;
            output.line(format!("{host} is removed; what runs there goes on until it is stopped there"));
            output.json("removed", host);
            Ok(Exit::Succeeded)
        }
    }
}

async fn list(session: &Session, client: &Client, arguments: &Hosts) -> Result<Exit, Error> {
    let output = session.output;
    let application = session.known_application()?;
    let hosts = client.hosts(application.as_ref(), arguments.env.as_ref()).await?;
    if hosts.is_empty() {
        let environment = arguments.env.as_ref();
        let asked = Asked { noun: "host", application: application.as_ref(), environment };
        let nothing = place::nothing_in(session, client, asked).await?;
        output.line(format!(
            "{nothing} has joined; next: ctl hosts add USER@HOST --package PATH, or ctl hosts token, which says what to type there"
        ));
    } else {
        let now = clock::now();
        let rows = hosts.iter().map(|host| row(&output, host, now)).collect();
        let header = [
            "host",
            "environment",
            "state",
            "release",
            "health",
            "drift",
            "cpu",
            "memory",
            "disk free",
            "load",
            "check p50",
        ];
        output.table(&header, rows);
        for host in hosts.iter().filter(|host| !host.failing.is_empty()) {
            for (check, saw) in &host.failing {
                output.line(format!("{}: check {check}: {saw}", host.id));
            }
        }
        for host in &hosts {
            let told = drain::told(host).or_else(|| host.cordon.as_ref().map(cordoned));
            if let Some(told) = told {
                output.line(format!("{}: {told}", host.id));
            }
        }
    }
    output.json("hosts", &hosts);
    Ok(Exit::Succeeded)
}

fn row(output: &Output, host: &Host, now: Timestamp) -> Vec<String> {
    let state = if host.connected {
        host.phase.clone()
    } else {
        let seen = host
            .last_seen
            .map_or("never seen".to_owned(), |seen| format!("gone, seen {}", format::relative(seen, now)));
        output.paint(Tone::Warning, &seen)
    };
    let state = match &host.cordon {
        _ if host.is_led_away() => format!("{state}, {}", output.paint(Tone::Warning, &host.traffic)),
        Some(_) => format!("{state}, {}", output.paint(Tone::Warning, "cordoned")),
        None => state,
    };
    let release = match &host.active {
        Some(release) if host.active_proven => release.clone(),
        Some(release) => format!("{release} (unproven)"),
        None => "-".to_owned(),
    };
    let health = match host.health.as_str() {
        "healthy" => output.paint(Tone::Good, "healthy"),
        "unhealthy" => output.paint(Tone::Bad, "unhealthy"),
        other => other.to_owned(),
    };
    let drift = match &host.drift {
        None => "-".to_owned(),
        Some(drift) if drift.total == 0 => "none".to_owned(),
        Some(drift) => output.paint(Tone::Warning, &drift.total.to_string()),
    };
    let mut row = vec![host.id.clone(), host.environment.clone(), state, release, health, drift];
    row.extend(host.figures.as_ref().map_or_else(|| vec!["-".to_owned(); 5], figures));
    row
}

/// `cordoned by ana since 2026-11-22 18:00:00: its disk is broken`.
pub(super) fn cordoned(cordon: &Cordon) -> String {
    let since = cordon.since.map(|since| format!(" since {}", format::time(since))).unwrap_or_default();
    format!("cordoned by {}{since}: {}", cordon.by, cordon.reason)
}

fn figures(figures: &Figures) -> Vec<String> {
    let percent = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
    let slowest =
        figures.checks.iter().filter(|check| check.count > check.failed).map(|check| check.p50_us).max();
    vec![
        format!("{}%", figures.cpu_per_mille / 10),
        format!("{}%", percent(figures.memory_used_bytes, figures.memory_total_bytes)),
        format::bytes(figures.disk_free_bytes),
        format!("{}.{:02}", figures.load1_centi / 100, figures.load1_centi % 100),
        format::or_dash(slowest.map(|us| format!("{}.{} ms", us / 1000, us % 1000 / 100))),
    ]
}

/// What a token is to be for.
struct Wanted<'w> {
    application: AppName,
    environment: EnvName,
    name: Option<HostId>,
    labels: &'w [(String, String)],
    valid_for: std::time::Duration,
}

/// The question before a token for a place that the working tree's definition does not have: what the token says
/// holds for the host for good.
fn doubt(application: &AppName, environment: &EnvName, defined: &[EnvName]) -> Option<String> {
    let names: Vec<&str> = defined.iter().map(EnvName::as_str).collect();
    (!names.is_empty() && !defined.contains(environment)).then(|| {
        format!(
            "landfall.toml of {application} has no environment {environment:?}, only {}; a host keeps its environment \
             for good. Make the token all the same?",
            names.join(", "),
            environment = environment.as_str()
        )
    })
}

/// The place that is meant for hosts, asked about if the definition does not have it.
async fn settle(
    session: &Session,
    client: &Client,
    environment: Option<&EnvName>,
    yes: bool,
) -> Result<(AppName, EnvName), Error> {
    let application = session.application(client).await?;
    let environment = session.local_environment(environment)?;
    let defined = session.defined_environments(&application).unwrap_or_default();
    if let Some(question) = doubt(&application, &environment, &defined).filter(|_| !yes) {
        let next = "the same command with an environment that there is; or with --yes, if this one is meant";
        session.output.confirm_or(&question, next)?;
    }
    Ok((application, environment))
}

/// Makes a token. The root that the host begins with is this operator's own trusted one, never the controller's (P1):
/// refresh that first, so that it is the newest.
async fn new_token(profile: &Profile, client: &Client, wanted: Wanted<'_>) -> Result<NewToken, Error> {
    let root = Sha256::of(&crate::trust::root_file(&profile.trust_directory())?);
    let bearer = Bearer::Host {
        application: wanted.application,
        environment: wanted.environment,
        labels: wanted.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        name: wanted.name,
    };
    let mut new = client.create_token(bearer, wanted.valid_for).await?;
    new.token.root = Some(root);
    Ok(new)
}

async fn token(
    session: &Session,
    profile: &Profile,
    client: &Client,
    wanted: Wanted<'_>,
) -> Result<Exit, Error> {
    let output = session.output;
    let place = format!("{} in {}", wanted.application, wanted.environment);
    Trust::refresh(profile.trust_directory(), client).await?;
    let new = new_token(profile, client, wanted).await?;
    let text = new.token.to_text();
    let expires = format::relative(new.expires, clock::now());
    output.line(&text);
    output.note(format!(
        "for one host of {place}, to be used once, expires {expires}. On the host:\n  \
         landfall-agent join TOKEN --controller {}",
        client.address()
    ));
    output.json("token", &json!({ "token": text, "expires": new.expires }));
    Ok(Exit::Succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table;

    #[test]
    fn a_token_for_an_environment_that_the_definition_lacks_is_asked_about() {
        let env = |name| EnvName::new(name).unwrap();
        let shop = AppName::new("shop").unwrap();
        let defined = [env("production"), env("staging")];
        insta::assert_snapshot!(doubt(&shop, &env("prodction"), &defined).unwrap(), @r#"landfall.toml of shop has no environment "prodction", only production, staging; a host keeps its environment for good. Make the token all the same?"#);
        assert_eq!(doubt(&shop, &env("staging"), &defined), None);
        // Without a definition there is nothing to hold it against.
        assert_eq!(doubt(&shop, &env("prodction"), &[]), None);
    }

    #[test]
    fn hosts_are_shown_with_their_state_release_and_figures() {
        let now = "2026-11-21T16:00:00Z".parse().unwrap();
        let host = |id: &str, connected| Host {
            id: id.into(),
            application: "tenants".into(),
            environment: "production".into(),
            labels: BTreeMap::new(),
            enrolled: None,
            connected,
            last_seen: Some("2026-11-21T15:55:00Z".parse().unwrap()),
            active: Some("v1.4".into()),
            active_proven: connected,
            phase: "idle".into(),
            health: if connected { "healthy".into() } else { "unknown".into() },
            failing: BTreeMap::new(),
            figures: connected.then(|| Figures {
                cpu_per_mille: 123,
                memory_used_bytes: 1 << 30,
                memory_total_bytes: 4 << 30,
                disk_free_bytes: 20 << 30,
                disk_total_bytes: 40 << 30,
                load1_centi: 105,
                network_received_bytes_per_s: 0,
                network_sent_bytes_per_s: 0,
                agent_rss_bytes: 0,
                checks: vec![crate::view::Latency {
                    check: "healthz".into(),
                    count: 10,
                    failed: 0,
                    p50_us: 4_321,
                    max_us: 9_000,
                }],
                services: Vec::new(),
                metrics: Vec::new(),
            }),
            facts: BTreeMap::new(),
            agent_version: String::new(),
            certificate_expires: None,
            drift: connected.then_some(crate::view::DriftMark { total: 2, looked: None }),
            cordon: (!connected).then(|| crate::view::Cordon {
                by: "ana".into(),
                reason: "its disk is broken".into(),
                since: None,
            }),
            drain: None,
            traffic: String::new(),
        };
        let rows = [host("web-1", true), host("web-2", false)];
        let rows = rows.iter().map(|host| row(&Output::plain(), host, now)).collect();
        let header = [
            "host",
            "environment",
            "state",
            "release",
            "health",
            "drift",
            "cpu",
            "memory",
            "disk",
            "load",
            "p50",
        ];
        insta::assert_snapshot!(table(&header, rows, None), @r#"
    HOST   ENVIRONMENT  STATE                            RELEASE          HEALTH   DRIFT  CPU  MEMORY  DISK      LOAD  P50
    web-1  production   idle                             v1.4             healthy  2      12%  25%     20.0 GiB  1.05  4.3 ms
    web-2  production   gone, seen 5m 00s ago, cordoned  v1.4 (unproven)  unknown  -      -    -       -         -     -
    "#);
    }
}
