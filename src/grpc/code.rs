use std::fmt;

use http::HeaderValue;

/// The seventeen status codes of gRPC (gRPC documentation, `statuscodes.md`). The set is closed, so a
/// `match` may name them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The call was cancelled, usually by the client.
    Cancelled = 1,
    /// An error without further information, such as a panic in a handler.
    Unknown = 2,
    /// The request is invalid in any state of the system.
    InvalidArgument = 3,
    /// The deadline passed before the call was complete.
    DeadlineExceeded = 4,
    /// The requested entity does not exist.
    NotFound = 5,
    /// The entity to be created exists already.
    AlreadyExists = 6,
    /// The caller is authenticated and does not have the permission.
    PermissionDenied = 7,
    /// A quota, a limit or a disk is exhausted.
    ResourceExhausted = 8,
    /// The system is not in the state that the call requires.
    FailedPrecondition = 9,
    /// The call conflicted with another call; retry the whole transaction.
    Aborted = 10,
    /// The value is past the end of the valid range.
    OutOfRange = 11,
    /// The method does not exist, or the server does not support this use of it.
    Unimplemented = 12,
    /// An invariant of the system or of the protocol is broken.
    Internal = 13,
    /// The service is unavailable for now; retry after a delay.
    Unavailable = 14,
    /// Data is lost or corrupt beyond repair.
    DataLoss = 15,
    /// The call has no valid credentials.
    Unauthenticated = 16,
}

/// Every code with its canonical name and its decimal form, in numeric order.
const CODES: [(Code, &str, &str); 17] = [
    (Code::Ok, "OK", "0"),
    (Code::Cancelled, "CANCELLED", "1"),
    (Code::Unknown, "UNKNOWN", "2"),
    (Code::InvalidArgument, "INVALID_ARGUMENT", "3"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "4"),
    (Code::NotFound, "NOT_FOUND", "5"),
    (Code::AlreadyExists, "ALREADY_EXISTS", "6"),
    (Code::PermissionDenied, "PERMISSION_DENIED", "7"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", "8"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", "9"),
    (Code::Aborted, "ABORTED", "10"),
    (Code::OutOfRange, "OUT_OF_RANGE", "11"),
    (Code::Unimplemented, "UNIMPLEMENTED", "12"),
    (Code::Internal, "INTERNAL", "13"),
    (Code::Unavailable, "UNAVAILABLE", "14"),
    (Code::DataLoss, "DATA_LOSS", "15"),
    (Code::Unauthenticated, "UNAUTHENTICATED", "16"),
];

impl Code {
    /// Returns the code with this number, or [`Code::Unknown`] for an unassigned number. A newer
    /// peer may send a code that this version does not have.
    pub fn from_i32(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|i| CODES.get(i)).map_or(Self::Unknown, |row| row.0)
    }

    /// Returns the name in the specification, such as `NOT_FOUND`.
    pub fn name(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The value of the `grpc-status` trailer.
    pub(crate) fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(CODES[self as usize].2)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_table_is_in_numeric_order() {
        for (number, (code, _, digits)) in CODES.iter().enumerate() {
            assert_eq!(*code as usize, number);
            assert_eq!(*digits, number.to_string());
            assert_eq!(Code::from_i32(number as i32), *code);
        }
    }

    #[test]
    fn code_of_an_unassigned_number_is_unknown() {
        for number in [-1, 17, i32::MAX, i32::MIN] {
            assert_eq!(Code::from_i32(number), Code::Unknown);
        }
    }
}
