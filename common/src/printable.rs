//! Text that came from hosts and other people, made fit for a terminal.
//!
//! What an application answers to a check, what a program printed last, a name in a report: a terminal that is
//! handed it as it is obeys what it says. What an agent tells and what becomes a view of `ctl` comes through here, at
//! both ends: neither believes the other.

/// One line: control characters, line ends among them, and letters that turn the direction of writing around are
/// shown and not obeyed. A tab does no harm.
#[must_use]
pub fn line(text: &str) -> String {
    shown(text, |letter| letter == '\t')
}

/// As [`line`], for text that may have several.
#[must_use]
pub fn lines(text: &str) -> String {
    shown(text, |letter| matches!(letter, '\t' | '\n'))
}

/// [`line`] of each.
#[must_use]
pub fn each(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().map(|text| line(&text)).collect()
}

fn shown(text: &str, harmless: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if !harmless(letter) && (letter.is_control() || is_direction(letter)) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Letters that make a terminal show the others in another order.
fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_shown_and_not_obeyed() {
        let hostile = "a\u{1b}[2Jb\nerror: all is well\r\u{9b}31m\u{202e}c\td";
        assert_eq!(
            line(hostile),
            r"a\u{1b}[2Jb\u{a}error: all is well\u{d}\u{9b}31m\u{202e}c".to_owned() + "\td"
        );
        assert_eq!(lines("one\n\ttwo\u{7}"), "one\n\ttwo\\u{7}");
        assert_eq!(line("Grüße, 東京 — 🚀"), "Grüße, 東京 — 🚀");
    }
}
