"""Health and reflection, called by the packages of the gRPC project."""

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import user_service_pb2
from support import SERVICE, Conversation, ServerCase

HEALTH = "grpc.health.v1.Health"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

REFLECTION_VERSIONS = ["v1", "v1alpha"]


def health_request(service):
    return health_pb2.HealthCheckRequest(service=service)


class Health(ServerCase):
    def setUp(self):
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def test_the_server_and_its_user_service_are_serving(self):
        for service in ["", SERVICE]:
            with self.subTest(service):
                self.assertEqual(self.health.Check(health_request(service)).status, SERVING)

    def test_an_unknown_service_is_not_found(self):
        self.fails_with(grpc.StatusCode.NOT_FOUND, lambda: self.health.Check(health_request("no.such.Service")))

    def test_the_list_holds_the_server_and_its_user_service(self):
        statuses = self.health.List(health_pb2.HealthListRequest()).statuses
        self.assertEqual((statuses[""].status, statuses[SERVICE].status), (SERVING, SERVING))

    def test_a_watch_tells_the_status_at_once_and_stays_open(self):
        for service, status in [("", SERVING), (SERVICE, SERVING), ("no.such.Service", SERVICE_UNKNOWN)]:
            with self.subTest(service):
                watch = self.health.Watch(health_request(service))
                self.assertEqual(next(watch).status, status)
                self.assertTrue(watch.is_active())
                watch.cancel()


class HealthAtTheEnd(ServerCase):
    flags = ("--drain-timeout", "5s")

    def test_a_watch_tells_of_the_shutdown(self):
        watch = health_pb2_grpc.HealthStub(self.channel).Watch(health_request(SERVICE))
        self.assertEqual(next(watch).status, SERVING)
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(next(watch).status, NOT_SERVING)


class Reflection(ServerCase):
    def ask(self, version, **request):
        """The one response of a stream with this request. The two versions differ only in their names."""
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        (response,) = call(iter([reflection_pb2.ServerReflectionRequest(**request)]))
        return response

    def test_the_services_are_listed_in_order(self):
        for version in REFLECTION_VERSIONS:
            with self.subTest(version):
                services = [s.name for s in self.ask(version, list_services="").list_services_response.service]
                self.assertEqual(
                    services,
                    [HEALTH, *(f"grpc.reflection.{v}.ServerReflection" for v in REFLECTION_VERSIONS), SERVICE],
                )

    def test_a_client_can_build_the_service_from_what_it_is_told(self):
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        service = pool.FindServiceByName(SERVICE)
        told = [(m.name, m.client_streaming, m.server_streaming, m.input_type.full_name) for m in service.methods]
        expected = [
            (m.name, m.client_streaming, m.server_streaming, m.input_type.full_name)
            for m in user_service_pb2.DESCRIPTOR.services_by_name["UserService"].methods
        ]
        self.assertEqual(told, expected)
        self.assertEqual(
            [f.name for f in pool.FindMessageTypeByName("ru.tinkoff.kora.example.UserResponse").fields],
            ["id", "name", "email", "created_at", "status"],
        )

    def test_names_and_files_are_found(self):
        known = [
            {"file_containing_symbol": SERVICE},
            {"file_containing_symbol": f"{SERVICE}.CreateUser"},
            {"file_containing_symbol": "ru.tinkoff.kora.example.UserStatus"},
            {"file_containing_symbol": "google.protobuf.Timestamp"},
            {"file_by_filename": "user_service.proto"},
            {"file_by_filename": "google/protobuf/empty.proto"},
        ]
        for version in REFLECTION_VERSIONS:
            for request in known:
                with self.subTest(version, **request):
                    response = self.ask(version, host="here", **request)
                    self.assertTrue(response.file_descriptor_response.file_descriptor_proto)
                    self.assertEqual(response.valid_host, "here")
                    self.assertEqual(
                        response.original_request, reflection_pb2.ServerReflectionRequest(host="here", **request)
                    )

    def test_what_is_unknown_is_an_error_within_the_stream(self):
        for version in REFLECTION_VERSIONS:
            for request in [{"file_containing_symbol": "no.such.Name"}, {"file_by_filename": "no/such.proto"}]:
                with self.subTest(version, **request):
                    error = self.ask(version, **request).error_response
                    self.assertEqual(error.error_code, grpc.StatusCode.NOT_FOUND.value[0])
                    self.assertTrue(error.error_message)

    def test_each_question_is_answered_before_the_next_is_asked(self):
        reflection = reflection_pb2_grpc.ServerReflectionStub(self.channel)
        with Conversation(reflection.ServerReflectionInfo) as stream:
            for name in ["no.such.Name", SERVICE, HEALTH]:
                request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
                self.assertEqual(stream.ask(request).original_request, request)


class WithoutReflection(ServerCase):
    flags = ("--reflection", "false")

    def test_reflection_is_unimplemented(self):
        for version in REFLECTION_VERSIONS:
            with self.subTest(version):
                call = self.channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
                self.fails_with(grpc.StatusCode.UNIMPLEMENTED, lambda: list(call(iter([]))))

    def test_health_goes_without_it(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        self.assertEqual(health.Check(health_request("")).status, SERVING)
