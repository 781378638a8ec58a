use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::grpc::method::Method;
use crate::grpc::options::CallOptions;
use crate::grpc::server::scheduling::timer::{Timer, timer_at};
use crate::grpc::status::Status;

/// The times at which a call is ended from outside.
pub(crate) struct CallLimits {
    /// The earlier of the client's deadline and the server's own limit.
    end: Option<Limit>,
    /// How long the request may take to arrive; of methods whose clients do not stream.
    request: Option<Duration>,
    /// Until when it has to have arrived, once the call has waited for it.
    arrival: Option<Limit>,
    /// How long the client may be silent; of methods whose clients stream.
    idle: Option<Duration>,
    /// Until when it has to send or read something more than this, while it is waited for.
    idle_until: Option<(Progress, Limit)>,
    /// Made when the call first has to wait, which most never do, and its time.
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

/// What a client has done in a call so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Messages that it has sent.
    pub(crate) received: u64,
    /// Bytes that it has read, or that are on the way.
    pub(crate) gone: u64,
}

impl Limit {
    /// `None` beyond all clocks.
    fn new(time: Duration, kind: Kind) -> Option<Self> {
        Some(Self { at: Instant::now().checked_add(time)?, time, kind })
    }
}

impl CallLimits {
    /// For a call that begins now.
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

    /// When the call ends, whatever it does.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.end.map(|limit| limit.at)
    }

    /// Whether it counts how long the client is silent.
    pub(crate) fn has_idle_limit(&self) -> bool {
        self.idle.is_some()
    }

    /// Ready when the call has to end, with the reason. While it is `receiving`, its request is not
    /// complete; with `awaited` the handler waits for a client that has done so much.
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
        // An earlier one is kept, and put off only when it is over: each message puts silence off.
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
                "the client has sent no message, or read none, for the {time:?} that the server allows"
            )),
        })
    }

    /// Until when the client may be silent.
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
