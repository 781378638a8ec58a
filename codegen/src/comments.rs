//! Makes the comments of a `.proto` safe for rustdoc, before prost turns them into documentation.
//!
//! Prost itself escapes bare URLs and square brackets, in code as well.

use prost_types::FileDescriptorSet;

/// Rewrites all comments that become documentation.
pub(crate) fn clean(set: &mut FileDescriptorSet) {
    for file in &mut set.file {
        for location in file.source_code_info.iter_mut().flat_map(|info| &mut info.location) {
            location.leading_detached_comments.clear();
            for comment in [&mut location.leading_comments, &mut location.trailing_comments] {
                *comment =
                    comment.take().map(|text| rustdoc(&text)).filter(|text| !text.is_empty());
            }
        }
    }
}

/// Marks code, which rustdoc would run as a test, as text. Escapes text that looks like HTML.
fn rustdoc(comment: &str) -> String {
    let lines: Vec<_> = comment.lines().map(|line| line.trim_end().replace('\t', "    ")).collect();
    let margin = lines.iter().filter(|line| !line.is_empty()).map(|line| indent(line)).min();
    let mut page = Page::default();
    for line in &lines {
        page.push(line.get(margin.unwrap_or(0)..).unwrap_or(""));
    }
    page.finish()
}

/// A comment that is being written.
///
/// ```text
///           ``` or ~~~                    the same again
///   prose ------------> Block::Fenced ----------------------> prose
///         ------------> Block::Indented --------------------> prose
///     four columns more than the text,      fewer columns
///     after an empty line
/// ```
#[derive(Default)]
struct Page {
    lines: Vec<String>,
    block: Option<Block>,
    /// The column of text: 0, or more within a list item.
    text_column: usize,
    /// Whether the line ended within `code`, which may continue in the next one.
    in_code: bool,
}

enum Block {
    /// Ends with this fence.
    Fenced(String),
    /// Ends with a line that is indented less.
    Indented(usize),
}

impl Page {
    fn push(&mut self, line: &str) {
        match &self.block {
            Some(Block::Fenced(fence)) => {
                if is_closing(line.trim_start(), fence) {
                    self.block = None;
                }
                self.lines.push(line.to_owned());
            }
            Some(Block::Indented(column)) if line.is_empty() || indent(line) >= *column => {
                self.lines.push(line.to_owned());
            }
            Some(Block::Indented(_)) => {
                self.close_indented();
                self.push_prose(line);
            }
            None => self.push_prose(line),
        }
    }

    fn push_prose(&mut self, line: &str) {
        let text = line.trim_start();
        let column = indent(line);
        // Indented code cannot directly follow a line of text.
        let after_gap =
            self.lines.last().is_none_or(|last| last.is_empty() || last.starts_with('#'));
        if text.is_empty() {
            self.in_code = false;
            return self.lines.push(String::new());
        }
        if after_gap && column < self.text_column {
            self.text_column = 0;
        }
        if after_gap && column >= self.text_column + 4 {
            self.lines.push(format!("{:1$}```text", "", self.text_column));
            self.lines.push(line.to_owned());
            self.block = Some(Block::Indented(self.text_column + 4));
        } else if let Some(fence) = fence(text) {
            self.lines.push(format!("{}{fence}text", &line[..line.len() - text.len()]));
            self.block = Some(Block::Fenced(fence.to_owned()));
        } else {
            if let Some(width) = list_marker(text) {
                self.text_column = column + width;
            }
            let escaped = self.escape(line);
            self.lines.push(escaped);
        }
    }

    /// Escapes `<` at the start of a tag, and removes the brackets of `<https://..>`, which prost adds.
    fn escape(&mut self, line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        while let Some(at) = rest.find(['<', '`']) {
            let (before, found) = rest.split_at(at);
            out.push_str(before);
            rest = &found[1..];
            if found.starts_with('`') {
                self.in_code = !self.in_code;
                out.push('`');
            } else if self.in_code
                || out.ends_with('\\')
                || !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!')
            {
                out.push('<');
            } else if let Some((url, after)) = rest.split_once('>').filter(|(url, _)| is_url(url)) {
                out.push_str(url);
                rest = after;
            } else {
                out.push_str("\\<");
            }
        }
        out + rest
    }

