//! The words `{…}` that commands, environments, addresses and URLs may hold, and how they are replaced.
//!
//! A word is `{`, a lower-case name, `}`. Any other brace stands for itself, and so does one after a dollar
//! sign: `{"a": 1}`, `{a,b}`, `${HOME}` and `${home}` pass through untouched. `{{name}}` is written for what
//! looks like a word and is none, and becomes `{name}`. [`KNOWN`] words stand for directories; every other
//! name is a variable of the host.

/// The words with a fixed meaning: the directory of the release, what preparation made for it, what is
/// shared between releases, and the link to the active release.
pub const KNOWN: [&str; 4] = ["release", "prepared", "shared", "current"];

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'t> {
    /// Taken as it stands.
    Text(&'t str),
    /// The name of a word, without its braces.
    Word(&'t str),
}

/// Splits a text into what is taken as it stands and its words, in their order.
#[must_use]
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(open) = text[at..].find('{').map(|index| at + index) {
        at = open + 1;
        let Some(name) = text[at..].find('}').map(|length| &text[at..at + length]) else { break };
        if !is_name(name) || text[..open].ends_with('$') {
            continue;
        }
        let close = at + name.len();
        let quoted = text[plain..open].ends_with('{') && text[close + 1..].starts_with('}');
        let before = if quoted { open - 1 } else { open };
        if plain < before {
            parts.push(Part::Text(&text[plain..before]));
        }
        parts.push(if quoted { Part::Text(&text[open..=close]) } else { Part::Word(name) });
        at = close + if quoted { 2 } else { 1 };
        plain = at;
    }
    if plain < text.len() {
        parts.push(Part::Text(&text[plain..]));
    }
    parts
}

/// The words of a text, in their order.
pub fn names(text: &str) -> impl Iterator<Item = &str> {
    parts(text).into_iter().filter_map(|part| match part {
        Part::Word(name) => Some(name),
        Part::Text(_) => None,
    })
}

/// Replaces each word by what `value` gives for its name.
///
/// # Errors
/// The first name for which there is no value.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    parts(text).into_iter().try_fold(String::new(), |mut out, part| {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Word(name) => out.push_str(&value(name).ok_or_else(|| name.to_owned())?),
        }
        Ok(out)
    })
}

/// Replaces the words for which `value` gives something, and leaves every other as a word, those of the values
/// too.
#[must_use]
pub fn fill<'w>(text: &str, value: impl Fn(&str) -> Option<&'w str>) -> String {
    let filled = parts(text).into_iter().flat_map(|part| match part {
        Part::Word(name) => value(name).map_or_else(|| vec![part], parts),
        Part::Text(_) => vec![part],
    });
    let (mut out, mut plain) = (String::new(), String::new());
    for part in filled {
        match part {
            Part::Text(text) => plain.push_str(text),
            Part::Word(name) => {
                out.push_str(&quoted(&std::mem::take(&mut plain)));
                out.push_str(&format!("{{{name}}}"));
            }
        }
    }
    out + &quoted(&plain)
}

/// Written so that it is taken as it stands: what was quoted, and what looks like a word only because of what
/// replaced one inside of it, must stay so for whoever replaces the rest.
fn quoted(plain: &str) -> String {
    let (mut out, mut rest) = (String::new(), plain);
    while let Some(close) = rest.find('}') {
        let (before, after) = rest.split_at(close);
        match before.rsplit_once('{') {
            Some((before, name)) if is_name(name) && !before.ends_with('$') => {
                out.push_str(&format!("{before}{{{{{name}}}}}"));
            }
            _ => out.push_str(&rest[..=close]),
        }
        rest = &after[1..];
    }
    out + rest
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced_and_other_braces_stand_for_themselves() {
        let value = |name: &str| (name == "port").then(|| "8001".to_owned());
        for (text, expected) in [
            ("127.0.0.1:{port}", "127.0.0.1:8001"),
            ("{port}{port}", "80018001"),
            ("{\"a\": {port}}", "{\"a\": 8001}"),
            ("${HOME} ${port} {} {Port} {a,b} {", "${HOME} ${port} {} {Port} {a,b} {"),
            ("{{port}} {{{port}}} {{port} {port}} {{ port }}", "{port} {{port}} {8001 8001} {{ port }}"),
            ("", ""),
        ] {
            assert_eq!(expand(text, value).as_deref(), Ok(expected));
        }
        assert_eq!(expand("{release}/{port}", value), Err("release".to_owned()));
    }

    #[test]
    fn no_word_comes_about_by_replacing_another_inside_of_it() {
        let slot = |name: &str| match name {
            "slot" => Some("blue"),
            "address" => Some("127.0.0.1:{port}"),
            _ => None,
        };
        for (text, expected) in [
            ("http://{address}/", "http://127.0.0.1:{port}/"),
            ("{{port}}", "{{port}}"),
            ("{web{slot}}", "{{webblue}}"),
            ("{slot}{port}${slot}", "blue{port}${slot}"),
            ("${{port}}", "${port}"),
        ] {
            assert_eq!(fill(text, slot), expected);
        }
    }

    proptest::proptest! {
        /// Replacing some words first and the rest later is replacing all of them at once.
        #[test]
        fn words_may_be_replaced_in_two_turns(text in "[ab{}$ ]{0,24}") {
            let first = |name: &str| (name == "a").then_some("1");
            let rest = |name: &str| Some(if name == "a" { "1" } else { "2" }.to_owned());
            proptest::prop_assert_eq!(expand(&fill(&text, first), rest), expand(&text, rest));
        }

        #[test]
        fn a_text_is_the_sum_of_its_parts(text in "[a-z{}$ é]{0,20}") {
            proptest::prop_assume!(!text.contains("{{"));
            let sum: String = parts(&text).into_iter().map(|part| match part {
                Part::Text(text) => text.to_owned(),
                Part::Word(name) => format!("{{{name}}}"),
            }).collect();
            proptest::prop_assert_eq!(sum, text);
        }
    }
}
