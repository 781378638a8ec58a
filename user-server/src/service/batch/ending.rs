//! The status of a `CreateUsers` stream that ends with an error.

use super::Mode;
use crate::pb::user_service;
use crate::service::error::RETRY_AFTER;
use balafon::google::rpc::{ErrorInfo, RetryInfo};
use balafon::{Code, Status};

/// The result of a stream that ends with an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) mode: Mode,
    /// Whether the stream has an idempotency key. It is then safe to repeat.
    pub(super) keyed: bool,
    /// The number of stored users.
    pub(super) created: usize,
    /// The number of messages, from the first, that are stored or refused.
    pub(super) messages: usize,
    /// The number of further users that may or may not be stored.
    pub(super) unknown: usize,
}

impl Ending {
    /// Adds the result to a status, and how to continue without creating a user twice.
    pub(super) fn explain(self, status: Status) -> Status {
        // These codes already say that nothing was stored, or that a repetition would fail.
        if matches!(status.code(), Code::InvalidArgument | Code::FailedPrecondition) {
            return status;
        }
        let code = self.code(status.code());
        let mut explained = Status::new(code, self.text(&status));
        let reason = || ErrorInfo::new("BATCH_INCOMPLETE", user_service::NAME);
        let mut info = status.detail::<ErrorInfo>().unwrap_or_else(reason);
        info = info.with("created", self.created).with("messages", self.messages);
        if self.unknown > 0 {
            info = info.with("unknown", self.unknown);
        }
        explained = explained.with_detail(&info);
        if code == Code::Unavailable
            && let Some(retry) = status.detail().or_else(|| self.retry())
        {
            explained = explained.with_detail::<RetryInfo>(&retry);
        }
        explained
    }

    /// UNAVAILABLE only if the stream is safe to repeat: many clients retry it automatically.
    fn code(self, code: Code) -> Code {
        match code {
            Code::Unknown if self.keyed => Code::Unavailable,
            Code::Unavailable if self.keyed => Code::Unavailable,
            Code::Unavailable if self.unknown > 0 => Code::Unknown,
            Code::Unavailable if self.created > 0 => Code::Aborted,
            code => code,
        }
    }

    fn retry(self) -> Option<RetryInfo> {
        if self.unknown > 0 { Some(RetryInfo::after(RETRY_AFTER)) } else { None }
    }

    fn text(self, status: &Status) -> String {
        let Self { mode, keyed, created, messages, unknown } = self;
        let mut text = status.message().to_owned();
        if created == 0 && unknown == 0 && status.code() != Code::ResourceExhausted {
            return text;
        }
        text += "; ";
        if keyed {
            text += "repeat the stream with the same idempotency-key: ";
        } else if mode == Mode::Chunked && unknown == 0 && created > 0 {
            text += &format!("continue with messages[{messages}] in another stream: ");
        }
        text += &format!("{created} users were created");
        if unknown > 0 {
            text += &format!(", and the next {unknown} may or may not have been");
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn unavailable() -> Status {
        Status::unavailable("away").with_detail(&RetryInfo::after(RETRY_AFTER))
    }

    const NOTHING: Ending =
        Ending { mode: Mode::Chunked, keyed: false, created: 0, messages: 0, unknown: 0 };

    #[test]
    fn batch_error_is_unavailable_only_if_repeatable() {
        let partial = Ending { created: 520, messages: 523, ..NOTHING };
        let uncertain = Ending { unknown: 80, ..partial };
        for (ending, code, repeatable) in [
            (NOTHING, Code::Unavailable, true),
            (partial, Code::Aborted, false),
            (uncertain, Code::Unknown, false),
            (Ending { keyed: true, ..partial }, Code::Unavailable, true),
            (Ending { keyed: true, ..uncertain }, Code::Unavailable, true),
        ] {
            let status = ending.explain(unavailable());
            assert_eq!(status.code(), code, "{ending:?}");
            assert_eq!(status.detail::<RetryInfo>().is_some(), repeatable, "{ending:?}");
            let info: ErrorInfo = status.detail().unwrap();
            assert_eq!(info.metadata["created"], ending.created.to_string());
            assert_eq!(info.metadata["messages"], ending.messages.to_string());
            assert_eq!(info.metadata.contains_key("unknown"), ending.unknown > 0);
            let says_unknown = status.message().contains("the next 80 may or may not");
            assert_eq!(says_unknown, ending.unknown > 0, "{status}");
        }
        let lost = Status::unknown("an answer was lost");
        let status = Ending { keyed: true, ..uncertain }.explain(lost);
        assert!(status.code() == Code::Unavailable && status.detail::<RetryInfo>().is_some());
    }

    #[test]
    fn batch_error_says_how_to_continue() {
        let partial = Ending { created: 2, messages: 3, ..NOTHING };
        let text = |ending: Ending| ending.explain(unavailable()).message().to_owned();
        let expected = "away; continue with messages[3] in another stream: 2 users were created";
        assert_eq!(text(partial), expected);
        let keyed = "away; repeat the stream with the same idempotency-key: 2 users were created";
        assert_eq!(text(Ending { keyed: true, ..partial }), keyed);
        assert_eq!(text(NOTHING), "away");
        let full = NOTHING.explain(Status::resource_exhausted("full"));
        assert_eq!(full.message(), "full; 0 users were created");
    }
}
