//! The differences between the engine and h2 that are no fault of the engine. Each one ends the
//! comparison of its input: from then on the two are in different states.

mod list;

use std::sync::LazyLock;

use balafon::hpack::Pair;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::client::{History, Unit};
use crate::seen::{Closed, Seen};
use crate::wire;

/// The reaction of both servers to a unit, or to an action of a call.
#[derive(Debug)]
pub struct Case<'a> {
    pub unit: Option<&'a Unit>,
    pub engine: &'a Seen,
    pub h2: &'a Seen,
    /// The reason of the engine's connection error.
    pub reason: Option<&'static str>,
    pub history: &'a History,
    pub windows: Windows,
}

/// The windows that are left after DATA: of the connection, and of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Windows {
    pub engine: (i64, i64),
    pub h2: (i64, i64),
}

/// A difference that is permitted.
pub struct Difference {
    name: &'static str,
    section: &'static str,
    applies: fn(&Case<'_>) -> bool,
}

impl Difference {
    /// Prints the difference, if the environment asks for that.
    pub fn print(&self) {
        static ENABLED: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os("PRINT_DIFFERENCES").is_some());
        if *ENABLED {
            eprintln!("{} ({})", self.name, self.section);
        }
    }
}

/// The codes of connection errors: the engine's, and h2's.
fn closed(case: &Case<'_>, engine: u32, h2: u32) -> bool {
    let without_end = |seen: &Seen| {
        let mut seen = seen.clone();
        seen.closed = None;
        seen.sent.go_aways.clear();
        seen
    };
    case.engine.closed == Some(Closed::Error(engine))
        && case.h2.closed == Some(Closed::Error(h2))
        && without_end(case.engine) == without_end(case.h2)
}

/// Whether a server has reset the stream of the unit, and has done nothing else but that.
fn resets(case: &Case<'_>, seen: &Seen, code: u32) -> bool {
    let mut rest = seen.clone();
    let stream = case.stream();
    let reset = rest.sent.resets.remove(&(stream, code));
    rest.ends.retain(|(ended, _)| *ended != stream);
    reset && rest == Seen::default()
}

fn ignores(seen: &Seen) -> bool {
    *seen == Seen::default()
}

fn errs(seen: &Seen, code: u32) -> bool {
    seen.closed == Some(Closed::Error(code)) && seen.requests.is_empty() && seen.data.is_empty()
}

impl Case<'_> {
    fn is(&self, kind: u8) -> bool {
        self.unit.and_then(|unit| unit.head).is_some_and(|head| head.kind == kind)
    }

    fn flags(&self) -> u8 {
        self.unit.and_then(|unit| unit.head).map_or(0, |head| head.flags)
    }

    fn stream(&self) -> u32 {
        self.unit.and_then(|unit| unit.head).map_or(0, |head| head.stream)
    }

    fn length(&self) -> usize {
        self.unit.and_then(|unit| unit.head).map_or(0, |head| head.length)
    }

    fn payload(&self) -> &[u8] {
        self.unit.map_or(&[], |unit| &unit.payload)
    }

    /// The header list of the unit. Empty if it has none.
    fn fields(&self) -> &[Pair] {
        self.unit.and_then(|unit| unit.fields.as_deref()).unwrap_or_default()
    }

    fn has_list(&self) -> bool {
        self.unit.is_some_and(|unit| unit.fields.is_some())
    }

    /// The size of the header list (RFC 9113, 6.5.2).
    fn list_size(&self) -> usize {
        self.fields().iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }

    fn value(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields().iter();
        fields.find(|field| field.0 == name.as_bytes()).map(|(_, value)| &value[..])
    }

    fn settings(&self) -> impl Iterator<Item = (u16, u32)> {
        let is_settings = self.is(wire::SETTINGS);
        let settings = if is_settings { self.payload() } else { &[] };
        settings.as_chunks::<6>().0.iter().map(|[a, b, c, d, e, f]| {
            (u16::from_be_bytes([*a, *b]), u32::from_be_bytes([*c, *d, *e, *f]))
        })
    }

    /// Whether the request on this stream is complete, or the stream was used and is closed.
    fn is_used(&self) -> bool {
        self.stream() <= self.history.last
    }
}

/// Whether h2's HPACK decoder accepts the field.
fn is_parsable((name, value): &Pair) -> bool {
    match &name[..] {
        b":authority" | b":scheme" | b":path" | b":protocol" => str::from_utf8(value).is_ok(),
        b":method" => Method::from_bytes(value).is_ok(),
        b":status" => StatusCode::from_bytes(value).is_ok(),
        _ => HeaderName::from_lowercase(name).is_ok() && HeaderValue::from_bytes(value).is_ok(),
    }
}

/// Whether the list is malformed by its names alone (RFC 9113, 8.2.2 and 8.3).
fn is_malformed(fields: &[Pair]) -> bool {
    let is_pseudo = |field: &Pair| field.0.starts_with(b":");
    let specific =
        [&b"connection"[..], b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection"];
    let late = fields.windows(2).any(|pair| !is_pseudo(&pair[0]) && is_pseudo(&pair[1]));
    let repeated = fields
        .iter()
        .enumerate()
        .any(|(at, field)| is_pseudo(field) && fields[..at].iter().any(|other| other.0 == field.0));
    let forbidden = fields.iter().any(|(name, value)| {
        specific.contains(&&name[..]) || (name == b"te" && value != b"trailers")
    });
    late || repeated || forbidden
}

/// Whether the frame has a length that its type does not permit (RFC 9113, 4.2).
fn has_wrong_length(case: &Case<'_>) -> bool {
    let length = case.length();
    let padded = usize::from(case.flags() & wire::PADDED != 0);
    let prioritized = if case.flags() & wire::WITH_PRIORITY != 0 { 5 } else { 0 };
    case.unit.and_then(|unit| unit.head).is_some_and(|head| match head.kind {
        wire::DATA => length < padded,
        wire::HEADERS => length < padded + prioritized,
        wire::RST_STREAM | wire::WINDOW_UPDATE => length != 4,
        wire::SETTINGS if case.flags() & 1 != 0 => length != 0,
        wire::SETTINGS => !length.is_multiple_of(6),
        wire::PING => length != 8,
        wire::GOAWAY => length < 8,
        _ => false,
    })
}

/// Whether the priority of HEADERS depends on its own stream (RFC 7540, 5.3.1).
fn depends_on_itself(case: &Case<'_>) -> bool {
    let padded = usize::from(case.flags() & wire::PADDED != 0);
    let dependency = case.payload().get(padded..).and_then(<[u8]>::first_chunk);
    case.is(wire::HEADERS)
        && case.flags() & wire::WITH_PRIORITY != 0
        && dependency.is_some_and(|id| u32::from_be_bytes(*id) & 0x7fff_ffff == case.stream())
}

/// Finds the difference of the case. Some are found although nothing has been seen of them yet.
pub fn find(case: &Case<'_>) -> Option<&'static Difference> {
    let hidden = list::HIDDEN.iter().find(|difference| (difference.applies)(case));
    let seen = || list::DIFFERENCES.iter().find(|difference| (difference.applies)(case));
    if case.engine == case.h2 { hidden } else { hidden.or_else(seen) }
}
