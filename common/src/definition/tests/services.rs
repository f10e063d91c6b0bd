//! Services: what each driver takes, and which hosts run them.

use super::*;

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
