//! Why stores fail.

use std::error::Error;
use std::fmt;

/// Why a store could not do what it was asked. It never holds a user's personal data, provided that
/// the given cause does not.
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
    /// The store cannot be reached or is too busy at present; the same call may succeed later.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Unavailable, cause: cause.into() }
    }

    /// The answer to a change was lost: it may be stored, or not.
    pub fn unknown(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Unknown, cause: cause.into() }
    }

    /// The store has no room for what was to be written.
    pub fn full(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Full, cause: cause.into() }
    }

    /// What the store holds cannot be a user.
    pub fn corrupt(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Corrupt, cause: cause.into() }
    }

    /// The key was given before, for another user.
    pub fn key_reused() -> Self {
        Self { kind: Kind::KeyReused, cause: "it was given for another user".into() }
    }

    /// A fault that no caller can do anything about, such as a refused statement.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind: Kind::Internal, cause: cause.into() }
    }

    /// The same of a change that may be stored all the same.
    pub(super) fn into_unknown(self) -> Self {
        Self { kind: Kind::Unknown, ..self }
    }

    /// The same for another caller.
    pub(super) fn copied(&self) -> Self {
        Self { kind: self.kind, cause: self.cause.to_string().into() }
    }

    /// The same, with the place where it happened.
    pub(super) fn within(self, place: &str) -> Self {
        Self { kind: self.kind, cause: format!("{place}: {}", self.cause).into() }
    }

    /// Of several places that were tried, of which none would do. It is of the first one's kind.
    pub(super) fn all(faults: Vec<Self>) -> Self {
        let kind = faults.first().map_or(Kind::Unavailable, |fault| fault.kind);
        let causes: Vec<_> = faults.iter().map(|fault| fault.cause.to_string()).collect();
        Self { kind, cause: causes.join("; ").into() }
    }

    /// Whether the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// Whether it is unknown if the change is stored.
    pub fn is_unknown(&self) -> bool {
        self.kind == Kind::Unknown
    }

    /// Whether the store has no room for what was to be written.
    pub fn is_full(&self) -> bool {
        self.kind == Kind::Full
    }

    /// Whether stored data was lost or damaged.
    pub fn is_corrupt(&self) -> bool {
        self.kind == Kind::Corrupt
    }

    /// Whether the key was given before, for another user.
    pub fn is_key_reused(&self) -> bool {
        self.kind == Kind::KeyReused
    }

    /// Whether it is none of the other kinds.
    pub fn is_internal(&self) -> bool {
        self.kind == Kind::Internal
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Unavailable => "user store unavailable",
            Kind::Unknown => "user store lost an answer",
            Kind::Full => "user store full",
            Kind::Corrupt => "user store corrupt",
            Kind::KeyReused => "idempotency key reused",
            Kind::Internal => "user store failed",
        };
        write!(f, "{what}: {}", self.cause)
    }
}

impl Error for StoreError {
    /// The cause of the cause: the cause itself is part of the `Display` text.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_one_kind_and_names_its_cause() {
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
