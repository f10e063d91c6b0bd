use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn calendar(zone: &str, windows: &[&str]) -> Calendar {
    let windows = windows.iter().map(|text| text.parse().unwrap()).collect();
    Calendar { zone: zone.parse().unwrap(), windows, freezes: Vec::new() }
}

fn freeze(from: &str, until: &str) -> Freeze {
    Freeze { from: from.parse().unwrap(), until: until.parse().unwrap(), reason: "holidays".to_owned() }
}

/// When it opens, from each of these moments on, and whether it is open there.
fn opens(calendar: &Calendar, from: &[&str]) -> Vec<String> {
    let told = |from: &&str| match closed(&[calendar], at(from)) {
        None => "open".to_owned(),
        Some(closed) => closed.opens.map_or_else(|| "never".to_owned(), |opens| opens.to_string()),
    };
    from.iter().map(told).collect()
}

#[test]
fn a_window_is_read_and_written() {
    for (text, written) in [
        ("Mon-Thu 09:00-17:00", "Mon-Thu 09:00-17:00"),
        ("Fri 09:00-12:00", "Fri 09:00-12:00"),
        ("Sat-Mon 22:00-02:30", "Mon,Sat-Sun 22:00-02:30"),
        ("Mon,Wed,Fri 00:00-24:00", "Mon,Wed,Fri 00:00-24:00"),
        ("Mon-Sun 09:00-17:00", "Mon-Sun 09:00-17:00"),
    ] {
        let window: ReleaseWindow = text.parse().unwrap();
        assert_eq!(window.to_string(), written);
        assert_eq!(written.parse::<ReleaseWindow>().unwrap(), window);
    }
    for text in [
        "",
        "Mon",
        "09:00-17:00",
        "Mo 09:00-17:00",
        "Mon 9-17",
        "Mon 09:00",
        "Mon 09:00-09:00",
        "Mon 25:00-26:00",
        "Mon 24:00-08:00",
        "Mon- 09:00-17:00",
        "Mon 09:60-10:00",
        "Mon +9:00-17:00",
        "Mon 09:00-17:00-18:00",
    ] {
        assert!(text.parse::<ReleaseWindow>().is_err(), "{text}");
    }
}

#[test]
fn a_window_opens_and_closes_by_the_clock_of_its_zone() {
    let berlin = calendar("Europe/Berlin", &["Mon-Thu 09:00-17:00", "Fri 09:00-12:00"]);
    // 2026-11-20 is a Friday, and Berlin is an hour ahead of UTC.
    let said = opens(
        &berlin,
        &[
            "2026-11-20T07:59:59.999Z",
            "2026-11-20T08:00:00Z",
            "2026-11-20T10:59:59.999Z",
            "2026-11-20T11:00:00Z",
        ],
    );
    assert_eq!(said, ["2026-11-20T08:00:00Z", "open", "open", "2026-11-23T08:00:00Z"]);
    let utc = calendar("UTC", &["Sat-Sun 22:00-02:00"]);
    let said = opens(&utc, &["2026-11-20T22:00:00Z", "2026-11-23T01:59:00Z", "2026-11-23T02:00:00Z"]);
    assert_eq!(said, ["2026-11-21T22:00:00Z", "open", "2026-11-28T22:00:00Z"]);
    assert_eq!(opens(&Calendar::default(), &["2026-11-20T22:00:00Z"]), ["open"]);
}

/// In Berlin there is no 02:00 to 03:00 on 2027-03-28, a Sunday, and there are two of them on 2026-10-25.
#[test]
fn a_window_that_the_clock_leaps_over_does_not_open_and_one_that_it_shows_twice_opens_twice() {
    let night = calendar("Europe/Berlin", &["Sun 02:00-03:00"]);
    let said = opens(&night, &["2027-03-27T20:00:00Z", "2027-03-28T01:00:00Z"]);
    assert_eq!(said, ["2027-04-04T00:00:00Z", "2027-04-04T00:00:00Z"]);
    let said = opens(
        &night,
        &["2026-10-24T20:00:00Z", "2026-10-25T00:59:59Z", "2026-10-25T01:59:59Z", "2026-10-25T02:00:00Z"],
    );
    assert_eq!(said, ["2026-10-25T00:00:00Z", "open", "open", "2026-11-01T01:00:00Z"]);
    // The clock leaps into the middle of it, and out of it.
    let into = calendar("Europe/Berlin", &["Sun 02:30-05:00"]);
    assert_eq!(opens(&into, &["2027-03-27T20:00:00Z"]), ["2027-03-28T01:00:00Z"]);
    let out = calendar("Europe/Berlin", &["Sun 01:30-02:30"]);
    assert_eq!(
        opens(&out, &["2027-03-28T00:59:59Z", "2027-03-28T01:00:00Z"]),
        ["open", "2027-04-03T23:30:00Z"]
    );
    // It is set back out of it, and shows it once more.
    let again = calendar("Europe/Berlin", &["Sun 02:30-03:30"]);
    let said = opens(&again, &["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:29:59Z"]);
    assert_eq!(said, ["open", "2026-10-25T01:30:00Z", "open"]);
}

