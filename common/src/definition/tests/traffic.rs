//! `[traffic]`, and how what answers requests is asked.

use super::*;

const WEB: &str = "[[service]]\nname = \"web\"\ndriver = \"process\"\ncommand = [\"run\"]\n";

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
