mod containers;
mod environments;
mod metrics;
mod services;
mod traffic;

use super::*;
use crate::manifest::traffic::{Gate, Proxy, Switch};
use crate::manifest::{Driver, Probe, Ready, ReloadSignal, Renewal, Supervised, Unit, WayBack};
use crate::strategy::{Amount, Canary};
use crate::time::Duration;

const WHOLE: &str = r#"
[application]
name = "tenants"

[source]
exclude = ["docs/**", "*.map"]

[[build]]
name = "styles"
command = ["npm", "run", "build"]
timeout = "5m"
environment = { NODE_ENV = "production" }

[[prepare]]
name = "virtualenv"
command = ["sh", "{release}/deploy/prepare.sh", "{prepared}/venv"]

[migrate]
command = ["{prepared}/venv/bin/python", "manage.py", "migrate"]
timeout = "2m"
lease = "3m"
down = ["{prepared}/venv/bin/python", "manage.py", "migrate", "housing", "0001"]
idempotent = true
files = ["*/migrations/*.py"]

[[service]]
name = "web"
driver = "process"
command = ["{prepared}/venv/bin/gunicorn", "tenants.wsgi"]
environment = { PORT = "{port}" }
listen = "127.0.0.1:{port}"
ready = { http = "/healthz", timeout = "30s" }
stop_timeout = "20s"

[[service]]
name = "worker"
driver = "exec"
restart = ["systemctl", "restart", "worker"]
status = ["systemctl", "is-active", "worker"]

[[check]]
name = "healthz"
http = { url = "http://127.0.0.1:{port}/healthz", contains = "ok" }
interval = "500ms"

[[smoke]]
name = "front-page"
command = ["python3", "smoke.py", "{port}"]

[shared]
directories = ["media/"]
files = [".env"]

[environment.production]
batch = "50%"
canary = 2
min_healthy = "5s"

[environment.staging]
strategy = "all_at_once"
auto_rollback = false

[retention]
releases = 3
"#;

/// Two places for the service `web`.
const SLOTS: &str = "slots = { service = \"web\", blue = \"127.0.0.1:{a}\", green = \"127.0.0.1:{b}\" }\n";

fn parse(text: &str) -> Result<Definition, Vec<Diagnostic>> {
    Definition::parse("landfall.toml", text)
}

