//! Lines of shell as the commands that they would run, as far as that can be read off without running them.
//!
//! Enough for what deployment scripts hold: quotes, `&&`, pipes, `cd`, `sudo`, variables with plain values. What
//! branches and loops decide is not decided here: every command of theirs is taken as one that may run.

use std::collections::BTreeMap;
use std::collections::VecDeque;

/// `sh -c` in `su -c` in `sudo` is as far as people go.
const MAX_NESTING: usize = 4;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Program and arguments, without `sudo` and the like.
    pub words: Vec<String>,
    /// What its output is piped into.
    pub pipe: Vec<Vec<String>>,
    /// The directory that `cd` went to, if any did.
    pub directory: Option<String>,
    /// The variables set for it alone.
    pub environment: BTreeMap<String, String>,
    /// The line, counted from the first of the text, which is 0.
    pub line: usize,
}

impl Call {
    /// The program without its directory.
    #[must_use]
    pub fn program(&self) -> &str {
        self.words.first().map_or("", |word| base(word))
    }

    /// The arguments.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The command as one would type it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = quoted(&self.words);
        for words in &self.pipe {
            text.push_str(" | ");
            text.push_str(&quoted(words));
        }
        text
    }
}

/// The last part of a path.
#[must_use]
pub fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// As one would type it, where what a shell replaces shows as it is.
fn quoted(words: &[String]) -> String {
    joined(words, b"_-./=:@%+,{}~$*[]!<>^")
}

/// For a shell that is to take each word as it is.
#[must_use]
pub fn script(words: &[String]) -> String {
    joined(words, b"_-./=:@%+,")
}

fn joined(words: &[String], safe: &[u8]) -> String {
    let plain = |word: &String| {
        let safe = |b: u8| b.is_ascii_alphanumeric() || safe.contains(&b);
        if !word.is_empty() && word.bytes().all(safe) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    words.iter().map(plain).collect::<Vec<_>>().join(" ")
}

/// The commands of a text, in order.
#[must_use]
pub fn calls(text: &str) -> Vec<Call> {
    let mut variables = BTreeMap::new();
    let mut directory = None;
    read(text, 0, &mut directory, &mut variables, 0)
}

fn read(
    text: &str,
    first_line: usize,
    directory: &mut Option<String>,
    variables: &mut BTreeMap<String, String>,
    nesting: usize,
) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut pieces = split(text).into_iter().peekable();
    while let Some(piece) = pieces.next() {
        let line = first_line + piece.line;
        let mut pipe = Vec::new();
        let mut end = piece.end;
        while end == End::Pipe {
            let Some(next) = pieces.next() else { break };
            end = next.end;
            pipe.push(next.words.iter().map(|word| expand(word, variables)).collect());
        }
        let mut environment = BTreeMap::new();
        let words = command(&piece.words, variables, &mut environment);
        let Some(program) = words.first() else {
            variables.extend(environment);
            continue;
        };
        match (base(program), words.get(1)) {
            ("cd" | "pushd", Some(to)) => {
                *directory = Some(match &directory {
                    Some(from) if !to.starts_with(['/', '~', '$', '{']) => {
                        format!("{}/{to}", from.trim_end_matches('/'))
                    }
                    _ => to.clone(),
                });
                continue;
            }
            ("export" | "readonly" | "local" | "declare", _) => {
                let pairs = words[1..].iter().filter_map(|word| word.split_once('='));
                variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                continue;
            }
            (program, _) => {
                if let Some(script) = inner(program, &words)
                    && nesting < MAX_NESTING
                {
                    // Its `cd` ends with it.
                    let mut directory = directory.clone();
                    calls.extend(read(&script, line, &mut directory, variables, nesting + 1));
                    continue;
                }
            }
        }
        calls.push(Call { words, pipe, directory: directory.clone(), environment, line });
    }
    calls
}

/// The script that a shell was given as an argument.
fn inner(program: &str, words: &[String]) -> Option<String> {
    let is_shell = matches!(program, "sh" | "bash" | "zsh" | "dash" | "su" | "eval");
    if program == "eval" {
        return Some(words[1..].join(" "));
    }
    let is_script = |word: &String| {
        word.strip_prefix('-').is_some_and(|flags| !flags.starts_with('-') && flags.ends_with('c'))
    };
    let at = words.iter().position(is_script).filter(|_| is_shell)?;
    words.get(at + 1).cloned()
}

