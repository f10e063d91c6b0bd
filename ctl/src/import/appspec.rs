//! CodeDeploy's `appspec.yml`: where files go, and a script for each event.
//!
//! The scripts are read where they lie in the repository, since they are the deployment. One that is not there is
//! left, or becomes a step that is written as a comment.

use super::account::Place;
use super::deed::{Deed, deed};
use super::draft::{Section, Table, literal};
use super::shell;
use super::work::{Work, seconds};
use super::yaml::{self, Entry, Node};
use super::{Kind, Source};
use crate::error::Error;

/// Names of directories that are not the name of what lies in them.
pub(super) const ANYBODYS: [&str; 16] = [
    "html", "www", "app", "apps", "src", "var", "opt", "home", "ubuntu", "ec2-user", "tmp", "htdocs",
    "public", "server", "root", "webapps",
];

/// How long a hook of CodeDeploy may run unless it is said.
const HOOK_TIMEOUT_S: u64 = 3600;

/// Reads the file into `work`.
pub(super) fn read(source: &Source<'_>, work: &mut Work<'_>) -> Result<(), Error> {
    let next = "correct the file; is it another tool's? Then say whose: --kind KIND";
    let root = yaml::parse(source.name, source.text)
        .map_err(|mistake| source.refused(Kind::Codedeploy, *mistake, next))?;
    check(source, &root)?;
    for entry in root.entries() {
        let from = source.at(entry.line);
        match entry.key.as_str() {
            "version" | "os" => {}
            "files" => files(source, entry, work),
            "hooks" => hooks(source, entry, work),
            "permissions" => permissions(source, entry, work),
            "file_exists_behavior" => {
                let why = "a release is a directory of its own: there is nothing in its way";
                let instead = "what a host keeps goes into [shared]";
                work.account.left(
                    &from,
                    format!("file_exists_behavior: {}", entry.node.brief()),
                    why,
                    instead,
                );
            }
            other => {
                let why = "CodeDeploy does not know it either";
                work.account.left(&from, format!("{other}: {}", entry.node.brief()), why, "nothing");
            }
        }
    }
    Ok(())
}

/// Whether it is an appspec for servers at all.
fn check(source: &Source<'_>, root: &Node) -> Result<(), Error> {
    let refused =
        |line, message: &str, next: &str| Err(source.refused_at(Kind::Codedeploy, line, message, next));
    if let Some(entry) = root.get("Resources").or_else(|| root.get("resources")) {
        let message = "this deploys to Amazon ECS or Lambda, and Landfall releases to servers";
        return refused(entry.line, message, "import the appspec.yml of a deployment to servers");
    }
    let system = root.get("os");
    if let Some(entry) =
        system.filter(|entry| entry.node.text().is_some_and(|os| os.eq_ignore_ascii_case("windows")))
    {
        let message = "this deploys to Windows, and Landfall releases to Linux";
        return refused(entry.line, message, "import the appspec.yml of a deployment to Linux");
    }
    if root.get("files").is_none() && root.get("hooks").is_none() {
        let message = "an appspec.yml has `files` or `hooks`, and this file has neither";
        return refused(1, message, "name the file that CodeDeploy reads, or say whose it is: --kind KIND");
    }
    Ok(())
}

fn files(source: &Source<'_>, files: &Entry, work: &mut Work<'_>) {
    for file in files.node.items() {
        let text = |key: &str| file.get(key).and_then(|entry| entry.node.text()).unwrap_or_default();
        let (from, to) = (text("source"), text("destination"));
        let place = source.at(file.line);
        let what = format!("files: {from} to {to}");
        let last = shell::base(to);
        if from.is_empty() || to.is_empty() {
            let why = "it has no `source`, or no `destination`";
            work.account.left(&place, what, why, "nothing: CodeDeploy refuses it as well");
        } else if from.trim_matches('/').is_empty() {
            let is_own = !last.is_empty() && !ANYBODYS.contains(&last) && !last.contains(['$', '{', '.']);
            if is_own {
                work.guess_name(last, &place);
            }
            let why = "each release has a directory of its own below /srv/NAME/releases, and `current` changes by \
                       one rename(2)";
            let instead = format!("let what reads {to} read /srv/NAME/current instead");
            work.account.left(&place, what, why, instead);
        } else {
            let why = "a release keeps the tree as it is, in one place";
            let instead = format!(
                "let what reads {to} read /srv/NAME/current/{} instead; what belongs to the system (units, \
                 configuration of a proxy) is for what sets up your hosts",
                from.trim_start_matches('/')
            );
            work.account.left(&place, what, why, instead);
        }
    }
}

