//! The formats of log lines for files and pipes.
//!
//! The output equals that of tracing-subscriber's own formats. Those support terminals and spans, which this
//! program does not need: a line of the access log takes them two fifths of the time of a unary call.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Debug, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{self, FormatTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::escaped::Escaped;

/// The name of the field with an event's text.
const MESSAGE: &str = "message";

/// The maximum number of characters of a value, after escaping. Clients control some values, and with HPACK a
/// few bytes of a request can be thousands of characters.
const LONGEST: usize = 256;

/// The maximum number of characters of an event's text on a terminal, where its target is not known.
const LONGEST_MESSAGE: usize = 1024;

/// Values that are never cut: no client controls them, and only the whole value is useful.
const WHOLE: [&str; 2] = ["users", "backtrace"];

/// A format of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// `2026-11-22T13:12:19.348865Z  INFO user_server::serve: listening address=127.0.0.1:9090 tls=false`
    Text,
    /// One object per line: `timestamp`, `level`, the fields of the event (with `message`), and `target`.
    Json,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        thread_local! {
            /// Reused for its memory. It is taken out while in use, because formatting a value may log too.
            static LINE: Cell<String> = const { Cell::new(String::new()) };
        }
        let mut line = LINE.take();
        line.clear();
        self.write(&mut line, event);
        let written = writer.write_str(&line);
        LINE.set(line);
        written
    }
}

impl Lines {
    fn write(self, line: &mut String, event: &Event<'_>) {
        let metadata = event.metadata();
        match self {
            Self::Text => {
                write_time(line);
                // Padded to the width of the longest level.
                line.push_str(match *metadata.level() {
                    Level::ERROR => " ERROR ",
                    Level::WARN => "  WARN ",
                    Level::INFO => "  INFO ",
                    Level::DEBUG => " DEBUG ",
                    Level::TRACE => " TRACE ",
                });
                line.push_str(metadata.target());
                line.push(':');
                event.record(&mut Fields {
                    lines: self,
                    line,
                    message_room: message_room(metadata),
                });
            }
            Self::Json => {
                line.push_str("{\"timestamp\":\"");
                write_time(line);
                line.push_str("\",\"level\":\"");
                line.push_str(metadata.level().as_str());
                line.push('"');
                event.record(&mut Fields {
                    lines: self,
                    line,
                    message_room: message_room(metadata),
                });
                line.push_str(",\"target\":\"");
                line.push_str(metadata.target());
                line.push_str("\"}");
            }
        }
        line.push('\n');
    }
}

/// The maximum length of an event's text. It is unlimited for events of this project, which put the data of
/// clients only into fields.
fn message_room(metadata: &Metadata<'_>) -> usize {
    let target = metadata.target();
    let is_ours = target.starts_with("balafon") || target.starts_with("user_server");
    if is_ours { usize::MAX } else { LONGEST }
}

/// The values of a line on a terminal. The rest of the line has tracing-subscriber's format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TerminalFields;

impl FormatFields<'_> for TerminalFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'_>, fields: R) -> fmt::Result {
        let mut line = String::new();
        let mut visitor =
            Fields { lines: Lines::Text, line: &mut line, message_room: LONGEST_MESSAGE };
        fields.record(&mut visitor);
        // tracing-subscriber has written a space already.
        writer.write_str(line.strip_prefix(' ').unwrap_or(&line))
    }
}

struct Fields<'a> {
    lines: Lines,
    line: &'a mut String,
    /// The maximum number of characters of the event's text.
    message_room: usize,
}

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        let name = field.name();
        match self.lines {
            Lines::Text if name == MESSAGE => self.line.push(' '),
            Lines::Text => {
                self.line.push(' ');
                self.line.push_str(name);
                self.line.push('=');
            }
            Lines::Json => {
                self.line.push_str(",\"");
                self.line.push_str(name);
                self.line.push_str("\":");
            }
        }
    }

    fn plain(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.line.push_str(value);
    }

    fn text(
        &mut self,
        field: &Field,
        quoted: bool,
        write: impl FnOnce(&mut Escaped<'_>) -> fmt::Result,
    ) {
        self.name(field);
        let room = match field.name() {
            MESSAGE => self.message_room,
            name if WHOLE.contains(&name) => usize::MAX,
            _ => LONGEST,
        };
        if quoted {
            self.line.push('"');
        }
        // A cut value ends with an error, which is not a failure here.
        let _ = write(&mut Escaped::new(self.line, quoted, room));
        if quoted {
            self.line.push('"');
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match self.lines {
            Lines::Json if !value.is_finite() => {
                self.text(field, true, |it| write!(it, "{value:?}"))
            }
            _ => self.plain(field, &format!("{value:?}")),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, true, |it| it.write_str(value));
    }

    /// JSON has no form for other types, so they are texts there.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, self.lines == Lines::Json, |it| write!(it, "{value:?}"));
    }
}

