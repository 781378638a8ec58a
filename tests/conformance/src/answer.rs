//! What a request asks to be answered with, in the terms of the library.

use std::time::Duration;
use std::vec;

use balafon::grpc::metadata::decode_bin;
use balafon::prost::{Message, Name};
use balafon::prost_types::Any;
use balafon::{AsciiKey, AsciiValue, BinaryKey, Call, Code, Metadata, Response, Sink, Status};
use tokio::time::sleep;

use crate::pb::conformance_payload::RequestInfo;
use crate::pb::unary_response_definition::Response as Answer;
use crate::pb::{
    ConformancePayload, Error, Header, StreamResponseDefinition, UnaryResponseDefinition,
};

/// Answers a call of one response; `wrap` puts the payload into the method's own message.
pub async fn one_response<T>(
    mut call: Call,
    definition: Option<UnaryResponseDefinition>,
    requests: Vec<Any>,
    wrap: impl FnOnce(Option<ConformancePayload>) -> T,
) -> Result<Response<T>, Status> {
    let definition = definition.unwrap_or_default();
    let info = request_info(&call, requests);
    let headers = metadata(&definition.response_headers)?;
    let trailers = metadata(&definition.response_trailers)?;
    pause(definition.response_delay_ms).await;
    let data = match definition.response {
        Some(Answer::Error(error)) => {
            call.response_metadata().merge(headers);
            return Err(status(error, Some(&info)).with_metadata(trailers));
        }
        Some(Answer::ResponseData(data)) => data,
        None => Vec::new(),
    };
    let payload = ConformancePayload { data, request_info: Some(info) };
    let mut response = Response::new(wrap(Some(payload)));
    (response.metadata, response.trailers) = (headers, trailers);
    Ok(response)
}

/// The answers to a call that streams them, with what comes before and after.
pub struct Answers {
    data: vec::IntoIter<Vec<u8>>,
    delay_ms: u32,
    error: Option<Error>,
    begun: bool,
}

impl Answers {
    /// Sets the metadata, and sends the headers if there will be answers: clients are to see them
    /// before the first delay.
    pub fn begin<T: Message>(
        definition: Option<StreamResponseDefinition>,
        out: &mut Sink<T>,
    ) -> Result<Self, Status> {
        let definition = definition.unwrap_or_default();
        out.metadata_mut().merge(metadata(&definition.response_headers)?);
        out.trailers_mut().merge(metadata(&definition.response_trailers)?);
        if !definition.response_data.is_empty() {
            out.flush_headers();
        }
        Ok(Self {
            data: definition.response_data.into_iter(),
            delay_ms: definition.response_delay_ms,
            error: definition.error,
            begun: false,
        })
    }

    /// The data of the next answer, once it is due.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let data = self.data.next()?;
        self.begun = true;
        pause(self.delay_ms).await;
        Some(data)
    }

    /// How the call is to end. An error before any answer carries what an answer would have echoed.
    pub fn end(self, info: Option<RequestInfo>) -> Result<(), Status> {
        let info = info.filter(|_| !self.begun);
        self.error.map_or(Ok(()), |error| Err(status(error, info.as_ref())))
    }
}

async fn pause(ms: u32) {
    sleep(Duration::from_millis(ms.into())).await;
}

/// What is known of the call, so that the suite sees what the server has seen.
pub fn request_info(call: &Call, requests: Vec<Any>) -> RequestInfo {
    let headers = call.metadata().as_headers();
    let values = |name| headers.get_all(name).iter().map(|value| lossy(value.as_bytes()));
    let request_headers = headers
        .keys()
        .map(|name| Header { name: name.to_string(), value: values(name).collect() })
        .collect();
    let timeout_ms = call.time_left().map(|left| left.as_millis().try_into().unwrap_or(i64::MAX));
    RequestInfo { request_headers, timeout_ms, requests, connect_get_info: None }
}

fn lossy(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// A request in the form in which it is echoed.
pub fn any<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn metadata(headers: &[Header]) -> Result<Metadata, Status> {
    let mut metadata = Metadata::new();
    for Header { name, value: values } in headers {
        for value in values {
            // The suite has binary values in base64, as they travel.
            if let Ok(key) = BinaryKey::try_from(name.as_str()) {
                metadata.append_bin(&key, decode_bin(value.as_bytes())?);
            } else {
                let key = AsciiKey::try_from(name.as_str())?;
                metadata.append(&key, AsciiValue::try_from(value.as_str())?);
            }
        }
    }
    Ok(metadata)
}

fn status(error: Error, info: Option<&RequestInfo>) -> Status {
    let status = Status::new(Code::from_i32(error.code), error.message.unwrap_or_default());
    let status = error.details.into_iter().fold(status, Status::with_any);
    match info {
        Some(info) => status.with_detail(info),
        None => status,
    }
}
