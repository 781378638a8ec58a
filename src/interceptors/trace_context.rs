use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

use crate::{AsciiKey, Metadata};

/// The trace, the caller's span and whether it is sampled (W3C Trace Context, 3.2).
pub static TRACEPARENT: AsciiKey = AsciiKey::from_static("traceparent");

/// Further data of tracing systems (W3C Trace Context, 3.3).
pub static TRACESTATE: AsciiKey = AsciiKey::from_static("tracestate");

/// The length of version 00: `00-<trace id>-<span id>-<flags>`. Later versions may be longer.
const TRACEPARENT_LEN: usize = 55;

/// The only flag that all versions have.
const SAMPLED: u8 = 1;

/// Members of a list in `tracestate`, and bytes of a key and of a value (3.3.1).
const MAX_MEMBERS: usize = 32;
const MAX_MEMBER_PART: usize = 256;

/// The trace of a call, and the span of the call in it.
///
/// `Traces` puts it into the extensions of the call. A handler propagates it with calls of its own, so
/// that they belong to the same trace. The access log logs the trace id.
///
/// ```
/// use balafon::interceptors::{TRACEPARENT, TRACESTATE, TraceContext};
/// use balafon::{AsciiValue, Call, Metadata};
///
/// /// The metadata of a call that the handler makes.
/// fn propagate(call: &Call) -> Metadata {
///     let mut metadata = Metadata::new();
///     if let Some(context) = call.extensions().get::<TraceContext>() {
///         context.write_to(&mut metadata);
///     }
///     metadata
/// }
///
/// let mut metadata = Metadata::new();
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// metadata.insert(&TRACEPARENT, AsciiValue::try_from(text)?);
/// let context = TraceContext::read_from(&metadata).expect("it is valid");
/// assert!(context.is_sampled());
/// assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert_eq!(context.traceparent(), text);
/// # Ok::<(), balafon::InvalidMetadata>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    sampled: bool,
    state: Option<Arc<str>>,
}

/// The id that all spans of a trace share. Its text is 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub NonZeroU128);

/// The id of a span within its trace. Its text is 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub NonZeroU64);

impl TraceContext {
    /// A span that begins a trace.
    pub fn new(trace_id: TraceId, span_id: SpanId, sampled: bool) -> Self {
        Self { trace_id, span_id, sampled, state: None }
    }

    /// Another span of the same trace, with the same `tracestate`.
    #[must_use]
    pub fn child(&self, span_id: SpanId) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// Reads `traceparent` and `tracestate`. `None` unless there is exactly one `traceparent` and it is
    /// valid. An invalid `tracestate` is ignored (3.3.1.1).
    pub fn read_from(metadata: &Metadata) -> Option<Self> {
        let mut parents = metadata.get_all(&TRACEPARENT);
        let (parent, None) = (parents.next()?, parents.next()) else { return None };
        let mut context = Self::parse(parent)?;
        let mut states = metadata.get_all(&TRACESTATE).peekable();
        if states.peek().is_some() {
            let state = states.collect::<Vec<_>>().join(",");
            context.state = is_trace_state(&state).then(|| state.into());
        }
        Some(context)
    }

    /// Sets `traceparent` and `tracestate`.
    pub fn write_to(&self, metadata: &mut Metadata) {
        let mut set = |key, text: &str| {
            if let Ok(value) = crate::AsciiValue::try_from(text) {
                metadata.insert(key, value);
            }
        };
        set(&TRACEPARENT, &self.traceparent());
        if let Some(state) = &self.state {
            set(&TRACESTATE, state);
        }
    }

    /// Parses a `traceparent` of version 00. Of later versions it reads the part that 00 has (3.2.4).
    fn parse(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(TRACEPARENT_LEN)?;
        let mut parts = known.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32).and_then(NonZeroU128::new)?;
        let span_id = hex(parts.next()?, 16).and_then(|id| NonZeroU64::new(id as u64))?;
        let flags = hex(parts.next()?, 2)? as u8;
        let is_known = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        is_known.then(|| Self::new(TraceId(trace_id), SpanId(span_id), flags & SAMPLED != 0))
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span of the call. In a context that a client has sent it is the span of the client.
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Whether the span is sampled.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The value of `traceparent`. Unknown flags are not propagated (3.2.4).
    pub fn traceparent(&self) -> String {
        let Self { trace_id, span_id, sampled, .. } = self;
        format!("00-{trace_id}-{span_id}-{:02x}", if *sampled { SAMPLED } else { 0 })
    }

    /// The value of `tracestate`, if there is one.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A number of so many hexadecimal digits. The standard allows lower case only.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_hex = text.len() == digits && text.bytes().all(is_digit);
    is_hex.then(|| u128::from_str_radix(text, 16).ok())?
}