/// Writes the time in UTC, with microseconds.
fn write_time(line: &mut String) {
    thread_local! {
        /// The last second and its text.
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    SECOND.with_borrow_mut(|(second, text)| {
        let (mut now, mut micros) = since_epoch();
        // Repeated if the next second has begun meanwhile.
        while *second != now {
            text.clear();
            let _ = time::SystemTime.format_time(&mut Writer::new(text));
            text.truncate("2026-11-22T13:12:19".len());
            *second = now;
            (now, micros) = since_epoch();
        }
        line.push_str(text);
        // The added million keeps the leading zeros. The point then replaces its digit 1.
        let start = line.len();
        line.push_str(itoa::Buffer::new().format(1_000_000 + micros));
        line.replace_range(start..=start, ".");
        line.push('Z');
    })
}

/// The whole seconds since 1970 (negative before it), and the microseconds after them.
fn since_epoch() -> (i64, u32) {
    let of = |time: Duration| (time.as_secs() as i64, time.subsec_micros());
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => of(after),
        Err(before) => match of(before.duration()) {
            (seconds, 0) => (-seconds, 0),
            (seconds, micros) => (-seconds - 1, 1_000_000 - micros),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing::subscriber::with_default;
    use tracing_subscriber::fmt;

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        /// Logs events with every kind of value, and returns the lines.
        fn of(log: impl FnOnce(Self) -> tracing::Dispatch) -> String {
            let lines = Self::default();
            tracing::dispatcher::with_default(&log(lines.clone()), || {
                tracing::warn!(target: "a", text = "b\"\\c", count = 7_u64, less = -7_i64, half = 0.5, "all \"well\"");
                tracing::info!(target: "a", shown = %"b c", listed = ?[1, 2], yes = true, none = None::<u64>);
            });
            let bytes = lines.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap()
        }
    }

    /// The lines without their times.
    fn untimed(lines: &str) -> Vec<&str> {
        lines.lines().map(|line| line.split_once('Z').unwrap().1).collect()
    }

    #[test]
    fn text_line_equals_the_library_format() {
        let builder = |lines: Output| fmt().with_ansi(false).with_writer(move || lines.clone());
        let ours = Output::of(|lines| builder(lines).event_format(Lines::Text).finish().into());
        let theirs = Output::of(|lines| builder(lines).finish().into());
        assert_eq!(untimed(&ours), untimed(&theirs));
    }

    #[test]
    fn json_line_is_an_object_of_typed_values() {
        let lines = Output::of(|lines| {
            fmt().with_writer(move || lines.clone()).event_format(Lines::Json).finish().into()
        });
        let mut lines: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            assert_eq!(time.as_str().unwrap().len(), "2026-11-22T13:12:19.348865Z".len());
        }
        let expected = [
            json!({
                "level": "WARN", "target": "a", "message": "all \"well\"", "text": "b\"\\c",
                "count": 7, "less": -7, "half": 0.5,
            }),
            json!({ "level": "INFO", "target": "a", "shown": "b c", "listed": "[1, 2]", "yes": true }),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn log_value_of_a_client_is_escaped() {
        let attack = "x\nINFO forged \u{1b}[31m\u{9b}1m\u{7f}";
        let lines = Output::default();
        let writer = lines.clone();
        let log = fmt().with_writer(move || writer.clone()).event_format(Lines::Text).finish();
        with_default(log, || tracing::info!(%attack, text = attack, "{attack}"));
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.matches("x\\nINFO forged \\u001b[31m\\u009b1m\\u007f").count(), 3);
        assert_eq!(lines.chars().filter(|char| char.is_control()).count(), 1, "{lines:?}");
    }

    #[test]
    fn log_values_are_cut_after_256_characters() {
        let long = "é".repeat(3_700);
        let users = "u".repeat(3_700);
        for format in [Lines::Text, Lines::Json] {
            let lines = Output::default();
            let writer = lines.clone();
            let log = fmt().with_writer(move || writer.clone()).event_format(format).finish();
            with_default(log, || {
                tracing::info!(text = long, shown = %long, listed = ?[&long], users, "{long}");
                tracing::info!(target: "h2", "{long}");
            });
            let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            let (ours, theirs) = lines.split_once('\n').unwrap();
            let runs: Vec<_> = ours.split(|char| !matches!(char, 'é' | '…')).collect();
            let lengths = runs.iter().map(|run| run.chars().count()).filter(|length| *length > 0);
            let mut lengths: Vec<_> = lengths.collect();
            lengths.sort_unstable();
            // A list begins with two characters. JSON escapes one of them.
            let list = if format == Lines::Json { 253 } else { 254 };
            assert_eq!(lengths, [list, 256, 256, 3_700], "{ours}");
            assert!(ours.contains(&users), "the list of ids is cut");
            assert_eq!(theirs.matches('é').count(), 255, "{theirs}");
        }
    }

    #[test]
    fn terminal_line_cuts_values() {
        let lines = Output::default();
        let writer = lines.clone();
        let log = fmt().with_writer(move || writer.clone()).fmt_fields(TerminalFields);
        let long = "é\u{7}".repeat(3_700);
        with_default(log.finish(), || tracing::info!(text = long, count = 7, "hello"));
        let line = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(line.contains("hello text=\"é\\u0007é\\u0007"), "{line:?}");
        assert!(line.contains("…\" count=7\n"), "{line:?}");
        assert!(line.chars().count() < 256 + 150, "{line:?}");
        assert!(!line.contains('\u{7}'), "{line:?}");
    }

    #[test]
    fn log_time_equals_the_library_time() {
        let (mut before, mut ours, mut after) = (String::new(), String::new(), String::new());
        time::SystemTime.format_time(&mut Writer::new(&mut before)).unwrap();
        write_time(&mut ours);
        time::SystemTime.format_time(&mut Writer::new(&mut after)).unwrap();
        assert!(before <= ours && ours <= after, "{before} {ours} {after}");
    }
}
