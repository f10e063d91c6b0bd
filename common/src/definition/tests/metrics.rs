//! `[[metric]]`: what is read, and what is refused.

use super::{parse, wrong};
use crate::manifest::metric::{AppMetric, Asked, Decimal, Direction, Series};
use crate::strategy::{Missing, Share};

const METRICS: &str = r#"
[[metric]]
name = "errors"
url = "http://127.0.0.1:{port}/metrics"
ratio = { events = { series = "http_requests_total", labels = { code = "5*" } }, of = "http_requests_total" }

[[metric]]
name = "slow-answers"
url = "http://127.0.0.1:{port}/metrics"
histogram = { series = "http_request_duration_seconds", above = "0.5" }
floor = "5%"
missing = "ignore"

[[metric]]
name = "queue"
url = "http://127.0.0.1:9100/metrics"
gauge = "queue_length"
worse = "higher"

[[metric]]
name = "done"
url = "http://127.0.0.1:9100/metrics"
counter = { series = "jobs_done_total" }
worse = "lower"
tolerance = "20%"
slack = "0.5"
"#;

fn metrics(text: &str) -> Vec<AppMetric> {
    parse(&format!("[application]\nname = \"tenants\"\n{text}")).unwrap().program.metrics
}

fn series(name: &str) -> Series {
    Series { name: name.to_owned(), labels: [].into() }
}

#[test]
fn metrics_of_every_kind_are_read_with_their_defaults() {
    let read = metrics(METRICS);
    let [errors, slow, queue, done] = &read[..] else { panic!("{read:?}") };
    let events =
        Series { labels: [("code".to_owned(), "5*".to_owned())].into(), ..series("http_requests_total") };
    let (of, floor) = (series("http_requests_total"), Share::percent(1));
    assert_eq!(errors.asked, Asked::Ratio { events, of, floor });
    assert_eq!((errors.worse, errors.tolerance_percent), (Direction::Higher, 50));
    assert!(errors.critical && errors.missing == Missing::Pause, "what is missing is never health");
    let of = series("http_request_duration_seconds");
    let above = Decimal::new("0.5").unwrap();
    assert_eq!(slow.asked, Asked::Histogram { of, above, floor: Share::percent(5) });
    assert!(slow.critical && slow.missing == Missing::Ignore);
    assert_eq!(queue.asked, Asked::Gauge { of: series("queue_length"), slack: Decimal::zero() });
    assert!(!queue.critical, "how much may be nobody has said");
    let slack = Decimal::new("0.5").unwrap();
    assert_eq!(done.asked, Asked::Counter { of: series("jobs_done_total"), slack });
    assert!(done.critical && done.worse == Direction::Lower && done.tolerance_percent == 20);
}

#[test]
fn what_is_signed_is_read_again_and_a_program_without_metrics_is_signed_as_before() {
    for metric in metrics(METRICS) {
        let text = serde_json::to_string(&metric).unwrap();
        assert_eq!(serde_json::from_str::<AppMetric>(&text).unwrap(), metric, "{text}");
    }
    let none = parse("[application]\nname = \"tenants\"\n").unwrap();
    assert!(!serde_json::to_string(&none.program).unwrap().contains("metrics"));
}

#[test]
fn metrics_are_compared_by_what_they_are_and_not_by_how_the_application_counts() {
    let all = metrics(METRICS);
    let [errors, slow, queue, done] = &all[..] else { panic!("{all:?}") };
    let other = AppMetric {
        asked: Asked::Ratio { events: series("e"), of: series("o"), floor: Share::percent(2) },
        ..errors.clone()
    };
    assert!(errors.is_comparable(&other));
    assert!(!errors.is_comparable(&AppMetric { name: queue.name.clone(), ..errors.clone() }));
    assert!(!queue.is_comparable(&AppMetric { asked: done.asked.clone(), ..queue.clone() }));
    let bound = |above: &str| {
        let above = Decimal::new(above).unwrap();
        AppMetric {
            asked: Asked::Histogram { of: series("t"), above, floor: Share::percent(1) },
            ..slow.clone()
        }
    };
    assert!(slow.is_comparable(&bound("0.50")) && !slow.is_comparable(&bound("1")));
}

fn metric(keys: &str) -> String {
    wrong(&format!("[[metric]]\nname = \"m\"\nurl = \"http://127.0.0.1:1/metrics\"\n{keys}\n"))
}

