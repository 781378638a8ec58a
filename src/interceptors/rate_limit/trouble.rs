use std::fmt;
use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;

/// The least time between two log lines about the same problem. A Redis that answers now and then would
/// otherwise cause two lines a second.
const SAME_TROUBLE: Duration = Duration::from_secs(10);

/// The reason why limits are not shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// The error itself.
    pub(super) problem: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It does not answer.
    Away,
    /// It is a replica, or about to become one.
    ReadOnly,
    /// It has all the memory that it may have (`maxmemory`).
    Full,
    /// It answers with another error, such as a wrong password.
    Refuses,
    /// Its keys are spread over servers.
    Cluster,
    /// It is a Redis Sentinel.
    Sentinel,
}

impl Trouble {
    pub(super) fn new(kind: Kind, problem: impl fmt::Display) -> Self {
        Self { kind, problem: problem.to_string() }
    }

    /// Whether the problem is permanent.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.kind, Kind::Cluster | Kind::Sentinel)
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let problem = error.to_string();
        // Before Redis 7, the code of an error within a script is in the text.
        let is = |code: &str| error.code() == Some(code) || problem.contains(&format!("-{code} "));
        let kind = if is("READONLY") {
            Kind::ReadOnly
        } else if is("OOM") {
            Kind::Full
        } else if ["MOVED", "ASK", "CLUSTERDOWN", "CROSSSLOT"].into_iter().any(is)
            || problem.contains("in cluster mode")
        {
            Kind::Cluster
        } else if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
            Kind::Away
        } else {
            Kind::Refuses
        };
        Self { kind, problem }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Away => "it does not answer",
            Self::ReadOnly => "it is read-only, as a replica is: name the primary",
            Self::Full => "it is out of memory: raise its maxmemory, or let it evict keys",
            Self::Refuses => "it answers with an error",
            Self::Cluster => {
                "it is a Redis Cluster, which cannot share limits: name a Redis by itself"
            }
            Self::Sentinel => {
                "it is a Redis Sentinel, which cannot share limits: name the Redis that it watches"
            }
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind, self.problem)
    }
}

/// The state of the log, which has one line for each change.
#[derive(Debug, Default)]
pub(super) struct LogState {
    last: Option<(Kind, Instant)>,
    /// Whether the last line reported that limits are shared. `None` before the first line.
    shared: Option<bool>,
}

impl LogState {
    /// Whether to log a problem of this kind.
    pub(super) fn should_log_problem(&mut self, kind: Kind) -> bool {
        let same = |(last, at): &(Kind, Instant)| {
            *last == kind && (self.shared == Some(false) || at.elapsed() < SAME_TROUBLE)
        };
        if self.last.as_ref().is_some_and(same) {
            return false;
        }
        self.last = Some((kind, Instant::now()));
        self.shared = Some(false);
        true
    }

    /// Whether to log that limits are shared.
    pub(super) fn should_log_sharing(&mut self) -> bool {
        self.shared.replace(true) != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn redis_problem_is_logged_once_for_a_while() {
        let mut log = LogState::default();
        assert!(log.should_log_sharing() && !log.should_log_sharing());
        assert!(log.should_log_problem(Kind::Away));
        tokio::time::advance(100 * SAME_TROUBLE).await;
        assert!(!log.should_log_problem(Kind::Away), "it was never over");
        assert!(log.should_log_problem(Kind::Full), "another");
        assert!(log.should_log_sharing());
        assert!(!log.should_log_problem(Kind::Full), "it was over for no time");
        assert!(!log.should_log_sharing(), "the log has it already");
        tokio::time::advance(SAME_TROUBLE).await;
        assert!(log.should_log_problem(Kind::Full));
    }
}