/// Whether this is a list of members `key=value`. Members may be empty (3.3.1).
fn is_trace_state(text: &str) -> bool {
    let is_key = |key: &str| {
        let known =
            |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
        key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && key.len() <= MAX_MEMBER_PART
            && key.bytes().all(known)
    };
    let is_value = |value: &str| {
        // Metadata has only printable characters.
        !value.is_empty() && value.len() <= MAX_MEMBER_PART && !value.contains('=')
    };
    let is_member = |(key, value)| is_key(key) && is_value(value);
    let mut members = text.split(',').map(|member| member.trim_matches([' ', '\t']));
    text.split(',').count() <= MAX_MEMBERS
        && members.all(|member| member.is_empty() || member.split_once('=').is_some_and(is_member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AsciiValue;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(headers: &[(&AsciiKey, &str)]) -> Option<TraceContext> {
        let mut metadata = Metadata::new();
        for (key, value) in headers {
            metadata.append(key, AsciiValue::try_from(*value).unwrap());
        }
        TraceContext::read_from(&metadata)
    }

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context = with(&[(&TRACEPARENT, VALID)]).unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), VALID);
        let child = context.child(SpanId(NonZeroU64::MIN));
        assert_eq!(child.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-01");
    }

    #[test]
    fn flags_and_later_versions_are_read_as_far_as_they_are_known() {
        let trace = &VALID[3..52];
        for (text, sampled) in [
            (format!("00-{trace}-00"), false),
            (format!("00-{trace}-02"), false),
            (format!("00-{trace}-ff"), true),
            (format!("cc-{trace}-01"), true),
            (format!("cc-{trace}-01-what-comes-later"), true),
        ] {
            let context = with(&[(&TRACEPARENT, &text)]).expect(&text);
            assert_eq!(context.is_sampled(), sampled, "{text}");
            assert!(context.traceparent().starts_with("00-"), "{text}");
            assert!(context.traceparent().ends_with(if sampled { "-01" } else { "-00" }));
        }
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let (trace, span) = (&VALID[3..35], &VALID[36..52]);
        let zeros = "0".repeat(32);
        for text in [
            "",
            "00",
            &VALID[..54],
            &format!("{VALID}0"),
            &format!("{VALID}-later"),
            &format!("ff-{trace}-{span}-01"),
            &format!("cc-{trace}-{span}-01.later"),
            &format!("00-{zeros}-{span}-01"),
            &format!("00-{trace}-{}-01", &zeros[..16]),
            &VALID.to_uppercase(),
            &VALID.replace("4bf", "4Bf"),
            &VALID.replace("4bf", "+bf"),
            &VALID.replace("00-4", "0--4"),
            &format!("00-{trace}-{span}-0x"),
            &format!("00-{trace}-{span}_01"),
            &format!("00-{}-{span}0-01", &trace[..31]),
            &format!(" {VALID}"),
        ] {
            assert_eq!(with(&[(&TRACEPARENT, text)]), None, "{text}");
        }
        assert_eq!(with(&[(&TRACEPARENT, VALID), (&TRACEPARENT, VALID)]), None, "two of them");
        assert_eq!(with(&[(&TRACESTATE, "a=b")]), None, "a state alone");
    }

    #[test]
    fn a_tracestate_is_one_list_and_passed_on_only_if_valid() {
        let state = |states: &[&str]| {
            let mut headers = vec![(&TRACEPARENT, VALID)];
            headers.extend(states.iter().map(|state| (&TRACESTATE, *state)));
            let context = with(&headers).expect("the traceparent is valid");
            let mut metadata = Metadata::new();
            context.write_to(&mut metadata);
            assert_eq!(metadata.get(&TRACEPARENT), Some(VALID));
            assert_eq!(metadata.get(&TRACESTATE), context.tracestate());
            context.tracestate().map(str::to_owned)
        };
        assert_eq!(state(&[]), None);
        assert_eq!(state(&["congo=t61rcWkgMzE,rojo=00f0"]).unwrap(), "congo=t61rcWkgMzE,rojo=00f0");
        assert_eq!(
            state(&["a=1", "fw529a3039@dt=x y, ,b=2"]).unwrap(),
            "a=1,fw529a3039@dt=x y, ,b=2"
        );
        let long = format!("a={}", "x".repeat(257));
        let many = vec!["a=1"; 33].join(",");
        for wrong in ["a", "=1", "A=1", "a b=1", "a=", "a=1=2", "@a=1", &long, &many] {
            assert_eq!(state(&[wrong]), None, "{wrong}");
        }
    }
}
