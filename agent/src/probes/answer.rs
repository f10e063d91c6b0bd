//! What an HTTP/1.1 server answered: as much of it as a check looks at and a person is shown.

use landfall_common::printable;

/// A failure is one line, and this much of what the server said fits into it.
const SHOWN_CHARS: usize = 200;

/// Enough for the first line of a body, with the head before it.
pub(crate) const SHOWN_BYTES: usize = 16 * 1024;

/// What matters of the head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its status.
    pub status: u16,
    /// Where the body begins.
    pub body_at: usize,
    /// How long the body says it is.
    pub length: Option<usize>,
    chunked: bool,
}

impl Head {
    /// Nothing while it is incomplete.
    pub fn parse(answer: &[u8]) -> Result<Option<Self>, String> {
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            let begins = &answer[..answer.len().min(5)];
            if !b"HTTP/".starts_with(begins) {
                return Err("the answer is not HTTP".to_owned());
            }
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&answer[..end]);
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split_ascii_whitespace();
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http);
        let status = status.ok_or_else(|| "the answer is not HTTP/1".to_owned())?;
        let (mut length, mut chunked) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
            if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.to_ascii_lowercase().contains("chunked");
            }
        }
        Ok(Some(Self { status, body_at: end + 4, length: length.filter(|_| !chunked), chunked }))
    }

    /// Whether a chunked body has come to its end.
    pub fn ends(&self, answer: &[u8]) -> bool {
        self.chunked && answer[self.body_at..].ends_with(b"0\r\n\r\n")
    }

    /// Whether nothing more can come.
    pub fn is_whole(&self, answer: &[u8]) -> bool {
        self.ends(answer) || self.length.is_some_and(|length| answer.len() - self.body_at >= length)
    }

    /// Whether nothing but the end of the connection says where the answer ends.
    pub fn ends_with_connection(&self) -> bool {
        !self.chunked && self.length.is_none()
    }

    /// The body, if all of it has come: as long as it says it is, or with its last chunk.
    pub fn whole_body(&self, answer: &[u8]) -> Option<Vec<u8>> {
        if let Some(length) = self.length {
            return answer[self.body_at..].get(..length).map(<[u8]>::to_vec);
        }
        // A cheap look first: this is asked after each piece.
        if !self.ends(answer) {
            return None;
        }
        let (mut body, mut rest) = (Vec::new(), &answer[self.body_at..]);
        loop {
            let line = rest.windows(2).position(|two| two == b"\r\n")?;
            let size = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            if size == 0 {
                return Some(body);
            }
            let after = rest.get(line + 2..)?;
            body.extend_from_slice(after.get(..size)?);
            rest = after.get(size.checked_add(2)?..)?;
        }
    }

    /// The body, with its chunks put together.
    pub fn body(&self, answer: &[u8]) -> Vec<u8> {
        let mut rest = &answer[self.body_at..];
        if !self.chunked {
            return rest.to_vec();
        }
        let mut body = Vec::new();
        while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
            let text = String::from_utf8_lossy(&rest[..line]).into_owned();
            let size = text.split(';').next().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
            let Some(size) = size.filter(|size| *size > 0) else { break };
            let from = (line + 2).min(rest.len());
            let to = from.saturating_add(size).min(rest.len());
            body.extend_from_slice(&rest[from..to]);
            rest = &rest[to.saturating_add(2).min(rest.len())..];
        }
        body
    }
}

/// Whether all that [`first_line`] shows is there.
pub(crate) fn has_first_line(head: &Head, answer: &[u8]) -> bool {
    let line_ends = || {
        let body = head.body(answer);
        body.iter().position(|byte| !byte.is_ascii_whitespace()).is_some_and(|at| body[at..].contains(&b'\n'))
    };
    head.is_whole(answer) || answer.len() >= SHOWN_BYTES || line_ends()
}

/// `: ` and the first line of the body that says something, for a failure; empty if there is none. It is the
/// application's, so it is cut off, and what could steer a terminal is escaped.
pub(crate) fn first_line(head: &Head, answer: &[u8]) -> String {
    let body = head.body(answer);
    let text = String::from_utf8_lossy(&body);
    let Some(line) = text.lines().map(str::trim).find(|line| !line.is_empty()) else { return String::new() };
    let mut letters = line.chars();
    let cut: String = letters.by_ref().take(SHOWN_CHARS).collect();
    let more = if letters.next().is_some() { "…" } else { "" };
    format!(": {}{more}", printable::line(&cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_put_together() {
        let answer =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhea\r\n4;x=y\r\nlthy\r\n0\r\n\r\n";
        let head = Head::parse(answer).unwrap().unwrap();
        assert!(head.ends(answer));
        assert_eq!(head.body(answer), b"healthy");
    }

    #[test]
    fn what_is_not_http_is_seen_at_its_first_bytes() {
        assert!(Head::parse(b"SSH-2.0").is_err());
        assert_eq!(Head::parse(b"HTT"), Ok(None));
        assert!(Head::parse(b"HTTP/1.1 abc\r\n\r\n").is_err());
    }

    #[test]
    fn the_first_line_is_bounded_and_steers_no_terminal() {
        let long = "x".repeat(300);
        for (body, shown) in [
            ("", String::new()),
            ("\r\n \n", String::new()),
            ("no MAIL_FROM\n", ": no MAIL_FROM".to_owned()),
            ("\n  second\r\nthird", ": second".to_owned()),
            ("\x1b[2Jgone\x07", ": \\u{1b}[2Jgone\\u{7}".to_owned()),
            ("a\u{202e}b", ": a\\u{202e}b".to_owned()),
            (&long, format!(": {}…", "x".repeat(200))),
        ] {
            let answer = format!("HTTP/1.1 503 no\r\n\r\n{body}");
            let head = Head::parse(answer.as_bytes()).unwrap().unwrap();
            assert_eq!(first_line(&head, answer.as_bytes()), shown, "{body:?}");
        }
    }

    #[test]
    fn what_is_shown_is_there_with_its_line_or_with_the_end() {
        for (answer, there) in [
            (&b"HTTP/1.1 503 no\r\n\r\nhalf a li"[..], false),
            (b"HTTP/1.1 503 no\r\n\r\n\n\n", false),
            (b"HTTP/1.1 503 no\r\n\r\n\na line\n", true),
            (b"HTTP/1.1 503 no\r\nContent-Length: 4\r\n\r\nhal", false),
            (b"HTTP/1.1 503 no\r\nContent-Length: 4\r\n\r\nhalf", true),
            (b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n", true),
            (b"HTTP/1.1 503 no\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n", false),
            (b"HTTP/1.1 503 no\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", true),
        ] {
            let head = Head::parse(answer).unwrap().unwrap();
            assert_eq!(has_first_line(&head, answer), there, "{}", String::from_utf8_lossy(answer));
        }
    }

    proptest::proptest! {
        #[test]
        fn rubbish_is_never_a_panic(tail in proptest::collection::vec(0u8..=255, 0..200), chunked: bool) {
            let head: &[u8] = if chunked { b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" } else { b"HTTP/1.1 200\r\n\r\n" };
            let answer = [head, &tail].concat();
            if let Ok(Some(head)) = Head::parse(&answer) {
                let _ = head.body(&answer);
                let _ = has_first_line(&head, &answer);
                let _ = first_line(&head, &answer);
            }
            let _ = Head::parse(&tail);
        }
    }
}
