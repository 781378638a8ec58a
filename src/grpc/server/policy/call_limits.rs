use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::grpc::method::Method;
use crate::grpc::options::CallOptions;
use crate::grpc::server::scheduling::timer::{Timer, timer_at};
use crate::grpc::status::Status;

/// The time limits of a call.
pub(crate) struct CallLimits {
    /// The earlier of the client's deadline and the server's duration limit.
    end: Option<Limit>,
    /// The time for the request to arrive. Only for methods without client streaming.
    request: Option<Duration>,
    /// The resulting deadline, set when the call is first pending.
    arrival: Option<Limit>,
    /// The time without progress by the client. Only for methods with client streaming.
    idle: Option<Duration>,
    /// The deadline for more progress than this, while the handler waits for the client.
    idle_until: Option<(Progress, Limit)>,
    /// The timer and its deadline. Created when the call is first pending; most calls never are.
    timer: Option<(Instant, Timer)>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    at: Instant,
    time: Duration,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Deadline,
    Duration,
    Request,
    Idle,
}

/// The progress of a client in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Messages that the client has sent.
    pub(crate) received: u64,
    /// Response bytes that the client has read, or that are in flight.
    pub(crate) gone: u64,
}

impl Limit {
    /// `None` if the deadline cannot be represented.
    fn new(time: Duration, kind: Kind) -> Option<Self> {
        Some(Self { at: Instant::now().checked_add(time)?, time, kind })
    }
}

impl CallLimits {
    /// The limits of a call that begins now.
    pub(crate) fn new(options: &CallOptions, method: &Method, timeout: Option<Duration>) -> Self {
        let ends = [(timeout, Kind::Deadline), (options.duration_limit(), Kind::Duration)];
        let ends = ends.into_iter().filter_map(|(time, kind)| Limit::new(time?, kind));
        Self {
            end: ends.min_by_key(|limit| limit.at),
            request: options.request_limit().filter(|_| !method.client_streaming),
            arrival: None,
            idle: options.idle_limit().filter(|_| method.client_streaming),
            idle_until: None,
            timer: None,
        }
    }

    /// The deadline of the call.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.end.map(|limit| limit.at)
    }

    /// Whether the client's idle time is limited.
    pub(crate) fn has_idle_limit(&self) -> bool {
        self.idle.is_some()
    }

    /// Ready with a status when the call must end. `receiving` is true until the request is
    /// complete. `awaited` is the client's progress while the handler waits for the client.
    pub(crate) fn poll(
        &mut self,
        receiving: bool,
        awaited: Option<Progress>,
        cx: &mut Context<'_>,
    ) -> Poll<Status> {
        if let Some(time) = self.request.take() {
            self.arrival = Limit::new(time, Kind::Request);
        }
        let arrival = self.arrival.filter(|_| receiving);
        let idle = self.idle_limit(awaited.filter(|_| receiving));
        let Some(next) =
            [self.end, arrival, idle].into_iter().flatten().min_by_key(|limit| limit.at)
        else {
            return Poll::Pending;
        };
        // An earlier timer is kept and replaced only when it expires, because each message moves
        // the idle deadline.
        self.timer.take_if(|(at, _)| *at > next.at);
        loop {
            let (at, timer) = self.timer.get_or_insert_with(|| (next.at, timer_at(next.at)));
            ready!(timer.as_mut().poll(cx));
            if *at == next.at {
                break;
            }
            self.timer = None;
        }
        let Limit { time, kind, .. } = next;
        Poll::Ready(match kind {
            Kind::Deadline => deadline_exceeded(),
            Kind::Duration => Status::deadline_exceeded(format!(
                "the call took longer than the {time:?} that the server allows"
            )),
            Kind::Request => Status::deadline_exceeded(format!(
                "the request did not arrive within the {time:?} that the server allows"
            )),
            Kind::Idle => Status::deadline_exceeded(format!(
                "the client was idle for longer than the {time:?} that the server allows"
            )),
        })
    }

    /// Returns the idle deadline, which each progress of the client moves.
    fn idle_limit(&mut self, awaited: Option<Progress>) -> Option<Limit> {
        let (idle, progress) = (self.idle?, awaited);
        self.idle_until.take_if(|(before, _)| Some(*before) != progress);
        let progress = progress?;
        if self.idle_until.is_none() {
            self.idle_until = Some((progress, Limit::new(idle, Kind::Idle)?));
        }
        self.idle_until.map(|(_, limit)| limit)
    }
}

pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the call was done")
}
