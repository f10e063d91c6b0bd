//! `ctl doctor`: what would go wrong soon, or does already, and what to type against it.

use std::path::PathBuf;
use std::time::Duration;

use landfall_common::Timestamp;
use landfall_trust::KeyPair;
use landfall_trust::policy::POLICY_ROLE;
use serde::Serialize;

use super::Session;
use crate::client::Client;
use crate::client::identity::Identity;
use crate::config::Profile;
use crate::error::{Error, Exit};
use crate::output::{Output, Tone, format};
use crate::trust::Trust;
use crate::trust::lifetime::WARN_BEFORE;
use crate::view::{self, ObjectsUsage};
use crate::{clock, files, keys, trust};

/// TLS fails at minutes of difference; seconds only confuse people.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// More hosts than this are not named one by one.
const NAMED: usize = 4;

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

/// One look.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    found: String,
    next: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { what: what.into(), verdict, found: found.into(), next: None }
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

pub(super) async fn run(session: &Session) -> Result<Exit, Error> {
    let output = session.output;
    let profile = session.profile()?;
    let now = clock::now();
    let mut findings = Vec::new();
    look_at_keys(&profile, &mut findings);
    findings.push(look_at_certificate(&profile, now));
    match Client::connect(&profile).await {
        Ok(client) => look_at_controller(&profile, &client, &mut findings).await,
        Err(error) => findings.push(failed("controller", &error)),
    }
    for finding in &findings {
        output.line(text(&output, finding));
    }
    output.json("findings", &findings);
    let problems = findings.iter().any(|finding| finding.verdict == Verdict::Problem);
    Ok(if problems { Exit::Failed } else { Exit::Succeeded })
}

fn text(output: &Output, finding: &Finding) -> String {
    let mark = match finding.verdict {
        Verdict::Ok => output.paint(Tone::Good, "ok     "),
        Verdict::Warning => output.paint(Tone::Warning, "warning"),
        Verdict::Problem => output.paint(Tone::Bad, "problem"),
    };
    let next = finding.next.as_ref().map(|next| format!("\n         next: {next}")).unwrap_or_default();
    format!("{mark}  {}: {}{next}", finding.what, finding.found)
}

fn failed(what: &str, error: &Error) -> Finding {
    let mut found = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        found.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    for detail in error.details() {
        found.push_str(&format!("; {detail}"));
    }
    Finding { next: error.next(), ..Finding::new(what, Verdict::Problem, found) }
}

fn look_at_keys(profile: &Profile, findings: &mut Vec<Finding>) {
    for (what, paths, absent) in [
        ("release key", profile.release_key_files(), Verdict::Warning),
        ("root key", profile.root_key_files(), Verdict::Ok),
    ] {
        for path in paths {
            let shown = path.display().to_string();
            findings.push(match (keys::read(&path), files::exposed_mode(&path)) {
                (Ok(Some(_)), _) => Finding::new(what, Verdict::Ok, shown),
                (Ok(None), _) => {
                    let found = format!("{shown} is not on this machine");
                    Finding::new(what, absent, found)
                }
                (Err(_), Ok(Some(mode))) => {
                    Finding::new(what, Verdict::Problem, format!("others may read {shown} (mode {mode:04o})"))
                        .next(format!("chmod 600 {shown}"))
                }
                (Err(error), _) => failed(what, &error),
            });
        }
    }
}

fn look_at_certificate(profile: &Profile, now: Timestamp) -> Finding {
    let what = "your certificate";
    match Identity::load(profile).and_then(|identity| identity.check(now).map(|()| identity)) {
        Ok(identity) => {
            let expires = format::relative(identity.expires, now);
            Finding::new(what, Verdict::Ok, format!("expires {expires}; renews itself while you work"))
        }
        Err(error) => failed(what, &error),
    }
}

fn expiry(what: &str, expires: Timestamp, now: Timestamp, warn: Duration, next: &str) -> Finding {
    let found = if expires <= now {
        format!("expired {}", format::relative(expires, now))
    } else {
        format!("expires {}", format::relative(expires, now))
    };
    if expires <= now {
        Finding::new(what, Verdict::Problem, found).next(next)
    } else if expires < now + warn {
        Finding::new(what, Verdict::Warning, found).next(next)
    } else {
        Finding::new(what, Verdict::Ok, found)
    }
}

/// What the files of releases take, and whether one of them has to be uploaded again.
fn look_at_objects(usage: Option<&ObjectsUsage>, now: Timestamp) -> Finding {
    let what = "releases' files";
    let Some(usage) = usage else {
        return Finding::new(what, Verdict::Ok, "not counted yet: the controller has just been started");
    };
    let mut found =
        format!("{} for {}", format::bytes(usage.kept_bytes), format::count(usage.releases, "release"));
    if usage.freeable_bytes > 0 {
        let grace = format::duration(Duration::from_millis(usage.grace_ms));
        let freeable = format::bytes(usage.freeable_bytes);
        found.push_str(&format!("; {freeable} that no release needs are removed when unused for {grace}"));
    }
    if let Some(counted) = usage.counted {
        found.push_str(&format!(" (counted {})", format::relative(counted, now)));
    }
    if let Some(first) = usage.damaged_releases.first() {
        found.push_str(&format!(
            "; damaged on the controller's disk, and to be uploaded again: {}",
            usage.damaged_releases.join(", ")
        ));
        if !usage.held_up.is_empty() {
            found.push_str("; nothing is removed until then");
        }
        let next = match first.split_once(' ') {
            Some((application, release)) => {
                format!("in the repository of {application}: ctl release {release} --publish-only")
            }
            None => "ctl release NAME --publish-only".to_owned(),
        };
        return Finding::new(what, Verdict::Problem, found).next(next);
    }
    Finding::new(what, Verdict::Ok, found)
}

