//! What runs beside the files of a release: what is done to it, and what is found then.

use std::collections::{BTreeMap, BTreeSet};

use landfall_agent_core::drift::beside::container::{self, Container};
use landfall_agent_core::drift::beside::program::{self, Process, State};
use landfall_agent_core::drift::beside::proxy::{self, Backend, Configured, Server};
use landfall_agent_core::drift::beside::seat::{self, Link, Seat, Seen};
use landfall_agent_core::drift::beside::{Settings, Things, Value};
use landfall_agent_core::drift::{Finding, Remedy};
use landfall_common::{ReleaseName, ServiceName};
use proptest::prelude::*;

fn release(name: &str) -> ReleaseName {
    name.parse().unwrap()
}

fn service() -> ServiceName {
    "web".parse().unwrap()
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let value = |(name, value): &(&str, &str)| {
        let value = if *name == "command" { Value::secret(value) } else { Value::plain(value) };
        ((*name).to_owned(), value)
    };
    pairs.iter().map(value).collect()
}

/// On one line each: kind, path, detail, and how it is put right.
fn told(found: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let remedy = match &finding.remedy {
            Remedy::ByHand { what } => format!("by hand: {what}"),
            other => format!("{other:?}"),
        };
        format!("{} {}: {}\n  {remedy}", finding.kind, finding.shown_path(), finding.detail)
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Each way in which a thing may be otherwise, and the words that have to be told then.
type Case<T> = (&'static str, fn(&mut T), &'static [&'static str]);

fn holds<T: Clone>(applied: &T, look: impl Fn(&T) -> Vec<Finding>, cases: &[Case<T>]) {
    assert_eq!(told(&look(applied)), "", "what was applied is no difference");
    for (what, change, words) in cases {
        let mut now = applied.clone();
        change(&mut now);
        let told = told(&look(&now));
        assert_eq!(told.is_empty(), words.is_empty(), "{what}: {told}");
        for word in *words {
            assert!(told.contains(word), "{what}: no {word:?} in\n{told}");
        }
    }
}

mod programs {
    use super::*;

    type Programs = BTreeMap<String, Process>;

    fn process(directory: &str) -> Process {
        let pairs = [("command", "gunicorn shop -w 4"), ("directory", directory), ("user", "33")];
        Process { settings: Some(settings(&pairs)), state: State::Up, shown: Some(release("v2")) }
    }

    fn group() -> Programs {
        ["web:web_0", "web:web_1"].map(|name| (name.to_owned(), process("/srv/shop/current"))).into()
    }

    fn look(applied: &Things, may_stay: bool, seen: &Programs) -> Vec<Finding> {
        let (service, release) = (service(), release("v2"));
        let must = program::Must { service: &service, release: &release, applied: Some(applied), may_stay };
        program::findings(&must, seen)
    }

    fn set(programs: &mut Programs, name: &str, value: Value) {
        let process = programs.get_mut("web:web_0").unwrap();
        process.settings.as_mut().unwrap().insert(name.to_owned(), value);
    }

    fn down(programs: &mut Programs, names: &[&str]) {
        for name in names {
            programs.get_mut(*name).unwrap().state = State::Down("STOPPED".to_owned());
        }
    }

    #[test]
    fn whatever_is_done_to_a_program_of_supervisors_is_found() {
        let applied = program::settings(&group());
        holds(
            &group(),
            |seen| look(&applied, false, seen),
            &[
                (
                    "another directory",
                    |p| set(p, "directory", Value::plain("/tmp")),
                    &[
                        "changed supervisor web:web_0: directory is /tmp instead of /srv/shop/current",
                        "`supervisorctl update web`",
                    ],
                ),
                (
                    "another command",
                    |p| set(p, "command", Value::secret("gunicorn shop -w 1")),
                    &["changed supervisor web:web_0: command is another"],
                ),
                ("another user", |p| set(p, "user", Value::plain("0")), &["user is 0 instead of 33"]),
                (
                    "it is configured no more",
                    |p| drop(p.remove("web:web_1")),
                    &["missing supervisor web:web_1: it was configured when v2 became active"],
                ),
                (
                    "it runs on, and is configured no more",
                    |p| p.get_mut("web:web_1").unwrap().settings = None,
                    &["missing supervisor web:web_1"],
                ),
                (
                    "one more",
                    |p| drop(p.insert("web:web_2".to_owned(), process("/srv/shop/current"))),
                    &["added supervisor web:web_2"],
                ),
                (
                    "one of two is stopped",
                    |p| down(p, &["web:web_1"]),
                    &[
                        "missing supervisor web:web_1: it does not run: STOPPED",
                        "by hand: `supervisorctl start web:web_1`",
                    ],
                ),
                (
                    "both are stopped",
                    |p| down(p, &["web:web_0", "web:web_1"]),
                    &[
                        "missing supervisor web:web_0",
                        "missing supervisor web:web_1",
                        "Start { service: ServiceName(\"web\") }",
                    ],
                ),
                (
                    "one works in the release before",
                    |p| p.get_mut("web:web_1").unwrap().shown = Some(release("v1")),
                    &["it runs in the directory of v1 instead of v2", "`supervisorctl restart web:web_1`"],
                ),
                ("where it works is not to be seen", |p| p.get_mut("web:web_1").unwrap().shown = None, &[]),
                (
                    "it is just being started",
                    |p| p.get_mut("web:web_1").unwrap().state = State::Changing,
                    &[],
                ),
            ],
        );
    }

    #[test]
    fn what_was_asked_to_reload_may_work_where_it_was_started() {
        let mut seen = group();
        seen.get_mut("web:web_0").unwrap().shown = Some(release("v1"));
        let applied = program::settings(&seen);
        assert_eq!(look(&applied, true, &seen), []);
        assert_eq!(look(&applied, false, &seen).len(), 1);
    }

    #[test]
    fn nothing_is_held_against_a_record_that_is_not_there_yet() {
        let (service, release) = (service(), release("v2"));
        let must = program::Must { service: &service, release: &release, applied: None, may_stay: false };
        assert_eq!(program::findings(&must, &group()), []);
        let mut seen = group();
        down(&mut seen, &["web:web_1"]);
        assert_eq!(program::findings(&must, &seen).len(), 1, "whether it runs needs no record");
    }

    fn state() -> impl Strategy<Value = State> {
        prop_oneof![Just(State::Up), Just(State::Changing), Just(State::Down("FATAL".to_owned()))]
    }

    fn programs() -> impl Strategy<Value = Programs> {
        let settings = proptest::collection::btree_map("[a-d]", "[x-z]{0,2}", 0..4).prop_map(|plain| {
            plain
                .into_iter()
                .map(|(name, value)| {
                    let value = if name == "a" { Value::secret(&value) } else { Value::Plain(value) };
                    (name, value)
                })
                .collect::<Settings>()
        });
        let shown = proptest::option::of(prop_oneof![Just(release("v1")), Just(release("v2"))]);
        let process = (proptest::option::of(settings), state(), shown)
            .prop_map(|(settings, state, shown)| Process { settings, state, shown });
        proptest::collection::btree_map("web:[0-4]", process, 0..5)
    }

    proptest! {
        /// Nothing that runs is started by a repair, and what is configured as it was is no difference.
        #[test]
        fn a_repair_of_programs_interrupts_nothing(then in programs(), now in programs()) {
            let applied = program::settings(&then);
            let found = look(&applied, false, &now);
            let is_up = now.values().any(|process| !matches!(process.state, State::Down(_)));
            let starts = found.iter().any(|finding| matches!(finding.remedy, Remedy::Start { .. }));
            prop_assert!(!(is_up && starts), "{}", told(&found));
            for (name, process) in &now {
                let same = applied.get(name) == process.settings.as_ref();
                let serves = process.state == State::Up && process.shown != Some(release("v1"))
                    || process.state == State::Changing;
                let path = format!("supervisor {name}");
                let named = found.iter().any(|finding| finding.shown_path() == path);
                prop_assert_eq!(named, !(same && serves), "{}: {}", name, told(&found));
            }
        }

        /// The same things twice make the same findings, whatever else is on the host.
        #[test]
        fn what_is_looked_at_twice_is_found_twice(then in programs(), now in programs()) {
            let applied = program::settings(&then);
            prop_assert_eq!(look(&applied, false, &now), look(&applied, false, &now));
            prop_assert_eq!(look(&program::settings(&now), true, &now).iter().filter(|f| f.kind.word() == "added").count(), 0);
        }
    }
}

mod proxies {
    use super::*;

    type Haproxy = (Backend<'static>, Option<Things>);

    fn server(port: u16, state: proxy::State) -> Server {
        Server { address: format!("127.0.0.1:{port}"), state, weights: Some((100, 100)) }
    }

    fn servers() -> BTreeMap<String, Server> {
        [("blue", server(8001, proxy::State::Ready)), ("green", server(8002, proxy::State::Drain))]
            .map(|(name, server)| (name.to_owned(), server))
            .into()
    }

    fn applied() -> Haproxy {
        let section = Things::from([("backend shop".to_owned(), settings(&[("command", "server blue")]))]);
        let address = |port| Some(format!("127.0.0.1:{port}"));
        let configured = Configured {
            file: "/etc/haproxy/haproxy.cfg".into(),
            servers: [("blue".to_owned(), address(8001)), ("green".to_owned(), address(8002))].into(),
            is_whole: true,
            section: section.clone(),
        };
        let backend = Backend {
            name: "shop",
            socket: "/run/haproxy/admin.sock",
            servers: servers(),
            kept: Some(("/var/lib/landfall/haproxy/state".into(), Some(servers()))),
            configured: Some(configured),
        };
        (backend, Some(section))
    }

    fn look((backend, section): &Haproxy) -> Vec<Finding> {
        let must = |server: &str, port: u16, takes| proxy::Must {
            server: server.to_owned(),
            address: Some(format!("127.0.0.1:{port}")),
            takes,
        };
        proxy::findings(&[must("blue", 8001, true), must("green", 8002, false)], backend, section.as_ref())
    }

    fn of<'a>(haproxy: &'a mut Haproxy, name: &str) -> &'a mut Server {
        haproxy.0.servers.get_mut(name).unwrap()
    }

    fn kept(haproxy: &mut Haproxy) -> &mut Option<BTreeMap<String, Server>> {
        &mut haproxy.0.kept.as_mut().unwrap().1
    }

    #[test]
    fn whatever_is_done_to_a_server_of_haproxys_is_found() {
        holds(
            &applied(),
            look,
            &[
                (
                    "requests are led away",
                    |h| of(h, "blue").state = proxy::State::Maintenance,
                    &[
                        "changed haproxy shop/blue: it takes no requests (maint), and they are to be led there\n  Lead",
                    ],
                ),
                (
                    "requests are led to the other too",
                    |h| of(h, "green").state = proxy::State::Ready,
                    &["changed haproxy shop/green: it takes requests, and only blue is to\n  Lead"],
                ),
                ("the other is out altogether", |h| of(h, "green").state = proxy::State::Maintenance, &[]),
                (
                    "another address",
                    |h| of(h, "blue").address = "10.0.0.9:80".to_owned(),
                    &[
                        "it is at 10.0.0.9:80 instead of 127.0.0.1:8001",
                        "`echo \"set server shop/blue addr 127.0.0.1 port 8001\" | socat stdio /run/haproxy/admin.sock`",
                    ],
                ),
                (
                    "another weight",
                    |h| of(h, "blue").weights = Some((10, 100)),
                    &["its weight is 10 instead of 100", "set server shop/blue weight 100"],
                ),
                ("a weight that the server itself sets", |h| of(h, "blue").weights = None, &[]),
                (
                    "a server is gone",
                    |h| drop(h.0.servers.remove("green")),
                    &[
                        "missing haproxy shop/green",
                        "`server green …` belongs into the section `backend shop`",
                    ],
                ),
                (
                    "the state file leads elsewhere",
                    |h| kept(h).as_mut().unwrap().get_mut("green").unwrap().state = proxy::State::Ready,
                    &[
                        "changed /var/lib/landfall/haproxy/state: after a reload of HAProxy shop/green would take requests\n  Lead",
                    ],
                ),
                (
                    "the state file names nobody",
                    |h| *kept(h) = Some(BTreeMap::new()),
                    &["it does not name shop/blue"],
                ),
                ("the state file is gone", |h| *kept(h) = None, &["missing /var/lib/landfall/haproxy/state"]),
                ("there is to be no state file", |h| h.0.kept = None, &[]),
                (
                    "the configuration has another address",
                    |h| {
                        let configured = h.0.configured.as_mut().unwrap();
                        configured.servers.insert("blue".to_owned(), Some("127.0.0.1:9999".to_owned()));
                    },
                    &[
                        "changed /etc/haproxy/haproxy.cfg: its server shop/blue is at 127.0.0.1:9999 instead of 127.0.0.1:8001",
                        "`systemctl reload haproxy`",
                    ],
                ),
                (
                    "the configuration's address is made up at the start",
                    |h| drop(h.0.configured.as_mut().unwrap().servers.insert("blue".to_owned(), None)),
                    &[],
                ),
                (
                    "the configuration has one server less",
                    |h| drop(h.0.configured.as_mut().unwrap().servers.remove("green")),
                    &["its section `backend shop` has no server green"],
                ),
                (
                    "the configuration makes servers out of a template",
                    |h| {
                        let configured = h.0.configured.as_mut().unwrap();
                        configured.is_whole = false;
                        configured.servers.clear();
                    },
                    &[],
                ),
                (
                    "the configuration has another section",
                    |h| h.0.configured.as_mut().unwrap().section = Things::new(),
                    &["its section `backend shop` is not what it was"],
                ),
                ("the configuration cannot be read", |h| h.0.configured = None, &[]),
                ("the section is not on record yet", |h| h.1 = None, &[]),
            ],
        );
    }

    #[test]
    fn one_address_is_known_in_other_words() {
        for (said, is_it) in [
            ("127.0.0.1:8001", true),
            ("localhost:8001", true),
            ("127.0.0.1:8002", false),
            ("127.0.0.2:8001", false),
            ("8001", false),
        ] {
            let mut haproxy = applied();
            said.clone_into(&mut of(&mut haproxy, "blue").address);
            assert_eq!(look(&haproxy).is_empty(), is_it, "{said}");
        }
    }
}

mod seats {
    use super::*;

    type Slots = BTreeMap<String, Seen>;

    fn must() -> BTreeMap<String, Seat> {
        let seat = |name: &str| Seat {
            release: release(name),
            target: format!("../releases/{name}").into(),
            environment: format!("LANDFALL_RELEASE={name}\n"),
        };
        [("blue".to_owned(), seat("v1")), ("green".to_owned(), seat("v2"))].into()
    }

    fn applied() -> Slots {
        let seen = |seat: Seat| Seen { link: Link::To(seat.target), environment: Some(seat.environment) };
        must().into_iter().map(|(slot, seat)| (slot, seen(seat))).collect()
    }

    fn green(slots: &mut Slots) -> &mut Seen {
        slots.get_mut("green").unwrap()
    }

    #[test]
    fn whatever_is_done_to_a_slot_is_found() {
        holds(
            &applied(),
            |seen| seat::findings(&must(), seen),
            &[
                (
                    "its link leads elsewhere",
                    |s| green(s).link = Link::To("../releases/v1".into()),
                    &["link slots/green: leads to ../releases/v1 instead of ../releases/v2\n  SlotLink"],
                ),
                (
                    "its link is gone",
                    |s| green(s).link = Link::Gone,
                    &["missing slots/green: v2 runs in this slot\n  SlotLink"],
                ),
                (
                    "its link is a directory",
                    |s| green(s).link = Link::Other,
                    &["changed slots/green: no link to ../releases/v2", "move it away"],
                ),
                (
                    "its file holds something else",
                    |s| green(s).environment = Some("LANDFALL_RELEASE=v9\n".to_owned()),
                    &["changed slots/green.env: it is not what the agent wrote for v2\n  SlotFile"],
                ),
                (
                    "its file is gone",
                    |s| green(s).environment = None,
                    &["missing slots/green.env: v2 runs in this slot\n  SlotFile"],
                ),
                (
                    "all of it is gone",
                    |s| s.clear(),
                    &["missing slots/blue:", "missing slots/blue.env:", "missing slots/green.env:"],
                ),
                (
                    "there is one more",
                    |s| {
                        let link = Link::To("../releases/v1".into());
                        s.insert("red".to_owned(), Seen { link, environment: None });
                    },
                    &["added slots/red: no release runs in this slot\n  by hand"],
                ),
                ("a file alone is nobody's", |s| drop(s.insert("red".to_owned(), Seen::default())), &[]),
            ],
        );
    }
}

mod containers {
    use super::*;

    const NAME: &str = "shop.web.v2.0123";

    fn signed() -> Settings {
        let pairs = [
            ("image", "sha256:1"),
            ("command", "serve"),
            ("environment MODE", "one"),
            (container::MEMORY, "1000"),
            (container::CPUS, container::UNLIMITED),
            (container::RESTART, "unless-stopped"),
        ];
        settings(&pairs)
    }

    fn one(name: &str) -> Container {
        Container {
            name: name.to_owned(),
            service: "web".to_owned(),
            is_up: true,
            how: "exited with code 1".to_owned(),
            settings: signed(),
        }
    }

    fn look(seen: &[Container]) -> Vec<Finding> {
        let (service, settings) = (service(), signed());
        container::findings(&container::Must { service: &service, name: NAME, settings: &settings }, seen)
    }

    fn set(containers: &mut [Container], name: &str, value: &str) {
        containers[0].settings.extend(settings(&[(name, value)]));
    }

    #[test]
    fn whatever_is_done_to_a_container_is_found() {
        holds(
            &vec![one(NAME)],
            |seen: &Vec<Container>| look(seen),
            &[
                (
                    "another image",
                    |c| set(c, "image", "sha256:2"),
                    &[
                        "changed docker shop.web.v2.0123: image is sha256:2 instead of sha256:1",
                        "`docker rm -f shop.web.v2.0123`",
                    ],
                ),
                ("another command", |c| set(c, "command", "serve --debug"), &["command is another"]),
                ("one more variable", |c| set(c, "environment DEBUG", "1"), &["environment DEBUG was added"]),
                (
                    "a variable less",
                    |c| drop(c[0].settings.remove("environment MODE")),
                    &["environment MODE is missing"],
                ),
                ("less memory", |c| set(c, "memory", "10"), &["memory is 10 instead of 1000\n  Limits"]),
                ("it is not started again", |c| set(c, "restart policy", "no"), &["Limits"]),
                (
                    "a limit that cannot be taken away",
                    |c| set(c, "cpus", "1000"),
                    &["cpus is 1000 instead of unlimited", "by hand"],
                ),
                (
                    "less memory, and another image",
                    |c| {
                        set(c, "memory", "10");
                        set(c, "image", "sha256:2");
                    },
                    &["by hand: another container in its place is an interruption"],
                ),
                (
                    "it has ended",
                    |c| c[0].is_up = false,
                    &["missing docker shop.web.v2.0123: it does not run: exited with code 1\n  Start"],
                ),
                ("it was removed", Vec::clear, &["it does not run: it is not there\n  Start"]),
                (
                    "another runs beside it",
                    |c| c.push(one("shop.web.v1.4567")),
                    &["added docker shop.web.v1.4567: it runs beside shop.web.v2.0123"],
                ),
                (
                    "another runs instead of it",
                    |c| "shop.web.v1.4567".clone_into(&mut c[0].name),
                    &["changed docker shop.web.v1.4567: it runs instead of shop.web.v2.0123", "by hand"],
                ),
                (
                    "one that failed lies there to be looked at",
                    |c| c.push(Container { is_up: false, ..one("shop.web.v3.89ab") }),
                    &[],
                ),
            ],
        );
    }

    #[test]
    fn a_container_that_no_service_needs_is_found_if_it_runs() {
        let seen = [
            one(NAME),
            Container { service: "mail".to_owned(), ..one("shop.mail.v1.0") },
            Container { service: "mail".to_owned(), is_up: false, ..one("shop.mail.v2.0") },
        ];
        let found = container::extra(&BTreeSet::from(["web".to_owned()]), &seen);
        assert_eq!(found.len(), 1, "{}", told(&found));
        assert!(
            told(&found).starts_with(
                "added docker shop.mail.v1.0: it runs, and no release here has the service mail"
            )
        );
    }

    proptest! {
        /// What holds a secret is told by its name and never by its value.
        #[test]
        fn no_secret_is_told(then in "[a-z]{8}", now in "[a-z]{8}", extra in "[a-z]{8}") {
            prop_assume!(then != now);
            let (service, mut must) = (service(), signed());
            must.insert("environment TOKEN".to_owned(), Value::secret(&then));
            let mut seen = one(NAME);
            seen.settings.insert("environment TOKEN".to_owned(), Value::secret(&now));
            seen.settings.insert("environment MORE".to_owned(), Value::secret(&extra));
            let must = container::Must { service: &service, name: NAME, settings: &must };
            let told = told(&container::findings(&must, &[seen]));
            prop_assert!(told.contains("environment TOKEN is another"));
            for secret in [then, now, extra] {
                prop_assert!(!told.contains(&secret), "{}", told);
            }
        }
    }
}
