//! The list. Each difference has the section of RFC 9113, unless another RFC is named.

use super::{
    Difference, closed, depends_on_itself, errs, has_wrong_length, ignores, is_malformed,
    is_parsable, resets,
};
use crate::HEADER_LIST;
use crate::seen::{Closed, Seen};
use crate::wire;

const NO_ERROR: u32 = 0x0;
const PROTOCOL_ERROR: u32 = 0x1;
const FLOW_CONTROL_ERROR: u32 = 0x3;
const STREAM_CLOSED: u32 = 0x5;
const FRAME_SIZE_ERROR: u32 = 0x6;
const REFUSED_STREAM: u32 = 0x7;
const COMPRESSION_ERROR: u32 = 0x9;
const ENHANCE_YOUR_CALM: u32 = 0xb;

/// After these, h2 is in a wrong state, even if both servers have reacted alike.
pub(super) const HIDDEN: &[Difference] = &[
    Difference {
        name: "h2 does not decode the header block of a stream that depends on itself",
        section: "4.3",
        applies: depends_on_itself,
    },
    Difference {
        name: "frames on an idle stream that an invalid PRIORITY has closed",
        section: "5.1.1, 6.3",
        applies: |case| {
            case.is(wire::PRIORITY)
                && case.stream() > case.history.last
                && !case.engine.sent.resets.is_empty()
        },
    },
];

pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "h2 sends no GOAWAY after a wrong preface, as it may",
        section: "3.4",
        applies: |case| {
            case.unit.is_some_and(|unit| unit.head.is_none())
                && closed(case, PROTOCOL_ERROR, PROTOCOL_ERROR)
        },
    },
    Difference {
        name: "h2 does not require that the first frame is SETTINGS",
        section: "3.4",
        applies: |case| {
            errs(case.engine, PROTOCOL_ERROR)
                && case.reason.is_some_and(|reason| reason.ends_with("not SETTINGS (3.4)"))
        },
    },
    Difference {
        name: "h2 calls a wrong length PROTOCOL_ERROR",
        section: "4.2",
        applies: |case| closed(case, FRAME_SIZE_ERROR, PROTOCOL_ERROR) && has_wrong_length(case),
    },
    Difference {
        name: "h2 calls an invalid header block PROTOCOL_ERROR",
        section: "4.3",
        applies: |case| {
            closed(case, COMPRESSION_ERROR, PROTOCOL_ERROR)
                && case.is(wire::HEADERS)
                && !case.has_list()
        },
    },
    Difference {
        name: "h2 calls an INITIAL_WINDOW_SIZE above 2^31-1 PROTOCOL_ERROR",
        section: "6.5.2",
        applies: |case| {
            closed(case, FLOW_CONTROL_ERROR, PROTOCOL_ERROR)
                && case.settings().any(|(id, value)| id == 4 && value >> 31 == 1)
        },
    },
    Difference {
        name: "h2 closes the connection for a value of ENABLE_CONNECT_PROTOCOL, which it does not use",
        section: "6.5.2, RFC 8441 section 3",
        applies: |case| {
            errs(case.h2, PROTOCOL_ERROR)
                && case.engine.closed.is_none()
                && case.settings().any(|(id, value)| id == 8 && value > 1)
        },
    },
    Difference {
        name: "h2 closes the connection for an acknowledgement of SETTINGS that it does not expect",
        section: "6.5.3",
        applies: |case| {
            errs(case.h2, PROTOCOL_ERROR)
                && ignores(case.engine)
                && case.is(wire::SETTINGS)
                && case.flags() & 1 != 0
                && case.history.settings_acks > 0
        },
    },
    Difference {
        name: "h2 closes the connection for PRIORITY with a wrong length",
        section: "6.3",
        applies: |case| {
            resets(case, case.engine, FRAME_SIZE_ERROR)
                && errs(case.h2, PROTOCOL_ERROR)
                && case.is(wire::PRIORITY)
        },
    },
    Difference {
        name: "h2 does not answer frames on a half-closed stream with STREAM_CLOSED",
        section: "5.1",
        applies: |case| {
            let is_wrong = errs(case.h2, PROTOCOL_ERROR)
                || case.is(wire::HEADERS) && resets(case, case.h2, PROTOCOL_ERROR);
            resets(case, case.engine, STREAM_CLOSED)
                && is_wrong
                && (case.is(wire::DATA) || case.is(wire::HEADERS))
                && case.is_used()
        },
    },
    Difference {
        name: "h2 calls HEADERS on a closed stream PROTOCOL_ERROR, as for an unexpected stream ID",
        section: "5.1, 5.1.1",
        applies: |case| {
            closed(case, STREAM_CLOSED, PROTOCOL_ERROR) && case.is(wire::HEADERS) && case.is_used()
        },
    },
    Difference {
        name: "h2 does not ignore frames in flight on streams that it has refused",
        section: "5.1",
        applies: |case| {
            let answers = resets(case, case.h2, STREAM_CLOSED) || errs(case.h2, PROTOCOL_ERROR);
            ignores(case.engine)
                && answers
                && (case.is(wire::DATA) || case.is(wire::HEADERS))
                && case.history.reset_by_server.contains(&case.stream())
        },
    },
    Difference {
        name: "h2 ignores frames on streams that it has reset, although the client had ended them",
        section: "5.1",
        applies: |case| {
            let stream = case.stream();
            (errs(case.engine, STREAM_CLOSED) || resets(case, case.engine, STREAM_CLOSED))
                && ignores(case.h2)
                && (case.is(wire::DATA) || case.is(wire::HEADERS))
                && case.history.reset_by_server.contains(&stream)
                && case.history.ended.contains(&stream)
        },
    },
    Difference {
        name: "h2 closes the connection for a WINDOW_UPDATE of zero on a stream",
        section: "6.9",
        applies: |case| {
            (resets(case, case.engine, PROTOCOL_ERROR) || ignores(case.engine))
                && errs(case.h2, PROTOCOL_ERROR)
                && case.is(wire::WINDOW_UPDATE)
                && case.stream() != 0
                && case.payload().iter().all(|byte| byte & 0x7f == 0)
        },
    },
    Difference {
        name: "h2 closes the connection for a field that it cannot parse",
        section: "8.1.1",
        applies: |case| {
            case.engine.closed.is_none()
                && case.engine.requests.is_empty()
                && errs(case.h2, PROTOCOL_ERROR)
                && !case.fields().iter().all(is_parsable)
        },
    },
    Difference {
        name: "h2 resets a stream before its malformed block is complete, and then takes CONTINUATION for an error",
        section: "4.3, 6.10",
        applies: |case| {
            case.engine.requests.is_empty()
                && errs(case.h2, PROTOCOL_ERROR)
                && case.unit.is_some_and(|unit| unit.frames > 1)
                && (is_malformed(case.fields()) || errs(case.engine, COMPRESSION_ERROR))
        },
    },
    Difference {
        name: "h2 forgets that a list is malformed if a later field is in two frames",
        section: "8.1.1",
        applies: |case| {
            resets(case, case.engine, PROTOCOL_ERROR)
                && case.h2.closed.is_none()
                && case.h2.sent.resets.is_empty()
                && case.unit.is_some_and(|unit| unit.frames > 1)
                && (is_malformed(case.fields())
                    || case.fields().iter().any(|(name, _)| name.is_empty()))
        },
    },
    Difference {
        name: "h2 calls a malformed request PROTOCOL_ERROR before it refuses the stream",
        section: "5.1.2, 8.1.1",
        applies: |case| {
            resets(case, case.engine, REFUSED_STREAM)
                && resets(case, case.h2, PROTOCOL_ERROR)
                && is_malformed(case.fields())
        },
    },
    Difference {
        name: "h2 resets a stream for a malformed list before it looks at the state of the stream",
        section: "5.1, 8.1.1",
        applies: |case| {
            case.engine.requests.is_empty()
                && resets(case, case.h2, PROTOCOL_ERROR)
                && is_malformed(case.fields())
                && (case.is_used() || case.stream().is_multiple_of(2))
        },
    },
    Difference {
        name: "h2 accepts pseudo-headers in trailers",
        section: "8.1",
        applies: |case| {
            resets(case, case.engine, PROTOCOL_ERROR)
                && case.h2.closed.is_none()
                && case.h2.sent.resets.is_empty()
                && case.history.open.contains(&case.stream())
                && case.fields().iter().any(|field| field.0.starts_with(b":"))
        },
    },
    Difference {
        name: "h2 accepts CONNECT without :authority",
        section: "8.5",
        applies: |case| {
            resets(case, case.engine, PROTOCOL_ERROR)
                && case.h2.requests.len() == 1
                && case.value(":method") == Some(b"CONNECT")
                && case.value(":authority").is_none()
        },
    },
    Difference {
        name: "h2 removes the fragment of a path",
        section: "8.3.1",
        applies: |case| {
            resets(case, case.engine, PROTOCOL_ERROR)
                && case.h2.requests.len() == 1
                && case.value(":path").is_some_and(|path| path.contains(&b'#'))
        },
    },
    Difference {
        name: "h2 accepts an empty content-length",
        section: "RFC 9110 section 8.6",
        applies: |case| {
            resets(case, case.engine, PROTOCOL_ERROR)
                && case.h2.closed.is_none()
                && case
                    .fields()
                    .iter()
                    .any(|(name, value)| name == b"content-length" && value.is_empty())
        },
    },
    Difference {
        name: "h2 refuses a content-length of 20 digits",
        section: "RFC 9110 section 8.6",
        applies: |case| {
            resets(case, case.h2, PROTOCOL_ERROR)
                && case.engine.requests.len() == 1
                && case
                    .fields()
                    .iter()
                    .any(|(name, value)| name == b"content-length" && value.len() >= 20)
        },
    },
    Difference {
        name: "h2 refuses a header list that is as long as the limit",
        section: "6.5.2",
        applies: |case| case.list_size() == HEADER_LIST as usize && case.h2.sent.headers.len() == 1,
    },
    Difference {
        name: "h2 resets a stream with PROTOCOL_ERROR after it has answered 431",
        section: "8.1",
        applies: |case| {
            let (mut engine, mut h2) = (case.engine.clone(), case.h2.clone());
            engine.sent.resets.remove(&(case.stream(), NO_ERROR))
                && h2.sent.resets.remove(&(case.stream(), PROTOCOL_ERROR))
                && engine == h2
                && case.list_size() > HEADER_LIST as usize
        },
    },
    Difference {
        name: "a list that is too long and malformed has two answers",
        section: "8.1.1, 10.5.1",
        applies: |case| {
            let refuses = |seen: &Seen| {
                seen.requests.is_empty()
                    && (seen.sent.headers.len() + seen.sent.resets.len() > 0
                        || seen.closed == Some(Closed::Error(PROTOCOL_ERROR)))
            };
            refuses(case.engine) && refuses(case.h2) && case.list_size() > HEADER_LIST as usize
        },
    },
    Difference {
        name: "h2 counts a list that is far too long only in part: each frame, without malformed fields",
        section: "8.1.1, 10.5.1",
        applies: |case| {
            errs(case.engine, ENHANCE_YOUR_CALM)
                && case.h2.requests.is_empty()
                && case.list_size() > 4 * HEADER_LIST as usize
                && (is_malformed(case.fields()) || case.unit.is_some_and(|unit| unit.frames > 1))
        },
    },
    Difference {
        name: "h2 stops to decode a list that is far too long, before the engine finds the block invalid",
        section: "4.3, 10.5.1",
        applies: |case| {
            closed(case, COMPRESSION_ERROR, ENHANCE_YOUR_CALM)
                && case.is(wire::HEADERS)
                && !case.has_list()
        },
    },
    Difference {
        name: "h2 decodes each frame of a block alone, so it permits a size update at the start of each",
        section: "RFC 7541 section 4.2",
        applies: |case| {
            errs(case.engine, COMPRESSION_ERROR)
                && case.unit.is_some_and(|unit| unit.frames > 1)
                && !case.has_list()
        },
    },
    Difference {
        name: "h2 calls a list over the limit COMPRESSION_ERROR if a field is in two of its frames",
        section: "4.3, 10.5.1",
        applies: |case| {
            case.engine.requests.is_empty()
                && errs(case.h2, COMPRESSION_ERROR)
                && case.unit.is_some_and(|unit| unit.frames > 1)
                && case.list_size() > HEADER_LIST as usize
        },
    },
    Difference {
        name: "h2 permits five CONTINUATION frames before the last one",
        section: "6.10, 10.5",
        applies: |case| {
            errs(case.h2, ENHANCE_YOUR_CALM) && case.unit.is_some_and(|unit| unit.frames > 6)
        },
    },
    Difference {
        name: "the engine bounds the bytes of a header block",
        section: "10.5.1",
        applies: |case| {
            errs(case.engine, ENHANCE_YOUR_CALM)
                && case.unit.is_some_and(|unit| unit.bytes.len() > 4 * HEADER_LIST as usize)
        },
    },
    Difference {
        name: "h2 closes the connection after the client's GOAWAY, once no stream is open",
        section: "6.8",
        applies: |case| {
            case.h2.closed == Some(Closed::Gracefully)
                && case.engine.closed.is_none()
                && (case.history.go_away || case.is(wire::GOAWAY))
        },
    },
    Difference {
        name: "h2 closes the connection if the client raises the last stream of its GOAWAY",
        section: "6.8",
        applies: |case| {
            errs(case.h2, PROTOCOL_ERROR)
                && ignores(case.engine)
                && case.is(wire::GOAWAY)
                && case.history.go_away
        },
    },
    Difference {
        name: "h2 does not know PRIORITY_UPDATE",
        section: "RFC 9218 section 7.1",
        applies: |case| {
            errs(case.engine, PROTOCOL_ERROR)
                && ignores(case.h2)
                && case.is(wire::PRIORITY_UPDATE)
                && case.stream() != 0
        },
    },
    Difference {
        name: "h2 decodes PUSH_PROMISE before it refuses it",
        section: "8.4",
        applies: |case| errs(case.engine, PROTOCOL_ERROR) && case.is(wire::PUSH_PROMISE),
    },
    Difference {
        name: "DATA exceeds a window that only one of the two has returned already",
        section: "6.9",
        applies: |case| {
            let exceeded = |(connection, stream): (i64, i64)| connection.min(stream) < 0;
            case.is(wire::DATA) && exceeded(case.windows.engine) != exceeded(case.windows.h2)
        },
    },
    Difference {
        name: "DATA has two errors: it exceeds the connection's window, and is on a wrong stream",
        section: "5.4.1",
        applies: |case| {
            closed(case, FLOW_CONTROL_ERROR, PROTOCOL_ERROR) && case.windows.engine.0 < 0
        },
    },
];
