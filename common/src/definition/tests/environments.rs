//! How an environment wants to be rolled out.

use super::{parse, wrong};
use crate::ids::{EnvName, MetricName};
use crate::strategy::{
    Canary, CanaryAnalysis, CpuMetric, Entry, Gate, MemoryMetric, Missing, RestartMetric, Share, Strategy,
    StrategyKind, Window,
};
use crate::time::{Duration, human};

fn strategy(keys: &str) -> Strategy {
    let text = format!("[application]\nname = \"x\"\n[environment.production]\n{keys}\n");
    let definition = parse(&text)
        .unwrap_or_else(|found| panic!("{}", found.iter().map(ToString::to_string).collect::<String>()));
    definition.environments[&EnvName::new("production").unwrap()].clone()
}

#[test]
fn a_canary_is_a_number_a_share_or_those_with_certain_labels() {
    assert_eq!(strategy("").canary, Canary::Count(1));
    assert_eq!(strategy("canary = 0").canary, Canary::Count(0));
    assert_eq!(strategy("canary = \"5%\"").canary, Canary::Percent { percent: 5 });
    assert_eq!(strategy("canary = \"role=canary\"").canary, "role=canary".parse().unwrap());
}

#[test]
fn a_canary_is_held_for_a_time_and_until_somebody_promotes_it() {
    let held = strategy("strategy = \"one_at_a_time\"\ncanary_hold = \"10m\"\nauto_promote = false");
    assert_eq!((held.kind, held.canary_hold), (StrategyKind::OneAtATime, Duration::from_secs(600)));
    assert!(!held.auto_promote && held.holds_canary());
    assert!(!strategy("").holds_canary());
}

