//! Checks that all characters of a text are visible and in their order.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The text in Normalization Form C (UAX #15): `é` is then one character, however it was typed.
pub(super) fn normalized(text: &str) -> Cow<'_, str> {
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return text.into();
    }
    text.nfc().collect::<String>().into()
}

/// The first character that is invisible or that changes the order of others. With such characters, different
/// texts look the same, or a text reads as another one.
///
/// Some of them are accepted where a language needs them. Joiners and variation selectors may follow
/// characters that join. Direction marks may be in text with right-to-left letters, where every embedding
/// and isolate must be closed. Direction overrides are never accepted.
pub(super) fn first_invisible(text: &str) -> Option<char> {
    let has_right_to_left = text.chars().any(is_right_to_left);
    let (mut open, mut before) = (Vec::new(), None);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let is_accepted = match Format::of(c) {
            None => true,
            Some(Format::Mark) => has_right_to_left,
            Some(opening @ (Format::Embedding | Format::Isolate)) => {
                open.push((opening, c));
                has_right_to_left
            }
            Some(Format::EndOfEmbedding) => {
                open.pop().is_some_and(|(opening, _)| opening == Format::Embedding)
            }
            Some(Format::EndOfIsolate) => {
                open.pop().is_some_and(|(opening, _)| opening == Format::Isolate)
            }
            Some(Format::Joiner) => {
                before.is_some_and(joins) && rest.peek().copied().is_some_and(joins)
            }
            Some(Format::Selector) => before.is_some_and(|c| joins(c) || is_keycap(c)),
            // The flag of England is a black flag and the tags of `gbeng`.
            Some(Format::Tag) => {
                before.is_some_and(|c| c == '\u{1f3f4}' || Format::of(c) == Some(Format::Tag))
            }
            Some(Format::Useless) => false,
        };
        if !is_accepted {
            return Some(c);
        }
        before = Some(c);
    }
    open.pop().map(|(_, c)| c)
}

/// The function of an invisible character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A direction mark, which has no extent.
    Mark,
    Embedding,
    EndOfEmbedding,
    Isolate,
    EndOfIsolate,
    /// Joins its neighbours into one sign, or separates them.
    Joiner,
    /// Selects a form of the character before it.
    Selector,
    Tag,
    /// Never needed in a name.
    Useless,
}

impl Format {
    /// `None` for a visible character. The invisible ones are, by Unicode 17: `Default_Ignorable_Code_Point`, the
    /// separators of lines and paragraphs, annotations, and empty signs.
    fn of(c: char) -> Option<Self> {
        Some(match c {
            '\u{200e}' | '\u{200f}' | '\u{61c}' => Self::Mark,
            '\u{202a}' | '\u{202b}' => Self::Embedding,
            '\u{202c}' => Self::EndOfEmbedding,
            '\u{2066}'..='\u{2068}' => Self::Isolate,
            '\u{2069}' => Self::EndOfIsolate,
            '\u{200c}' | '\u{200d}' => Self::Joiner,
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => Self::Selector,
            '\u{180b}'..='\u{180d}' | '\u{180f}' => Self::Selector,
            '\u{e0020}'..='\u{e007f}' => Self::Tag,
            '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{200b}' | '\u{feff}' => Self::Useless,
            '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => Self::Useless,
            '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' => Self::Useless,
            '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => Self::Useless,
            // Fillers of Hangul, Khmer and Khitan, the empty Braille pattern, a note without a head.
            '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => Self::Useless,
            '\u{17b4}' | '\u{17b5}' | '\u{16fe4}' | '\u{2800}' | '\u{1d159}' => Self::Useless,
            _ => return None,
        })
    }
}

/// Whether joiners and selectors have a meaning next to this character. They have none next to white space, nor
/// next to letters of ASCII, Latin, Greek, Cyrillic, Armenian and Hebrew, which never join. Of the characters
/// before Arabic, only a few symbols have two forms.
fn joins(c: char) -> bool {
    let selected = matches!(Format::of(c), Some(Format::Selector | Format::Tag));
    let is_symbol = !c.is_alphanumeric() && c >= '\u{a0}';
    selected
        || Format::of(c).is_none()
            && !c.is_whitespace()
            && !is_latin(c)
            && (c >= '\u{600}' || is_symbol && !('\u{300}'..'\u{600}').contains(&c))
}

