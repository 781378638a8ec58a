//! Escaping and cutting of the values in log lines.

use std::fmt::{self, Write};

/// Escapes control characters: the text of a client can neither begin a new line nor control the terminal that
/// shows it. A text that is too long is cut, and ends with an ellipsis.
pub(super) struct Escaped<'a> {
    line: &'a mut String,
    /// Whether quotes and backslashes are escaped too.
    quoted: bool,
    /// The number of characters that still fit.
    room: usize,
    /// The end of the text before the last character that fits: there the line is cut if another one follows.
    cut: usize,
}

impl<'a> Escaped<'a> {
    pub(super) fn new(line: &'a mut String, quoted: bool, room: usize) -> Self {
        let cut = line.len();
        Self { line, quoted, room, cut }
    }

    /// Adds the escaped form of one character.
    fn push(&mut self, text: &str, chars: usize) -> fmt::Result {
        if self.room < chars {
            self.line.truncate(self.cut);
            self.line.push('…');
            self.room = 0;
            return Err(fmt::Error);
        }
        self.room -= chars;
        self.line.push_str(text);
        if self.room > 0 {
            self.cut = self.line.len();
        }
        Ok(())
    }
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if is_plain(text) && text.len() < self.room {
            self.room -= text.len();
            self.line.push_str(text);
            self.cut = self.line.len();
            return Ok(());
        }
        for char in text.chars() {
            match char {
                '"' if self.quoted => self.push("\\\"", 2)?,
                '\\' if self.quoted => self.push("\\\\", 2)?,
                '\n' => self.push("\\n", 2)?,
                char if char.is_control() => {
                    self.push(&format!("\\u{:04x}", u32::from(char)), 6)?;
                }
                char => self.push(char.encode_utf8(&mut [0; 4]), 1)?,
            }
        }
        Ok(())
    }
}

/// Whether there is nothing to escape, which is the common case. It compares sixteen bytes at a time.
fn is_plain(text: &str) -> bool {
    let is_special = |byte: &u8| !(b' '..=b'~').contains(byte) | (*byte == b'"') | (*byte == b'\\');
    let (chunks, rest) = text.as_bytes().as_chunks::<16>();
    for chunk in chunks {
        // Without a branch for each byte, so that the compiler uses vector instructions.
        let mut any = false;
        for byte in chunk {
            any |= is_special(byte);
        }
        if any {
            return false;
        }
    }
    !rest.iter().any(is_special)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(room: usize, pieces: &[&str]) -> String {
        let mut line = "name=".to_owned();
        let mut escaped = Escaped::new(&mut line, true, room);
        // A value may continue after it was cut.
        for piece in pieces {
            let _ = escaped.write_str(piece);
        }
        line.strip_prefix("name=").unwrap().to_owned()
    }

    #[test]
    fn log_value_is_cut_with_an_ellipsis() {
        assert_eq!(escaped(5, &["12345"]), "12345");
        assert_eq!(escaped(5, &["12345", ""]), "12345");
        assert_eq!(escaped(5, &["123456"]), "1234…");
        assert_eq!(escaped(5, &["1", "23", "456", "7"]), "1234…");
        assert_eq!(escaped(5, &["12345", "6", "7"]), "1234…");
        assert_eq!(escaped(5, &["éèêëē"]), "éèêëē");
        assert_eq!(escaped(5, &["éèêëēę"]), "éèêë…");
    }

    #[test]
    fn log_value_is_not_cut_inside_an_escape() {
        assert_eq!(escaped(5, &["123\n"]), "123\\n");
        assert_eq!(escaped(5, &["1234\n"]), "1234…");
        assert_eq!(escaped(5, &["12\n", "\n"]), "12\\n…");
        assert_eq!(escaped(8, &["12\u{7}", "\""]), "12…");
        assert_eq!(escaped(7, &["12\u{7}"]), "12…");
        assert_eq!(escaped(8, &["12\u{7}"]), "12\\u0007");
    }
}