#[test]
fn a_metric_that_says_nothing_that_could_be_compared_is_refused() {
    insta::assert_snapshot!(wrong("[[metric]]\nname = \"m\"\n"), @r#"
    landfall.toml:3:1: [[metric]] has no `url`
      3 | [[metric]]
        | ^^^^^^^^^^
      help: add `url = "http://127.0.0.1:8000/metrics"`
    landfall.toml:3:1: [[metric]] needs one of `gauge`, `counter`, `ratio`, `histogram`
      3 | [[metric]]
        | ^^^^^^^^^^
    "#);
    insta::assert_snapshot!(metric("gauge = \"a\"\ncounter = \"b\""), @r#"
    landfall.toml:7:1: [[metric]] has both `gauge` and `counter`
      7 | counter = "b"
        | ^^^^^^^
      help: keep one of them
    "#);
    insta::assert_snapshot!(metric("gauge = \"a\""), @r#"
    landfall.toml:3:1: [[metric]] has no `worse`
      3 | [[metric]]
        | ^^^^^^^^^^
      help: add `worse = "higher"` or `worse = "lower"`
    "#);
    insta::assert_snapshot!(metric("gauge = \"a\"\nworse = \"more\""), @r#"
    landfall.toml:7:9: `worse`: "more" is neither "higher" nor "lower"
      7 | worse = "more"
        |         ^^^^^^
    "#);
    insta::assert_snapshot!(metric("gauge = \"http_requests_total{code=500}\"\nworse = \"higher\""), @r#"
    landfall.toml:6:9: `gauge`: "http_requests_total{code=500}" is not the name of a series
      6 | gauge = "http_requests_total{code=500}"
        |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: write `gauge = { series = "http_requests_total", labels = { code = "5*" } }`
    "#);
    insta::assert_snapshot!(metric("gauge = \"queue-length\"\nworse = \"higher\""), @r#"
    landfall.toml:6:9: `gauge`: "queue-length" is not the name of a series
      6 | gauge = "queue-length"
        |         ^^^^^^^^^^^^^^
      help: letters, digits, '_' and ':', not beginning with a digit, as the application shows it
    "#);
    insta::assert_snapshot!(metric("gauge = { labels = { \"a-b\" = \"c\" } }\nworse = \"higher\""), @r#"
    landfall.toml:6:9: `gauge` has no `series`
      6 | gauge = { labels = { "a-b" = "c" } }
        |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: add `series = "http_requests_total"`
    landfall.toml:6:22: "a-b" is not the name of a label
      6 | gauge = { labels = { "a-b" = "c" } }
        |                      ^^^^^^^^^^^
      help: letters, digits and '_', not beginning with a digit
    "#);
}

#[test]
fn shares_are_of_two_series_and_have_a_floor_and_levels_have_a_slack() {
    insta::assert_snapshot!(metric("ratio = { events = \"a\" }"), @r#"
    landfall.toml:6:9: `ratio` has no `of`
      6 | ratio = { events = "a" }
        |         ^^^^^^^^^^^^^^^^
      help: add `of = "http_requests_total"`
    "#);
    insta::assert_snapshot!(metric("ratio = { events = \"a\", of = \"a\" }"), @r#"
    landfall.toml:6:11: `events` and `of` of the ratio are the same series: it would always be all of them
      6 | ratio = { events = "a", of = "a" }
        |           ^^^^^^
      help: give `events` its labels, such as `labels = { code = "5*" }`
    "#);
    insta::assert_snapshot!(metric("ratio = { events = \"a\", of = \"b\" }\nslack = \"1\""), @r#"
    landfall.toml:7:1: `slack` has no meaning of a ratio
      7 | slack = "1"
        | ^^^^^
      help: use `floor`
    "#);
    insta::assert_snapshot!(metric("ratio = { events = \"a\", of = \"b\" }\nworse = \"lower\"\nfloor = \"1%\""), @r#"
    landfall.toml:8:1: `floor` has no meaning where lower is worse
      8 | floor = "1%"
        | ^^^^^
      help: use `tolerance`
    "#);
    insta::assert_snapshot!(metric("ratio = { events = \"a\", of = \"b\" }\nfloor = \"50%\""), @r#"
    landfall.toml:7:1: `floor` (50%) must be below 50%: so much may be in any case
      7 | floor = "50%"
        | ^^^^^
    "#);
    insta::assert_snapshot!(metric("counter = \"a\"\nworse = \"lower\"\nfloor = \"1%\""), @r#"
    landfall.toml:8:1: `floor` has no meaning of a counter
      8 | floor = "1%"
        | ^^^^^
      help: use `slack`
    "#);
    insta::assert_snapshot!(metric("counter = \"a\"\nworse = \"lower\"\nslack = \"-1\"\ntolerance = \"10001%\""), @r#"
    landfall.toml:8:9: `slack`: "-1" is not a number such as "3" or "0.25"
      8 | slack = "-1"
        |         ^^^^
      help: write `slack = "0.5"`
    landfall.toml:9:1: `tolerance` (10001%) must be at most 10000%
      9 | tolerance = "10001%"
        | ^^^^^^^^^
    "#);
    insta::assert_snapshot!(metric("histogram = { series = \"a_bucket\", labels = { le = \"1\" } }"), @r#"
    landfall.toml:6:13: `histogram` has no `above`
      6 | histogram = { series = "a_bucket", labels = { le = "1" } }
        |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: add `above = "0.5"` as one of its buckets has it in `le`
    landfall.toml:6:15: `series`: a_bucket names the buckets of a histogram
      6 | histogram = { series = "a_bucket", labels = { le = "1" } }
        |               ^^^^^^
      help: write `series = "a"`
    landfall.toml:6:36: `labels` cannot name `le`, which tells the buckets of a histogram apart
      6 | histogram = { series = "a_bucket", labels = { le = "1" } }
        |                                    ^^^^^^
      help: say with `above` which bucket is meant
    "#);
}

#[test]
fn a_metric_is_read_on_its_host_under_a_name_of_its_own_and_only_so_many_are() {
    let one = "[[metric]]\nname = \"m\"\nurl = \"https://127.0.0.1/metrics\"\nratio = { events = \"a\", of = \"b\" }\n";
    insta::assert_snapshot!(wrong(one), @r#"
    landfall.toml:5:7: "https://127.0.0.1/metrics" is not a URL beginning with http://
      5 | url = "https://127.0.0.1/metrics"
        |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      help: a metric is read from the service on its own host, over plain HTTP
    "#);
    let one = one.replace("https", "http");
    insta::assert_snapshot!(wrong(&format!("{one}{one}")), @r#"
    landfall.toml:8:8: the name "m" is taken by another [[metric]]
      8 | name = "m"
        |        ^^^
      help: steps, checks and services are told apart by their names in the log
    "#);
    let many: String = (0..9).map(|n| one.replace("\"m\"", &format!("\"m{n}\""))).collect();
    insta::assert_snapshot!(wrong(&many), @r"
    landfall.toml:35:1: there are 9 metrics; at most 8 are compared
      35 | [[metric]]
         | ^^^^^^^^^^
    ");
}
