//! A gate that the controller asks: where, how often, and how long it waits for an answer.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::{Duration, duration_ms, human};

/// Longer ones are no addresses that somebody would write by hand.
const MAX_URL: usize = 500;

/// Oftener, and whoever is asked has more work with the questions than with the answers.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 60);

/// Whoever takes longer than the upper one is down.
const TIMEOUT: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// How the controller asks a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Whom.
    pub url: GateUrl,
    /// How often, from one question to the next.
    #[serde(rename = "every_ms", with = "duration_ms")]
    pub every: Duration,
    /// What takes longer is no answer.
    #[serde(rename = "timeout_ms", with = "duration_ms")]
    pub timeout: Duration,
}

impl Ask {
    /// How often by default: a person who looks on does not wait for longer.
    pub const EVERY: Duration = Duration::from_secs(10);

    /// How long an answer may take by default.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// How long what is asked goes without an answer by default: a program that is restarted is back by then.
    pub const DEADLINE: Duration = Duration::from_secs(10 * 60);

    /// For so long after its question an answer counts: one of the next two questions may fail.
    #[must_use]
    pub fn fresh_for(&self) -> Duration {
        self.every * 2 + self.timeout
    }

    /// Checks the bounds, for the gate of this name.
    ///
    /// # Errors
    /// A sentence naming the gate and the value.
    pub(super) fn check(&self, gate: &impl fmt::Display, deadline: Duration) -> Result<(), String> {
        let (every, timeout) = (human::format(self.every), human::format(self.timeout));
        if !EVERY.contains(&self.every) {
            return Err(format!("every ({every}) of gate {gate} must be from 1s to 10m"));
        }
        if !TIMEOUT.contains(&self.timeout) {
            return Err(format!("timeout ({timeout}) of gate {gate} must be from 1s to 1m"));
        }
        if deadline < self.every + self.timeout {
            let deadline = human::format(deadline);
            return Err(format!(
                "deadline ({deadline}) of gate {gate} must be at least every ({every}) and timeout ({timeout}) together"
            ));
        }
        Ok(())
    }
}

/// Where a gate is asked, or a part of where one may be: scheme, host, port and path. Only what every program takes to
/// mean the same is taken: there is no second reading of it by which one could come elsewhere.
#[derive(Debug, Clone)]
pub struct GateUrl {
    text: String,
    secure: bool,
    host: String,
    port: u16,
    /// Those of the path, without the empty one at its end.
    segments: Vec<String>,
    has_query: bool,
}

/// Why a text is no URL of a gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no URL of a gate: {rule}")]
pub struct InvalidGateUrl {
    url: String,
    rule: &'static str,
}

impl GateUrl {
    /// Reads one.
    ///
    /// # Errors
    /// [`InvalidGateUrl`] with the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidGateUrl> {
        read(text).map_err(|rule| InvalidGateUrl { url: text.chars().take(MAX_URL).collect(), rule })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme, host, port and path, as they were written.
    #[must_use]
    pub fn without_query(&self) -> &str {
        self.text.split('?').next().unwrap_or(&self.text)
    }

    /// Path and query, as they are asked for.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        let uri: Option<Uri> = self.text.parse().ok();
        uri.and_then(|uri| Some(uri.path_and_query()?.to_string())).unwrap_or_else(|| "/".to_owned())
    }

    /// Host and port, as they were written.
    #[must_use]
    pub fn authority(&self) -> &str {
        let rest = self.text.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?']).next().unwrap_or(rest)
    }

    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// A name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own if none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether more than a path follows the host.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.has_query
    }

    /// Whether what is sent there stays on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
            || self.host.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback())
    }

    /// Whether it is this one or lies below it: the same scheme, host and port, and its path goes on from here, by whole
    /// segments.
    #[must_use]
    pub fn lies_below(&self, above: &Self) -> bool {
        (self.secure, &self.host, self.port) == (above.secure, &above.host, above.port)
            && self.segments.starts_with(&above.segments)
    }

    /// How far its path goes: of two above the same one, the deeper is nearer.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.segments.len()
    }
}

fn read(text: &str) -> Result<GateUrl, &'static str> {
    if text.len() > MAX_URL {
        return Err("it is longer than 500 characters");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it has letters beyond ASCII, or spaces");
    }
    if text.contains('#') {
        return Err("a fragment is not sent to anybody");
    }
    let form = "it must look like https://ci.example.org/gates/slo";
    let uri: Uri = text.parse().map_err(|_| form)?;
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(form),
    };
    let authority = uri.authority().ok_or(form)?;
    if authority.as_str().contains('@') {
        return Err("what lets the controller in stands in its own file, controller.toml, and not in a URL");
    }
    let host = host(authority.host())?;
    let port = match (authority.as_str().strip_prefix(authority.host()).ok_or(form)?, secure) {
        ("", true) => 443,
        ("", false) => 80,
        (port, _) => self::port(port)?,
    };
    let path = uri.path().strip_prefix('/').ok_or(form)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<String> = path.split('/').map(str::to_owned).filter(|_| !path.is_empty()).collect();
    if segments.iter().any(|segment| matches!(segment.as_str(), "" | "." | "..")) {
        return Err("its path must have no empty part, and none of dots");
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@+,=".contains(&byte);
    if !segments.iter().all(|segment| segment.bytes().all(plain)) {
        return Err(
            "its path may have letters, digits and -._~:@+,= only: what is encoded is read in more than one way",
        );
    }
    Ok(GateUrl { text: text.to_owned(), secure, host, port, segments, has_query: uri.query().is_some() })
}

