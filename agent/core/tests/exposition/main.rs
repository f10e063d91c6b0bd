//! The text of metrics, held against another implementation, and with rubbish.
#![allow(clippy::unwrap_used, reason = "all of this file is tests")]

use landfall_agent_core::exposition::samples;
use proptest::prelude::*;

fn hex(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

fn from_hex(text: &str) -> f64 {
    match text {
        "nan" => return f64::NAN,
        "inf" => return f64::INFINITY,
        "-inf" => return f64::NEG_INFINITY,
        _ => {}
    }
    let (sign, text) = text.strip_prefix('-').map_or((1.0, text), |text| (-1.0, text));
    let (digits, exponent) = text.strip_prefix("0x").unwrap().split_once('p').unwrap();
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let mantissa = u64::from_str_radix(&format!("{whole}{part}"), 16).unwrap();
    let exponent: i32 = exponent.parse().unwrap();
    let places = i32::try_from(4 * part.len()).unwrap();
    sign * (mantissa as f64) * 2f64.powi(exponent - places)
}

/// What both read is read alike, and every text that is whole; of those that were bent (every other one) each refuses some
/// that the other takes: `prometheus_client` does not look at the letters of a name, say.
#[test]
fn texts_are_read_as_by_another_implementation() {
    let (mut read, mut refused, mut differ) = (0, 0, 0);
    for (at, line) in include_str!("reference.jsonl").lines().enumerate() {
        let known: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = known["text"].as_str().unwrap();
        let ours: Result<Vec<_>, _> = samples(text).collect();
        match (&ours, known["samples"].as_array()) {
            (Ok(ours), Some(theirs)) => {
                assert_eq!(ours.len(), theirs.len(), "{text:?}");
                for (ours, theirs) in ours.iter().zip(theirs) {
                    let mut labels: Vec<_> = ours.labels.iter().map(|(n, v)| (*n, v.as_ref())).collect();
                    labels.sort_unstable();
                    let labels = serde_json::to_value(labels).unwrap();
                    assert_eq!((ours.name, &labels), (theirs[0].as_str().unwrap(), &theirs[1]), "{text:?}");
                    assert_eq!(hex(ours.value), hex(from_hex(theirs[2].as_str().unwrap())), "{text:?}");
                }
                read += 1;
            }
            (Err(_), None) => refused += 1,
            (ours, theirs) => {
                assert!(at % 2 == 1, "{text:?}: {ours:?}, and they: {theirs:?}");
                differ += 1;
            }
        }
    }
    assert!(read > 200 && refused > 30, "{read} read, {refused} refused");
    assert!(differ < 40, "{differ} differ");
}

proptest! {
    #[test]
    fn no_text_is_too_bad_to_be_refused(text in "(?s).{0,200}") {
        let _ = samples(&text).count();
    }

    #[test]
    fn what_is_written_is_read(
        values in proptest::collection::vec(any::<f64>(), 1..5),
        label in "(?s)[^\u{0}]{0,20}",
    ) {
        let escaped = label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let text: String = values.iter().map(|value| format!("a{{b=\"{escaped}\",}} {value:?}\n")).collect();
        let read: Vec<_> = samples(&text).map(|sample| sample.unwrap()).collect();
        prop_assert_eq!(read.len(), values.len());
        for (sample, value) in read.iter().zip(&values) {
            prop_assert_eq!(sample.labels[0].1.as_ref(), label.as_str());
            prop_assert!(sample.value == *value || value.is_nan() && sample.value.is_nan());
        }
    }
}
