//! Lists that are long come in pages, so that no answer is larger than a client takes by default (4 MiB).

use prost::Message;

/// A page is full when the next message would make it larger. One message alone has at most what an agent may
/// send, 2 MiB.
pub(super) const PAGE_BYTES: usize = 2 << 20;

/// The messages that go into one page, and whether there are more.
#[derive(Debug, PartialEq)]
pub(super) struct Page<T> {
    pub items: Vec<T>,
    pub more: bool,
}

/// Takes as many as go into a page, one at least.
pub(super) fn fill<T: Message>(messages: impl IntoIterator<Item = T>) -> Page<T> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    for message in messages {
        bytes += message.encoded_len();
        if bytes > PAGE_BYTES && !items.is_empty() {
            return Page { items, more: true };
        }
        items.push(message);
    }
    Page { items, more: false }
}

impl<T> Page<T> {
    /// What names the place after the last message, if there are more.
    pub fn token(&self, of: impl Fn(&T) -> String) -> String {
        self.items.last().filter(|_| self.more).map(of).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_never_empty() {
        let long = "x".repeat(PAGE_BYTES / 2 - 100);
        let page = fill(vec![long.clone(); 5]);
        assert_eq!((page.items.len(), page.more), (2, true));
        assert_eq!(page.token(|text| text.len().to_string()), long.len().to_string());
        let page = fill(vec!["x".repeat(PAGE_BYTES + 1), String::new()]);
        assert_eq!((page.items.len(), page.more), (1, true));
        let page = fill(vec![String::new(); 3]);
        assert_eq!((page.items.len(), page.more, page.token(String::clone)), (3, false, String::new()));
    }
}