fn permissions(source: &Source<'_>, permissions: &Entry, work: &mut Work<'_>) {
    for one in permissions.node.items() {
        let place = source.at(one.line);
        let text = |key: &str| {
            let value = one.get(key).map(|entry| entry.node.brief()).unwrap_or_default();
            if value.is_empty() { String::new() } else { format!(" {key} {value}") }
        };
        let what =
            format!("permissions:{}{}{}{}", text("object"), text("owner"), text("group"), text("mode"));
        let why = "files belong to the agent's user; whether they are executable is in the signed manifest";
        let instead = "commit the executable bit (git update-index --chmod=+x); what the application writes to goes \
                       into [shared]";
        work.account.left(&place, what, why, instead);
    }
}

/// A script of an event.
struct Script<'n> {
    event: &'n str,
    location: &'n str,
    place: Place,
    timeout_s: Option<u64>,
}

fn hooks(source: &Source<'_>, hooks: &Entry, work: &mut Work<'_>) {
    for event in hooks.node.entries() {
        for script in event.node.items() {
            let place = source.at(script.line);
            let Some(location) = script.get("location").and_then(|entry| entry.node.text()) else {
                let why = "it has no `location`, and CodeDeploy runs nothing for it";
                work.account.left(&place, format!("{}: {}", event.key, script.brief()), why, "nothing");
                continue;
            };
            let timeout_s = script.get("timeout").and_then(|entry| entry.node.text()?.trim().parse().ok());
            if let Some(user) = script.get("runas") {
                let why = "steps run as the agent's user of steps, never as root nor as a user of the release's choice";
                let instead = "docs/guides/steps.md says as whom, and what it may write";
                work.account.left(
                    &source.at(user.line),
                    format!("runas: {}", user.node.brief()),
                    why,
                    instead,
                );
            }
            hook(&Script { event: &event.key, location, place, timeout_s }, work);
        }
    }
}

fn hook(script: &Script<'_>, work: &mut Work<'_>) {
    let what = format!("{}: {}", script.event, script.location);
    match script.event {
        "ApplicationStop" => {
            let why = "there is no such step: the old process is ended once the new one serves";
            work.account.left(&script.place, what, why, "nothing, if it only stops the application");
        }
        "ValidateService" => validation(script, work),
        "BeforeInstall" | "AfterInstall" | "ApplicationStart" => commands(script, work),
        event if event.ends_with("Traffic") => {
            let why =
                "no load balancer of a cloud is asked: requests are led around a change on the host itself";
            let instead =
                "[traffic] leads nginx, HAProxy, or a command of yours (docs/reference/landfall-toml.md)";
            work.account.left(&script.place, what, why, instead);
        }
        "AfterApplicationStop" | "DownloadBundle" | "Install" => {
            let why = "CodeDeploy runs no script for this event";
            work.account.left(&script.place, what, why, "nothing");
        }
        _ => {
            let why = "CodeDeploy knows no such event, so that it never ran";
            work.account.left(&script.place, what, why, "nothing");
        }
    }
}

/// What proves a release: the script as it is, and as a check what can be asked all the time.
fn validation(script: &Script<'_>, work: &mut Work<'_>) {
    let what = format!("{}: {}", script.event, script.location);
    let name = shell::base(script.location);
    let name = work.draft.name(name.split('.').next().unwrap_or(name));
    let text = work.checkout.read(script.location);
    work.account.carried(&script.place, &what, format!("[[smoke]] {name}"));
    let mut section = Section::new(Table::Smoke, &script.place, &what);
    let path = script.location.trim_start_matches("./").trim_start_matches('/');
    if text.is_none() {
        let question = format!("{path} was not found in the repository: is it there at the tag?");
        work.account.open(Some(&script.place), format!("[[smoke]] {name}"), &question);
        section = section.decide_above(&question);
    }
    let program = interpreter(path, text.as_deref());
    let timeout = script.timeout_s.unwrap_or(HOOK_TIMEOUT_S);
    let section = section
        .key("name", name)
        .command("command", &[program, &literal(path)])
        .maybe("timeout", script.timeout_s.map(|_| seconds(timeout)));
    work.draft.add(section);
    for call in text.iter().flat_map(|text| shell::calls(text)) {
        if let found @ Deed::Probe(_) = deed(&call) {
            let from = Place::new(path, call.line + 1);
            work.deed(from, call, found, None);
        }
    }
}

