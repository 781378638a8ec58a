//! `Debug` for messages with fields of the type `BTreeMap`.
//!
//! For such a field, the `Debug` that prost derives names `::prost::alloc`, whatever `prost_path` says.
//! It would compile only in a crate that depends on prost itself. So these messages get an
//! implementation of their own, which shows enum values as numbers.

/// Replaces the derived `Debug` of each message that has such a field.
pub(crate) fn with_debug(code: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut message: Option<Message<'_>> = None;
    for line in code.lines() {
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        lines.push(line.to_owned());
        let Some(open) = &mut message else {
            let name = text.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {"));
            message = name.map(|name| Message::new(name, indent, lines.len() - 1));
            continue;
        };
        if text == "}" && indent == open.indent {
            if open.has_btree_map && !is_debug_skipped(&lines[..open.line]) {
                lines.push(open.debug());
                lines.insert(open.line, format!("{indent}#[prost(skip_debug)]"));
            }
            message = None;
        } else if text.starts_with("#[prost(btree_map") {
            open.has_btree_map = true;
        } else if let Some((field, _)) =
            text.strip_prefix("pub ").and_then(|rest| rest.split_once(':'))
        {
            open.fields.push(field);
        }
    }
    lines.join("\n") + "\n"
}

/// A message whose fields are being read.
struct Message<'a> {
    name: &'a str,
    indent: &'a str,
    /// The index of its first line.
    line: usize,
    fields: Vec<&'a str>,
    has_btree_map: bool,
}

impl<'a> Message<'a> {
    fn new(name: &'a str, indent: &'a str, line: usize) -> Self {
        Self { name, indent, line, fields: Vec::new(), has_btree_map: false }
    }

    fn debug(&self) -> String {
        let (name, indent) = (self.name, self.indent);
        let mut fields = String::new();
        for field in &self.fields {
            let shown = field.trim_start_matches("r#");
            fields.push_str(&format!(".field({shown:?}, &self.{field})"));
        }
        format!(
            "{indent}impl ::core::fmt::Debug for {name} {{\n\
             {indent}    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{\n\
             {indent}        f.debug_struct({name:?}){fields}.finish()\n\
             {indent}    }}\n\
             {indent}}}"
        )
    }
}

/// Whether the user has turned the derived `Debug` off, to implement it by hand.
fn is_debug_skipped(before: &[String]) -> bool {
    let attributes = before.iter().rev().map(|line| line.trim());
    attributes.take_while(|line| line.starts_with('#')).any(|line| line == "#[prost(skip_debug)]")
}

#[cfg(test)]
mod tests {
    use super::with_debug;

    const BTREE_MAP: &str = "        #[prost(btree_map = \"string, string\", tag = \"1\")]\n";

    fn message(attribute: &str, field_attribute: &str) -> String {
        format!(
            "pub mod a {{\n{attribute}    pub struct B {{\n{field_attribute}        pub r#type: u8,\n    \
             }}\n}}\n"
        )
    }

    #[test]
    fn btree_map_messages_get_a_debug_of_their_own() {
        let code = with_debug(&message("", BTREE_MAP));
        assert!(code.contains("    #[prost(skip_debug)]\n    pub struct B {\n"), "{code}");
        assert!(code.contains("    impl ::core::fmt::Debug for B {\n"), "{code}");
        assert!(code.contains("f.debug_struct(\"B\").field(\"type\", &self.r#type).finish()"));
    }

    #[test]
    fn btree_map_leaves_other_messages_as_they_are() {
        let skipped = message("    #[prost(skip_debug)]\n", BTREE_MAP);
        for code in [message("", ""), skipped] {
            assert_eq!(with_debug(&code), code);
        }
    }
}
