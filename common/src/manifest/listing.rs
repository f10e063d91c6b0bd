//! Reading a directory object fast: a reader for its canonical form and no other.
//!
//! A host reads the directories of several releases in each release, thousands of entries each time. The
//! general way (parse, write anew, compare) costs several times as much as the files' names and digests
//! themselves. What this reader takes is canonical by construction; what it does not take it leaves to the
//! general way, which knows how to say what is wrong.

use std::collections::BTreeMap;

use super::{Directory, Entry};
use crate::Sha256;

/// The directory, if these are its canonical bytes and no string in it is escaped. `None` says nothing.
pub(super) fn read(bytes: &[u8]) -> Option<Directory> {
    let mut rest = Reader(std::str::from_utf8(bytes).ok()?);
    let mut entries = Vec::new();
    rest.take("{\"entries\":{")?;
    if rest.take("}").is_none() {
        loop {
            let name = rest.string()?;
            if entries.last().is_some_and(|(last, _): &(String, Entry)| last.as_str() >= name) {
                return None;
            }
            rest.take(":")?;
            entries.push((name.to_owned(), rest.entry()?));
            if rest.take(",").is_none() {
                break;
            }
        }
        rest.take("}")?;
    }
    rest.take("}")?;
    rest.0.is_empty().then(|| Directory { entries: BTreeMap::from_iter(entries) })
}

/// What is left to read.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn take(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// A string without escapes, and without what would have to be escaped.
    fn string(&mut self) -> Option<&'a str> {
        let text = self.0.strip_prefix('"')?;
        let end = text.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
        self.0 = text[end..].strip_prefix('"')?;
        Some(&text[..end])
    }

    fn entry(&mut self) -> Option<Entry> {
        if self.take("{\"target\":").is_some() {
            let target = self.string()?.to_owned();
            self.take(",\"type\":\"symlink\"}")?;
            return Some(Entry::Symlink { target });
        }
        self.take("{\"digest\":")?;
        let digest: Sha256 = self.string()?.parse().ok()?;
        let executable = match self.take(",\"executable\":") {
            None => None,
            Some(()) if self.take("true").is_some() => Some(true),
            Some(()) => self.take("false").map(|()| Some(false))?,
        };
        self.take(",\"size\":")?;
        let size = self.number()?;
        match executable {
            Some(executable) => {
                self.take(",\"type\":\"file\"}")?;
                Some(Entry::File { digest, size, executable })
            }
            None => {
                self.take(",\"type\":\"directory\"}")?;
                Some(Entry::Directory { digest, size })
            }
        }
    }

    /// A number as it is written in canonical form: no sign, no zero in front.
    fn number(&mut self) -> Option<u64> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (digits, rest) = self.0.split_at(end);
        if digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        self.0 = rest;
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::canonical;

    fn entry() -> impl Strategy<Value = Entry> {
        let digest = any::<[u8; 32]>().prop_map(Sha256::from_bytes);
        let size = prop_oneof![any::<u64>(), 0..20u64];
        prop_oneof![
            (digest.clone(), size.clone(), any::<bool>())
                .prop_map(|(digest, size, executable)| Entry::File { digest, size, executable }),
            (digest, size).prop_map(|(digest, size)| Entry::Directory { digest, size }),
            "\\PC{0,12}".prop_map(|target| Entry::Symlink { target }),
        ]
    }

    fn directory() -> impl Strategy<Value = Directory> {
        proptest::collection::btree_map("\\PC{0,8}", entry(), 0..6).prop_map(|entries| Directory { entries })
    }

    proptest! {
        #[test]
        fn what_is_canonical_is_read(directory in directory()) {
            let bytes = canonical::to_vec(&directory).unwrap();
            match read(&bytes) {
                Some(found) => prop_assert_eq!(found, directory),
                None => prop_assert!(bytes.contains(&b'\\')),
            }
        }

        #[test]
        fn what_is_read_is_canonical(directory in directory(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0..3usize) {
            let mut bytes = canonical::to_vec(&directory).unwrap();
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + cut);
            bytes.splice(at..end, [byte]);
            if let Some(found) = read(&bytes) {
                prop_assert_eq!(canonical::to_vec(&found).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn other_spellings_are_left_to_the_general_way() {
        let digest = Sha256::of(b"x");
        let file = |name: &str, rest: &str| {
            format!("\"{name}\":{{\"digest\":\"{digest}\",{rest},\"type\":\"file\"}}")
        };
        let good = file("a", "\"executable\":false,\"size\":7");
        let takes = |text: String| read(text.as_bytes()).is_some();
        assert!(takes(format!("{{\"entries\":{{{good}}}}}")));
        assert!(takes("{\"entries\":{}}".to_owned()));
        for bad in [
            format!("{{\"entries\":{{{good},{good}}}}}"),
            format!("{{\"entries\":{{{},{good}}}}}", file("b", "\"executable\":false,\"size\":7")),
            format!("{{\"entries\":{{{good}}}}} "),
            format!("{{\"entries\":{{{good},}}}}"),
            format!("{{\"entries\":{{{}}}}}", file("a", "\"executable\":false,\"size\":07")),
            format!(
                "{{\"entries\":{{{}}}}}",
                file("a", "\"executable\":false,\"size\":99999999999999999999")
            ),
            format!("{{\"entries\":{{{}}}}}", file("a", "\"executable\":null,\"size\":7")),
            format!("{{\"entries\":{{{}}}}}", file("a", "\"size\":7")),
            format!("{{\"entries\":{{{}}}}}", good.to_uppercase()),
            "{\"entries\":{".to_owned(),
        ] {
            assert!(!takes(bad.clone()), "{bad}");
        }
    }
}
