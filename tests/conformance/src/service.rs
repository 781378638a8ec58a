//! `connectrpc.conformance.v1.ConformanceService`, as the comments in its `service.proto` say.

use balafon::{Request, Response, Sink, Status, Streaming};

use crate::answer::{Answers, any, one_response, request_info};
use crate::pb::conformance_payload::RequestInfo;
use crate::pb::{
    BidiStreamRequest, BidiStreamResponse, ClientStreamRequest, ClientStreamResponse,
    ConformancePayload, ConformanceService, IdempotentUnaryRequest, IdempotentUnaryResponse,
    ServerStreamRequest, ServerStreamResponse, UnaryRequest, UnaryResponse, UnimplementedRequest,
    UnimplementedResponse,
};

/// Answers each call with what the call itself asks for.
pub struct Conformance;

impl ConformanceService for Conformance {
    async fn unary(
        &self,
        request: Request<UnaryRequest>,
    ) -> Result<Response<UnaryResponse>, Status> {
        let (message, call) = request.into_parts();
        let requests = vec![any(&message)];
        let wrap = |payload| UnaryResponse { payload };
        one_response(call, message.response_definition, requests, wrap).await
    }

    async fn idempotent_unary(
        &self,
        request: Request<IdempotentUnaryRequest>,
    ) -> Result<Response<IdempotentUnaryResponse>, Status> {
        let (message, call) = request.into_parts();
        let requests = vec![any(&message)];
        let wrap = |payload| IdempotentUnaryResponse { payload };
        one_response(call, message.response_definition, requests, wrap).await
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<ClientStreamRequest>>,
    ) -> Result<Response<ClientStreamResponse>, Status> {
        let (mut messages, call) = request.into_parts();
        let mut definition = None;
        let mut requests = Vec::new();
        while let Some(message) = messages.message().await? {
            requests.push(any(&message));
            if requests.len() == 1 {
                definition = message.response_definition;
            }
        }
        let wrap = |payload| ClientStreamResponse { payload };
        one_response(call, definition, requests, wrap).await
    }

    async fn server_stream(
        &self,
        request: Request<ServerStreamRequest>,
        mut out: Sink<ServerStreamResponse>,
    ) -> Result<(), Status> {
        let (message, call) = request.into_parts();
        let mut info = Some(request_info(&call, vec![any(&message)]));
        let mut answers = Answers::begin(message.response_definition, &mut out)?;
        while let Some(data) = answers.next().await {
            let payload = ConformancePayload { data, request_info: info.take() };
            out.send(ServerStreamResponse { payload: Some(payload) }).await?;
        }
        answers.end(info)
    }

    /// In half duplex all requests are read before the first answer; in full duplex each answer
    /// but the first waits for a request, as long as there are any.
    async fn bidi_stream(
        &self,
        request: Request<Streaming<BidiStreamRequest>>,
        mut out: Sink<BidiStreamResponse>,
    ) -> Result<(), Status> {
        let (mut messages, call) = request.into_parts();
        let Some(first) = messages.message().await? else { return Ok(()) };
        let mut requests = vec![any(&first)];
        let full_duplex = first.full_duplex;
        while !full_duplex && let Some(message) = messages.message().await? {
            requests.push(any(&message));
        }
        let mut info = Some(request_info(&call, requests));
        let mut answers = Answers::begin(first.response_definition, &mut out)?;
        while let Some(data) = answers.next().await {
            let payload = ConformancePayload { data, request_info: info.take() };
            out.send(BidiStreamResponse { payload: Some(payload) }).await?;
            if full_duplex && let Some(message) = messages.message().await? {
                let requests = vec![any(&message)];
                info = Some(RequestInfo { requests, ..RequestInfo::default() });
            }
        }
        answers.end(info)
    }

    async fn unimplemented(
        &self,
        _: Request<UnimplementedRequest>,
    ) -> Result<Response<UnimplementedResponse>, Status> {
        Err(Status::unimplemented("left out, as the suite asks"))
    }
}
