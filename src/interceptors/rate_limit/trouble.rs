use std::fmt;
use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;

/// The same trouble is a new line of the log if it comes back after this time: a Redis that answers now
/// and then would otherwise be two lines a second.
const SAME_TROUBLE: Duration = Duration::from_secs(10);

/// Why limits are not shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// What was seen of it.
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
    /// It answers with an error of another kind: wrong passwords are one.
    Refuses,
    /// Its keys are spread over servers.
    Cluster,
    /// It knows where a Redis is, and is none.
    Sentinel,
}

impl Trouble {
    pub(super) fn new(kind: Kind, problem: impl fmt::Display) -> Self {
        Self { kind, problem: problem.to_string() }
    }

    /// Whether no time will mend it.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.kind, Kind::Cluster | Kind::Sentinel)
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        let problem = error.to_string();
        // Before version 7 the code of what a script meets is within the text.
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

/// What the log was told, so that it is told once.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Option<(Kind, Instant)>,
    /// What the last line says: whether limits are shared. `None` before it.
    shared: Option<bool>,
}

impl Told {
    /// Whether trouble of this kind is worth a line.
    pub(super) fn of_trouble(&mut self, kind: Kind) -> bool {
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

    /// Whether it is worth a line that limits are shared.
    pub(super) fn of_sharing(&mut self) -> bool {
        self.shared.replace(true) != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_told_once_and_again_when_it_has_been_over_for_a_while() {
        let mut told = Told::default();
        assert!(told.of_sharing() && !told.of_sharing());
        assert!(told.of_trouble(Kind::Away));
        tokio::time::advance(100 * SAME_TROUBLE).await;
        assert!(!told.of_trouble(Kind::Away), "it was never over");
        assert!(told.of_trouble(Kind::Full), "another");
        assert!(told.of_sharing());
        assert!(!told.of_trouble(Kind::Full), "it was over for no time");
        assert!(!told.of_sharing(), "nobody was told otherwise");
        tokio::time::advance(SAME_TROUBLE).await;
        assert!(told.of_trouble(Kind::Full));
    }
}