/// All that is wrong with a definition whose application is named already.
fn wrong(rest: &str) -> String {
    let text = format!("[application]\nname = \"tenants\"\n{rest}");
    let found = parse(&text).expect_err("it should have been refused");
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_whole_definition_is_read() {
    let definition = parse(WHOLE).unwrap();
    let program = &definition.program;
    assert_eq!(definition.application.as_str(), "tenants");
    assert_eq!(definition.exclude, ["docs/**", "*.map"]);
    assert_eq!(definition.build[0].timeout, Duration::from_secs(300));
    assert_eq!(definition.schema_files, ["*/migrations/*.py"]);
    let migrate = program.migrate.as_ref().unwrap();
    assert!(migrate.idempotent && matches!(migrate.way_back, WayBack::Reversible { .. }));
    assert!(matches!(
        &program.services[0].driver,
        Driver::Process { ready: Ready::Http { path, .. }, .. } if path == "/healthz"
    ));
    assert!(matches!(&program.services[1].driver, Driver::Exec { restart, stop: None, .. }
        if restart.name.as_str() == "worker-restart"));
    assert!(matches!(&program.checks[0].probe, Probe::Http { status: 200, contains: Some(text), .. }
        if text == "ok"));
    assert_eq!(program.shared.directories, ["media"]);
    assert_eq!(program.retention.releases, 3);
    let production = &definition.environments[&EnvName::new("production").unwrap()];
    assert_eq!((production.batch, &production.canary), (Amount::Percent(50), &Canary::Count(2)));
    let staging = &definition.environments[&EnvName::new("staging").unwrap()];
    assert!(!staging.auto_rollback && staging.kind == crate::strategy::StrategyKind::AllAtOnce);
}

#[test]
fn a_release_follows_another_by_its_name() {
    let follows = |text: &str| parse(text).map(|definition| definition.follows.map(|name| name.to_string()));
    assert_eq!(follows("[application]\nname = \"x\"\nfollows = \"v1.5\"\n"), Ok(Some("v1.5".to_owned())));
    assert_eq!(follows("[application]\nname = \"x\"\n"), Ok(None));
    insta::assert_snapshot!(wrong("follows = \"v 1\"\n"), @r#"
    landfall.toml:3:11: release name "v 1" is not valid: only ASCII letters, digits, '.', '-', '_' and '+' are allowed
      3 | follows = "v 1"
        |           ^^^^^
      help: write `follows = "v-1"`
    "#);
}

#[test]
fn the_least_definition_has_the_defaults() {
    let definition = parse("[application]\nname = \"x\"\n").unwrap();
    assert_eq!(definition.environments.len(), 1);
    assert_eq!(definition.environments[&EnvName::new("production").unwrap()], Strategy::default());
    assert_eq!(definition.program, Program::default());
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    insta::assert_snapshot!(wrong("[[service]]\nname = \"web\"\ndriver = \"process\"\ncomand = [\"x\"]\n[sevice]\n"), @r#"
    landfall.toml:3:1: [[service]] has no `command`
      3 | [[service]]
        | ^^^^^^^^^^^
      help: add `command = ["program", "argument"]`
    landfall.toml:6:1: unknown key `comand` in [[service]]
      6 | comand = ["x"]
        | ^^^^^^
      help: did you mean `command`?
    landfall.toml:7:2: unknown key `sevice` at the top level
      7 | [sevice]
        |  ^^^^^^
      help: did you mean `service`?
    "#);
}

#[test]
fn a_key_that_is_like_none_lists_the_known_ones() {
    insta::assert_snapshot!(wrong("[retention]\nqq = 1\n"), @r#"
    landfall.toml:4:1: unknown key `qq` in [retention]
      4 | qq = 1
        | ^^
      help: known keys: releases
    "#);
}

#[test]
fn wrong_types_are_refused_with_what_to_write() {
    insta::assert_snapshot!(wrong(r#"
[[build]]
name = "styles"
command = "npm run build"
timeout = 300
environment = { DEBUG = 1 }
[migrate]
command = ["true"]
idempotent = "true"
[environment.production]
batch = "50"
canary = -1
min_healthy = "10"
auto_rollback = 1
"#), @r#"
    landfall.toml:6:11: `command` must be a list of strings, not a string
      6 | command = "npm run build"
        |           ^^^^^^^^^^^^^^^
      help: write `command = ["npm", "run", "build"]`
    landfall.toml:7:11: `timeout` must be a duration with its unit, not an integer
      7 | timeout = 300
        |           ^^^
      help: write `timeout = "300s"`
    landfall.toml:8:25: `DEBUG` in `environment` must be a string, not a value of type integer
      8 | environment = { DEBUG = 1 }
        |                         ^
      help: write `DEBUG = "1"`
    landfall.toml:11:14: `idempotent` must be true or false, not a string
      11 | idempotent = "true"
         |              ^^^^^^
      help: write `idempotent = true`
    landfall.toml:13:9: `batch`: "50" is neither a number of hosts nor a share
      13 | batch = "50"
         |         ^^^^
      help: write `batch = 50` or "50%"
    landfall.toml:14:10: `canary` is -1; it must be a whole number, 0 or more
      14 | canary = -1
         |          ^^
    landfall.toml:15:15: `min_healthy`: "10" is not a duration such as 250ms, 10s, 5m or 1h30m
      15 | min_healthy = "10"
         |               ^^^^
      help: write `min_healthy = "10s"` for seconds
    landfall.toml:16:17: `auto_rollback` must be true or false, not an integer
      16 | auto_rollback = 1
         |                 ^
    "#);
}

#[test]
fn impossible_values_are_refused() {
    insta::assert_snapshot!(wrong(r#"
[migrate]
command = ["true"]
timeout = "10m"
lease = "5m"
[environment.production]
min_healthy = "10m"
[environment.canary]
healthy_deadline = "25h"
progress_deadline = "26h"
[environment.staging]
batch = "120%"
[environment.Test]
[retention]
releases = 1
"#), @r#"
    landfall.toml:7:9: `lease` (5m) must be longer than `timeout` (10m)
      7 | lease = "5m"
        |         ^^^^
      help: write `lease = "11m"` or more
    landfall.toml:9:1: min_healthy (10m) must be shorter than healthy_deadline (5m)
      9 | min_healthy = "10m"
        | ^^^^^^^^^^^
    landfall.toml:11:1: healthy_deadline (1d1h) must be at most 1d
      11 | healthy_deadline = "25h"
         | ^^^^^^^^^^^^^^^^
    landfall.toml:14:1: batch (120%) is more than 100%
      14 | batch = "120%"
         | ^^^^^
    landfall.toml:15:14: environment name "Test" is not valid: it must begin with a lower-case letter or a digit
      15 | [environment.Test]
         |              ^^^^
      help: write `environment.test`
    landfall.toml:17:12: `releases` is 1; it must be from 2 to 1000
      17 | releases = 1
         |            ^
    "#);
}

#[test]
fn names_are_unique_and_commands_name_a_program() {
    insta::assert_snapshot!(wrong(r#"
[[prepare]]
name = "collect"
command = []
[[smoke]]
name = "collect"
command = [""]
[[smoke]]
command = ["true"]
[[prepare]]
name = "migrate"
command = ["true"]
"#), @r#"
    landfall.toml:6:11: `command` names no program
      6 | command = []
        |           ^^
      help: write `command = ["program", "argument"]`
    landfall.toml:8:8: the name "collect" is taken by another [[prepare]]
      8 | name = "collect"
        |        ^^^^^^^^^
      help: steps, checks and services are told apart by their names in the log
    landfall.toml:9:11: `command` names no program
      9 | command = [""]
        |           ^^^^
      help: write `command = ["program", "argument"]`
    landfall.toml:10:1: [[smoke]] has no `name`
      10 | [[smoke]]
         | ^^^^^^^^^
      help: add `name = "…"`
    landfall.toml:13:8: the name "migrate" is taken by a step that Landfall itself runs
      13 | name = "migrate"
         |        ^^^^^^^^^
      help: steps, checks and services are told apart by their names in the log
    "#);
}

#[test]
fn words_are_known_and_in_their_place() {
    insta::assert_snapshot!(wrong(r#"
[[build]]
name = "pack"
command = ["sh", "{release}/build.sh"]
[[prepare]]
name = "collect"
command = ["{relase}/manage.py", "{port}", "${HOME}"]
environment = { LANDFALL_X = "1", "a-b" = "2" }
"#), @r#"
    landfall.toml:6:18: `{release}` means nothing in a build: it stands for a directory of a host
      6 | command = ["sh", "{release}/build.sh"]
        |                  ^^^^^^^^^^^^^^^^^^^^
      help: a build runs in the root of a clean tree; write a relative path
    landfall.toml:9:12: unknown word `{relase}`
      9 | command = ["{relase}/manage.py", "{port}", "${HOME}"]
        |            ^^^^^^^^^^^^^^^^^^^^
      help: did you mean `{release}`? A variable of the host needs another name
    landfall.toml:10:17: `LANDFALL_X` is reserved: names beginning with LANDFALL_ are set by the agent
      10 | environment = { LANDFALL_X = "1", "a-b" = "2" }
         |                 ^^^^^^^^^^^^^^^^
    landfall.toml:10:35: "a-b" is not the name of an environment variable
      10 | environment = { LANDFALL_X = "1", "a-b" = "2" }
         |                                   ^^^^^^^^^^^
      help: letters, digits and '_', not beginning with a digit
    "#);
}

#[test]
fn a_check_asks_one_thing() {
    insta::assert_snapshot!(wrong(r#"
[[check]]
name = "none"
[[check]]
name = "two"
tcp = "127.0.0.1:80"
exec = ["true"]
[[check]]
name = "secure"
http = { url = "https://example.org/", status = 99 }
[[check]]
name = "nowhere"
tcp = "localhost"
"#), @r#"
    landfall.toml:4:1: [[check]] needs one of `http`, `tcp`, `exec`
      4 | [[check]]
        | ^^^^^^^^^
    landfall.toml:9:1: [[check]] has both `tcp` and `exec`
      9 | exec = ["true"]
        | ^^^^
      help: keep one of them
    landfall.toml:12:16: "https://example.org/" is not a URL beginning with http://
      12 | http = { url = "https://example.org/", status = 99 }
         |                ^^^^^^^^^^^^^^^^^^^^^^
      help: a check asks the service on its own host, over plain HTTP
    landfall.toml:12:49: `status` is 99; it must be from 100 to 599
      12 | http = { url = "https://example.org/", status = 99 }
         |                                                 ^^
    landfall.toml:15:7: "localhost" is not an address
      15 | tcp = "localhost"
         |       ^^^^^^^^^^^
      help: write "host:port"
    "#);
}

#[test]
fn a_contract_is_a_step_under_a_lease() {
    let text = |more: &str| format!("[application]\nname = \"shop\"\n[contract]\n{more}\n");
    let contract = |more: &str| Definition::parse(FILE_NAME, &text(more)).unwrap().program.contract.unwrap();
    let short = contract("command = [\"drop-old\"]");
    assert_eq!((short.step.name.as_str(), short.step.timeout), ("contract", Duration::from_secs(600)));
    assert_eq!((short.lease, short.idempotent), (Duration::from_secs(660), false));
    let long =
        contract("command = [\"a\"]\nidempotent = true\ntimeout = \"1h\"\nlease = \"2h\"\nnetwork = false");
    assert_eq!(
        (long.lease, long.idempotent, long.step.network),
        (Duration::from_secs(7200), true, Some(false))
    );
    let said = wrong("[contract]\nlease = \"1m\"\ndown = [\"a\"]\n");
    for words in ["`command`", "must be longer than `timeout`", "\"down\""] {
        assert!(said.contains(words) || said.contains(&words.replace('"', "`")), "no {words} in {said}");
    }
}

#[test]
fn what_lists_the_migrations_runs_where_the_release_is_built() {
    let text =
        |more: &str| format!("[application]\nname = \"shop\"\n[migrate]\ncommand = [\"up\"]\n{more}\n");
    let list = |more: &str| Definition::parse(FILE_NAME, &text(more)).unwrap().list_migrations;
    assert_eq!(list(""), None);
    let step = list("environment = { A = \"b\" }\nlist_command = [\"ls\", \"db/migrate\"]").unwrap();
    assert_eq!((step.name.as_str(), step.command.join(" ").as_str()), ("list-migrations", "ls db/migrate"));
    assert!(step.environment.is_empty(), "that of the migration is the hosts'");
    let said = wrong("[migrate]\ncommand = [\"up\"]\nlist_command = [\"{prepared}/venv/bin/python\"]\n");
    assert!(said.contains("list_command") && said.contains("prepared"), "{said}");
}

#[test]
fn shared_paths_and_globs_stay_inside_the_release() {
    insta::assert_snapshot!(wrong(r#"
[source]
exclude = ["/etc/*", "a[", ""]
[shared]
directories = ["../media", "a", "a/b"]
files = ["/etc/passwd", "a"]
"#), @r#"
    landfall.toml:5:12: "/etc/*" does not name files of the tree
      5 | exclude = ["/etc/*", "a[", ""]
        |            ^^^^^^^^
      help: write a path relative to the repository's root, such as "**/*.map"
    landfall.toml:5:22: "a[" is not a glob: unclosed character class; missing ']'
      5 | exclude = ["/etc/*", "a[", ""]
        |                      ^^^^
    landfall.toml:5:28: "" does not name files of the tree
      5 | exclude = ["/etc/*", "a[", ""]
        |                            ^^
      help: write a path relative to the repository's root, such as "**/*.map"
    landfall.toml:7:16: "../media" is not a path inside the release
      7 | directories = ["../media", "a", "a/b"]
        |                ^^^^^^^^^^
      help: write a path relative to the release, such as "media"
    landfall.toml:7:33: "a/b" and "a" lie one inside the other
      7 | directories = ["../media", "a", "a/b"]
        |                                 ^^^^^
      help: write a path relative to the release, such as "media"
    landfall.toml:8:10: "/etc/passwd" is not a path inside the release
      8 | files = ["/etc/passwd", "a"]
        |          ^^^^^^^^^^^^^
      help: write a path relative to the release, such as "media"
    landfall.toml:8:25: "a" is listed twice
      8 | files = ["/etc/passwd", "a"]
        |                         ^^^
      help: write a path relative to the release, such as "media"
    "#);
}

#[test]
fn what_is_not_toml_is_refused_at_its_place() {
    insta::assert_snapshot!(wrong("[[build]\nname = \"x\nname = 'y'\n"), @r#"
    landfall.toml:3:9: this is not TOML: unclosed array table, expected `]`
      3 | [[build]
        |         ^
    "#);
}

#[test]
fn the_application_is_demanded_as_a_table() {
    let show = |text| parse(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(show("application = \"tenants\"\n"), @r#"
    landfall.toml:1:1: `application` must be a table
      1 | application = "tenants"
        | ^^^^^^^^^^^
      help: write `[application]` and below it `name = "tenants"`
    "#);
    insta::assert_snapshot!(show(""), @r#"
    landfall.toml:1:1: the definition has no [application]
      1 | 
        | ^
      help: begin with `[application]` and `name = "…"`
    "#);
    insta::assert_snapshot!(show("[application]\nname = \"Tenants App\"\n"), @r#"
    landfall.toml:2:8: application name "Tenants App" is not valid: it must begin with a lower-case letter or a digit
      2 | name = "Tenants App"
        |        ^^^^^^^^^^^^^
      help: write `name = "tenants-app"`
    "#);
}

#[test]
fn every_key_is_documented_in_the_section_of_its_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/landfall-toml.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (table, keys) in TABLES.iter().filter(|(table, _)| !table.is_empty()) {
        let heading = page.find(&format!("\n## `{table}`"));
        let from = heading.unwrap_or_else(|| panic!("no section for {table}")) + 4;
        let section = page[from..].split("\n## ").next().unwrap();
        for key in *keys {
            assert!(section.contains(&format!("\n| `{key}` | ")), "{table} {key} has no row");
        }
    }
}

#[test]
fn the_example_of_the_reference_page_is_valid() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/landfall-toml.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let definition = parse(example).map_err(|found| found[0].to_string()).unwrap();
    assert!(definition.program.migrate.is_some());
}

proptest::proptest! {
    #[test]
    fn a_damaged_definition_is_read_or_refused_but_never_a_panic(
        at in 0..WHOLE.len(), junk in "[\\[\\]{}=\"'\n#a0é.]{0,4}"
    ) {
        let mut text = WHOLE.to_owned();
        text.replace_range(at..(at + 3).min(text.len()), &junk);
        if let Err(found) = parse(&text) {
            proptest::prop_assert!(!found.is_empty());
            let _ = found.iter().map(ToString::to_string).collect::<String>();
        }
    }
}

#[test]
fn the_definition_of_the_example_application_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/tenants/landfall.toml");
    let text = std::fs::read_to_string(path).unwrap();
    if let Err(found) = parse(&text) {
        panic!("{}", found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}
