use std::fmt::{self, Write};

/// Lets no control character through: what clients send can neither begin a line of its own nor
/// speak to the terminal that shows it. Text in excess of its room is cut, with an ellipsis as the
/// last character.
pub(super) struct Escaped<'a> {
    line: &'a mut String,
    /// Quotes and backslashes are escaped as well.
    quoted: bool,
    /// Characters that may still come.
    room: usize,
    /// Where the line is cut if one more comes than there is room for.
    cut: usize,
}

impl<'a> Escaped<'a> {
    pub(super) fn new(line: &'a mut String, quoted: bool, room: usize) -> Self {
        let cut = line.len();
        Self { line, quoted, room, cut }
    }

    /// Adds what one character is in the line.
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

/// Whether there is nothing to escape, as most often. Sixteen bytes are looked at together.
fn is_plain(text: &str) -> bool {
    let odd = |byte: &u8| !(b' '..=b'~').contains(byte) | (*byte == b'"') | (*byte == b'\\');
    let (chunks, rest) = text.as_bytes().as_chunks::<16>();
    let any_odd = |chunk: &[u8; 16]| chunk.iter().fold(false, |any, byte| any | odd(byte));
    !chunks.iter().any(any_odd) && !rest.iter().any(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(room: usize, pieces: &[&str]) -> String {
        let mut line = "name=".to_owned();
        let mut escaped = Escaped::new(&mut line, true, room);
        // A value may go on after it has been cut.
        for piece in pieces {
            let _ = escaped.write_str(piece);
        }
        line.strip_prefix("name=").unwrap().to_owned()
    }

    #[test]
    fn a_value_has_as_many_characters_as_there_is_room_for() {
        assert_eq!(escaped(5, &["12345"]), "12345");
        assert_eq!(escaped(5, &["12345", ""]), "12345");
        assert_eq!(escaped(5, &["123456"]), "1234…");
        assert_eq!(escaped(5, &["1", "23", "456", "7"]), "1234…");
        assert_eq!(escaped(5, &["12345", "6", "7"]), "1234…");
        assert_eq!(escaped(5, &["éèêëē"]), "éèêëē");
        assert_eq!(escaped(5, &["éèêëēę"]), "éèêë…");
    }

    #[test]
    fn no_escape_sequence_is_cut_in_two() {
        assert_eq!(escaped(5, &["123\n"]), "123\\n");
        assert_eq!(escaped(5, &["1234\n"]), "1234…");
        assert_eq!(escaped(5, &["12\n", "\n"]), "12\\n…");
        assert_eq!(escaped(8, &["12\u{7}", "\""]), "12…");
        assert_eq!(escaped(7, &["12\u{7}"]), "12…");
        assert_eq!(escaped(8, &["12\u{7}"]), "12\\u0007");
    }
}
