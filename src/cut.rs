use std::borrow::Cow;

/// The characters of a client's text that a log line shows. By HPACK a few bytes on the wire may become
/// thousands.
const LONGEST: usize = 256;

/// The text of a client, shortened for a log line. A shortened text ends with an ellipsis.
pub(crate) fn for_log(text: &str) -> Cow<'_, str> {
    let mut ends = text.char_indices().skip(LONGEST - 1).map(|(end, _)| end);
    match (ends.next(), ends.next()) {
        (Some(end), Some(_)) => format!("{}…", &text[..end]).into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_text_is_cut_between_characters() {
        let exact = "é".repeat(LONGEST);
        assert_eq!(for_log(&exact), exact);
        let cut = "é".repeat(LONGEST - 1) + "…";
        assert_eq!(for_log(&format!("{exact}x")), cut);
        assert_eq!(for_log(""), "");
    }
}
