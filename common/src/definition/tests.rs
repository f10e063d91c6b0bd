use super::*;
use crate::manifest::traffic::{Gate, Proxy, Switch};
use crate::manifest::{Driver, Probe, Ready, ReloadSignal, Renewal, Supervised, Unit, WayBack};
use crate::strategy::Amount;
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
    assert_eq!((production.batch, production.canary), (Amount::Percent(50), 2));
    let staging = &definition.environments[&EnvName::new("staging").unwrap()];
    assert!(!staging.auto_rollback && staging.kind == crate::strategy::StrategyKind::AllAtOnce);
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
fn a_service_has_the_keys_of_its_driver_only() {
    insta::assert_snapshot!(wrong(r#"
[[service]]
name = "web"
driver = "process"
command = ["true"]
restart = ["true"]
listen = "8000"
ready = { http = "healthz" }
[[service]]
name = "worker"
driver = "sytemd"
[[service]]
name = "queue"
driver = "exec"
stop_timeout = "1s"
[[service]]
name = "mail"
driver = "process"
command = ["true"]
ready = { http = "/x", alive = "2s" }
[[service]]
name = "cron"
driver = "process"
command = ["true"]
ready = { http = "/healthz" }
"#), @r#"
    landfall.toml:8:1: `restart` is for services with driver "exec" only
      8 | restart = ["true"]
        | ^^^^^^^
      help: remove `restart`
    landfall.toml:9:10: "8000" is not an address
      9 | listen = "8000"
        |          ^^^^^^
      help: write "host:port" or "unix:/path"
    landfall.toml:10:18: `http` must be a path beginning with '/'
      10 | ready = { http = "healthz" }
         |                  ^^^^^^^^^
      help: write the path alone, such as `http = "/healthz"`
    landfall.toml:13:10: unknown driver "sytemd"
      13 | driver = "sytemd"
         |          ^^^^^^^^
      help: did you mean "systemd"?
    landfall.toml:14:1: [[service]] has no `restart`
      14 | [[service]]
         | ^^^^^^^^^^^
      help: add `restart = ["program", "argument"]`
    landfall.toml:17:1: `stop_timeout` is for services with driver "process" or "docker" only
      17 | stop_timeout = "1s"
         | ^^^^^^^^^^^^
      help: remove `stop_timeout`
    landfall.toml:22:24: `ready` has both `http` and `alive`
      22 | ready = { http = "/x", alive = "2s" }
         |                        ^^^^^
      help: keep one of them
    landfall.toml:27:11: `ready.http` needs `listen`: the holder asks over a socket like that one
      27 | ready = { http = "/healthz" }
         |           ^^^^
      help: add `listen = "127.0.0.1:8000"`, or use `notify` or `alive`
    "#);
}

#[test]
fn services_of_the_hosts_own_systemd_and_supervisor_are_read() {
    let text = r#"
[application]
name = "tenants"
[[service]]
name = "web"
driver = "systemd"
unit = "tenants-web@{release}.service"
socket = "tenants-web.socket"
[[service]]
name = "mail"
driver = "systemd"
unit = "tenants-mail@{slot}.service"
[[service]]
name = "worker"
driver = "systemd"
unit = "tenants-worker.service"
how = "reload"
settle = "5s"
timeout = "30s"
[[service]]
name = "queue"
driver = "supervisor"
group = "tenants"
[[service]]
name = "beat"
driver = "supervisor"
program = "tenants:beat"
server = "{run}/supervisor.sock"
signal = "SIGHUP"
"#;
    let services = parse(text).unwrap().program.services;
    let systemd = |unit, socket: Option<&str>, settle, timeout| Driver::Systemd {
        unit,
        socket: socket.map(str::to_owned),
        settle: Duration::from_secs(settle),
        timeout: Duration::from_secs(timeout),
        slot: None,
    };
    let supervisor = |target, server: &str, signal| Driver::Supervisor {
        target,
        server: server.to_owned(),
        signal,
        settle: Duration::from_secs(2),
        timeout: Duration::from_secs(120),
        slot: None,
    };
    let expected = [
        systemd(
            Unit::Releases { template: "tenants-web@.service".into() },
            Some("tenants-web.socket"),
            2,
            120,
        ),
        systemd(Unit::Slots { template: "tenants-mail@.service".into() }, None, 2, 120),
        systemd(Unit::Fixed { name: "tenants-worker.service".into(), how: Renewal::Reload }, None, 5, 30),
        supervisor(Supervised::Group { name: "tenants".into() }, "/var/run/supervisor.sock", None),
        supervisor(
            Supervised::Program { name: "tenants:beat".into() },
            "{run}/supervisor.sock",
            Some(ReloadSignal::Hup),
        ),
    ];
    assert_eq!(services.iter().map(|service| service.driver.clone()).collect::<Vec<_>>(), expected);
    // Their canonical form is signed: it stays as it is.
    let canonical = |driver: &Driver| {
        let bytes = crate::canonical::to_vec(driver).unwrap();
        assert_eq!(serde_json::from_slice::<Driver>(&bytes).unwrap(), *driver);
        String::from_utf8(bytes).unwrap()
    };
    let forms: Vec<_> = expected.iter().map(canonical).collect();
    insta::assert_snapshot!(forms.join("\n"), @r#"
    {"settle_ms":2000,"socket":"tenants-web.socket","timeout_ms":120000,"type":"systemd","unit":{"template":"tenants-web@.service","type":"releases"}}
    {"settle_ms":2000,"timeout_ms":120000,"type":"systemd","unit":{"template":"tenants-mail@.service","type":"slots"}}
    {"settle_ms":5000,"timeout_ms":30000,"type":"systemd","unit":{"how":"reload","name":"tenants-worker.service","type":"fixed"}}
    {"server":"/var/run/supervisor.sock","settle_ms":2000,"target":{"name":"tenants","type":"group"},"timeout_ms":120000,"type":"supervisor"}
    {"server":"{run}/supervisor.sock","settle_ms":2000,"signal":"HUP","target":{"name":"tenants:beat","type":"program"},"timeout_ms":120000,"type":"supervisor"}
    "#);
}

#[test]
fn services_on_some_of_the_hosts_are_read_and_conditions_that_cannot_hold_are_refused() {
    let service = |on: &str| {
        format!("[[service]]\nname = \"web\"\ndriver = \"systemd\"\nunit = \"web.service\"\non = {on}\n")
    };
    let text = format!("[application]\nname = \"x\"\n{}", service("{ init = \"systemd\" }"));
    let services = parse(&text).unwrap().program.services;
    assert_eq!(services[0].on, [("init".to_owned(), "systemd".to_owned())].into());
    insta::assert_snapshot!(wrong(&service("{ Init = \"systemd\" }")), @r#"
    landfall.toml:7:8: "Init" cannot be the name of a host's variable
      7 | on = { Init = "systemd" }
        |        ^^^^^^^^^^^^^^^^
      help: lower-case letters, digits and '_', and none of the words that Landfall itself sets; see [variables] of the host's agent.toml
    "#);
    insta::assert_snapshot!(wrong(&service("{ release = \"v1\" }")), @r#"
    landfall.toml:7:8: "release" cannot be the name of a host's variable
      7 | on = { release = "v1" }
        |        ^^^^^^^^^^^^^^
      help: lower-case letters, digits and '_', and none of the words that Landfall itself sets; see [variables] of the host's agent.toml
    "#);
    insta::assert_snapshot!(wrong(&service("{ init = \"{kind}\" }")), @r#"
    landfall.toml:7:8: "{kind}" holds a word, and is compared as it stands
      7 | on = { init = "{kind}" }
        |        ^^^^^^^^^^^^^^^
      help: write the value itself, such as `on = { init = "supervisor" }`
    "#);
    insta::assert_snapshot!(wrong(&service("{ init = 1 }")), @r#"
    landfall.toml:7:15: `init` in `on` must be a string, not a value of type integer
      7 | on = { init = 1 }
        |               ^
      help: write `init = "1"`
    "#);
    let slots = "[[service]]\nname = \"web\"\ndriver = \"process\"\ncommand = [\"x\"]\nlisten = \"{address}\"\non = { init = \"systemd\" }\n\
                 [traffic]\nproxy = \"nginx\"\nslots = { service = \"web\", blue = \"127.0.0.1:1\", green = \"127.0.0.1:2\" }\n";
    insta::assert_snapshot!(wrong(slots), @r#"
    landfall.toml:11:21: "web" has slots, and runs on some hosts only
      11 | slots = { service = "web", blue = "127.0.0.1:1", green = "127.0.0.1:2" }
         |                     ^^^^^
      help: remove its `on`
    "#);
}

#[test]
fn a_unit_that_cannot_be_and_a_program_that_supervisor_cannot_have_are_refused() {
    insta::assert_snapshot!(wrong(r#"
[[service]]
name = "a"
driver = "systemd"
[[service]]
name = "b"
driver = "systemd"
unit = "tenants-web"
how = "relaod"
command = ["true"]
[[service]]
name = "c"
driver = "systemd"
unit = "tenants-web@.service"
[[service]]
name = "d"
driver = "systemd"
unit = "web@{slot}.service"
how = "restart"
socket = "web.service"
[[service]]
name = "e"
driver = "systemd"
unit = "{slot}.service"
[[service]]
name = "f"
driver = "systemd"
unit = "web-{port}.service"
[[service]]
name = "g"
driver = "supervisor"
[[service]]
name = "h"
driver = "supervisor"
program = "tenants:*"
server = "http://127.0.0.1:9001"
settle = "1s"
[[service]]
name = "i"
driver = "supervisor"
program = "a b"
group = "web"
signal = "KILL"
server = "unix:///run/s.sock"
"#), @r#"
    landfall.toml:4:1: [[service]] has no `unit`
      4 | [[service]]
        | ^^^^^^^^^^^
      help: add `unit = "tenants-web.service"`
    landfall.toml:10:8: "tenants-web" does not end in .service
      10 | unit = "tenants-web"
         |        ^^^^^^^^^^^^^
      help: write `unit = "tenants-web.service"`
    landfall.toml:11:7: `how` is "relaod"
      11 | how = "relaod"
         |       ^^^^^^^^
      help: did you mean "reload"?
    landfall.toml:12:1: `command` is for services with driver "process" or "docker" only
      12 | command = ["true"]
         | ^^^^^^^
      help: remove `command`
    landfall.toml:16:8: "tenants-web@.service" is a template, which cannot run itself
      16 | unit = "tenants-web@.service"
         |        ^^^^^^^^^^^^^^^^^^^^^^
      help: write `unit = "tenants-web@{slot}.service"` or `unit = "tenants-web@{release}.service"`
    landfall.toml:21:1: `how` has no meaning for instances: the new one is started before the old one stops
      21 | how = "restart"
         | ^^^
      help: remove `how`
    landfall.toml:22:10: "web.service" does not end in .socket
      22 | socket = "web.service"
         |          ^^^^^^^^^^^^^
      help: write `socket = "web.socket"`
    landfall.toml:26:8: "{slot}.service" does not name instances of a template
      26 | unit = "{slot}.service"
         |        ^^^^^^^^^^^^^^^^
      help: write `unit = "web@{slot}.service"` or `unit = "web@{release}.service"`
    landfall.toml:30:8: "web-{port}.service" is not the name of a unit: systemd takes letters, digits and :-_.\@
      30 | unit = "web-{port}.service"
         |        ^^^^^^^^^^^^^^^^^^^^
    landfall.toml:31:1: [[service]] needs one of `program`, `group`
      31 | [[service]]
         | ^^^^^^^^^^^
    landfall.toml:37:11: "tenants:*" names a whole group
      37 | program = "tenants:*"
         |           ^^^^^^^^^^^
      help: write `group = "tenants"`
    landfall.toml:38:10: "http://127.0.0.1:9001" is not the path of a socket
      38 | server = "http://127.0.0.1:9001"
         |          ^^^^^^^^^^^^^^^^^^^^^^^
      help: write `server = "/var/run/supervisor.sock"`; Supervisor is asked on its own host only
    landfall.toml:39:1: `settle` needs `signal`: a process that is started has Supervisor's own `startsecs`
      39 | settle = "1s"
         | ^^^^^^
      help: remove `settle`
    landfall.toml:44:1: [[service]] has both `program` and `group`
      44 | group = "web"
         | ^^^^^
      help: keep one of them
    landfall.toml:45:10: "KILL" is not a signal on which a process loads its program anew
      45 | signal = "KILL"
         |          ^^^^^^
      help: write "HUP", "USR1" or "USR2", or leave `signal` out to stop and start it
    landfall.toml:46:10: "unix:///run/s.sock" is not the path of a socket
      46 | server = "unix:///run/s.sock"
         |          ^^^^^^^^^^^^^^^^^^^^
      help: write `server = "/run/s.sock"`
    "#);
}

#[test]
fn a_container_is_read_with_its_defaults_and_written_as_it_is_signed() {
    let text = r#"
[application]
name = "tenants"
[[service]]
name = "web"
driver = "docker"
image = "registry:5000/tenants/web:v1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
publish = ["{address}:8000", "[::1]:53:53/udp"]
volumes = ["{shared}/media:/app/media", "tenants-data:/data:ro"]
memory = "512MiB"
cpus = "1.5"
pids = 200
[[service]]
name = "worker"
driver = "docker"
image_file = "images/worker.tar"
command = ["work", "--in={shared}"]
environment = { A = "{port}" }
network = "backend"
user = "1000:1000"
privileged = true
log_driver = "journald"
settle = "5s"
timeout = "1m"
stop_timeout = "2m"
[traffic]
proxy = "nginx"
slots = { service = "web", blue = "127.0.0.1:8001", green = "127.0.0.1:8002", warm_up = ["/"] }
"#;
    let program = parse(text).unwrap().program;
    let forms: Vec<_> = program
        .services
        .iter()
        .map(|service| {
            let bytes = crate::canonical::to_vec(&service.driver).unwrap();
            assert_eq!(serde_json::from_slice::<Driver>(&bytes).unwrap(), service.driver);
            String::from_utf8(bytes).unwrap()
        })
        .collect();
    insta::assert_snapshot!(forms.join("\n"), @r#"
    {"cpus_milli":1500,"image":{"digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","name":"registry:5000/tenants/web","type":"registry"},"log_driver":"local","memory_bytes":536870912,"pids":200,"publish":[{"container":8000,"host":"{address}","protocol":"tcp"},{"container":53,"host":"[::1]:53","protocol":"udp"}],"settle_ms":2000,"stop_timeout_ms":30000,"timeout_ms":120000,"type":"docker","volumes":[{"source":{"path":"{shared}/media","type":"path"},"target":"/app/media"},{"read_only":true,"source":{"name":"tenants-data","type":"named"},"target":"/data"}]}
    {"command":["work","--in={shared}"],"environment":{"A":"{port}"},"image":{"path":"images/worker.tar","type":"file"},"log_driver":"journald","network":"backend","privileged":true,"settle_ms":5000,"stop_timeout_ms":120000,"timeout_ms":60000,"type":"docker","user":"1000:1000"}
    "#);
    let placed = program.in_slot(crate::manifest::traffic::Slot::Green);
    let Driver::Docker(web) = &placed.services[0].driver else { panic!() };
    assert_eq!(web.publish[0].host, "127.0.0.1:8002");
}

#[test]
fn units_and_programs_in_slots_are_read_and_each_slot_has_its_own() {
    let text = |service: &str| {
        format!(
            "[application]\nname = \"x\"\n[[service]]\nname = \"web\"\n{service}[traffic]\nproxy = \"nginx\"\n{SLOTS}"
        )
    };
    let units = "driver = \"systemd\"\nunit = \"shop@{slot}.service\"\nsocket = \"shop@{slot}.socket\"\n";
    let program = "driver = \"supervisor\"\nprogram = \"shop-{slot}\"\n";
    let group = "driver = \"supervisor\"\ngroup = \"shop-{slot}\"\nserver = \"{run}/s.sock\"\n";
    let canonical = |driver: &Driver| {
        let bytes = crate::canonical::to_vec(driver).unwrap();
        assert_eq!(serde_json::from_slice::<Driver>(&bytes).unwrap(), *driver);
        String::from_utf8(bytes).unwrap()
    };
    let forms = [units, program, group].map(|service| {
        let program = parse(&text(service)).unwrap().program;
        let placed = program.in_slot(crate::manifest::traffic::Slot::Green);
        format!("{}\n  {}", canonical(&program.services[0].driver), canonical(&placed.services[0].driver))
    });
    insta::assert_snapshot!(forms.join("\n"), @r#"
    {"settle_ms":2000,"slot":{"address":"{address}","slot":"{slot}"},"socket":"shop@{slot}.socket","timeout_ms":120000,"type":"systemd","unit":{"how":"restart","name":"shop@{slot}.service","type":"fixed"}}
      {"settle_ms":2000,"slot":{"address":"127.0.0.1:{b}","slot":"green"},"socket":"shop@green.socket","timeout_ms":120000,"type":"systemd","unit":{"how":"restart","name":"shop@green.service","type":"fixed"}}
    {"server":"/var/run/supervisor.sock","settle_ms":2000,"slot":{"address":"{address}","slot":"{slot}"},"target":{"name":"shop-{slot}","type":"program"},"timeout_ms":120000,"type":"supervisor"}
      {"server":"/var/run/supervisor.sock","settle_ms":2000,"slot":{"address":"127.0.0.1:{b}","slot":"green"},"target":{"name":"shop-green","type":"program"},"timeout_ms":120000,"type":"supervisor"}
    {"server":"{run}/s.sock","settle_ms":2000,"slot":{"address":"{address}","slot":"{slot}"},"target":{"name":"shop-{slot}","type":"group"},"timeout_ms":120000,"type":"supervisor"}
      {"server":"{run}/s.sock","settle_ms":2000,"slot":{"address":"127.0.0.1:{b}","slot":"green"},"target":{"name":"shop-green","type":"group"},"timeout_ms":120000,"type":"supervisor"}
    "#);
}

#[test]
fn units_and_programs_that_cannot_have_slots_are_refused_with_what_to_write() {
    let slots = format!("[traffic]\nproxy = \"nginx\"\n{SLOTS}");
    let systemd = |more: &str| format!("[[service]]\nname = \"web\"\ndriver = \"systemd\"\n{more}{slots}");
    let supervisor =
        |more: &str| format!("[[service]]\nname = \"web\"\ndriver = \"supervisor\"\n{more}{slots}");
    let all = [
        systemd("unit = \"shop.service\"\nhow = \"reload\"\n"),
        systemd("unit = \"shop@{release}.service\"\nsocket = \"shop.socket\"\n"),
        systemd("unit = \"shop@{slot}.service\"\nhow = \"restart\"\nsocket = \"shop-{slot}.socket\"\n"),
        systemd("unit = \"shop-{slot}.service\"\n"),
        supervisor("program = \"shop\"\nsignal = \"HUP\"\n"),
        supervisor("group = \"shop\"\n"),
    ];
    insta::assert_snapshot!(all.map(|text| wrong(&text)).join("\n"), @r#"
    landfall.toml:6:8: "shop.service" is one unit, and the service has two slots that run side by side
      6 | unit = "shop.service"
        |        ^^^^^^^^^^^^^^
      help: write `unit = "shop@{slot}.service"`: an instance for each slot
    landfall.toml:6:8: with slots a release may run in either, and there is one instance for each release
      6 | unit = "shop@{release}.service"
        |        ^^^^^^^^^^^^^^^^^^^^^^^^
      help: write `unit = "shop@{slot}.service"`
    landfall.toml:7:10: "shop.socket" would lead to both slots, and the proxy to one of them
      7 | socket = "shop.socket"
        |          ^^^^^^^^^^^^^
      help: write `socket = "shop@{slot}.socket"`, which listens at its slot's address, or remove `socket`
    landfall.toml:7:1: `how` has no meaning for instances: the new one is started before the old one stops
      7 | how = "restart"
        | ^^^
      help: remove `how`
    landfall.toml:8:10: "shop-{slot}.socket" does not name instances of a template
      8 | socket = "shop-{slot}.socket"
        |          ^^^^^^^^^^^^^^^^^^^^
      help: write `socket = "web@{slot}.socket"`
    landfall.toml:6:8: "shop-{slot}.service" does not name instances of a template
      6 | unit = "shop-{slot}.service"
        |        ^^^^^^^^^^^^^^^^^^^^^
      help: write `unit = "web@{slot}.service"`
    landfall.toml:9:21: there is no service "web"
      9 | slots = { service = "web", blue = "127.0.0.1:{a}", green = "127.0.0.1:{b}" }
        |                     ^^^^^
      help: name one of the [[service]] tables
    landfall.toml:6:11: "shop" is one program, and the service has two slots that run side by side
      6 | program = "shop"
        |           ^^^^^^
      help: write `program = "shop-{slot}"`: Supervisor needs one for each slot
    landfall.toml:7:10: `signal` has no meaning with slots: a process is started in the free one, and never renewed
      7 | signal = "HUP"
        |          ^^^^^
      help: remove `signal`
    landfall.toml:6:9: "shop" is one group, and the service has two slots that run side by side
      6 | group = "shop"
        |         ^^^^^^
      help: write `group = "shop-{slot}"`: Supervisor needs one for each slot
    "#);
    // Without slots there is no word for them, but for the instances of a template.
    let without = "[[service]]\nname = \"a\"\ndriver = \"systemd\"\nunit = \"a@{slot}.service\"\nsocket = \"a@{slot}.socket\"\n\
                   [[service]]\nname = \"b\"\ndriver = \"supervisor\"\nprogram = \"b-{slot}\"\n";
    insta::assert_snapshot!(wrong(without), @r#"
    landfall.toml:7:10: "a@{slot}.socket" needs `slots` of [traffic] for this service
      7 | socket = "a@{slot}.socket"
        |          ^^^^^^^^^^^^^^^^^
      help: write `socket = "a.socket"`: its instances share one
    landfall.toml:11:11: "b-{slot}" needs `slots` of [traffic] for this service
      11 | program = "b-{slot}"
         |           ^^^^^^^^^^
      help: write `program = "b"`
    "#);
}

#[test]
fn a_service_that_cannot_run_twice_has_its_connections_held_where_something_holds_them() {
    let service = |more: &str| format!("[[service]]\nname = \"web\"\n{more}\n");
    let process = "driver = \"process\"\ncommand = [\"run\"]\nstop_timeout = \"5s\"\nhold = \"30s\"";
    let text = service(&format!("{process}\nlisten = \"127.0.0.1:80\""));
    let read = parse(&format!("[application]\nname = \"x\"\n{text}")).unwrap().program.services;
    let bytes = crate::canonical::to_vec(&read[0].driver).unwrap();
    assert_eq!(serde_json::from_slice::<Driver>(&bytes).unwrap(), read[0].driver);
    insta::assert_snapshot!(String::from_utf8(bytes).unwrap(), @r#"
    {"command":["run"],"hold_ms":30000,"listen":"127.0.0.1:80","ready":{"for_ms":2000,"type":"alive"},"stop_timeout_ms":5000,"type":"process"}
    "#);
    let slotted =
        service(&format!("{process}\nlisten = \"{{address}}\"")) + "[traffic]\nproxy = \"nginx\"\n" + SLOTS;
    let all = [
        service(process),
        service("driver = \"process\"\ncommand = [\"run\"]\nlisten = \"127.0.0.1:80\"\nhold = \"10s\""),
        service("driver = \"systemd\"\nunit = \"web.service\"\nhold = \"10s\""),
        service("driver = \"supervisor\"\nprogram = \"web\"\nhold = \"10s\""),
        slotted,
    ];
    insta::assert_snapshot!(all.map(|text| wrong(&text)).join("\n"), @r#"
    landfall.toml:8:1: `hold` needs `listen`: connections wait on the socket that the holder keeps
      8 | hold = "30s"
        | ^^^^
      help: add `listen = "127.0.0.1:8000"`
    landfall.toml:8:8: the old process may take 30s to stop, and connections are held for 10s only
      8 | hold = "10s"
        |        ^^^^^
      help: let `hold` be longer than `stop_timeout` and the start of the new one together
    landfall.toml:7:1: `hold` is for services with driver "process" only
      7 | hold = "10s"
        | ^^^^
      help: remove `hold`; connections wait while a `socket` unit keeps their socket, as long as its unit may take
    landfall.toml:7:1: `hold` is for services with driver "process" only
      7 | hold = "10s"
        | ^^^^
      help: remove `hold`; nothing keeps the socket of such a service while it is stopped, and neither nginx nor HAProxy holds requests back. Driver "process" does, and `slots` need not
    landfall.toml:12:21: service "web" has `hold`: it cannot run twice, and slots run side by side
      12 | slots = { service = "web", blue = "127.0.0.1:{a}", green = "127.0.0.1:{b}" }
         |                     ^^^^^
      help: remove its `hold`, or the `slots`
    "#);
}

#[test]
fn a_container_that_cannot_be_is_refused_with_what_to_write() {
    insta::assert_snapshot!(wrong(r#"
[[service]]
name = "a"
driver = "docker"
image = "nginx:1.25"
publish = ["8000:8000", "127.0.0.1:80", "web:0"]
[[service]]
name = "b"
driver = "docker"
image = "nginx@sha256:abc"
image_file = "web.tar"
[[service]]
name = "c"
driver = "docker"
image = "nginx@sha256:abc"
volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
[[service]]
name = "d"
driver = "docker"
image_file = "../web.tar"
network = "container:other"
memory = "512m"
cpus = "1.2345"
log_driver = "jurnald"
user = "a:b:c"
[[service]]
name = "e"
driver = "docker"
image_file = "web.tar"
network = "host"
publish = ["127.0.0.1:80:80"]
memory = "1MiB"
cpus = 2
listen = "127.0.0.1:80"
[[service]]
name = "f"
driver = "docker"
"#), @r#"
    landfall.toml:7:9: "nginx:1.25" names no digest: what a tag stands for may change after the release was signed
      7 | image = "nginx:1.25"
        |         ^^^^^^^^^^^^
      help: write `image = "nginx@sha256:…"`; `docker inspect --format '{{index .RepoDigests 0}}' nginx:1.25` prints it
    landfall.toml:8:12: "8000:8000" says no address
      8 | publish = ["8000:8000", "127.0.0.1:80", "web:0"]
        |            ^^^^^^^^^^^
      help: write "127.0.0.1:8000:8000"; for every address of the host, past its firewall, "0.0.0.0:8000:8000"
    landfall.toml:8:25: "127.0.0.1" is not an address
      8 | publish = ["8000:8000", "127.0.0.1:80", "web:0"]
        |                         ^^^^^^^^^^^^^^
      help: write "host:port"
    landfall.toml:8:41: "web:0" does not say which port of the container is published where
      8 | publish = ["8000:8000", "127.0.0.1:80", "web:0"]
        |                                         ^^^^^^^
      help: write "127.0.0.1:8000:8000": address and port on the host, port in the container
    landfall.toml:13:1: [[service]] has both `image` and `image_file`
      13 | image_file = "web.tar"
         | ^^^^^^^^^^
      help: keep one of them
    landfall.toml:17:9: "sha256:abc" is not a digest
      17 | image = "nginx@sha256:abc"
         |         ^^^^^^^^^^^^^^^^^^
      help: write `sha256:` and 64 digits of 0-9 and a-f
    landfall.toml:18:1: two volumes are mounted at "/d"
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         | ^^^^^^^
    landfall.toml:18:12: "/data" is not a volume
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |            ^^^^^^^
      help: write "{shared}/media:/app/media", or "name:/data" for a volume of Docker's; `:ro` behind it for one that is not written to
    landfall.toml:18:21: "{release}" is part of a release, which nothing may change once it is there
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                     ^^^^^^^^^^^^^^^^
      help: add `:ro`, or mount something of `{shared}`
    landfall.toml:18:39: `{current}` may name another release than the one that the container runs
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                       ^^^^^^^^^^^^^^^^^^^
      help: write `{release}`
    landfall.toml:18:60: "a b" is neither an absolute path nor the name of a volume
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                                            ^^^^^^^^
      help: write "{shared}/media:/app/media", or "name:/data" for a volume of Docker's; `:ro` behind it for one that is not written to
    landfall.toml:18:70: "data" is not a place in a container
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                                                      ^^^^^^^^
      help: write an absolute path, such as "/data"
    landfall.toml:18:80: "/a/../b" is not a place in a container
      18 | volumes = ["/data", "{release}:/app", "{current}/x:/x:ro", "a b:/x", "x:data", "x:/a/../b", "a:/d", "b:/d"]
         |                                                                                ^^^^^^^^^^^
      help: write an absolute path, such as "/data"
    landfall.toml:22:14: "../web.tar" is not the path of a file in the release
      22 | image_file = "../web.tar"
         |              ^^^^^^^^^^^^
      help: write it relative to the root of the release, such as `image_file = "images/web.tar"`
    landfall.toml:23:11: "container:other" is not the name of a network
      23 | network = "container:other"
         |           ^^^^^^^^^^^^^^^^^
      help: letters, digits, '_', '-' and '.'; the network of another container cannot be shared
    landfall.toml:24:10: `memory`: "512m" is not a size
      24 | memory = "512m"
         |          ^^^^^^
      help: write a whole number with its unit, such as "512MiB" or "2GiB"
    landfall.toml:25:8: `cpus`: "1.2345" is not a number of cores
      25 | cpus = "1.2345"
         |        ^^^^^^^^
      help: write "2" or "0.5"
    landfall.toml:26:14: `log_driver` is "jurnald"
      26 | log_driver = "jurnald"
         |              ^^^^^^^^^
      help: did you mean "journald"?
    landfall.toml:27:8: "a:b:c" is not a user
      27 | user = "a:b:c"
         |        ^^^^^^^
      help: write "user", "user:group" or "1000:1000"
    landfall.toml:33:1: `publish` has no meaning with `network = "host"`: the container listens on the host itself
      33 | publish = ["127.0.0.1:80:80"]
         | ^^^^^^^
      help: remove `publish`
    landfall.toml:34:10: `memory` is 1MiB: Docker gives no container less than 6MiB
      34 | memory = "1MiB"
         |          ^^^^^^
    landfall.toml:35:8: `cpus` must be a string, not an integer
      35 | cpus = 2
         |        ^
      help: write `cpus = "2"`
    landfall.toml:36:1: `listen` is for services with driver "process" only
      36 | listen = "127.0.0.1:80"
         | ^^^^^^
      help: remove `listen`
    landfall.toml:37:1: [[service]] needs one of `image`, `image_file`
      37 | [[service]]
         | ^^^^^^^^^^^
    "#);
    let web = "[[service]]\nname = \"web\"\ndriver = \"docker\"\nimage_file = \"web.tar\"\n";
    let slots = "slots = { service = \"web\", blue = \"unix:/run/b\", green = \"127.0.0.1:{b}\" }\n";
    insta::assert_snapshot!(wrong(&format!("{web}[traffic]\nproxy = \"nginx\"\n{slots}")), @r#"
    landfall.toml:9:21: service "web" does not publish a port where its slot is
      9 | slots = { service = "web", blue = "unix:/run/b", green = "127.0.0.1:{b}" }
        |                     ^^^^^
      help: write `publish = ["{address}:8000"]` there: the slot's address, the container's port
    landfall.toml:9:21: a container needs `warm_up`: Docker accepts connections for it before it listens itself
      9 | slots = { service = "web", blue = "unix:/run/b", green = "127.0.0.1:{b}" }
        |                     ^^^^^
      help: add `warm_up = ["/healthz"]`, a path that it answers once it is ready
    landfall.toml:9:35: a port of a container cannot be published on a path
      9 | slots = { service = "web", blue = "unix:/run/b", green = "127.0.0.1:{b}" }
        |                                   ^^^^^^^^^^^^^
      help: write "127.0.0.1:8001"
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

const WEB: &str = "[[service]]\nname = \"web\"\ndriver = \"process\"\ncommand = [\"run\"]\n";

const SLOTS: &str = "slots = { service = \"web\", blue = \"127.0.0.1:{a}\", green = \"127.0.0.1:{b}\" }\n";

#[test]
fn traffic_is_read_with_its_defaults() {
    let text = format!(
        "[application]\nname = \"tenants\"\n{WEB}listen = \"{{address}}\"\nready = {{ http = \"/healthz\" }}\n\
         [traffic]\nproxy = \"nginx\"\n{SLOTS}"
    );
    let traffic = parse(&text).unwrap().program.traffic.unwrap();
    let slots = traffic.slots().unwrap();
    assert_eq!((slots.service.as_str(), slots.green.as_str()), ("web", "127.0.0.1:{b}"));
    assert_eq!((traffic.drain, slots.keep), (Duration::from_secs(30), Duration::from_secs(600)));
    let Proxy::Slots { switch, .. } = &traffic.proxy else { panic!("{traffic:?}") };
    assert_eq!(switch, &Switch::Nginx { upstream: "tenants".into() });
    let gate = "[application]\nname = \"tenants\"\n[traffic]\nproxy = \"command\"\ndrain = \"5m\"\n\
                drain_command = [\"lb\", \"out\"]\nundrain_command = [\"lb\", \"in\"]\n";
    let traffic = parse(gate).unwrap().program.traffic.unwrap();
    let Proxy::Gate { gate: Gate::Command { drain, undrain } } = &traffic.proxy else { panic!() };
    assert_eq!((drain.name.as_str(), undrain.command.join(" ")), ("drain", "lb in".to_owned()));
}

#[test]
fn traffic_that_cannot_be_is_refused_with_what_to_write() {
    insta::assert_snapshot!(wrong("[traffic]\nproxy = \"ngnix\"\n"), @r#"
    landfall.toml:4:9: unknown proxy "ngnix"
      4 | proxy = "ngnix"
        |         ^^^^^^^
      help: did you mean "nginx"?
    "#);
    insta::assert_snapshot!(wrong("[traffic]\nproxy = \"nginx\"\nserver = \"web\"\n"), @r#"
    landfall.toml:4:9: nginx on a host leads requests to slots; without `slots` there is nowhere else to lead them
      4 | proxy = "nginx"
        |         ^^^^^^^
      help: add `slots = { service = "web", blue = "127.0.0.1:{blue}", green = "127.0.0.1:{green}" }`
    landfall.toml:5:1: `server` has no meaning for proxy "nginx" without `slots`
      5 | server = "web"
        | ^^^^^^
      help: remove `server`
    "#);
    insta::assert_snapshot!(wrong("[traffic]\nproxy = \"haproxy\"\nbackend = \"a b\"\n"), @r#"
    landfall.toml:3:1: [traffic] has no `server`
      3 | [traffic]
        | ^^^^^^^^^
      help: add `server = "{server}"`
    landfall.toml:5:11: "a b" is not a name that a proxy takes
      5 | backend = "a b"
        |           ^^^^^
      help: letters, digits, '-', '_' and '.'
    "#);
    insta::assert_snapshot!(wrong(&format!("[traffic]\nproxy = \"nginx\"\n{SLOTS}")), @r#"
    landfall.toml:5:21: there is no service "web"
      5 | slots = { service = "web", blue = "127.0.0.1:{a}", green = "127.0.0.1:{b}" }
        |                     ^^^^^
      help: name one of the [[service]] tables
    "#);
    insta::assert_snapshot!(wrong(&format!("{WEB}[traffic]\nproxy = \"command\"\n{SLOTS}")), @r#"
    landfall.toml:7:1: [traffic] has no `switch`
      7 | [traffic]
        | ^^^^^^^^^
      help: add `switch = ["program", "argument"]`
    landfall.toml:9:21: service "web" does not listen where its slot is
      9 | slots = { service = "web", blue = "127.0.0.1:{a}", green = "127.0.0.1:{b}" }
        |                     ^^^^^
      help: write `listen = "{address}"` there: the word stands for the slot's address
    "#);
    let same = "[traffic]\nproxy = \"nginx\"\n[traffic.slots]\nservice = \"web\"\nblue = \"127.0.0.1:1\"\n\
                green = \"127.0.0.1:1\"\nwarm_up = [\"login\"]\n";
    insta::assert_snapshot!(wrong(&format!("{WEB}listen = \"{{address}}\"\n{same}")), @r#"
    landfall.toml:13:9: both slots are at "127.0.0.1:1"
      13 | green = "127.0.0.1:1"
         |         ^^^^^^^^^^^^^
      help: each release needs an address of its own while both run
    landfall.toml:14:12: "login" is not a path that can be asked for
      14 | warm_up = ["login"]
         |            ^^^^^^^
      help: write the path alone, such as "/login"
    "#);
}

#[test]
fn a_check_a_process_and_a_slot_are_asked_with_the_headers_of_the_definition() {
    let text = "[application]\nname = \"tenants\"
        [[service]]\nname = \"web\"\ndriver = \"process\"\ncommand = [\"gunicorn\"]\nlisten = \"{address}\"
        ready = { http = \"/login\", headers = { X-Forwarded-Proto = \"https\" } }
        [[check]]\nname = \"login\"
        http = { url = \"http://{address}/login\", headers = { Host = \"tenants.example.org\" } }
        [traffic]\nproxy = \"nginx\"
        [traffic.slots]\nservice = \"web\"\nblue = \"127.0.0.1:1\"\ngreen = \"127.0.0.1:2\"
        warm_up_headers = { host = \"tenants.example.org\" }";
    let program = parse(text).unwrap().program;
    let Driver::Process { ready: Ready::Http { headers: ready, .. }, .. } = &program.services[0].driver
    else {
        panic!("{program:?}")
    };
    let Probe::Http { headers: check, .. } = &program.checks[0].probe else { panic!("{program:?}") };
    let Some(Proxy::Slots { slots, .. }) = program.traffic.as_ref().map(|traffic| &traffic.proxy) else {
        panic!("{program:?}")
    };
    assert!(ready.get("/", "x").contains("\r\nHost: x\r\n"), "{ready:?}");
    assert!(ready.get("/", "x").contains("\r\nX-Forwarded-Proto: https\r\n"), "{ready:?}");
    for headers in [check, &slots.warm_up_headers] {
        assert!(headers.get("/", "x").contains("ost: tenants.example.org\r\n"), "{headers:?}");
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let service =
        "[[service]]\nname = \"web\"\ndriver = \"process\"\ncommand = [\"x\"]\nlisten = \"127.0.0.1:1\"\n";
    insta::assert_snapshot!(wrong(&format!("{service}ready = {{ notify = true, headers = {{ Host = \"x\" }} }}\n")), @r#"
    landfall.toml:8:26: `headers` are those of `http`
      8 | ready = { notify = true, headers = { Host = "x" } }
        |                          ^^^^^^^
      help: remove `headers`
    "#);
    let check = "[[check]]\nname = \"c\"\nhttp = { url = \"http://x/\", headers = { \"A B\" = \"x\", X = \"a\\nY: b\", Connection = \"close\" } }\n";
    insta::assert_snapshot!(wrong(check), @r#"
    landfall.toml:5:41: "A B" is not the name of a header
      5 | http = { url = "http://x/", headers = { "A B" = "x", X = "a\nY: b", Connection = "close" } }
        |                                         ^^^^^^^^^^^
      help: write it as in `headers = { X-Forwarded-Proto = "https" }`
    landfall.toml:5:54: the value of X has characters that a header cannot have
      5 | http = { url = "http://x/", headers = { "A B" = "x", X = "a\nY: b", Connection = "close" } }
        |                                                      ^^^^^^^^^^^^^
      help: write it as in `headers = { X-Forwarded-Proto = "https" }`
    landfall.toml:5:69: Connection says how the answer is sent, which Landfall sets itself
      5 | http = { url = "http://x/", headers = { "A B" = "x", X = "a\nY: b", Connection = "close" } }
        |                                                                     ^^^^^^^^^^^^^^^^^^^^
      help: write it as in `headers = { X-Forwarded-Proto = "https" }`
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