    /// Closes the block before the empty lines at its end.
    fn close_indented(&mut self) {
        let end = self.lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        self.lines.insert(end, format!("{:1$}```", "", self.text_column));
        self.block = None;
    }

    fn finish(mut self) -> String {
        match self.block.take() {
            Some(Block::Indented(_)) => self.close_indented(),
            Some(Block::Fenced(fence)) => self.lines.push(fence),
            None => {}
        }
        self.lines.join("\n").trim_end().to_owned()
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The fence that opens a block of code.
fn fence(text: &str) -> Option<&str> {
    let mark = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let info = text.trim_start_matches(mark);
    let fence = &text[..text.len() - info.len()];
    (fence.len() >= 3 && !info.contains('`')).then_some(fence)
}

fn is_closing(text: &str, opening: &str) -> bool {
    text.len() >= opening.len() && text.chars().all(|c| opening.starts_with(c))
}

/// The width of a list marker with its space: the column of the item's text.
fn list_marker(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let marks: &[char] = if digits == 0 { &['-', '*', '+'] } else { &['.', ')'] };
    let text = text[digits..].strip_prefix(marks)?;
    (text.is_empty() || text.starts_with(' ')).then_some(digits + 2)
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::rustdoc;

    #[track_caller]
    fn check(comment: &[&str], expected: &[&str]) {
        assert_eq!(rustdoc(&comment.join("\n")).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn comment_margin_is_cut() {
        check(&[" One.", "", "   Two.", ""], &["One.", "", "  Two."]);
        check(&["One.", " Two."], &["One.", " Two."]);
        check(&["", "  "], &[]);
    }

    #[test]
    fn comment_indented_code_is_text() {
        check(
            &["One:", "", "    a", "", "      b", "", "Two."],
            &["One:", "", "```text", "    a", "", "      b", "```", "", "Two."],
        );
        check(&["# One", "\ta"], &["# One", "```text", "    a", "```"]);
    }

    #[test]
    fn comment_indent_within_a_paragraph_is_text() {
        check(&["One", "    <two>"], &["One", "    \\<two>"]);
    }

    #[test]
    fn comment_list_text_is_not_code() {
        check(
            &["- one", "", "    two", "", "      code", "", "three", "", "    code"],
            &[
                "- one",
                "",
                "    two",
                "",
                "  ```text",
                "      code",
                "  ```",
                "",
                "three",
                "",
                "```text",
                "    code",
                "```",
            ],
        );
        check(&["1. one", "", "    two"], &["1. one", "", "    two"]);
    }

    #[test]
    fn comment_fenced_code_is_text() {
        check(&["```rust,no_run", "<a>", "```"], &["```text", "<a>", "```"]);
        check(&["~~~~", "~~~", "~~~~", "<a>"], &["~~~~text", "~~~", "~~~~", "\\<a>"]);
        check(&["```", "never closed"], &["```text", "never closed", "```"]);
    }

    #[test]
    fn comment_html_is_escaped_outside_of_code() {
        check(&["<id> `<id>` a < b, 1 <2"], &["\\<id> `<id>` a < b, 1 <2"]);
        check(&["`code that", "<goes> on` <tag>"], &["`code that", "<goes> on` \\<tag>"]);
        check(&["`not closed", "", "<tag>"], &["`not closed", "", "\\<tag>"]);
        check(&["\\<id>"], &["\\<id>"]);
    }

    #[test]
    fn comment_url_has_one_pair_of_brackets() {
        check(&["<https://example.com>, <x>"], &["https://example.com, \\<x>"]);
    }
}
