use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::timer::{Timer, timer_at};
use crate::grpc::method::Method;
use crate::grpc::options::CallOptions;
use crate::grpc::status::Status;

/// The times at which a call is ended from outside.
pub(super) struct Limits {
    /// The earlier of the client's deadline and the server's own limit.
    end: Option<Limit>,
    /// How long the request may take to arrive; of methods whose clients do not stream.
    request: Option<Duration>,
    /// Until when it has to have arrived, once the call has waited for it.
    arrival: Option<Limit>,
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
}

impl Limit {
    /// `None` beyond all clocks.
    fn new(time: Duration, kind: Kind) -> Option<Self> {
        Some(Self { at: Instant::now().checked_add(time)?, time, kind })
    }
}

impl Limits {
    /// For a call that begins now.
    pub(super) fn new(options: &CallOptions, method: &Method, timeout: Option<Duration>) -> Self {
        let ends = [(timeout, Kind::Deadline), (options.duration_limit(), Kind::Duration)];
        let ends = ends.into_iter().filter_map(|(time, kind)| Limit::new(time?, kind));
        Self {
            end: ends.min_by_key(|limit| limit.at),
            request: options.request_limit().filter(|_| !method.client_streaming),
            arrival: None,
            timer: None,
        }
    }

    /// When the call ends, whatever it does.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.end.map(|limit| limit.at)
    }

    /// Ready when the call has to end, with the reason. While it is `receiving`, its request is not
    /// complete.
    pub(super) fn poll(&mut self, receiving: bool, cx: &mut Context<'_>) -> Poll<Status> {
        if let Some(time) = self.request.take() {
            self.arrival = Limit::new(time, Kind::Request);
        }
        let arrival = self.arrival.filter(|_| receiving);
        let Some(next) = [self.end, arrival].into_iter().flatten().min_by_key(|limit| limit.at)
        else {
            return Poll::Pending;
        };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != next.at) {
            self.timer = Some((next.at, timer_at(next.at)));
        }
        if let Some((_, timer)) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
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
        })
    }
}

pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before the call was done")
}
