//! Short constructors for the most used error details.

use std::time::Duration;

use crate::google::rpc::bad_request::FieldViolation;
use crate::google::rpc::{
    BadRequest, ErrorInfo, Help, LocalizedMessage, PreconditionFailure, QuotaFailure, RequestInfo,
    ResourceInfo, RetryInfo, help, precondition_failure, quota_failure,
};

impl BadRequest {
    /// A detail without violations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a violation: the path of the field, such as `emails[3].address`, and what is wrong.
    #[must_use]
    pub fn violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.field_violations.push(FieldViolation {
            field: field.into(),
            description: description.into(),
            ..FieldViolation::default()
        });
        self
    }
}

impl RetryInfo {
    /// Asks the client to wait this long before it retries.
    pub fn after(delay: Duration) -> Self {
        /// The longest duration that `google.protobuf.Duration` allows: 10,000 years.
        const LONGEST: prost_types::Duration =
            prost_types::Duration { seconds: 315_576_000_000, nanos: 0 };
        Self { retry_delay: Some(prost_types::Duration::try_from(delay).unwrap_or(LONGEST)) }
    }

    /// How long the client should wait; `None` if the delay is missing or negative.
    pub fn delay(&self) -> Option<Duration> {
        Duration::try_from(self.retry_delay?).ok()
    }
}

impl ErrorInfo {
    /// An error with a machine-readable reason (`UPPER_SNAKE_CASE`) within a domain, such as the
    /// service's name.
    pub fn new(reason: impl Into<String>, domain: impl Into<String>) -> Self {
        Self { reason: reason.into(), domain: domain.into(), ..Self::default() }
    }

    /// Adds a metadata entry that describes the reason.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.metadata.insert(key.into(), value.to_string());
        self
    }
}

impl QuotaFailure {
    /// One exceeded quota: its subject and a description.
    pub fn new(subject: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = quota_failure::Violation {
            subject: subject.into(),
            description: description.into(),
            ..quota_failure::Violation::default()
        };
        Self { violations: vec![violation] }
    }
}

impl PreconditionFailure {
    /// One precondition that does not hold: its kind, its subject, and a description with the
    /// remedy.
    pub fn new(
        kind: impl Into<String>,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let violation = precondition_failure::Violation {
            r#type: kind.into(),
            subject: subject.into(),
            description: description.into(),
        };
        Self { violations: vec![violation] }
    }
}

impl ResourceInfo {
    /// A resource by its type, such as `user`, and its name.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { resource_type: kind.into(), resource_name: name.into(), ..Self::default() }
    }
}

impl RequestInfo {
    /// An id that identifies this call in the server's logs.
    pub fn new(request_id: impl Into<String>) -> Self {
        Self { request_id: request_id.into(), ..Self::default() }
    }
}

impl Help {
    /// One link to a help page.
    pub fn link(url: impl Into<String>, description: impl Into<String>) -> Self {
        Self { links: vec![help::Link { url: url.into(), description: description.into() }] }
    }
}

impl LocalizedMessage {
    /// A message that may be shown to a user, and its BCP 47 locale, such as `fr-CH`.
    pub fn new(locale: impl Into<String>, message: impl Into<String>) -> Self {
        Self { locale: locale.into(), message: message.into() }
    }
}
