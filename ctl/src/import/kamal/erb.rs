//! The Ruby in a YAML file: taken out before it is read, with the lines kept, and never run.

/// A text whose Ruby was taken out.
pub struct Template {
    /// The YAML that is left; a value that Ruby makes is a mark in it.
    pub text: String,
    /// What stood between `<%` and `%>` without making a value, and where.
    pub code: Vec<(usize, String)>,
    made: Vec<String>,
}

/// No file has it by chance.
const MARK: &str = "erb-value-";

impl Template {
    /// Whether Ruby makes some of this value.
    pub fn is_made(&self, text: &str) -> bool {
        text.contains("<%") || (!self.made.is_empty() && text.contains(MARK))
    }

    /// A value as it stands in the file.
    pub fn restored(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // From the last: the mark of the first is how that of the tenth begins.
        for (index, made) in self.made.iter().enumerate().rev() {
            text = text.replace(&mark(index), made);
        }
        text
    }
}

fn mark(index: usize) -> String {
    format!("{MARK}{index}")
}

/// Takes the Ruby out.
pub fn read(text: &str) -> Template {
    let mut template = Template { text: String::new(), code: Vec::new(), made: Vec::new() };
    let mut rest = text;
    while let Some(at) = rest.find("<%") {
        let (before, tag) = rest.split_at(at);
        template.text.push_str(before);
        let Some(end) = tag.find("%>") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end + 2);
        // In a comment, it is one.
        let is_comment =
            template.text.rsplit('\n').next().is_some_and(|line| line.trim_start().starts_with('#'));
        let line = template.text.matches('\n').count() + 1;
        if tag.starts_with("<%=") {
            template.text.push_str(&mark(template.made.len()));
            template.made.push(tag.to_owned());
        } else if !tag.starts_with("<%#") && !is_comment {
            template.code.push((line, tag.to_owned()));
        }
        // The lines of what comes after stay what they are.
        template.text.extend(tag.chars().filter(|c| *c == '\n'));
        rest = after;
    }
    template.text.push_str(rest);
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_and_values_can_be_told() {
        let template = read("<% require 'x'\n%>\na: <%= ENV['A'] %>/b # <% no %>\n# <% no %>\nc: d <%");
        assert_eq!(template.text, "\n\na: erb-value-0/b # \n# \nc: d <%");
        assert_eq!(template.code.first(), Some(&(1, "<% require 'x'\n%>".to_owned())));
        assert!(template.is_made("erb-value-0/b") && !template.is_made("d"));
        assert_eq!(template.restored("erb-value-0/b"), "<%= ENV['A'] %>/b");
    }
}