#[test]
fn nothing_begins_in_a_freeze_whatever_window_is_open() {
    let mut berlin = calendar("Europe/Berlin", &["Mon-Fri 09:00-17:00"]);
    berlin.freezes = vec![freeze("2026-12-18T12:00", "2026-12-28"), freeze("2026-12-24", "2027-01-04T10:00")];
    let said = opens(&berlin, &["2026-12-18T10:59:59Z", "2026-12-18T11:00:00Z", "2026-12-28T12:00:00Z"]);
    assert_eq!(said, ["open", "2027-01-04T09:00:00Z", "2027-01-04T09:00:00Z"]);
    insta::assert_snapshot!(closed(&[&berlin], at("2026-12-18T11:00:00Z")).unwrap(), @"is frozen until 2026-12-28 00:00 Europe/Berlin: holidays; the next rollout may begin on Mon 2027-01-04 10:00 Europe/Berlin (2027-01-04 09:00:00 UTC)");
    insta::assert_snapshot!(closed(&[&berlin], at("2026-12-12T11:00:00Z")).unwrap(), @"is outside of its release windows (Mon-Fri 09:00-17:00 Europe/Berlin); the next rollout may begin on Mon 2026-12-14 09:00 Europe/Berlin (2026-12-14 08:00:00 UTC)");
    let utc = Calendar { freezes: vec![freeze("2026-12-18", "2026-12-28")], ..Calendar::default() };
    insta::assert_snapshot!(closed(&[&utc], at("2026-12-18T11:00:00Z")).unwrap(), @"is frozen until 2026-12-28 00:00 UTC: holidays; the next rollout may begin on 2026-12-28 00:00:00 UTC");
}

#[test]
fn all_of_the_calendars_must_be_open() {
    let (berlin, utc) =
        (calendar("Europe/Berlin", &["Mon-Fri 09:00-12:00"]), calendar("UTC", &["Wed 10:00-18:00"]));
    let closed =
        |one: &Calendar, other: &Calendar| closed(&[one, other], at("2026-11-20T08:30:00Z")).unwrap();
    assert_eq!(closed(&berlin, &utc).opens, Some(at("2026-11-25T10:00:00Z")));
    assert_eq!(closed(&utc, &berlin).opens, Some(at("2026-11-25T10:00:00Z")));
    let never = calendar("UTC", &["Sat 10:00-18:00"]);
    insta::assert_snapshot!(closed(&berlin, &never), @"is outside of its release windows (Sat 10:00-18:00 UTC); no moment to come is known at which a rollout may begin");
}

#[test]
fn what_a_newer_version_may_know_is_not_open() {
    let text = r#"{"zone":"Mars/Olympus","windows":["Mon-Fri 09:00-17:00"]}"#;
    let calendar: Calendar = serde_json::from_str(text).unwrap();
    assert!(calendar.check().is_err());
    insta::assert_snapshot!(closed(&[&calendar], at("2026-11-20T10:00:00Z")).unwrap(), @r#"has a calendar that cannot be read: "Mars/Olympus" is no time zone; write a name of the IANA database such as "Europe/Berlin"; no moment to come is known at which a rollout may begin"#);
}

/// Minute by minute, as somebody would who looks at a clock on the wall.
fn by_looking(calendar: &Calendar, from: Timestamp) -> Option<Timestamp> {
    let zone = jiff::tz::TimeZoneDatabase::bundled().get(&calendar.zone.to_string()).unwrap();
    let is_open = |at: Timestamp| {
        let wall = jiff::Timestamp::from_millisecond(at.ms() as i64).unwrap().to_zoned(zone.clone());
        let (day, yesterday) =
            (wall.strftime("%a").to_string(), wall.yesterday().unwrap().strftime("%a").to_string());
        let clock = wall.strftime("%H:%M").to_string();
        calendar.windows.iter().any(|window| {
            let text = window.to_string();
            let (days, hours) = text.split_once(' ').unwrap();
            let (start, end) = hours.split_once('-').unwrap();
            let names = |day: &str| {
                let number = |name: &str| DAYS.iter().position(|day| *day == name).unwrap();
                days.split(',').any(|run| {
                    let (first, last) = run.split_once('-').unwrap_or((run, run));
                    (number(first)..=number(last)).contains(&number(day))
                })
            };
            let clock = clock.as_str();
            if start < end {
                names(&day) && start <= clock && clock < end
            } else {
                names(&day) && start <= clock || names(&yesterday) && clock < end
            }
        })
    };
    if is_open(from) {
        return Some(from);
    }
    let first = from.ms().div_ceil(60_000);
    (first..first + 9 * 24 * 60).map(|minute| Timestamp::from_ms(minute * 60_000)).find(|at| is_open(*at))
}

const ZONES_TRIED: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
];

fn windows() -> impl Strategy<Value = Vec<ReleaseWindow>> {
    let quarter = 0_u16..96;
    let window = (1_u8..128, quarter.clone(), quarter).prop_filter_map("it ends", |(days, start, end)| {
        (start != end).then_some(ReleaseWindow { days, start: start * 15, end: end * 15 })
    });
    proptest::collection::vec(window, 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Around changes of the clock too: those of 2026 lie within five days of these moments or their like.
    #[test]
    fn when_a_window_opens_is_what_somebody_sees_who_looks_every_minute(
        zone in proptest::sample::select(ZONES_TRIED.as_slice()),
        windows in windows(),
        day in proptest::sample::select(&["2026-03-06", "2026-03-27", "2026-04-03", "2026-10-23", "2026-10-30", "2026-07-01"]),
        minutes in 0_u64..4 * 24 * 60,
    ) {
        let calendar = Calendar { zone: zone.parse().unwrap(), windows, freezes: Vec::new() };
        let from = Timestamp::from_ms(at(&format!("{day}T00:00:00Z")).ms() + minutes * 60_000);
        let told = closed(&[&calendar], from).map_or(Some(from), |closed| closed.opens);
        match by_looking(&calendar, from) {
            Some(seen) => prop_assert_eq!(told, Some(seen)),
            // A window of one hour a week that the clock leapt over.
            None => prop_assert!(told.is_none_or(|told| told > from + crate::Duration::from_secs(9 * 86_400 - 60))),
        }
    }
}