/// By its first line, or else by its name.
fn interpreter(path: &str, text: Option<&str>) -> &'static str {
    let first =
        text.and_then(|text| text.lines().next()).filter(|line| line.starts_with("#!")).unwrap_or_default();
    let known = ["bash", "python3", "node", "ruby", "perl", "php"];
    if let Some(program) = known.into_iter().find(|program| first.contains(program)) {
        return program;
    }
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        _ if first.contains("python") => "python3",
        _ if !first.is_empty() => "sh",
        Some("py") => "python3",
        Some("rb") => "ruby",
        Some("js") => "node",
        Some("pl") => "perl",
        Some("php") => "php",
        Some("bash") => "bash",
        _ => "sh",
    }
}

/// The commands of a script that is there; otherwise a step that waits for somebody to look.
fn commands(script: &Script<'_>, work: &mut Work<'_>) {
    let what = format!("{}: {}", script.event, script.location);
    let path = script.location.trim_start_matches("./").trim_start_matches('/');
    let Some(text) = work.checkout.read(path) else {
        return absent(script, path, &what, work);
    };
    if !matches!(interpreter(path, Some(&text)), "sh" | "bash") {
        let why = "it is no shell script, and was not read";
        let instead = "make what is the same everywhere a [[build]], the rest a [[prepare]]: the release is \
                       read-only, write below {prepared}";
        return work.account.left(&script.place, what, why, instead);
    }
    let calls = shell::calls(&text);
    let deeds: Vec<_> = calls.into_iter().map(|call| (deed(&call), call)).collect();
    let count = deeds.iter().filter(|(deed, _)| *deed != Deed::Nothing).count();
    let to = match count {
        0 => "nothing: it does nothing that a release needs",
        _ => "its commands, one by one",
    };
    work.account.carried(&script.place, &what, to);
    for (deed, call) in deeds {
        let from = Place::new(path, call.line + 1);
        work.deed(from, call, deed, script.timeout_s);
    }
}

fn absent(script: &Script<'_>, path: &str, what: &str, work: &mut Work<'_>) {
    match script.event {
        "BeforeInstall" => {
            let why = "the script is not in the repository; what gets old files out of the way is not needed";
            let instead = "[[prepare]] begins in an empty directory each time; packages are for what sets up your hosts";
            work.account.left(&script.place, what, why, instead);
        }
        "ApplicationStart" => {
            let question = format!("what {path} starts: it was not found in the repository (docs/recipes)");
            work.account.open(Some(&script.place), "[[service]]", &question);
            let section = Section::new(Table::Service, &script.place, what)
                .decide_above(&question)
                .key("name", "web")
                .key("driver", "process")
                .command("command", &["bin/web"])
                .key("listen", "127.0.0.1:8000")
                .raw("ready = { http = \"/healthz\" }")
                .commented_out();
            work.draft.add(section);
        }
        _ => {
            let question = format!(
                "what {path} does: it was not found in the repository. What is the same everywhere is a [[build]], a \
                 migration [migrate], the rest [[prepare]], which must not touch what runs"
            );
            work.account.open(Some(&script.place), "[[prepare]]", &question);
            let name = shell::base(path).split('.').next().unwrap_or(path).to_owned();
            let name = work.draft.name(&name);
            let section = Section::new(Table::Prepare, &script.place, what)
                .decide_above(&question)
                .key("name", name)
                .command("command", &[interpreter(path, None), &literal(path)])
                .maybe("timeout", script.timeout_s.map(seconds))
                .commented_out();
            work.draft.add(section);
        }
    }
}
