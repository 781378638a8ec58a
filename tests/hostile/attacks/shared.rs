//! A connection that many calls share. The end of each call is checked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::attacker::Report;
use crate::client::{CHECK, WATCH};
use crate::link::{Reader, Target, Writer, open};
use crate::wire::{DATA, Frames, HEADERS, MAX_WINDOW, RST_STREAM, head, message};

/// Longer than any expected answer takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// An event on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Message,
    /// The end, with this status.
    Status(Option<u32>),
    Reset(u32),
}

type Events = mpsc::UnboundedReceiver<Event>;

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) writer: Writer,
    next: Arc<tokio::sync::Mutex<u32>>,
    streams: Arc<Mutex<HashMap<u32, mpsc::UnboundedSender<Event>>>>,
    /// Successful health checks.
    pub(super) checks: Arc<AtomicUsize>,
    broken: Arc<Mutex<Vec<String>>>,
}

impl Shared {
    pub(super) async fn connect(target: &Target) -> Self {
        let (reader, writer) = open(target, MAX_WINDOW).await.unwrap();
        let shared = Self {
            writer,
            next: Arc::new(tokio::sync::Mutex::new(1)),
            streams: Arc::default(),
            checks: Arc::default(),
            broken: Arc::default(),
        };
        tokio::spawn(shared.clone().read(reader));
        shared
    }

    async fn read(self, mut reader: Reader) {
        while let Some(frame) = reader.next().await {
            let event = match frame.kind {
                DATA => Event::Message,
                HEADERS => {
                    // Each block must be decoded, because the next one depends on its table.
                    let status = reader.status(&frame);
                    if !frame.ends() {
                        continue;
                    }
                    Event::Status(status)
                }
                RST_STREAM => Event::Reset(frame.number()),
                _ => continue,
            };
            let mut streams = self.streams.lock().unwrap();
            if let Some(stream) = streams.get(&frame.stream) {
                let _ = stream.send(event);
            }
            if frame.ends() {
                streams.remove(&frame.stream);
            }
        }
        self.streams.lock().unwrap().clear();
    }

    /// Opens a stream with this header block and these frames.
    pub(super) async fn call(
        &self,
        block: &[u8],
        more: impl FnOnce(&mut Frames, u32),
    ) -> Option<(u32, Events)> {
        // Streams open in the order of their numbers.
        let mut next = self.next.lock().await;
        let stream = *next;
        *next += 2;
        let (send, events) = mpsc::unbounded_channel();
        self.streams.lock().unwrap().insert(stream, send);
        let mut frames = Frames::default();
        more(frames.headers(stream, block), stream);
        self.writer.send(&frames.0).await.ok()?;
        Some((stream, events))
    }

    /// Writes up to three streams without waiting for them.
    pub(super) async fn break_a_rule(&self, streams: impl FnOnce(&mut Frames, u32)) -> bool {
        let mut next = self.next.lock().await;
        let mut frames = Frames::default();
        streams(&mut frames, *next);
        *next += 6;
        self.writer.send(&frames.0).await.is_ok()
    }

    pub(super) fn fails(&self, why: impl Into<String>) {
        self.broken.lock().unwrap().push(why.into());
    }

    /// The bystander on the same connection: a Watch that must not end, and checks that must be
    /// answered. Returns at the end of the attack.
    pub(super) async fn bystander(&self, target: &Target) {
        let none = message(false, &[]);
        let watch = head(WATCH, &[]);
        let opened = self.call(&watch, |frames, stream| {
            frames.last_data(stream, &none);
        });
        let Some((_, mut watched)) = opened.await else { return self.fails("cannot watch") };
        let check = head(CHECK, &[]);
        while target.goes_on() {
            let opened = self.call(&check, |frames, stream| {
                frames.last_data(stream, &none);
            });
            let mut event = None;
            if let Some((_, mut events)) = opened.await {
                event = timeout(PATIENCE, events.recv()).await.ok().flatten();
                if event == Some(Event::Message) {
                    event = timeout(PATIENCE, events.recv()).await.ok().flatten();
                }
            }
            // REFUSED_STREAM: any client would call again.
            if event == Some(Event::Reset(7)) {
                sleep(Duration::from_millis(1)).await;
                continue;
            }
            if event != Some(Event::Status(Some(0))) {
                return self.fails(format!("a check on the same connection ended with {event:?}"));
            }
            self.checks.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
        }
        let mut last = Event::Message;
        while let Ok(event) = watched.try_recv() {
            last = event;
        }
        if last != Event::Message || watched.is_closed() {
            self.fails(format!("the watch on the same connection ended with {last:?}"));
        }
    }

    pub(super) fn report(&self) -> Report {
        let mut report = Report::of([&self.writer.seen]);
        report.broken = self.broken.lock().unwrap().clone();
        if report.cut > 0 {
            report.broken.push(format!("the connection is gone: {:?}", self.writer.seen.goaway()));
        }
        report.noting(format!("{} checks", self.checks.load(Ordering::Relaxed)))
    }
}
