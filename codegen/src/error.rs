use std::{fmt, io};

/// A failed compilation.
///
/// `Debug` prints the same message as `Display`, since Cargo shows `Debug` when the `main` of a build script returns
/// the error.
pub struct Error(Kind);

enum Kind {
    /// A `.proto` file is invalid, or cannot be found or read.
    Proto(protox::Error),
    Io(String, io::Error),
    Invalid(String),
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>, err: io::Error) -> Self {
        Self(Kind::Io(doing.into(), err))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self(Kind::Invalid(message.into()))
    }
}

impl From<protox::Error> for Error {
    fn from(err: protox::Error) -> Self {
        Self(Kind::Proto(err))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // Only protox's `Debug` says file:line:column.
            Kind::Proto(err) => write!(f, "{err:?}"),
            Kind::Io(doing, err) => write!(f, "{doing}: {err}"),
            Kind::Invalid(message) => f.write_str(message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Io(_, err) => Some(err),
            // The message already has all of the inner error.
            Kind::Proto(_) | Kind::Invalid(_) => None,
        }
    }
}