#[test]
fn hosts_follow_each_other_as_is_said() {
    let plain = strategy("");
    assert_eq!((plain.window, plain.spread, plain.stagger), (Window::Batch, None, Duration::ZERO));
    let said = strategy("window = \"sliding\"\nspread = \"zone\"\nstagger = \"30s\"\nbatch = \"10%\"");
    assert_eq!((said.window, said.stagger), (Window::Sliding, Duration::from_secs(30)));
    assert_eq!(said.spread.as_ref().map(|label| label.as_str()), Some("zone"));
    assert_eq!((said.at_once(40), plain_at_once()), (Some(4), None));
    insta::assert_snapshot!(wrong("[environment.a]\nwindow = \"slide\"\nspread = \"zone=a\"\nstagger = 30\n\
         [environment.b]\nstrategy = \"one_at_a_time\"\nwindow = \"sliding\"\n\
         [environment.c]\nstrategy = \"all_at_once\"\nspread = \"zone\"\n\
         [environment.d]\nstagger = \"6m\"\n"), @r#"
    landfall.toml:4:10: unknown window "slide"
      4 | window = "slide"
        |          ^^^^^^^
      help: write "batch" or "sliding"
    landfall.toml:5:10: label "zone=a" is not valid: only ASCII letters, digits, '.', '-', '_' and '+' are allowed
      5 | spread = "zone=a"
        |          ^^^^^^^^
      help: write `spread = "zone-a"`
    landfall.toml:6:11: `stagger` must be a duration with its unit, not an integer
      6 | stagger = 30
        |           ^^
      help: write `stagger = "30s"`
    landfall.toml:9:1: `window` has no meaning when one host changes at a time
      9 | window = "sliding"
        | ^^^^^^
      help: remove `window`, or write `strategy = "rolling"`
    landfall.toml:12:1: `spread` has no meaning when every host changes at once
      12 | spread = "zone"
         | ^^^^^^
      help: remove `spread`, or write `strategy = "rolling"`
    landfall.toml:14:1: stagger (6m) must be at most half of progress_deadline (10m)
      14 | stagger = "6m"
         | ^^^^^^^
    "#);
}

fn plain_at_once() -> Option<usize> {
    strategy("").at_once(40)
}

#[test]
fn an_environment_says_how_many_must_approve() {
    assert_eq!(strategy("").entry, Entry::default());
    assert_eq!(strategy("approvals = 2").entry.approvals, 2);
    insta::assert_snapshot!(wrong("[environment.a]\napprovals = 21\n[environment.b]\napprovals = \"two\"\n"), @r#"
    landfall.toml:4:13: `approvals` is 21; it must be from 0 to 20
      4 | approvals = 21
        |             ^^
    landfall.toml:6:13: `approvals` must be a whole number, not a string
      6 | approvals = "two"
        |             ^^^^^
    "#);
}

#[test]
fn an_environment_says_when_rollouts_may_begin() {
    let calendar = strategy(
        "release_windows = [\"Mon-Thu 09:00-17:00\", \"Fri 09:00-12:00\"]\ntime_zone = \"Europe/Berlin\"\n\
         freezes = [{ from = \"2026-12-18 12:00\", until = \"2027-01-04\", reason = \"holidays\" }]",
    )
    .entry
    .calendar;
    assert_eq!(calendar.windows[1].to_string(), "Fri 09:00-12:00");
    assert_eq!((calendar.zone.to_string().as_str(), calendar.freezes.len()), ("Europe/Berlin", 1));
    insta::assert_snapshot!(wrong("[environment.a]\nrelease_windows = [\"Mon 9-17\", \"Mo-Fr 09:00-17:00\"]\n\
         time_zone = \"Europe/Bärlin\"\n\
         [environment.b]\nrelease_windows = \"Mon 09:00-17:00\"\n\
         freezes = [{ from = \"christmas\", until = \"2027-01-04\" }, { from = \"2026-01-02\", until = \"2026-01-01\", reason = \"x\" }]\n"), @r#"
    landfall.toml:4:20: "Mon 9-17" is not a release window: the hours are from 00:00 to 24:00; write days and hours such as "Mon-Thu 09:00-17:00"
      4 | release_windows = ["Mon 9-17", "Mo-Fr 09:00-17:00"]
        |                    ^^^^^^^^^^
    landfall.toml:4:32: "Mo-Fr 09:00-17:00" is not a release window: the days are Mon, Tue, Wed, Thu, Fri, Sat and Sun; write days and hours such as "Mon-Thu 09:00-17:00"
      4 | release_windows = ["Mon 9-17", "Mo-Fr 09:00-17:00"]
        |                                ^^^^^^^^^^^^^^^^^^^
    landfall.toml:5:13: "Europe/Bärlin" is no time zone; write a name of the IANA database such as "Europe/Berlin"
      5 | time_zone = "Europe/Bärlin"
        |             ^^^^^^^^^^^^^^^
    landfall.toml:7:19: `release_windows` must be a list of strings, not a string
      7 | release_windows = "Mon 09:00-17:00"
        |                   ^^^^^^^^^^^^^^^^^
      help: write `release_windows = ["Mon 09:00-17:00"]`
    landfall.toml:8:12: freezes has no `reason`
      8 | freezes = [{ from = "christmas", until = "2027-01-04" }, { from = "2026-01-02", until = "2026-01-01", reason = "x" }]
        |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: add `reason = "holidays"`
    landfall.toml:8:21: `from`: "christmas" is neither a day nor a moment
      8 | freezes = [{ from = "christmas", until = "2027-01-04" }, { from = "2026-01-02", until = "2026-01-01", reason = "x" }]
        |                     ^^^^^^^^^^^
      help: write `from = "2026-12-18"` or `from = "2026-12-18 12:00"`
    landfall.toml:8:81: `until` is not after `from`
      8 | freezes = [{ from = "christmas", until = "2027-01-04" }, { from = "2026-01-02", until = "2026-01-01", reason = "x" }]
        |                                                                                 ^^^^^
    "#);
}

#[test]
fn an_environment_says_where_a_release_must_be_proven_before() {
    let after =
        strategy("after = [\"staging\", \"eu-1\"]\n[environment.staging]\n[environment.eu-1]").entry.after;
    assert_eq!(after.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["eu-1", "staging"]);
    insta::assert_snapshot!(wrong("[environment.a]\nafter = [\"Staging\", \"stagin\"]\n[environment.b]\nafter = \"staging\"\n\
         [environment.staging]\n[environment.c]\nafter = [\"d\"]\n[environment.d]\nafter = [\"e\", \"staging\"]\n\
         [environment.e]\nafter = [\"c\"]\n[environment.f]\nafter = [\"f\", \"c\"]\n"), @r#"
         landfall.toml:4:10: environment name "Staging" is not valid: it must begin with a lower-case letter or a digit
           4 | after = ["Staging", "stagin"]
             |          ^^^^^^^^^
         landfall.toml:4:21: there is no `[environment.stagin]` to prove a release in
           4 | after = ["Staging", "stagin"]
             |                     ^^^^^^^^
           help: write "staging"
         landfall.toml:6:9: `after` must be a list of strings, not a string
           6 | after = "staging"
             |         ^^^^^^^^^
           help: write `after = ["staging"]`
         landfall.toml:9:10: c cannot come after d, which comes after c
           9 | after = ["d"]
             |          ^^^
         landfall.toml:11:10: d cannot come after e, which comes after d
           11 | after = ["e", "staging"]
              |          ^^^
         landfall.toml:13:10: e cannot come after c, which comes after e
           13 | after = ["c"]
              |          ^^^
         landfall.toml:15:10: f cannot come after itself
           15 | after = ["f", "c"]
              |          ^^^
         "#);
}

#[test]
fn an_environment_says_what_ci_must_have_said() {
    let keys = ["0a".repeat(32), "0b".repeat(32)];
    let asks =
        strategy(&format!("evidence = [{{ name = \"tests\", keys = [{:?}, {:?}] }}]", keys[1], keys[0]));
    let demand = &asks.entry.evidence[0];
    assert_eq!(demand.name.as_str(), "tests");
    assert_eq!(demand.keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(), keys);
    let key = "0a".repeat(32);
    insta::assert_snapshot!(wrong(&format!(
        "[environment.a]\nevidence = [\"tests\"]\n[environment.b]\nevidence = [{{ name = \"te sts\", keys = [\"abc\"] }}]\n\
         [environment.c]\nevidence = [{{ names = \"tests\" }}]\n[environment.d]\nevidence = [{{ name = \"tests\", keys = [] }}]\n\
         [[environment.e.evidence]]\nname = \"tests\"\nkeys = [{key:?}]\n[[environment.e.evidence]]\nname = \"tests\"\nkeys = [{key:?}]\n"
    )), @r#"
    landfall.toml:4:13: `evidence` must be a list of tables
      4 | evidence = ["tests"]
        |             ^^^^^^^
      help: write `evidence` above each
    landfall.toml:6:22: evidence name "te sts" is not valid: only ASCII letters, digits, '.', '-', '_' and '+' are allowed
      6 | evidence = [{ name = "te sts", keys = ["abc"] }]
        |                      ^^^^^^^^
      help: write `name = "te-sts"`
    landfall.toml:6:40: public key "abc" is not valid: it must be 64 lower-case hexadecimal digits, as `ctl evidence key FILE` prints them
      6 | evidence = [{ name = "te sts", keys = ["abc"] }]
        |                                        ^^^^^
    landfall.toml:8:13: evidence has no `name`
      8 | evidence = [{ names = "tests" }]
        |             ^^^^^^^^^^^^^^^^^^^
      help: add `name = "tests"`
    landfall.toml:8:13: evidence has no `keys`
      8 | evidence = [{ names = "tests" }]
        |             ^^^^^^^^^^^^^^^^^^^
      help: add `keys = ["…"]`
    landfall.toml:8:15: unknown key `names` in evidence
      8 | evidence = [{ names = "tests" }]
        |               ^^^^^
      help: did you mean `name`?
    landfall.toml:10:1: evidence tests has 0 keys, and must have 1 to 8
      10 | evidence = [{ name = "tests", keys = [] }]
         | ^^^^^^^^
    landfall.toml:11:17: evidence tests is asked for twice
      11 | [[environment.e.evidence]]
         |                 ^^^^^^^^
    "#);
}

#[test]
fn knobs_without_a_meaning_are_refused_at_their_place() {
    insta::assert_snapshot!(wrong("[environment.a]\nstrategy = \"one_at_a_time\"\nbatch = 2\n\
         [environment.b]\nstrategy = \"all_at_once\"\ncanary_hold = \"10m\"\n\
         [environment.c]\nstrategy = \"one-at-a-time\"\n\
         [environment.d]\ncanary = \"a few\"\n\
         [environment.e]\ncanary = \"5\"\nauto_promote = \"no\"\n\
         [environment.f]\ncanary = 0\nauto_promote = false\n\
         [environment.g]\ncanary = -1\n"), @r#"
    landfall.toml:5:1: `batch` has no meaning when one host changes at a time
      5 | batch = 2
        | ^^^^^
      help: remove `batch`, or write `strategy = "rolling"`
    landfall.toml:8:1: `canary_hold` has no meaning when every host changes at once
      8 | canary_hold = "10m"
        | ^^^^^^^^^^^
      help: remove `canary_hold`, or write `strategy = "rolling"`
    landfall.toml:10:12: unknown strategy "one-at-a-time"
      10 | strategy = "one-at-a-time"
         |            ^^^^^^^^^^^^^^^
      help: did you mean "one_at_a_time"?
    landfall.toml:12:10: `canary`: "a few" is neither a number of hosts such as 2, nor a share such as 5%, nor labels such as role=canary
      12 | canary = "a few"
         |          ^^^^^^^
      help: write `canary = 1`, `canary = "5%"` or `canary = "role=canary"`
    landfall.toml:15:16: `auto_promote` must be true or false, not a string
      15 | auto_promote = "no"
         |                ^^^^
    landfall.toml:17:1: auto_promote is false and canary is 0: there is no canary to promote
      17 | canary = 0
         | ^^^^^^
    landfall.toml:20:10: `canary` is -1; it must be a whole number, 0 or more
      20 | canary = -1
         |          ^^
    "#);
}

const CHECK: &str = "[[check]]\nname = \"web\"\ntcp = \"127.0.0.1:80\"\n";

fn analysed(keys: &str) -> Option<CanaryAnalysis> {
    strategy(&format!("{keys}\n{CHECK}")).analysis
}

#[test]
fn a_canary_is_compared_as_is_said() {
    assert_eq!(strategy("").analysis, None);
    assert_eq!(analysed("analysis = false"), None);
    assert_eq!(analysed("analysis = true"), Some(CanaryAnalysis::default()));
    assert_eq!(analysed("[environment.production.analysis]"), Some(CanaryAnalysis::default()));
    let held = analysed("canary_hold = \"1h\"\nanalysis = true").unwrap();
    assert_eq!(
        held.deadline,
        Duration::from_secs(3600),
        "by default it waits for as long as the canary is held"
    );
    let said = analysed(
        "[environment.production.analysis]\nwindow = \"1m\"\ndeadline = \"2h\"\nalpha = \"1%\"\nbeta = \"0.5%\"\n\
         latency = { tolerance = \"20%\", slack = \"5ms\", missing = \"fail\" }\nfailures.critical = false",
    )
    .unwrap();
    assert_eq!((said.window, said.deadline), (Duration::from_secs(60), Duration::from_secs(7200)));
    assert_eq!((said.alpha, said.beta), (Share::percent(1), Share(50)));
    assert_eq!((said.latency.tolerance_percent, said.latency.slack), (20, Duration::from_millis(5)));
    assert_eq!((said.latency.missing, said.failures.missing), (Missing::Fail, Missing::Pause));
    assert!(said.latency.critical && !said.failures.critical);
}

#[test]
fn what_services_use_is_compared_as_is_said() {
    let of_services = |keys: &str| {
        let analysis = analysed(&format!("[environment.production.analysis]\n{keys}")).unwrap();
        (analysis.cpu, analysis.memory, analysis.restarts)
    };
    let default = (CpuMetric::default(), MemoryMetric::default(), RestartMetric::default());
    assert_eq!(of_services(""), default);
    let (cpu, memory, restarts) = of_services(
        "cpu = { tolerance = \"20%\", slack = \"5%\" }\n\
         memory = { tolerance = \"100%\", slack = \"64MiB\", missing = \"pause\" }\n\
         restarts = { floor = 0, missing = \"fail\" }",
    );
    assert_eq!((cpu.tolerance_percent, cpu.slack, cpu.missing), (20, Share::percent(5), Missing::Ignore));
    assert_eq!((memory.tolerance_percent, memory.slack_bytes), (100, 64 * 1024 * 1024));
    assert_eq!((restarts.floor_per_hour, restarts.missing), (0, Missing::Fail));
    assert!(cpu.critical && memory.critical && restarts.critical, "who names a tolerance means it");
    let (cpu, memory, restarts) = of_services(
        "cpu.slack = \"5%\"\nmemory = { tolerance = \"9%\", critical = false }\nrestarts.critical = false",
    );
    assert!(!cpu.critical && !memory.critical && !restarts.critical);
}

/// What is as it is by default is not written down: agents of the version before take such a manifest.
#[test]
fn what_services_use_is_signed_only_where_it_is_said() {
    let default = serde_json::to_value(CanaryAnalysis::default()).unwrap();
    assert!(["cpu", "memory", "restarts"].iter().all(|key| default.get(key).is_none()), "{default}");
    let restarts = RestartMetric { critical: false, ..RestartMetric::default() };
    let said = CanaryAnalysis { restarts, ..CanaryAnalysis::default() };
    let written = serde_json::to_value(&said).unwrap();
    assert_eq!(serde_json::from_value::<CanaryAnalysis>(written).unwrap(), said);
}

#[test]
fn an_analysis_that_could_tell_nothing_is_refused_at_its_place() {
    insta::assert_snapshot!(wrong("[environment.a]\nanalysis = true\n"), @r"
    landfall.toml:4:1: the analysis compares what the checks measure, and there is no [[check]]
      4 | analysis = true
        | ^^^^^^^^
      help: add a `[[check]]`, or remove `analysis`
    ");
    let wrong = |keys: &str| wrong(&format!("{CHECK}{keys}\n"));
    insta::assert_snapshot!(wrong("[environment.a]\nanalysis = \"on\"\n[environment.b]\ncanary = 0\nanalysis = true\n\
         [environment.c]\nstrategy = \"all_at_once\"\nanalysis = true\n\
         [environment.d.analysis]\nwindow = \"5s\"\n[environment.e.analysis]\nwidow = \"1m\"\nalpha = 0.05\n\
         beta = \"5\"\nlatency = { tolerance = \"1.5\", missing = \"warn\" }\n\
         [environment.f]\ncanary_hold = \"1h\"\nanalysis.deadline = \"30m\"\n\
         [environment.g.analysis]\nlatency.critical = false\nfailures.critical = false"), @r#"
    landfall.toml:7:12: `analysis` must be true, false or a table, not of type string
      7 | analysis = "on"
        |            ^^^^
      help: write `analysis = true`
    landfall.toml:10:1: analysis is on and canary is 0: there is no canary to compare
      10 | analysis = true
         | ^^^^^^^^
    landfall.toml:13:1: `analysis` has no meaning when every host changes at once
      13 | analysis = true
         | ^^^^^^^^
      help: remove `analysis`, or write `strategy = "rolling"`
    landfall.toml:14:16: window (5s) of the analysis must be from 10s, in which every host reports, to 10m
      14 | [environment.d.analysis]
         |                ^^^^^^^^
    landfall.toml:17:1: unknown key `widow` in `analysis`
      17 | widow = "1m"
         | ^^^^^
      help: did you mean `window`?
    landfall.toml:18:9: `alpha` must be a string, not a float
      18 | alpha = 0.05
         |         ^^^^
    landfall.toml:19:8: `beta`: "5" is not a share with at most two decimals
      19 | beta = "5"
         |        ^^^
      help: write `beta = "1%"` or `beta = "0.25%"`
    landfall.toml:20:25: `tolerance`: "1.5" is not a whole number of per cent
      20 | latency = { tolerance = "1.5", missing = "warn" }
         |                         ^^^^^
      help: write `tolerance = "50%"` for half as much again
    landfall.toml:20:42: `missing`: "warn" is none of "pause", "ignore", "fail"
      20 | latency = { tolerance = "1.5", missing = "warn" }
         |                                          ^^^^^^
    landfall.toml:23:1: deadline (30m) of the analysis is shorter than canary_hold (1h)
      23 | analysis.deadline = "30m"
         | ^^^^^^^^
    landfall.toml:24:16: critical is false for every metric of the analysis: nothing would decide
      24 | [environment.g.analysis]
         |                ^^^^^^^^
    "#);
    insta::assert_snapshot!(wrong("[environment.a.analysis]\ncpu.tolerance = \"20000%\"\n[environment.b.analysis]\n\
         memory.slack = \"64MB\"\nrestarts = { floor = 1000 }\nlatency.critical = false\nfailures.critical = false"), @r#"
         landfall.toml:6:16: tolerance (20000%) of cpu must be at most 10000%
           6 | [environment.a.analysis]
             |                ^^^^^^^^
         landfall.toml:9:16: `slack`: "64MB" is not a size
           9 | memory.slack = "64MB"
             |                ^^^^^^
           help: write a whole number with its unit, such as "512MiB" or "2GiB"
         landfall.toml:10:22: `floor` is 1000; it must be from 0 to 360
           10 | restarts = { floor = 1000 }
              |                      ^^^^
         "#);
    let rare = CHECK.replace("name = \"web\"", "name = \"web\"\ninterval = \"1m\"");
    insta::assert_snapshot!(super::wrong(&format!("{rare}[environment.a]\nanalysis = true\n")), @r"
    landfall.toml:8:1: window (30s) of the analysis is shorter than interval (1m) of check web: most windows would have no figures
      8 | analysis = true
        | ^^^^^^^^
    ");
}

#[test]
fn gates_are_read_and_what_is_wrong_with_one_is_named() {
    let gates = |keys: &str| {
        let told = |gate: &Gate| {
            let asked = gate.ask.as_ref().map_or_else(String::new, |ask| {
                format!(", {} every {} for {}", ask.url, human::format(ask.every), human::format(ask.timeout))
            });
            format!("{} before {}, {}{asked}", gate.name, gate.before, human::format(gate.deadline))
        };
        strategy(keys).gates.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(gates("gates = [{ name = \"qa-signoff\" }]"), ["qa-signoff before the second batch, 1d"]);
    let two = "[[environment.production.gates]]\nname = \"slo\"\nbefore = \"each\"\ndeadline = \"10m\"\n\
               [[environment.production.gates]]\nname = \"dba\"\nbefore = \"first\"\n";
    assert_eq!(gates(two), ["slo before each batch, 10m", "dba before the first batch, 1d"]);
    let url = "https://ci.example.org/gates/slo";
    let asked = format!("gates = [{{ name = \"slo\", url = \"{url}\" }}]");
    assert_eq!(
        gates(&asked),
        ["slo before the second batch, 10m, https://ci.example.org/gates/slo every 10s for 5s"]
    );
    let asked = asked.replace(" }", ", every = \"1m\", timeout = \"2s\", deadline = \"1h\" }");
    assert_eq!(
        gates(&asked),
        ["slo before the second batch, 1h, https://ci.example.org/gates/slo every 1m for 2s"]
    );
    insta::assert_snapshot!(wrong(
        "[environment.a]\ngates = [\"qa\"]\n[environment.b]\ngates = [{ before = \"batch\" }]\n\
         [environment.c]\ngates = [{ name = \"q a\", before = \"secnod\" }]\n\
         [environment.d]\ngates = [{ name = \"qa\" }, { name = \"qa\" }]\n\
         [environment.e]\ncanary = 2\ngates = [{ name = \"qa\", deadline = \"30d\" }]\n\
         [[environment.f.gates]]\nname = \"qa\"\nevery = \"1m\"\nafter = \"1m\"\n\
         [environment.g]\ngates = [{ name = \"qa\", url = \"https://ci/%2e%2e\" }]\n\
         [environment.h]\ngates = [{ name = \"qa\", url = \"https://ci/qa\", timeout = \"2m\" }]\n"
    ), @r#"
    landfall.toml:4:10: `gates` must be a list of tables
      4 | gates = ["qa"]
        |          ^^^^
      help: write `gates` above each
    landfall.toml:6:10: gates has no `name`
      6 | gates = [{ before = "batch" }]
        |          ^^^^^^^^^^^^^^^^^^^^
      help: add `name = "qa-signoff"`
    landfall.toml:6:21: `before`: "batch" names no batch
      6 | gates = [{ before = "batch" }]
        |                     ^^^^^^^
      help: write one of "first", "second", "each"
    landfall.toml:8:19: gate name "q a" is not valid: only ASCII letters, digits, '.', '-', '_' and '+' are allowed
      8 | gates = [{ name = "q a", before = "secnod" }]
        |                   ^^^^^
      help: write `name = "q-a"`
    landfall.toml:8:35: `before`: "secnod" names no batch
      8 | gates = [{ name = "q a", before = "secnod" }]
        |                                   ^^^^^^^^
      help: did you mean "second"?
    landfall.toml:10:1: gates has qa twice
      10 | gates = [{ name = "qa" }, { name = "qa" }]
         | ^^^^^
    landfall.toml:13:1: deadline (30d) of gate qa must be from 10s to 7d
      13 | gates = [{ name = "qa", deadline = "30d" }]
         | ^^^^^
    landfall.toml:16:1: `every` has no meaning without `url`: others open this gate
      16 | every = "1m"
         | ^^^^^
      help: add `url`, or remove it
    landfall.toml:17:1: unknown key `after` in gates
      17 | after = "1m"
         | ^^^^^
      help: known keys: name, before, deadline, url, every, timeout
    landfall.toml:19:31: `url`: "https://ci/%2e%2e" is no URL of a gate: its path may have letters, digits and -._~:@+,= only: what is encoded is read in more than one way
      19 | gates = [{ name = "qa", url = "https://ci/%2e%2e" }]
         |                               ^^^^^^^^^^^^^^^^^^^
    landfall.toml:21:1: timeout (2m) of gate qa must be from 1s to 1m
      21 | gates = [{ name = "qa", url = "https://ci/qa", timeout = "2m" }]
         | ^^^^^
    "#);
}

#[test]
fn ranges_of_overrides_are_read_and_what_is_wrong_with_one_is_named() {
    let ranges = |keys: &str| {
        let ranges = strategy(keys).overrides.unwrap();
        let told = |knob| format!("{knob}: {}", ranges.of(knob).unwrap());
        ranges.knobs().map(told).collect::<Vec<_>>().join("; ")
    };
    insta::assert_snapshot!(ranges(
        "[environment.production.overrides]\nbatch = { max = \"50%\" }\ncanary = { min = 1, max = \"10%\" }\n\
         canary_hold = { min = \"1m\" }\nwatch = { min = \"10m\", max = \"2h\" }\nstagger = true\n\
         analysis = [\"on\"]\nstrategy = [\"rolling\", \"one_at_a_time\"]\nspread = [\"zone\", \"none\"]\n"
    ), @r#"strategy: "rolling" or "one_at_a_time"; canary: 1 to 10%; canary_hold: at least 1m; analysis: "on"; batch: at most 50%; spread: "zone" or "none"; stagger: anything; watch: 10m to 2h"#);
    assert_eq!(ranges("[environment.production.overrides]\n"), "");
    assert_eq!(strategy("").overrides, None);
    insta::assert_snapshot!(wrong(
        "[environment.a]\noverrides = true\n[environment.b.overrides]\nbatch = \"50%\"\nbach = true\n\
         [environment.c.overrides]\nbatch = { max = \"half\" }\nwatch = { max = 5 }\ncanary = { most = 1 }\n\
         [environment.d.overrides]\nanalysis = [\"maybe\"]\nstrategy = false\nwindow = { max = 1 }\n\
         [environment.e.overrides]\nbatch = { min = 3, max = 2 }\nlate_rollback = true\nspread = []\n"
    ), @r#"
    landfall.toml:4:13: `overrides` must be a table, not a boolean
      4 | overrides = true
        |             ^^^^
    landfall.toml:6:9: the range of `batch` must be true, or bounds such as { max = "50%" }
      6 | batch = "50%"
        |         ^^^^^
    landfall.toml:7:1: unknown key `bach` in `overrides`
      7 | bach = true
        | ^^^^
      help: did you mean `batch`?
    landfall.toml:9:17: `max`: "half" is neither a number of hosts nor a share
      9 | batch = { max = "half" }
        |                 ^^^^^^
      help: write `max = 2` or `max = "25%"`
    landfall.toml:10:17: `max` must be a duration with its unit, not an integer
      10 | watch = { max = 5 }
         |                 ^
      help: write `max = "5s"`
    landfall.toml:11:12: unknown key `most` in `canary`
      11 | canary = { most = 1 }
         |            ^^^^
      help: known keys: min, max
    landfall.toml:13:12: "maybe" is nothing that analysis can be: "on" or "off"
      13 | analysis = ["maybe"]
         |            ^^^^^^^^^
    landfall.toml:14:12: `strategy` is false
      14 | strategy = false
         |            ^^^^^
      help: remove `strategy`: what is not named cannot be set
    landfall.toml:15:10: the range of `window` must be true, or a list of the words that it may be
      15 | window = { max = 1 }
         |          ^^^^^^^^^^^
    landfall.toml:17:9: the range of batch is empty: min (3) is more than max (2)
      17 | batch = { min = 3, max = 2 }
         |         ^^^^^^^^^^^^^^^^^^^^
    landfall.toml:18:1: unknown key `late_rollback` in `overrides`
      18 | late_rollback = true
         | ^^^^^^^^^^^^^
      help: did you mean `auto_rollback`?
    landfall.toml:19:10: the range of spread is empty; leave spread out and it cannot be set
      19 | spread = []
         |          ^^
    "#);
}

const METRICS: &str = "[[metric]]\nname = \"errors\"\nurl = \"http://127.0.0.1:8000/metrics\"\n\
                       ratio = { events = \"failed_total\", of = \"requests_total\" }\n\
                       [[metric]]\nname = \"queue\"\nurl = \"http://127.0.0.1:8000/metrics\"\n\
                       gauge = \"jobs_waiting\"\nworse = \"higher\"";

#[test]
fn limits_hold_what_they_name_in_a_watch() {
    assert_eq!(strategy("watch = \"30m\"").limits, None);
    let limits = strategy(&format!(
        "watch = \"30m\"\n[environment.production.limits]\nlatency = \"500ms\"\nfailures = \"5%\"\ncpu = \"150%\"\n\
         memory = \"1GiB\"\nmissing = \"ignore\"\nwindow = \"1m\"\nmetrics = {{ errors = \"2%\", queue = \"300\" }}\n\
         {CHECK}\n{METRICS}\n[[service]]\nname = \"web\"\ndriver = \"systemd\"\nunit = \"web.service\"\n"
    ));
    let limits = limits.limits.unwrap();
    assert_eq!((limits.latency, limits.window), (Some(Duration::from_millis(500)), Duration::from_secs(60)));
    assert_eq!((limits.failures, limits.cpu), (Some(Share::percent(5)), Some(Share::percent(150))));
    assert_eq!((limits.memory_bytes, limits.missing), (Some(1 << 30), Missing::Ignore));
    let of = |name: &str| limits.metrics[&MetricName::new(name).unwrap()].value().to_string();
    assert_eq!((of("errors"), of("queue")), ("0.02".to_owned(), "300".to_owned()));
    insta::assert_snapshot!(wrong(&format!(
        "[environment.a.limits]\nlatency = \"1s\"\n\
         [environment.b]\nwatch = \"30m\"\nlimits = {{}}\n\
         [environment.c]\nwatch = \"30m\"\nlimits = {{ metrics = {{ error = \"2%\", queue = \"2%\", errors = \"3\" }} }}\n\
         [environment.d]\nwatch = \"30m\"\nlimits = {{ latency = \"1s\", deadline = \"1m\" }}\n{METRICS}"
    )), @r#"
    landfall.toml:3:16: the limits hold while the release is watched, and it is not
      3 | [environment.a.limits]
        |                ^^^^^^
      help: add `watch = "30m"`, or remove `limits`
    landfall.toml:7:1: the limits name nothing that they hold: latency, failures, cpu, memory or metrics
      7 | limits = {}
        | ^^^^^^
    landfall.toml:10:24: `metrics`: there is no `[[metric]]` "error"
      10 | limits = { metrics = { error = "2%", queue = "2%", errors = "3" } }
         |                        ^^^^^^^^^^^^
      help: write `errors`
    landfall.toml:10:38: `queue`: "2%" is not what the metric shows
      10 | limits = { metrics = { error = "2%", queue = "2%", errors = "3" } }
         |                                      ^^^^^^^^^^^^
      help: write a number, such as "300"
    landfall.toml:10:52: `errors`: "3" is not what the metric shows
      10 | limits = { metrics = { error = "2%", queue = "2%", errors = "3" } }
         |                                                    ^^^^^^^^^^^^
      help: write a share, such as "5%"
    landfall.toml:13:1: deadline (1m) of the limits is too short: 5 windows of 30s are the least that can tell anything
      13 | limits = { latency = "1s", deadline = "1m" }
         | ^^^^^^
    landfall.toml:13:1: the limits hold what the checks measure, and there is no [[check]]
      13 | limits = { latency = "1s", deadline = "1m" }
         | ^^^^^^
      help: add a `[[check]]`, or remove `latency` and `failures`
    "#);
    let of_services = "[environment.a]\nwatch = \"30m\"\nlimits = { memory = \"1GiB\" }\n\
                       [environment.b]\nwatch = \"30m\"\nlimits = { failures = \"1%\", window = \"10s\" }\n\
                       [[check]]\nname = \"web\"\ntcp = \"127.0.0.1:80\"\ninterval = \"20s\"\n";
    insta::assert_snapshot!(wrong(of_services), @r#"
    landfall.toml:5:1: the limits hold what services use, and there is no [[service]]
      5 | limits = { memory = "1GiB" }
        | ^^^^^^
      help: add a `[[service]]`, or remove `cpu` and `memory`
    landfall.toml:8:1: window (10s) of the limits is shorter than interval (20s) of check web: most windows would have no figures
      8 | limits = { failures = "1%", window = "10s" }
        | ^^^^^^
    "#);
    let without_a_check = "[environment.a]\nwatch = \"30m\"\nlimits = { latency = \"1s\" }\n";
    insta::assert_snapshot!(wrong(without_a_check), @r#"
    landfall.toml:5:1: the limits hold what the checks measure, and there is no [[check]]
      5 | limits = { latency = "1s" }
        | ^^^^^^
      help: add a `[[check]]`, or remove `latency` and `failures`
    "#);
}
