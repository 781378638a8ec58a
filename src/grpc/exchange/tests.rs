use std::task::Poll;

use bytes::Bytes;

use super::inbound::READ_AHEAD;
use super::outbound::COALESCE;
use super::*;
use crate::grpc::encoded::Encoded;
use crate::grpc::frame::HEADER_LEN;
use crate::grpc::method::UNKNOWN_METHOD;

fn terms(receive_limit: usize) -> Terms {
    Terms {
        method: &UNKNOWN_METHOD,
        deadline: None,
        receive_limit,
        send_limit: 1 << 20,
        encoding: None,
        inflate_budget: None,
        compressor: None,
    }
}

fn exchange() -> Arc<Exchange> {
    Exchange::new(terms(100))
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn send_waits_while_a_full_frame_is_unsent() {
    let exchange = exchange();
    assert!(exchange.poll_nearly_sent(&mut noop()).is_ready());
    exchange.write(&"x".repeat(COALESCE)).unwrap();
    assert!(exchange.poll_nearly_sent(&mut noop()).is_pending());
    let mut state = exchange.lock();
    state.outbound.split(10);
    assert_eq!(state.outbound.take_writers().len(), 1);
    drop(state);
    assert!(exchange.poll_nearly_sent(&mut noop()).is_ready());
}

fn encoded(messages: &[String]) -> Encoded<String> {
    let mut encoded = Encoded::new();
    messages.iter().for_each(|message| encoded.push(message).unwrap());
    encoded
}

fn take_all(exchange: &Exchange) -> Bytes {
    let outbound = &mut exchange.lock().outbound;
    let count = outbound.buffered();
    outbound.split(count)
}

#[test]
fn encoded_messages_wait_while_a_full_frame_is_unsent() {
    let exchange = exchange();
    let messages = encoded(&vec!["x".repeat(1000); 40]);
    let (mut unsent, mut taken) = (messages.frames(), Vec::new());
    for _ in 0..2 {
        assert!(exchange.poll_send_frames(&mut unsent, &mut noop()).is_pending());
        let part = take_all(&exchange);
        assert!((COALESCE..COALESCE + 1010).contains(&part.len()));
        taken.extend(part);
    }
    assert_eq!(exchange.poll_send_frames(&mut unsent, &mut noop()), Poll::Ready(Ok(())));
    taken.extend(take_all(&exchange));
    assert_eq!(taken, messages.frames());
    assert_eq!(exchange.sent(), 40);
}

#[test]
#[cfg(feature = "gzip")]
fn encoded_messages_are_compressed_like_others() {
    let compressor = Some(Compressor { encoding: Encoding::GZIP, min_size: 50 });
    let [one_by_one, together] = [0, 1].map(|_| Exchange::new(Terms { compressor, ..terms(100) }));
    let messages = [10, 20, 60, 70, 30, 80].map(|length| "x".repeat(length));
    messages.iter().for_each(|message| one_by_one.write(message).unwrap());
    let messages = encoded(&messages);
    let sent = together.poll_send_frames(&mut messages.frames(), &mut noop());
    assert_eq!(sent, Poll::Ready(Ok(())));
    assert_eq!(take_all(&together), take_all(&one_by_one));
    assert_eq!(together.sent(), 6);
}

#[test]
fn encoded_message_over_the_limit_is_not_sent() {
    let exchange = Exchange::new(Terms { send_limit: 52, ..terms(100) });
    let messages = encoded(&[10, 51, 20].map(|length| "x".repeat(length)));
    let sent = exchange.poll_send_frames(&mut messages.frames(), &mut noop());
    let Poll::Ready(Err(status)) = sent else { panic!("{sent:?}") };
    assert_eq!(status.message(), "message of 53 bytes is over the limit of 52");
    assert_eq!(take_all(&exchange), encoded(&["x".repeat(10)]).frames());
    exchange.end(Status::cancelled("over"));
    let sent = exchange.poll_send_frames(&mut messages.frames(), &mut noop());
    assert_eq!(sent, Poll::Ready(Err(Status::cancelled("over"))));
}

#[test]
fn encoded_messages_are_observed_one_by_one() {
    let exchange = exchange();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observed = seen.clone();
    exchange.observe(Box::new(move |event| match event {
        MessageEvent::Sent(message) => observed.lock().unwrap().push(message.to_vec()),
        MessageEvent::Received(_) => panic!("nothing was received"),
    }));
    let messages = encoded(&["one", "two"].map(String::from));
    let sent = exchange.poll_send_frames(&mut messages.frames(), &mut noop());
    assert_eq!(sent, Poll::Ready(Ok(())));
    assert!(messages.iter().eq(&*seen.lock().unwrap()));
}

#[test]
fn outbound_detects_a_partly_sent_message() {
    let exchange = exchange();
    exchange.write(&"abc".to_string()).unwrap();
    exchange.write(&"defg".to_string()).unwrap();
    let outbound = &mut exchange.lock().outbound;
    let (first, second) = (HEADER_LEN + 5, HEADER_LEN + 6);
    for (count, cut) in [(1, true), (first - 1, false), (first - first + 3, true)] {
        outbound.split(count);
        assert_eq!(outbound.inside_message(), cut);
    }
    outbound.split(second - 3);
    assert!(!outbound.inside_message());
    assert_eq!(outbound.buffered(), 0);
}

#[test]
fn compressed_message_without_encoding_is_internal() {
    let exchange = exchange();
    exchange.lock().inbound.receive(Bytes::from_static(&[1, 0, 0, 0, 0]));
    let Poll::Ready(Err(status)) = exchange.poll_received(&mut noop()) else { panic!() };
    assert_eq!(status.code(), crate::Code::Internal);
}

#[test]
fn inbound_error_is_repeated() {
    let exchange = exchange();
    exchange.lock().inbound.receive(Bytes::from_static(&[7, 0, 0, 0, 0]));
    for _ in 0..2 {
        assert!(matches!(exchange.poll_received(&mut noop()), Poll::Ready(Err(_))));
    }
}

#[test]
fn inbound_error_discards_input_and_releases_its_window() {
    let exchange = exchange();
    let message = Bytes::from_static(&[0; HEADER_LEN]);
    exchange.lock().inbound.receive(message.clone());
    exchange.fail_input(&Status::internal("first"));
    for _ in 0..2 {
        let mut state = exchange.lock();
        state.inbound.receive(message.clone());
        assert_eq!(state.held(), 0);
        assert!(state.release() > 0);
        drop(state);
        let Poll::Ready(Err(status)) = exchange.poll_received(&mut noop()) else { panic!() };
        assert_eq!(status.message(), "first");
    }
    exchange.end(Status::cancelled("over"));
    exchange.lock().inbound.receive(message);
    assert_eq!(exchange.lock().held(), 0);
}

#[test]
fn call_end_reaches_every_waiter_with_the_first_reason() {
    let exchange = exchange();
    let mut watcher = pin!(exchange.until_ended());
    assert!(watcher.as_mut().poll(&mut noop()).is_pending());
    exchange.end(Status::cancelled("first"));
    exchange.end(Status::unavailable("second"));
    assert_eq!(watcher.poll(&mut noop()), Poll::Ready(Status::cancelled("first")));
    assert!(matches!(exchange.poll_received(&mut noop()), Poll::Ready(Err(_))));
    assert!(matches!(exchange.poll_nearly_sent(&mut noop()), Poll::Ready((Err(_), _))));
    assert!(exchange.write(&()).is_err());
}

#[test]
fn transport_cannot_rest_before_it_handles_changes() {
    let exchange = exchange();
    exchange.lock().begin();
    exchange.write(&()).unwrap();
    assert!(!exchange.lock().rest(&mut noop()));
    assert_eq!(exchange.lock().outbound_seen().buffered(), HEADER_LEN);
    assert!(exchange.lock().rest(&mut noop()));
}

#[test]
fn response_memory_is_held_until_all_is_sent() {
    let exchange = exchange();
    exchange.write(&"x".repeat(100_000)).unwrap();
    let mut state = exchange.lock();
    assert!((100_000..200_000).contains(&state.held()));
    state.outbound.split(99_999);
    assert!(state.held() >= 100_000);
    let rest = state.outbound.buffered();
    state.outbound.split(rest);
    assert_eq!(state.held(), 0);
}

#[test]
fn call_end_frees_received_bytes() {
    let exchange = exchange();
    exchange.lock().inbound.receive(Bytes::from_static(&[0, 0, 0, 0, 9, 1]));
    assert!(exchange.poll_received(&mut noop()).is_pending());
    assert!(exchange.lock().held() > 0);
    exchange.end(Status::cancelled("over"));
    assert_eq!(exchange.lock().held(), 0);
}

#[test]
fn flow_control_window_is_released_as_the_handler_reads() {
    let exchange = Exchange::new(terms(READ_AHEAD));
    let message = [&[0, 0, 0, 0, 100][..], &[0; 100]].concat();
    let count = 2 * READ_AHEAD / message.len();
    let mut state = exchange.lock();
    state.begin();
    state.inbound.receive(message.repeat(count).into());
    assert_eq!(state.release(), READ_AHEAD);
    assert_eq!(state.release(), 0);
    drop(state);
    assert!(exchange.poll_received(&mut noop()).is_ready());
    assert!(!exchange.lock().rest(&mut noop()));
    let batch = exchange.lock().release();
    assert!((message.len()..COALESCE + message.len()).contains(&batch), "{batch}");
    assert!(exchange.lock().rest(&mut noop()));
}

#[test]
fn abandoning_counts_after_the_call_has_ended() {
    let exchange = exchange();
    exchange.end(Status::deadline_exceeded("first"));
    assert!(!exchange.is_abandoned());
    exchange.abandon(Status::cancelled("second"));
    assert!(exchange.is_abandoned());
    assert_eq!(exchange.ended(), Some(Status::deadline_exceeded("first")));
}

#[test]
fn only_message_is_received_after_the_half_close() {
    let cut = Err("the stream ended in the middle of a message");
    let none = Err("the method takes exactly one request message, none arrived");
    let more = Err("the method takes exactly one request message, more arrived");
    type Case = (&'static [u8], Result<&'static [u8], &'static str>);
    let cases: [Case; 6] = [
        (&[], none),
        (&[0, 0, 0, 0, 1], cut),
        (&[0, 0, 0, 0, 1, 7], Ok(&[7])),
        (&[0, 0, 0, 0, 1, 7, 0], cut),
        (&[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0], more),
        (&[7, 0, 0, 0, 0], Err("message with the invalid compression flag 7: wanted 0 or 1")),
    ];
    for (input, expected) in cases {
        let exchange = exchange();
        exchange.lock().inbound.receive(Bytes::copy_from_slice(input));
        let waits = exchange.poll_only(&mut noop()).is_pending();
        assert_eq!(exchange.lock().inbound.take_reader().is_some(), waits);
        assert_eq!(waits, !input.starts_with(&[7]) && expected != more, "{input:?}");
        exchange.lock().inbound.finish(Ok(()));
        let Poll::Ready(message) = exchange.poll_only(&mut noop()) else { panic!("{input:?}") };
        let message = message.map(|message| message.into_bytes());
        let message = message.as_deref().map_err(|status| status.message());
        assert_eq!(message, expected);
    }
}

#[test]
fn only_message_does_not_hide_a_transport_error() {
    let exchange = exchange();
    let mut state = exchange.lock();
    state.inbound.receive(Bytes::from_static(&[0; HEADER_LEN]));
    state.inbound.finish(Err(Status::unavailable("reset")));
    state.inbound.finish(Ok(()));
    drop(state);
    let Poll::Ready(Err(status)) = exchange.poll_only(&mut noop()) else { panic!() };
    assert_eq!(status.message(), "reset");
}

#[test]
fn stream_ends_after_its_messages() {
    let exchange = exchange();
    exchange.lock().inbound.receive(Bytes::from_static(&[0, 0, 0, 0, 1, 7]));
    let received = exchange.poll_received(&mut noop());
    assert!(matches!(received, Poll::Ready(Ok(Received::Frames(_)))));
    assert!(exchange.poll_received(&mut noop()).is_pending());
    let mut state = exchange.lock();
    assert!(state.inbound.take_reader().is_some());
    state.inbound.receive(Bytes::from_static(&[0, 0, 0, 0, 1]));
    drop(state);
    assert!(exchange.poll_received(&mut noop()).is_pending());
    let mut state = exchange.lock();
    state.inbound.receive(Bytes::from_static(&[8]));
    state.inbound.finish(Ok(()));
    drop(state);
    let received = exchange.poll_received(&mut noop());
    let Poll::Ready(Ok(Received::Message(message))) = received else { panic!() };
    assert_eq!(message.into_bytes(), &[8][..]);
    let received = exchange.poll_received(&mut noop());
    assert!(matches!(received, Poll::Ready(Ok(Received::End))));
}

#[test]
fn stream_cut_inside_a_message_is_an_error() {
    let exchange = exchange();
    exchange.lock().inbound.receive(Bytes::from_static(&[0, 0, 0, 0, 1]));
    exchange.lock().inbound.finish(Ok(()));
    let Poll::Ready(Err(status)) = exchange.poll_received(&mut noop()) else { panic!() };
    assert_eq!(status.message(), "the stream ended in the middle of a message");
}

#[test]
fn held_memory_includes_messages_being_decoded() {
    let exchange = exchange();
    let read_buffer = 16 * 1024;
    exchange.lock().inbound.receive(Bytes::from_static(&[0, 0, 0, 0, 1, 7]));
    assert!(exchange.poll_received(&mut noop()).is_ready());
    let mut state = exchange.lock();
    assert_eq!(state.held(), 6);
    state.inbound.receive(Bytes::from_static(&[0, 0]));
    assert_eq!(state.held(), 6 + read_buffer);
    state.compact();
    assert_eq!(state.held(), 6 + 2);
    drop(state);
    assert!(exchange.poll_received(&mut noop()).is_pending());
    assert_eq!(exchange.lock().held(), 2);
}

#[test]
#[cfg(feature = "gzip")]
fn held_memory_includes_messages_being_decompressed() {
    let exchange = Exchange::new(Terms { encoding: Some(Encoding::GZIP), ..terms(1 << 20) });
    let mut message = bytes::BytesMut::new();
    let compressed = Encoding::GZIP.compress(&[0; 1 << 20]).unwrap();
    crate::grpc::frame::put_compressed(&mut message, &compressed).unwrap();
    exchange.lock().inbound.receive(message.freeze());
    assert!(exchange.poll_received(&mut noop()).is_pending());
    let mut state = exchange.lock();
    let inflating = state.held();
    assert!(inflating > 64 * 1024, "{inflating}");
    state.inbound.receive(Bytes::from_static(&[0, 0]));
    assert_eq!(state.held(), inflating + 16 * 1024);
}

#[test]
fn flow_control_lets_64_kib_wait_for_the_handler() {
    let exchange = Exchange::new(terms(1 << 20));
    let mut state = exchange.lock();
    let message = [&[0, 0, 1, 0x86, 0xa0][..], &[7; 100_000]].concat();
    state.inbound.receive(message.into());
    assert_eq!(state.release(), 65_536);
    assert_eq!(state.release(), 0);
    state.inbound.discard();
    assert_eq!(state.release(), 34_464 + HEADER_LEN);
}
