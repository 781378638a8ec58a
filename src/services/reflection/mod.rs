//! `grpc.reflection.v1` and `v1alpha`: tools such as grpcurl ask the server for its schema
//! ([the protocol](https://github.com/grpc/grpc/blob/master/doc/server-reflection.md)).

mod answer;
mod index;

use std::pin::pin;
use std::sync::Arc;

use self::answer::Sent;
use self::index::Index;
use self::pb::v1::{self, ServerReflection, ServerReflectionRequest, ServerReflectionResponse};
use self::pb::v1alpha;
use super::MAX_REQUEST;
use crate::{Request, Router, Rpc, Service, ServiceInfo, Sink, Status, Streaming, google};

/// The messages and the services as generated from the two versions of `reflection.proto`.
pub mod pb {
    /// `grpc.reflection.v1`.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
    }

    /// `grpc.reflection.v1alpha`: tools from before 2023 use it, and some still do.
    pub mod v1alpha {
        include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1alpha.rs"));
    }
}

/// Adds reflection in both versions. It describes the services of `router` and itself. Services that are
/// added later are not described, so add it last.
///
/// Files are sent byte for byte as they are in the services' descriptor sets, with custom options.
/// Symbols are found by full name, such as `package.Service.Method` or `package.Message.field`. A name
/// with a leading dot is not found, as in other implementations.
///
/// A request of more than 4 KiB ends its stream with RESOURCE_EXHAUSTED, unless the router is
/// [configured](Router::configure) otherwise.
///
/// An invalid schema does not stop the server. A service is listed but not described if its descriptor
/// set cannot be decoded; generated code always can. If two different files have one name, or declare
/// one symbol, the first is served. An invalid set and a second file are logged as warnings.
///
/// ```
/// use balafon::Router;
/// use balafon::services::health::Health;
/// use balafon::services::reflection;
///
/// let router = reflection::reflect(Router::new().add(Health::new().service()));
/// assert_eq!(router.services().len(), 3);
/// ```
///
/// # Panics
/// If the router has a reflection service already, as [`Router::add`] does.
#[must_use]
pub fn reflect(mut router: Router) -> Router {
    let reflection = Reflection::of(&router);
    for service in [reflection.clone().into_service(), reflection.into_v1alpha_service()] {
        router = router.add(service.max_receive_message_size(MAX_REQUEST));
    }
    router
}

#[derive(Clone)]
struct Reflection(Arc<Index>);

impl Reflection {
    fn of(router: &Router) -> Self {
        let own = [
            (v1::server_reflection::NAME, v1::server_reflection::FILE_DESCRIPTOR_SET),
            (v1alpha::server_reflection::NAME, v1alpha::server_reflection::FILE_DESCRIPTOR_SET),
        ];
        let own = own.map(|(name, file_descriptor_set)| ServiceInfo { name, file_descriptor_set });
        let mut index = Index::new(router.services().iter().chain(&own));
        // No service refers to the error details, which clients need to show them.
        index.add_or_warn("google.rpc", google::rpc::FILE_DESCRIPTOR_SET);
        Self(Arc::new(index))
    }

    /// The versions differ only in the name of the package, which is not in messages. So the messages of
    /// v1 serve both.
    fn into_v1alpha_service(self) -> Service {
        use v1alpha::server_reflection::{FILE_DESCRIPTOR_SET, NAME, SERVER_REFLECTION_INFO};

        static INFO: Rpc<ServerReflectionRequest, ServerReflectionResponse> =
            Rpc::bidi_streaming(SERVER_REFLECTION_INFO.method().path);
        Service::builder(NAME, FILE_DESCRIPTOR_SET, self)
            .bidi_streaming(&INFO, |this, request, out| async move {
                this.server_reflection_info(request, out).await
            })
            .build()
    }
}

impl ServerReflection for Reflection {
    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
        mut out: Sink<ServerReflectionResponse>,
    ) -> Result<(), Status> {
        let handle = request.handle();
        let mut draining = pin!(handle.draining());
        let mut requests = request.into_message();
        let mut sent = Sent::default();
        loop {
            let request = tokio::select! {
                biased;
                request = requests.message() => request?,
                // Tools keep their stream open until they exit.
                reason = &mut draining => return Err(reason),
            };
            let Some(request) = request else { return Ok(()) };
            out.send(self.0.answer(request, &mut sent)).await?;
            // Backpressure: no further answer is made until the client has read this one.
            out.flushed().await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::pb::v1::server_reflection_request::MessageRequest;
    use super::pb::v1::server_reflection_response::MessageResponse;
    use super::*;
    use crate::services::health::Health;
    use crate::testing::Recorder;

    #[test]
    fn v1_and_v1alpha_differ_in_the_name_of_their_package_alone() {
        let shape = |set: &[u8]| {
            let file = FileDescriptorSet::decode(set).unwrap().file.remove(0);
            let (messages, services) = (file.message_type, file.service);
            format!("{messages:?} {services:?}").replace("v1alpha", "v1")
        };
        assert_eq!(
            shape(v1::server_reflection::FILE_DESCRIPTOR_SET),
            shape(v1alpha::server_reflection::FILE_DESCRIPTOR_SET),
        );
    }

    #[test]
    fn both_versions_are_served_at_their_paths() {
        let reflection = Reflection::of(&Router::new());
        let services = [reflection.clone().into_service(), reflection.into_v1alpha_service()];
        let paths: Vec<_> = services.iter().flat_map(Service::methods).map(|it| it.path).collect();
        assert_eq!(
            paths,
            [
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            ],
        );
        assert_eq!(
            services[1].methods().next().unwrap(),
            v1alpha::server_reflection::SERVER_REFLECTION_INFO.method(),
        );
    }

    #[test]
    fn reflection_describes_the_services_of_the_router_and_itself() {
        let Reflection(index) = Reflection::of(&Router::new().add(Health::new().service()));
        let names = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ];
        assert_eq!(index.services(), names);
        assert!(names.iter().all(|name| index.symbol(name).is_some()));
    }

    #[tokio::test]
    async fn a_stream_has_one_answer_for_each_question_and_outlives_errors() {
        let questions = [
            MessageRequest::FileContainingSymbol("no.such.Thing".into()),
            MessageRequest::FileContainingSymbol("grpc.health.v1.Health.Check".into()),
        ];
        let requests = questions.map(|question| ServerReflectionRequest {
            host: "localhost".into(),
            message_request: Some(question),
        });
        let reflection = Reflection::of(&Router::new().add(Health::new().service()));
        let recorder = Recorder::new();
        let stream = Request::new(Streaming::from_messages(requests.clone()));
        recorder.record(|out| reflection.server_reflection_info(stream, out)).await;

        assert!(recorder.is_completed());
        let [first, second] = &recorder.values()[..] else { panic!("two answers") };
        assert_eq!(first.original_request.as_ref(), Some(&requests[0]));
        assert!(matches!(first.message_response, Some(MessageResponse::ErrorResponse(_))));
        assert_eq!(second.original_request.as_ref(), Some(&requests[1]));
        assert!(matches!(
            second.message_response,
            Some(MessageResponse::FileDescriptorResponse(_))
        ));
    }
}