/// Whether it is a letter of the extended blocks of Latin, Greek and Cyrillic.
fn is_latin(c: char) -> bool {
    let extended = matches!(c, '\u{1c80}'..='\u{1c8f}' | '\u{1d00}'..='\u{1fff}'
        | '\u{2c60}'..='\u{2c7f}' | '\u{a640}'..='\u{a69f}' | '\u{a720}'..='\u{a7ff}'
        | '\u{ab30}'..='\u{ab6f}' | '\u{ff21}'..='\u{ff5a}');
    extended && !c.is_numeric()
}

/// Whether it can begin a keycap: `1`, a selector and U+20E3 are a key with a one.
fn is_keycap(c: char) -> bool {
    c.is_ascii_digit() || c == '#' || c == '*'
}

/// Whether it is a right-to-left letter, as of Hebrew, Arabic, Syriac, Thaana and N'Ko. These are the blocks in
/// which unassigned characters are right-to-left too (UAX #9, table 3).
fn is_right_to_left(c: char) -> bool {
    let is_letter = c.is_alphabetic();
    is_letter
        && matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
            | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_text_is_composed() {
        for (text, expected) in [
            ("Zoe\u{308}", "Zoë"),
            ("A\u{30a}ngstro\u{308}m", "Ångström"),
            ("\u{212b}", "Å"),
            ("\u{1112}\u{1161}\u{11ab}", "한"),
            ("Nguye\u{302}\u{303}n", "Nguyễn"),
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            ("Zoë", "Zoë"),
            ("plain", "plain"),
        ] {
            assert_eq!(normalized(text), expected);
        }
    }

    #[test]
    fn invisible_characters_are_found() {
        for invisible in [
            '\u{200b}',
            '\u{feff}',
            '\u{3164}',
            '\u{2028}',
            '\u{2029}',
            '\u{ad}',
            '\u{34f}',
            '\u{115f}',
            '\u{1160}',
            '\u{17b4}',
            '\u{180e}',
            '\u{2060}',
            '\u{2061}',
            '\u{2064}',
            '\u{206a}',
            '\u{206f}',
            '\u{2800}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{202d}',
            '\u{202e}',
            '\u{200e}',
            '\u{200f}',
            '\u{61c}',
            '\u{200c}',
            '\u{200d}',
            '\u{fe0f}',
            '\u{e0100}',
            '\u{202a}',
            '\u{2066}',
            '\u{2069}',
            '\u{202c}',
            '\u{16fe4}',
            '\u{1bca0}',
        ] {
            for text in [
                format!("Ali{invisible}ce"),
                format!("{invisible}Alice"),
                format!("Alice{invisible}"),
            ] {
                assert_eq!(first_invisible(&text), Some(invisible), "U+{:04X}", invisible as u32);
            }
            assert!(first_invisible(&invisible.to_string()).is_some());
        }
        // Overrides are never accepted.
        assert_eq!(first_invisible("שרה\u{202e}abc\u{202c}"), Some('\u{202e}'));
        assert_eq!(first_invisible("محمد\u{200b}"), Some('\u{200b}'));
        assert_eq!(first_invisible("Иван\u{200d}ов"), Some('\u{200d}'));
        assert_eq!(first_invisible("é\u{fe0f}"), Some('\u{fe0f}'));
    }

    #[test]
    fn invisible_characters_that_languages_need_are_accepted() {
        for text in [
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "👩\u{200d}👩\u{200d}👧 Family",
            "❤\u{fe0f}",
            "🏳\u{fe0f}\u{200d}🌈",
            "👩🏽\u{200d}🚀",
            "1\u{fe0f}\u{20e3}",
            "©\u{fe0f}",
            "葛\u{e0100}城",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "שרה \u{200f}(Sarah)",
            "\u{2067}שרה\u{2069} (Sarah)",
            "שרה \u{202a}Sarah\u{202c}",
            "山田\u{3000}太郎",
            "\u{fffd}",
        ] {
            assert_eq!(first_invisible(text), None, "{text}");
        }
    }

    #[test]
    fn embeddings_and_isolates_must_be_closed() {
        for (text, wrong) in [
            ("שרה\u{2067}", '\u{2067}'),
            ("שרה\u{2069}", '\u{2069}'),
            ("שרה\u{202b}", '\u{202b}'),
            ("שרה\u{202c}", '\u{202c}'),
            ("\u{2067}שרה\u{202c}", '\u{202c}'),
            ("\u{202b}שרה\u{2069}", '\u{2069}'),
            ("\u{2067}\u{2068}שרה\u{2069}", '\u{2067}'),
        ] {
            assert_eq!(first_invisible(text), Some(wrong));
        }
    }
}
