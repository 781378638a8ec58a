use std::error::Error;
use std::fmt;

use crate::config::Problems;

/// Why the server does not start or a command fails, in one line.
#[derive(Debug)]
pub(crate) struct StartError {
    context: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl StartError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { context: text.into(), cause: None }
    }

    /// An error with a cause. `context` is the setting or the action that failed.
    pub(crate) fn caused_by(
        context: impl fmt::Display,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { context: context.to_string(), cause: Some(cause.into()) }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {cause}", self.context),
            None => f.write_str(&self.context),
        }
    }
}

impl Error for StartError {
    /// The cause of the cause: the `Display` text includes the cause itself.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref()?.source()
    }
}

impl From<StartError> for Problems {
    fn from(error: StartError) -> Self {
        Self::one(error.to_string())
    }
}
