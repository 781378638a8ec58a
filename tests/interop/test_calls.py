"""Rules for the calls of every method: deadlines, cancellation, metadata, limits, concurrency."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import empty_pb2

from support import SERVICE, Conversation, ServerCase, also_over_tls
from user_service_pb2 import CreateUserRequest, GetUserRequest, UserUpdate
from user_service_pb2_grpc import UserServiceStub

ALICE = CreateUserRequest(name="Alice", email="alice@example.com")

# The size limit of a message that clients and servers share by default.
FOUR_MIB = 4 * 1024 * 1024

ENDED_BY_THE_DEADLINE = ["DEADLINE_EXCEEDED", "CANCELLED"]


class CallCase(ServerCase):
    def tearDown(self):
        """The server and this connection still work after each call."""
        user = self.users.CreateUser(ALICE, timeout=10)
        self.assertEqual(self.users.GetUser(GetUserRequest(user_id=user.id), timeout=10), user)


@also_over_tls
class Deadlines(CallCase):
    def test_a_batch_that_is_never_half_closed_ends_at_its_deadline(self):
        request_id = str(uuid.uuid4())
        start = time.monotonic()
        with Conversation(
            self.users.CreateUsers.future, timeout=0.2, metadata=[("x-request-id", request_id)]
        ) as batch:
            batch.send(ALICE)
            self.fails_with(grpc.StatusCode.DEADLINE_EXCEEDED, batch.call.result)
        self.assertLess(time.monotonic() - start, 2)
        # Client and server count the same time: either may be the first to end the call.
        self.assertIn(self.server.access(request_id)["status"], ENDED_BY_THE_DEADLINE)

    def test_a_conversation_that_falls_silent_ends_at_its_deadline(self):
        user = self.users.CreateUser(ALICE)
        request_id = str(uuid.uuid4())
        with Conversation(
            self.users.UpdateUsers, timeout=0.2, metadata=[("x-request-id", request_id)]
        ) as updates:
            self.assertEqual(updates.ask(UserUpdate(user_id=user.id)), user)
            self.fails_with(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: next(updates.call))
        self.assertIn(self.server.access(request_id)["status"], ENDED_BY_THE_DEADLINE)

    def test_the_server_keeps_a_deadline_that_its_client_does_not_watch(self):
        # As plain metadata, the timeout is known to the server only.
        with Conversation(self.users.CreateUsers.future, metadata=[("grpc-timeout", "200m")]) as batch:
            batch.send(ALICE)
            self.fails_with(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: batch.call.result(timeout=10))

    def test_calls_with_hardly_any_time_end_one_way_or_the_other(self):
        codes = {self.users.CreateUser.future(ALICE, timeout=n / 100_000).code() for n in range(500)}
        self.assertLessEqual(codes, {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED})

    def test_a_hundred_calls_that_run_out_of_time_together_do_no_harm_to_another_call(self):
        user = self.users.CreateUser(ALICE)
        with Conversation(self.users.UpdateUsers) as updates:
            updates.ask(UserUpdate(user_id=user.id))
            calls = [self.users.CreateUser.future(ALICE, timeout=0.002) for _ in range(100)]
            codes = {call.code() for call in calls}
            self.assertLessEqual(codes, {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED})
            self.assertEqual(updates.ask(UserUpdate(user_id=user.id)), user)

    def test_a_call_that_is_answered_in_time_does_not_end_by_its_deadline(self):
        user = self.users.CreateUser(ALICE)
        answers = self.users.UpdateUsers((UserUpdate(user_id=user.id) for _ in range(100)), timeout=30)
        self.assertEqual(list(answers), [user] * 100)


@also_over_tls
class Cancellation(CallCase):
    def test_a_conversation_that_is_cancelled_ends_on_the_server(self):
        user = self.users.CreateUser(ALICE)
        request_id = str(uuid.uuid4())
        with Conversation(self.users.UpdateUsers, metadata=[("x-request-id", request_id)]) as updates:
            updates.ask(UserUpdate(user_id=user.id))
            updates.call.cancel()
            self.assertIs(updates.call.code(), grpc.StatusCode.CANCELLED)
        access = self.server.access(request_id)
        self.assertEqual((access["status"], access["messages_out"]), ("CANCELLED", 1))

    def test_a_closed_connection_ends_its_calls_on_the_server(self):
        user = self.users.CreateUser(ALICE)
        request_id = str(uuid.uuid4())
        with self.server.channel() as channel:
            users = UserServiceStub(channel)
            with Conversation(users.UpdateUsers, metadata=[("x-request-id", request_id)]) as updates:
                updates.ask(UserUpdate(user_id=user.id))
                channel.close()
        self.assertEqual(self.server.access(request_id)["status"], "CANCELLED")

    def test_cancelling_many_calls_one_after_the_other_does_no_harm_to_another_call(self):
        user = self.users.CreateUser(ALICE)
        with Conversation(self.users.UpdateUsers) as updates:
            for n in range(300):
                call = self.users.GetAllUsers(empty_pb2.Empty())
                if n % 3 == 0:
                    call.initial_metadata()
                call.cancel()
                self.assertIs(call.code(), grpc.StatusCode.CANCELLED)
                self.assertEqual(updates.ask(UserUpdate(user_id=user.id)), user)

    def test_cancelling_many_calls_at_once_does_no_harm_to_another_call(self):
        user = self.users.CreateUser(ALICE)
        with Conversation(self.users.UpdateUsers) as updates:
            updates.ask(UserUpdate(user_id=user.id))
            calls = [self.users.CreateUser.future(ALICE) for _ in range(100)]
            for call in calls:
                call.cancel()
            self.assertEqual(updates.ask(UserUpdate(user_id=user.id)), user)


@also_over_tls
class Metadata(CallCase):
    def request_id_of(self, call):
        return dict(call.initial_metadata())["x-request-id"]

    def test_the_request_id_comes_back_in_the_initial_metadata_of_each_shape_of_call(self):
        shapes = {
            "unary": lambda m: self.users.CreateUser.with_call(ALICE, metadata=m)[1],
            "server streaming": lambda m: self.users.GetAllUsers(empty_pb2.Empty(), metadata=m),
            "client streaming": lambda m: self.users.CreateUsers.with_call(iter([]), metadata=m)[1],
            "bidi streaming": lambda m: self.users.UpdateUsers(iter([]), metadata=m),
        }
        for shape, call in shapes.items():
            with self.subTest(shape):
                self.assertEqual(self.request_id_of(call([("x-request-id", "order 66/a")])), "order 66/a")

    def test_a_call_without_a_request_id_gets_one_of_its_own(self):
        ids = {self.request_id_of(self.users.CreateUser.with_call(ALICE)[1]) for _ in range(10)}
        self.assertEqual(len(ids), 10)
        self.assertNotIn("", ids)

    def test_the_request_id_comes_back_with_an_error_too(self):
        request = GetUserRequest(user_id="42")
        error = self.fails_with(
            grpc.StatusCode.NOT_FOUND, lambda: self.users.GetUser(request, metadata=[("x-request-id", "r-1")])
        )
        # An error may come as trailers only, which is one block for both.
        metadata = [*error.initial_metadata(), *error.trailing_metadata()]
        self.assertEqual([value for key, value in metadata if key == "x-request-id"], ["r-1"])

    def test_metadata_that_means_nothing_to_the_server_does_no_harm(self):
        strange = [("x-empty", ""), ("x-twice", "1"), ("x-twice", "2"), ("x-any-bin", bytes(range(256)))]
        self.users.CreateUser(ALICE, metadata=strange)
        self.users.CreateUser(ALICE, metadata=[("x-long", "v" * 7_000)])

    def test_metadata_beyond_the_limit_ends_its_call_only(self):
        user = self.users.CreateUser(ALICE)
        # h2 treats far larger ones as an attack, and closes the connection.
        for size in [20_000, 40_000]:
            with self.subTest(size), Conversation(self.users.UpdateUsers) as updates:
                updates.ask(UserUpdate(user_id=user.id))
                with self.assertRaises(grpc.RpcError):
                    self.users.CreateUser(ALICE, metadata=[("x-long", "v" * size)], timeout=10)
                self.assertEqual(updates.ask(UserUpdate(user_id=user.id)), user)


@also_over_tls
class Limits(CallCase):
    def sized(self, size):
        """A request of this many bytes, whose name is not valid."""
        # Tag and length take a byte and a varint, which has 4 bytes in this range.
        request = CreateUserRequest(name="x" * (size - 5))
        self.assertEqual(request.ByteSize(), size)
        return request

    def test_a_message_of_4_mib_is_read(self):
        self.fails_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.users.CreateUser(self.sized(FOUR_MIB)))

    def test_a_message_over_4_mib_is_refused(self):
        for size in [FOUR_MIB + 1, 20 * FOUR_MIB]:
            with self.subTest(size):
                self.fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.users.CreateUser(self.sized(size)))

    def test_a_message_over_4_mib_in_a_stream_is_refused(self):
        requests = [ALICE, self.sized(FOUR_MIB + 1), ALICE]
        self.fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.users.CreateUsers(iter(requests)))

    def raw(self, path):
        return self.channel.unary_unary(path)

    def test_an_unknown_method_or_service_is_unimplemented(self):
        for path in [f"/{SERVICE}/DeleteUser", f"/{SERVICE}/createuser", "/no.such.Service/CreateUser", f"/{SERVICE}/"]:
            with self.subTest(path):
                self.fails_with(grpc.StatusCode.UNIMPLEMENTED, lambda: self.raw(path)(b""))

    def test_bytes_that_are_no_message_are_an_internal_error(self):
        for request in [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xc3\x28"]:
            with self.subTest(request):
                call = self.raw(f"/{SERVICE}/CreateUser")
                self.fails_with(grpc.StatusCode.INTERNAL, lambda: call(request))

    def test_an_unknown_field_is_ignored(self):
        request = ALICE.SerializeToString() + b"\xfa\x01\x03new"
        self.raw(f"/{SERVICE}/CreateUser")(request)

    def test_two_requests_in_a_unary_call_are_unimplemented(self):
        call = self.channel.stream_unary(f"/{SERVICE}/CreateUser", CreateUserRequest.SerializeToString)
        for requests in [[], [ALICE, ALICE]]:
            with self.subTest(len(requests)):
                self.fails_with(grpc.StatusCode.UNIMPLEMENTED, lambda: call(iter(requests)))

    def test_a_compressed_message_is_read_and_answered(self):
        too_long = CreateUserRequest(name="x" * 50_000, email="alice@example.com")
        for compression in [grpc.Compression.Gzip, grpc.Compression.Deflate]:
            with self.subTest(compression):
                self.users.CreateUser(ALICE, compression=compression)
                self.fails_with(
                    grpc.StatusCode.INVALID_ARGUMENT, lambda: self.users.CreateUser(too_long, compression=compression)
                )
                batch = self.users.CreateUsers(iter([ALICE] * 500), compression=compression)
                self.assertEqual(len(batch.user_ids), 500)


@also_over_tls
class Concurrency(CallCase):
    def test_two_thousand_calls_of_16_threads_on_one_channel_all_get_their_own_answer(self):
        def create_and_get(n):
            user = self.users.CreateUser(CreateUserRequest(name=f"User {n}", email=f"user{n}@example.com"))
            return user.name == f"User {n}" and self.users.GetUser(GetUserRequest(user_id=user.id)) == user

        with ThreadPoolExecutor(16) as pool:
            self.assertTrue(all(pool.map(create_and_get, range(1_000))))

    def test_two_thousand_calls_at_the_same_time_on_one_channel_are_all_answered(self):
        calls = [self.users.CreateUser.future(ALICE) for _ in range(2_000)]
        self.assertEqual(len({call.result().id for call in calls}), 2_000)

    def test_a_hundred_open_conversations_do_not_disturb_each_other(self):
        user = self.users.CreateUser(ALICE)
        conversations = [Conversation(self.users.UpdateUsers) for _ in range(100)]
        for _ in range(3):
            for conversation in conversations:
                self.assertEqual(conversation.ask(UserUpdate(user_id=user.id)), user)
        for conversation in conversations:
            conversation.half_close()
            self.assertEqual(list(conversation.call), [])

    def test_many_connections_are_served_side_by_side(self):
        def create(_):
            with self.server.channel() as channel:
                call = channel.unary_unary(f"/{SERVICE}/CreateUser", CreateUserRequest.SerializeToString)
                return call(ALICE)

        with ThreadPoolExecutor(16) as pool:
            self.assertEqual(len(set(pool.map(create, range(100)))), 100)