/// `:8443`
fn port(text: &str) -> Result<u16, &'static str> {
    let digits = text.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let port = digits.and_then(|digits| digits.parse().ok()).filter(|port| *port > 0);
    port.ok_or("it has an impossible port")
}

fn host(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| "its host is no IPv6 address")?;
        return Ok(address.to_string());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let labels = || host.split('.');
    if host.len() > 253 || labels().any(|label| label.is_empty() || !label.bytes().all(plain)) {
        return Err("its host must be a name or an address");
    }
    // Some take 127.1, 0x7f.1 or 2130706433 for addresses, and others for names.
    let numeric = |label: &str| label.starts_with(|first: char| first.is_ascii_digit());
    if labels().next_back().is_some_and(numeric) && host.parse::<Ipv4Addr>().is_err() {
        return Err("its host is neither a name nor an address with four numbers");
    }
    Ok(host.to_ascii_lowercase())
}

impl fmt::Display for GateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for GateUrl {
    type Err = InvalidGateUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl PartialEq for GateUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for GateUrl {}

impl Serialize for GateUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for GateUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> GateUrl {
        GateUrl::parse(text).unwrap()
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "ci.example.org/gates",
            "//ci.example.org/gates",
            "ftp://ci.example.org/gates",
            "https:///gates",
            "https://user:secret@ci.example.org/gates",
            "https://ci.example.org@evil.example/gates",
            "https://ci.example.org:0/gates",
            "https://ci.example.org:99999/gates",
            "https://ci.example.org:/gates",
            "https://ci.example.org/gates#slo",
            "https://ci.example.org/gates/../admin",
            "https://ci.example.org/gates/./slo",
            "https://ci.example.org/gates//slo",
            "https://ci.example.org/gates/%2e%2e/admin",
            "https://ci.example.org/gates/..%2fadmin",
            "https://ci.example.org/gates\\..\\admin",
            "https://ci.example.org/gates;x=/slo",
            "https://ci.example.org/gates /slo",
            "https://ci.example.org/gåtes",
            "https://münchen.example/gates",
            "https://ci_1.example.org/gates",
            "https://ci..example.org/gates",
            "https://ci.example.org./gates",
            "http://127.1/gates",
            "http://2130706433/gates",
            "http://0x7f.1/gates",
            "http://127.0.0.01/gates",
            "http://[::1/gates",
            "http://[::1%25lo]/gates",
        ] {
            assert!(GateUrl::parse(text).is_err(), "{text}");
        }
        assert!(GateUrl::parse(&format!("https://ci.example.org/{}", "a".repeat(500))).is_err());
        insta::assert_snapshot!(GateUrl::parse("https://a:b@ci/").unwrap_err(), @r#""https://a:b@ci/" is no URL of a gate: what lets the controller in stands in its own file, controller.toml, and not in a URL"#);
        insta::assert_snapshot!(GateUrl::parse("ci/gates").unwrap_err(), @r#""ci/gates" is no URL of a gate: it must look like https://ci.example.org/gates/slo"#);
    }

    #[test]
    fn what_lies_below_is_told_by_whole_parts() {
        let below = |text: &str, above: &str| url(text).lies_below(&url(above));
        for (text, above) in [
            ("https://ci.example.org/gates/slo", "https://ci.example.org/gates"),
            ("https://ci.example.org/gates/slo", "https://ci.example.org/gates/"),
            ("https://ci.example.org/gates", "https://ci.example.org/gates/"),
            ("https://ci.example.org/gates?of=slo", "https://ci.example.org/gates"),
            ("https://ci.example.org:443/gates", "https://CI.example.org"),
            ("http://[::1]:9000/slo", "http://[0:0::1]:9000/"),
        ] {
            assert!(below(text, above), "{text} {above}");
        }
        for (text, above) in [
            ("https://ci.example.org/gates-of-others", "https://ci.example.org/gates"),
            ("https://ci.example.org/", "https://ci.example.org/gates"),
            ("https://ci.example.org.evil.example/gates", "https://ci.example.org/gates"),
            ("https://ci.example.org:8443/gates", "https://ci.example.org/gates"),
            ("http://ci.example.org/gates", "https://ci.example.org/gates"),
            ("http://ci.example.org:443/gates", "https://ci.example.org/gates"),
            ("https://ci.example.org/Gates/slo", "https://ci.example.org/gates"),
        ] {
            assert!(!below(text, above), "{text} {above}");
        }
    }

    #[test]
    fn only_addresses_of_this_machine_are_loopback() {
        for (text, is) in [
            ("http://127.0.0.1:9000/", true),
            ("http://[::1]/", true),
            ("http://localhost/", false),
            ("http://10.0.0.1/", false),
            ("http://127.0.0.1.example.org/", false),
        ] {
            assert_eq!(url(text).is_loopback(), is, "{text}");
        }
    }
}
