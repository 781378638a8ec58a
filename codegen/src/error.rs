use std::{fmt, io};

/// Why compilation failed.
///
/// `Debug` prints the same readable message as `Display`, since that is what Cargo shows of a build script whose
/// `main` returns the error.
pub struct Error(Kind);

enum Kind {
    /// A fault of a `.proto` file, or of the way to it.
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

// No `source`: the message already says all that the inner error does.
impl std::error::Error for Error {}