/// What is asked of a host.
struct Presence<'h> {
    id: &'h str,
    connected: bool,
    expired: bool,
}

fn look_at_hosts(hosts: &[Presence<'_>]) -> Finding {
    let what = "hosts";
    let names = |wanted: &dyn Fn(&Presence<'_>) -> bool| -> Vec<&str> {
        hosts.iter().filter(|host| wanted(host)).map(|host| host.id).collect()
    };
    let gone = names(&|host| !host.connected);
    let expired = names(&|host| host.expired);
    if hosts.is_empty() {
        return Finding::new(what, Verdict::Ok, "none has joined yet").next("ctl hosts token");
    }
    if gone.is_empty() && expired.is_empty() {
        let found = if hosts.len() == 1 {
            "the only one is connected".to_owned()
        } else {
            format!("all {} are connected", hosts.len())
        };
        return Finding::new(what, Verdict::Ok, found);
    }
    let mut found = Vec::new();
    if !gone.is_empty() {
        let verb = if gone.len() == 1 { "is" } else { "are" };
        found.push(format!("{} of {} {verb} not connected: {}", gone.len(), hosts.len(), some(&gone)));
    }
    if !expired.is_empty() {
        found.push(format!("certificates have expired on {}", some(&expired)));
    }
    let next = match (gone.first(), expired.first()) {
        (_, Some(expired)) => {
            format!("ctl hosts token --name {expired}, then on {expired}: landfall-agent join TOKEN --again")
        }
        (Some(gone), None) => {
            format!("on {gone}: systemctl status landfall-agent; journalctl -u landfall-agent")
        }
        (None, None) => "ctl hosts".to_owned(),
    };
    Finding::new(what, Verdict::Warning, found.join("; ")).next(next)
}

fn some(names: &[&str]) -> String {
    match names.len() {
        0..=NAMED => names.join(", "),
        many => format!("{} and {} more (ctl hosts)", names[..NAMED].join(", "), many - NAMED),
    }
}

/// Of which applications this machine can sign releases: a key that nobody trusts signs nothing.
fn look_at_signers(profile: &Profile, trust: &Trust, role: &str) -> Result<Vec<Finding>, Error> {
    let present = |files: Vec<PathBuf>| -> Vec<KeyPair> {
        // What cannot be read was told of above.
        files.iter().filter_map(|file| keys::read(file).ok().flatten()).collect()
    };
    let (releases, roots) = (present(profile.release_key_files()), present(profile.root_key_files()));
    let targets = trust.targets()?;
    let roles = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
    let mut signs = Vec::new();
    for application in roles.filter_map(|role| role.name.strip_prefix("apps/").map(|app| (app, &role.name))) {
        let authority = targets.authority("targets", application.1);
        if authority
            .is_some_and(|authority| releases.iter().any(|pair| authority.keyids.contains(pair.keyid())))
        {
            signs.push(application.0);
        }
    }
    let mut findings = Vec::new();
    if !signs.is_empty() {
        findings.push(Finding::new("signing", Verdict::Ok, format!("releases of {}", signs.join(", "))));
    } else if !view::looks_only(role) {
        let found = "no release key of this machine may sign releases of anything";
        findings.push(Finding::new("signing", Verdict::Warning, found).next(trust::LET_ME_SIGN));
    }
    let owners = trust.root().authority("root");
    if !roots.is_empty() && !roots.iter().any(|pair| owners.keyids.contains(pair.keyid())) {
        let found = "the root key of this machine is none of the root in force: nobody trusts what it signs";
        findings.push(
            Finding::new("root key", Verdict::Warning, found)
                .next("ctl trust show lists those in force; remove the file, or put the right one there"),
        );
    }
    Ok(findings)
}

async fn look_at_controller(profile: &Profile, client: &Client, findings: &mut Vec<Finding>) {
    let before = clock::now();
    let info = match client.info().await {
        Ok(info) => info,
        Err(error) => return findings.push(failed("controller", &error)),
    };
    let now = clock::now();
    let took = now.since(before);
    findings.push(Finding::new(
        "controller",
        Verdict::Ok,
        format!(
            "{} answers in {} ms, version {}; you are {} ({})",
            client.address(),
            took.as_millis(),
            info.version,
            info.operator,
            info.role
        ),
    ));
    let skew = if info.now > now { info.now.since(now) } else { now.since(info.now) };
    let skew = skew.saturating_sub(took);
    findings.push(if skew > MAX_SKEW {
        let found = format!("this machine and the controller differ by {}", format::duration(skew));
        Finding::new("clock", Verdict::Warning, found)
            .next("timedatectl set-ntp true, on the one that is wrong")
    } else {
        Finding::new("clock", Verdict::Ok, "agrees with the controller's")
    });
    if let Some(expires) = info.ca_expires {
        let next = "plan a new authority: every host has to join again";
        findings.push(expiry("controller's authority", expires, now, WARN_BEFORE, next));
    }
    if let Some(expires) = info.server_certificate_expires {
        let next = "look into the controller's log: it renews this by itself";
        findings.push(expiry(
            "controller's certificate",
            expires,
            now,
            Duration::from_secs(3 * 86_400),
            next,
        ));
    }
    findings.push(look_at_objects(info.objects.as_ref(), now));
    match Trust::refresh(profile.trust_directory(), client).await {
        Ok(trust) => {
            let version = trust.root().header.version;
            findings.push(Finding::new("trusted root", Verdict::Ok, format!("version {version}, verified")));
            match look_at_signers(profile, &trust, &info.role) {
                Ok(found) => findings.extend(found),
                Err(error) => findings.push(failed("signing", &error)),
            }
        }
        Err(error) => findings.push(failed("trusted root", &error)),
    }
    for (role, expires) in &info.role_expires {
        let what = format!("role {role}");
        // The online roles live for days and are renewed by the controller.
        let (warn, next) = match role.as_str() {
            "timestamp" | "snapshot" => {
                (Duration::from_secs(3600), "look into the controller's log: it signs this by itself")
            }
            "root" | "targets" | POLICY_ROLE => (WARN_BEFORE, "ctl trust renew, where the root key is"),
            _ => (WARN_BEFORE, "any new release signs it anew: ctl release"),
        };
        findings.push(expiry(&what, *expires, now, warn, next));
    }
    match client.hosts(None, None).await {
        Ok(hosts) => {
            let hosts: Vec<Presence> = hosts
                .iter()
                .map(|host| Presence {
                    id: &host.id,
                    connected: host.connected,
                    expired: host.certificate_expires.is_some_and(|expires| expires <= now),
                })
                .collect();
            findings.push(look_at_hosts(&hosts));
        }
        Err(error) => findings.push(failed("hosts", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_away_are_named_with_where_to_look() {
        let host = |id, connected, expired| Presence { id, connected, expired };
        let shown = |hosts: &[Presence<'_>]| text(&Output::plain(), &look_at_hosts(hosts));
        insta::assert_snapshot!(shown(&[]), @r#"
        ok       hosts: none has joined yet
                 next: ctl hosts token
        "#);
        insta::assert_snapshot!(shown(&[host("web-1", true, false)]), @"ok       hosts: the only one is connected");
        insta::assert_snapshot!(shown(&[host("web-1", true, false), host("web-2", true, false)]), @"ok       hosts: all 2 are connected");
        insta::assert_snapshot!(shown(&[host("web-1", true, false), host("web-2", false, false)]), @r#"
        warning  hosts: 1 of 2 is not connected: web-2
                 next: on web-2: systemctl status landfall-agent; journalctl -u landfall-agent
        "#);
        insta::assert_snapshot!(shown(&[host("web-1", false, true), host("web-2", false, false)]), @r#"
        warning  hosts: 2 of 2 are not connected: web-1, web-2; certificates have expired on web-1
                 next: ctl hosts token --name web-1, then on web-1: landfall-agent join TOKEN --again
        "#);
    }

    #[test]
    fn what_the_files_take_is_told_and_what_is_damaged_has_its_command() {
        let now = "2026-11-21T16:00:00Z".parse().unwrap();
        let usage = ObjectsUsage {
            counted: Some("2026-11-21T15:40:00Z".parse().unwrap()),
            kept_bytes: 1 << 30,
            freeable_bytes: 340 << 20,
            releases: 10,
            damaged_releases: Vec::new(),
            held_up: String::new(),
            keep_releases: 10,
            grace_ms: 86_400_000,
        };
        let shown = |usage: Option<&ObjectsUsage>| text(&Output::plain(), &look_at_objects(usage, now));
        insta::assert_snapshot!(shown(None), @"ok       releases' files: not counted yet: the controller has just been started");
        insta::assert_snapshot!(shown(Some(&usage)), @"ok       releases' files: 1.0 GiB for 10 releases; 340 MiB that no release needs are removed when unused for 1d 0h (counted 20m 00s ago)");
        let damaged = ObjectsUsage {
            freeable_bytes: 0,
            damaged_releases: vec!["shop v1.4".to_owned(), "shop v1.5".to_owned()],
            held_up: "shop v1.4: object 12 is damaged".to_owned(),
            ..usage
        };
        insta::assert_snapshot!(shown(Some(&damaged)), @"
        problem  releases' files: 1.0 GiB for 10 releases (counted 20m 00s ago); damaged on the controller's disk, and to be uploaded again: shop v1.4, shop v1.5; nothing is removed until then
                 next: in the repository of shop: ctl release v1.4 --publish-only
        ");
    }
}
