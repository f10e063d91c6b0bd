//! Headers of a request that asks whether an application is well. What they are depends on the application: one
//! that serves nothing but HTTPS wants to hear that its proxy was asked that way, one that knows its hosts wants to
//! hear one of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// These say how the answer is sent, which is for whoever reads it to ask for.
const OWN: [&str; 5] = ["connection", "content-length", "te", "transfer-encoding", "upgrade"];

/// Names and values, each of which may stand in a request as it is; no name twice, in whatever case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Headers(BTreeMap<String, String>);

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Not a token of RFC 9110.
    #[error("{0:?} is not the name of a header")]
    Name(String),
    /// A line break, or another character that is not printed.
    #[error("the value of {0} has characters that a header cannot have")]
    Value(String),
    /// One that is not for the definition to set.
    #[error("{0} says how the answer is sent, which Landfall sets itself")]
    Own(String),
    /// Another one differs in its case only.
    #[error("{0} is there twice, in another case")]
    Twice(String),
}

impl Headers {
    /// Checks one header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(name: &str, value: &str) -> Result<(), InvalidHeader> {
        let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(InvalidHeader::Name(name.to_owned()));
        }
        if OWN.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            return Err(InvalidHeader::Own(name.to_owned()));
        }
        // Printed ASCII; a space at either end would not arrive.
        if !value.bytes().all(|c| (b' '..=b'~').contains(&c)) || value.trim() != value {
            return Err(InvalidHeader::Value(name.to_owned()));
        }
        Ok(())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A request for `path`, whose answer ends with the connection. `host` stands where these name no other.
    #[must_use]
    pub fn get(&self, path: &str, host: &str) -> String {
        let usual = [("Host", host), ("User-Agent", "landfall"), ("Accept", "*/*")];
        let mut lines = format!("GET {path} HTTP/1.1\r\n");
        for (name, value) in usual {
            if !self.0.keys().any(|own| own.eq_ignore_ascii_case(name)) {
                lines.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        for (name, value) in &self.0 {
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
        lines + "Connection: close\r\n\r\n"
    }
}

impl TryFrom<BTreeMap<String, String>> for Headers {
    type Error = InvalidHeader;

    fn try_from(headers: BTreeMap<String, String>) -> Result<Self, InvalidHeader> {
        let mut names = std::collections::BTreeSet::new();
        for (name, value) in &headers {
            Self::check(name, value)?;
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(InvalidHeader::Twice(name.clone()));
            }
        }
        Ok(Self(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Result<Headers, InvalidHeader> {
        let pairs = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Headers::try_from(pairs.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn what_is_given_stands_in_place_of_what_is_usual() {
        let usual = Headers::default().get("/healthz", "127.0.0.1:8000");
        assert_eq!(
            usual,
            "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: landfall\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        let given = headers(&[("host", "tenants.example.org"), ("X-Forwarded-Proto", "https")]).unwrap();
        assert_eq!(
            given.get("/", "127.0.0.1:8000"),
            "GET / HTTP/1.1\r\nUser-Agent: landfall\r\nAccept: */*\r\nX-Forwarded-Proto: https\r\n\
             host: tenants.example.org\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn nothing_else_than_a_header_gets_into_a_request() {
        for (name, value, wrong) in [
            ("", "x", "\"\" is not the name of a header"),
            ("X Y", "x", "\"X Y\" is not the name of a header"),
            ("X:", "x", "\"X:\" is not the name of a header"),
            ("X", "a\r\nY: b", "the value of X has characters that a header cannot have"),
            ("X", "ä", "the value of X has characters that a header cannot have"),
            ("X", " a", "the value of X has characters that a header cannot have"),
            (
                "connection",
                "keep-alive",
                "connection says how the answer is sent, which Landfall sets itself",
            ),
        ] {
            assert_eq!(headers(&[(name, value)]).unwrap_err().to_string(), wrong);
        }
        assert_eq!(
            headers(&[("Host", "a"), ("host", "b")]).unwrap_err(),
            InvalidHeader::Twice("host".to_owned())
        );
        let text = r#"{"X":"a\nb"}"#;
        assert!(serde_json::from_str::<Headers>(text).is_err());
    }
}
