//! Errors of stores.

use std::error::Error;
use std::fmt;

/// An error of a store. It contains no personal data, provided that its cause does not.
#[derive(Debug)]
pub struct StoreError {
    kind: Kind,
    cause: Box<dyn Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Unknown,
    Full,
    Corrupt,
    KeyReused,
    Internal,
}

impl StoreError {
    /// The store is unreachable or too busy. The same call may succeed later.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Unavailable, cause: cause.into() }
    }

    /// The answer to a change was lost. The change may or may not be stored.
    pub fn unknown(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Unknown, cause: cause.into() }
    }

    /// The store has no space left.
    pub fn full(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Full, cause: cause.into() }
    }

    /// Stored data is damaged.
    pub fn corrupt(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Corrupt, cause: cause.into() }
    }

    /// The idempotency key was used before, for another creation.
    pub fn key_reused() -> Self {
        Self { kind: Kind::KeyReused, cause: "it was used for another creation".into() }
    }

    /// A fault that the caller cannot fix, such as a refused statement.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Internal, cause: cause.into() }
    }

    /// The same error, for a change that may be stored nevertheless.
    pub(super) fn into_unknown(self) -> Self {
        Self { kind: Kind::Unknown, ..self }
    }

    /// A copy for another caller.
    pub(super) fn copied(&self) -> Self {
        Self { kind: self.kind, cause: self.cause.to_string().into() }
    }

    /// The same error with the host where it happened.
    pub(super) fn at_host(self, host: &str) -> Self {
        Self { kind: self.kind, cause: format!("{host}: {}", self.cause).into() }
    }

    /// One error for several hosts that all failed. It has the kind of the first one.
    pub(super) fn all(faults: Vec<Self>) -> Self {
        let kind = faults.first().map_or(Kind::Unavailable, |fault| fault.kind);
        let causes: Vec<_> = faults.iter().map(|fault| fault.cause.to_string()).collect();
        Self { kind, cause: causes.join("; ").into() }
    }

    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// Whether the change may or may not be stored.
    pub fn is_unknown(&self) -> bool {
        self.kind == Kind::Unknown
    }

    /// Whether the store has no space left.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Whether stored data is damaged.
    pub fn is_corrupt(&self) -> bool {
        self.kind == Kind::Corrupt
    }

    /// Whether the idempotency key was used before, for another creation.
    pub fn is_key_reused(&self) -> bool {
        self.kind == Kind::KeyReused
    }

    /// Whether it has none of the other kinds.
    pub fn is_internal(&self) -> bool {
        self.kind == Kind::Internal
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Unavailable => "user store unavailable",
            Kind::Unknown => "user store lost an answer",
            Kind::Full => "user store full",
            Kind::Corrupt => "user store corrupt",
            Kind::KeyReused => "idempotency key reused",
            Kind::Internal => "user store failed",
        };
        write!(f, "{kind}: {}", self.cause)
    }
}

impl Error for StoreError {
    /// The cause of the cause: the `Display` text includes the cause itself.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_error_has_one_kind_and_its_cause() {
        let kinds = |e: &StoreError| -> Vec<u8> {
            let others = [e.is_full(), e.is_corrupt(), e.is_key_reused(), e.is_internal()];
            [e.is_unavailable(), e.is_unknown()].into_iter().chain(others).map(u8::from).collect()
        };
        let unavailable = StoreError::unavailable("connection refused");
        assert_eq!(unavailable.to_string(), "user store unavailable: connection refused");
        assert_eq!(kinds(&unavailable), [1, 0, 0, 0, 0, 0]);
        assert_eq!(kinds(&unavailable.into_unknown()), [0, 1, 0, 0, 0, 0]);
        assert_eq!(kinds(&StoreError::unknown("x")), [0, 1, 0, 0, 0, 0]);
        assert_eq!(kinds(&StoreError::full("x")), [0, 0, 1, 0, 0, 0]);
        assert_eq!(kinds(&StoreError::corrupt("x")), [0, 0, 0, 1, 0, 0]);
        assert_eq!(kinds(&StoreError::key_reused()), [0, 0, 0, 0, 1, 0]);
        assert_eq!(kinds(&StoreError::internal("x")), [0, 0, 0, 0, 0, 1]);
    }
}