/// The words of a command without assignments and without what only says as whom and how it runs.
fn command(
    words: &[String],
    variables: &BTreeMap<String, String>,
    environment: &mut BTreeMap<String, String>,
) -> Vec<String> {
    let mut words: VecDeque<String> = words.iter().map(|word| expand(word, variables)).collect();
    while let Some(word) = words.front() {
        let assignment = word.split_once('=').filter(|(name, _)| is_variable(name));
        if let Some((name, value)) = assignment {
            environment.insert(name.to_owned(), value.to_owned());
            words.pop_front();
            continue;
        }
        let with_value: &[&str] = match base(word) {
            "if" | "then" | "else" | "elif" | "while" | "until" | "do" | "!" | "{" | "(" | "time"
            | "nohup" | "exec" | "builtin" | "command" => &[],
            "sudo" => &["-u", "-g", "-p", "-h", "--user", "--group"],
            "env" => &["-u", "-C"],
            "nice" | "ionice" => &["-n", "-c"],
            "timeout" => &["-s", "-k"],
            "runuser" | "gosu" | "setuidgid" => &["-u"],
            _ => break,
        };
        let takes_number = base(word) == "timeout";
        let takes_user = matches!(base(word), "gosu" | "setuidgid");
        let is_bare = with_value.is_empty();
        words.pop_front();
        while !is_bare && words.front().is_some_and(|word| word.starts_with('-')) {
            let option = words.pop_front().unwrap_or_default();
            if with_value.contains(&option.as_str()) {
                words.pop_front();
            }
        }
        if takes_number || takes_user {
            words.pop_front();
        }
    }
    words.into()
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Variables whose value is known, in its place.
fn expand(word: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let braced = rest.strip_prefix("${").and_then(|inner| inner.split_once('}')).map(|(name, _)| name);
        let bare = || {
            let end = rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            &rest[1..end.map_or(rest.len(), |end| end + 1)]
        };
        let name = braced.unwrap_or_else(bare);
        let length = name.len() + if braced.is_some() { 3 } else { 1 };
        match variables.get(name) {
            Some(value) => out.push_str(value),
            None => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The next command reads its output.
    Pipe,
    Other,
}

struct Piece {
    words: Vec<String>,
    line: usize,
    end: End,
}

/// Splits a text into simple commands and these into words.
fn split(text: &str) -> Vec<Piece> {
    let mut splitter = Splitter { chars: text.chars().collect(), at: 0, line: 0, ..Splitter::default() };
    splitter.run();
    splitter.pieces
}

#[derive(Default)]
struct Splitter {
    chars: Vec<char>,
    at: usize,
    line: usize,
    pieces: Vec<Piece>,
    words: Vec<String>,
    word: Option<String>,
    first_line: usize,
    /// What ends the here-documents that were begun on this line.
    documents: VecDeque<String>,
    /// The next word is where a redirection goes, or the end of a here-document.
    redirected: Option<Redirection>,
}

#[derive(Clone, Copy)]
enum Redirection {
    File,
    Document,
}

impl Splitter {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn push(&mut self, c: char) {
        if self.word.is_none() && self.words.is_empty() {
            self.first_line = self.line;
        }
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        match self.redirected.take() {
            Some(Redirection::File) => {}
            Some(Redirection::Document) => self.documents.push_back(word),
            None => self.words.push(word),
        }
    }

    fn end_command(&mut self, end: End) {
        self.end_word();
        self.redirected = None;
        let words = std::mem::take(&mut self.words);
        let is_frame = |word: &String| {
            matches!(word.as_str(), "fi" | "done" | "esac" | "}" | "then" | "else" | "do" | ";;")
        };
        if words.is_empty() || words.iter().all(is_frame) {
            return;
        }
        self.pieces.push(Piece { words, line: self.first_line, end });
    }

    fn run(&mut self) {
        while let Some(c) = self.peek(0) {
            self.at += 1;
            match c {
                '\\' => match self.peek(0) {
                    Some('\n') => {
                        self.line += 1;
                        self.at += 1;
                    }
                    Some(next) => {
                        self.at += 1;
                        self.push(next);
                    }
                    None => {}
                },
                '\'' | '"' | '`' => self.quote(c),
                '#' if self.word.is_none() => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                '\n' => {
                    self.end_command(End::Other);
                    self.line += 1;
                    self.skip_documents();
                }
                ' ' | '\t' | '\r' => self.end_word(),
                '$' if self.peek(0) == Some('(') => self.substitution(),
                '$' if self.peek(0) == Some('{') => {
                    self.push(c);
                    while let Some(c) = self.peek(0).filter(|c| *c != '\n') {
                        self.at += 1;
                        self.push(c);
                        if c == '}' {
                            break;
                        }
                    }
                }
                '|' => {
                    let end = if self.peek(0) == Some('|') { End::Other } else { End::Pipe };
                    if end == End::Other {
                        self.at += 1;
                    }
                    self.end_command(end);
                }
                '&' if self.peek(0) == Some('>') => {}
                '&' | ';' => self.end_command(End::Other),
                '(' | ')' => {
                    self.end_command(End::Other);
                }
                '<' | '>' => self.redirection(c),
                c => self.push(c),
            }
        }
        self.end_command(End::Other);
    }

    fn quote(&mut self, quote: char) {
        if self.word.is_none() && self.words.is_empty() {
            self.first_line = self.line;
        }
        self.word.get_or_insert_default();
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == quote {
                return;
            }
            if c == '\n' {
                self.line += 1;
            }
            if c == '\\' && quote == '"' && matches!(self.peek(0), Some('"' | '\\' | '$' | '`')) {
                let next = self.peek(0).unwrap_or_default();
                self.at += 1;
                self.push(next);
                continue;
            }
            self.push(c);
        }
    }

    /// `$(…)` stays as it is, in one word.
    fn substitution(&mut self) {
        self.push('$');
        let mut depth = 0_usize;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            self.push(c);
            match c {
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return;
                    }
                }
                '\n' => self.line += 1,
                _ => {}
            }
        }
    }

    fn redirection(&mut self, c: char) {
        // The number before it belongs to it.
        if self.word.as_ref().is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        if c == '<' && self.peek(0) == Some('<') {
            self.at += 1;
            if self.peek(0) == Some('<') {
                self.at += 1;
                self.redirected = Some(Redirection::File);
                return;
            }
            if self.peek(0) == Some('-') {
                self.at += 1;
            }
            self.redirected = Some(Redirection::Document);
            return;
        }
        while matches!(self.peek(0), Some('>' | '&' | '|')) {
            self.at += 1;
        }
        self.redirected = Some(Redirection::File);
    }

    fn skip_documents(&mut self) {
        while let Some(end) = self.documents.pop_front() {
            while self.at < self.chars.len() {
                let rest = &self.chars[self.at..];
                let length = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
                let line: String = rest[..length].iter().collect();
                self.at += (length + 1).min(rest.len());
                self.line += 1;
                if line.trim() == end {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        calls(text).iter().map(Call::text).collect()
    }

    #[test]
    fn commands_are_found_in_what_scripts_hold() {
        for (text, expected) in [
            ("a b && c; d || e", &["a b", "c", "d", "e"][..]),
            ("sudo -u www -H venv/bin/pip install -r 'a b.txt'", &["venv/bin/pip install -r 'a b.txt'"]),
            ("# nothing\n\n  x \\\n  y # z\n", &["x y"]),
            ("cat <<EOF > /etc/x\nrm -rf /\nEOF\nls", &["cat", "ls"]),
            ("ls -1t | tail -n +6 | xargs rm -rf", &["ls -1t | tail -n +6 | xargs rm -rf"]),
            ("if [ -f x ]; then\n  stop x\nfi", &["[ -f x ]", "stop x"]),
            ("bash -lc 'cd /a && make'", &["make"]),
            ("su - deploy -c \"npm ci\"", &["npm ci"]),
            ("NODE_ENV=production npm run build >/dev/null 2>&1", &["npm run build"]),
            ("ROOT=/srv/x\nln -s $ROOT/a ${ROOT}/b", &["ln -s /srv/x/a /srv/x/b"]),
            ("x=$(ls | wc -l); echo \"$x\"", &["echo '$(ls | wc -l)'"]),
            ("nohup java -jar a.jar > log 2>&1 &", &["java -jar a.jar"]),
            ("export A=1; run $A", &["run 1"]),
            ("echo 'never closed", &["echo 'never closed'"]),
            ("timeout 30 curl x", &["curl x"]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn a_command_knows_its_line_and_its_directory() {
        let found = calls("set -e\ncd /srv/site\n\ncd web\nA=b npm ci");
        let last = found.last().unwrap();
        assert_eq!((last.line, last.directory.as_deref()), (4, Some("/srv/site/web")));
        assert_eq!(last.environment.get("A").map(String::as_str), Some("b"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_much(text in "[a$'\"`(){}<>|&;\\\\ \n#=é-]{0,60}") {
            let _ = calls(&text);
        }
    }
}
