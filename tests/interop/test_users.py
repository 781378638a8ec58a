"""The user service by the rules of proto/user_service.proto, called by grpcio."""

import time
import unicodedata
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2

from support import SERVICE, Conversation, ServerCase, also_over_tls, eventually
from user_service_pb2 import ACTIVE, CreateUserRequest, GetUserRequest, UserUpdate
from user_service_pb2_grpc import UserServiceStub

# A well-formed id of version 7 that no server has issued.
UNKNOWN_ID = "01900000-0000-7000-8000-000000000000"

ALICE = CreateUserRequest(name="Alice", email="alice@example.com")
NOBODY = CreateUserRequest(name=" ", email="nobody")

NAMES = ["Иван Петров", "山田太郎", "محمد عبد الله", "नरेन्द्र", "Zoe\u0308 O'Hara", "👩‍👩‍👧 100 % \"quoted\" \\"]


def numbered(numbers, name="User {}"):
    return (CreateUserRequest(name=name.format(n), email=f"user{n}@example.com") for n in numbers)


def fields(bad_request):
    return [violation.field for violation in bad_request.field_violations]


def total(users):
    """The number of users."""
    call = users.GetAllUsers(empty_pb2.Empty())
    return int(dict(call.initial_metadata())["users-total"])


@also_over_tls
class CreateUser(ServerCase):
    def test_the_id_is_a_uuid_of_version_7_in_lower_case(self):
        user = self.users.CreateUser(ALICE)
        self.assertEqual(uuid.UUID(user.id).version, 7)
        self.assertEqual(user.id, str(uuid.UUID(user.id)))

    def test_ids_sort_in_order_of_creation(self):
        ids = [self.users.CreateUser(ALICE).id for _ in range(100)]
        self.assertEqual(ids, sorted(set(ids)))

    def test_created_at_is_now_in_nanoseconds(self):
        before = time.time_ns()
        users = [self.users.CreateUser(ALICE) for _ in range(20)]
        times = [user.created_at.ToNanoseconds() for user in users]
        self.assertEqual(times, sorted(times))
        self.assertTrue(before <= times[0] and times[-1] <= time.time_ns(), times)
        self.assertTrue(any(t % 1000 for t in times), "no time is finer than a microsecond")

    def test_a_new_user_is_active(self):
        self.assertEqual(self.users.CreateUser(ALICE).status, ACTIVE)

    def test_name_and_email_are_trimmed(self):
        user = self.users.CreateUser(CreateUserRequest(name=" \tAlice B\n", email="\u3000alice@example.com "))
        self.assertEqual((user.name, user.email), ("Alice B", "alice@example.com"))

    def test_names_of_every_script_come_back_in_one_form(self):
        for name in NAMES:
            with self.subTest(name):
                user = self.users.CreateUser(CreateUserRequest(name=name, email="a@b.co"))
                self.assertEqual(user.name, unicodedata.normalize("NFC", name))

    def test_an_international_address_comes_back_unchanged(self):
        user = self.users.CreateUser(CreateUserRequest(name="Иван", email="иван@почта.рф"))
        self.assertEqual(user.email, "иван@почта.рф")

    def test_each_field_at_fault_has_one_violation(self):
        cases = {
            ("", ""): ["name", "email"],
            (" \t", "alice@example.com"): ["name"],
            ("Alice\x00", "alice@example.com"): ["name"],
            ("x" * 10_000, "alice@example.com"): ["name"],
            ("Alice", "alice"): ["email"],
            ("Alice", "alice@localhost"): ["email"],
            ("Alice", "alice@example.com\r\nBcc: b@example.com"): ["email"],
        }
        for (name, email), expected in cases.items():
            with self.subTest(name=name[:20], email=email):
                request = CreateUserRequest(name=name, email=email)
                error = self.fails_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.users.CreateUser(request))
                bad_request = self.detail(error, error_details_pb2.BadRequest)
                self.assertEqual(fields(bad_request), expected)
                self.assertTrue(all(v.description for v in bad_request.field_violations))

    def test_an_error_does_not_repeat_the_value(self):
        request = CreateUserRequest(name="Secret\x00", email="secret.example")
        error = self.fails_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.users.CreateUser(request))
        self.assertNotIn("secret", (error.details() + str(self.detail(error, error_details_pb2.BadRequest))).lower())


@also_over_tls
class GetUser(ServerCase):
    def get(self, user_id):
        return self.users.GetUser(GetUserRequest(user_id=user_id))

    def test_it_returns_the_user_that_was_created(self):
        user = self.users.CreateUser(ALICE)
        self.assertEqual(self.get(user.id), user)

    def test_an_unknown_id_is_not_found(self):
        error = self.fails_with(grpc.StatusCode.NOT_FOUND, lambda: self.get(UNKNOWN_ID))
        self.assertEqual(error.details(), f"User not found: {UNKNOWN_ID}")

    def test_an_id_that_is_no_uuid_is_not_found_and_repeated_to_the_letter(self):
        for user_id in ["42", "пользователь 用户 😀", "100 %25\n\ttab", " "]:
            with self.subTest(user_id):
                error = self.fails_with(grpc.StatusCode.NOT_FOUND, lambda: self.get(user_id))
                self.assertEqual(error.details(), f"User not found: {user_id}")

    def test_an_empty_id_is_an_invalid_argument(self):
        error = self.fails_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.get(""))
        self.assertEqual(fields(self.detail(error, error_details_pb2.BadRequest)), ["user_id"])

    def test_an_id_longer_than_metadata_may_be_still_gets_a_status(self):
        # C-core itself rejects headers between 8 and 16 KiB at random.
        for length in [7_000, 20_000, 1_000_000]:
            with self.subTest(length):
                error = self.fails_with(grpc.StatusCode.NOT_FOUND, lambda: self.get("x" * length))
                self.assertTrue(error.details().startswith("User not found: xxx"))


@also_over_tls
class GetAllUsersWithoutUsers(ServerCase):
    def test_the_stream_ends_at_once_and_the_total_is_zero(self):
        call = self.users.GetAllUsers(empty_pb2.Empty())
        self.assertEqual(dict(call.initial_metadata())["users-total"], "0")
        self.assertEqual(list(call), [])
        self.assertIs(call.code(), grpc.StatusCode.OK)


@also_over_tls
class GetAllUsers(ServerCase):
    # With names of 700 bytes the stream has some 16 MB, more than the windows and buffers hold.
    TOTAL = 20_000
    NAME = "User {} " + 170 * "😀"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ids = []
        for start in range(0, cls.TOTAL, 10_000):
            cls.ids += cls.users.CreateUsers(numbered(range(start, start + 10_000), cls.NAME)).user_ids

    def all_users(self, **options):
        return self.users.GetAllUsers(empty_pb2.Empty(), **options)

    def with_small_windows(self, **options):
        """The same on a connection of its own: on a fast connection grpcio may have enlarged the window for all of it."""
        channel = self.server.channel(("grpc.http2.bdp_probe", 0))
        self.addCleanup(channel.close)
        return UserServiceStub(channel).GetAllUsers(empty_pb2.Empty(), **options)

    def resumed_after(self, user_id):
        return self.all_users(metadata=[("users-resume-after", user_id)])

    def test_users_come_in_order_of_creation(self):
        users = list(self.all_users())
        self.assertEqual([user.id for user in users], self.ids)
        self.assertEqual([user.name for user in users], [self.NAME.format(n) for n in range(self.TOTAL)])

    def test_the_total_comes_before_the_first_user(self):
        call = self.all_users()
        self.assertEqual(dict(call.initial_metadata())["users-total"], str(self.TOTAL))
        call.cancel()

    def test_a_stream_resumes_after_any_user(self):
        for index in [0, 254, 255, 256, 9_999, self.TOTAL - 2, self.TOTAL - 1]:
            with self.subTest(index):
                call = self.resumed_after(self.ids[index])
                self.assertEqual([user.id for user in call], self.ids[index + 1 :])

    def test_the_total_of_a_resumed_stream_is_that_of_all_users(self):
        call = self.resumed_after(self.ids[-1])
        self.assertEqual(dict(call.initial_metadata())["users-total"], str(self.TOTAL))

    def test_resuming_after_what_is_no_id_is_an_invalid_argument(self):
        for value in ["", "42", self.ids[0] + "0", "../etc"]:
            with self.subTest(value):
                self.fails_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: list(self.resumed_after(value)))

    def test_cancelling_in_mid_stream_stops_the_server_too(self):
        request_id = str(uuid.uuid4())
        call = self.with_small_windows(metadata=[("x-request-id", request_id)])
        self.assertEqual([next(call).id for _ in range(10)], self.ids[:10])
        call.cancel()
        self.assertIs(call.code(), grpc.StatusCode.CANCELLED)

        access = self.server.access(request_id)
        self.assertEqual(access["status"], "CANCELLED")
        self.assertLess(access["messages_out"], self.TOTAL)
        self.assertEqual(self.users.GetUser(GetUserRequest(user_id=self.ids[0])).id, self.ids[0])

    def test_a_slow_reader_gets_all_users_and_delays_no_other_call(self):
        call = self.all_users()
        received = []
        for user in call:
            received.append(user.id)
            if len(received) % 1_000 == 1:
                self.users.GetUser(GetUserRequest(user_id=user.id), timeout=5)
                time.sleep(0.05)
        self.assertEqual(received, self.ids)

    def test_a_deadline_ends_a_stream_whose_reader_has_stalled(self):
        request_id = str(uuid.uuid4())
        call = self.with_small_windows(timeout=0.3, metadata=[("x-request-id", request_id)])
        next(call)
        # Client and server count the same time: either may be the first to end the call.
        self.assertIn(self.server.access(request_id)["status"], ["DEADLINE_EXCEEDED", "CANCELLED"])
        self.fails_with(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: list(call))

    def test_streams_side_by_side_are_all_complete(self):
        with ThreadPoolExecutor(4) as pool:
            reads = [pool.submit(lambda: [user.id for user in self.all_users()]) for _ in range(4)]
        self.assertTrue(all(read.result() == self.ids for read in reads))


@also_over_tls
class CreateUsers(ServerCase):
    def create(self, requests):
        """The response, and the trailing metadata as a dict."""
        response, call = self.users.CreateUsers.with_call(iter(requests))
        return response, dict(call.trailing_metadata())

    def test_ids_come_in_the_order_of_the_messages(self):
        response, _ = self.create(numbered(range(500)))
        self.assertEqual(response.created_count, 500)
        names = [self.users.GetUser(GetUserRequest(user_id=user_id)).name for user_id in response.user_ids]
        self.assertEqual(names, [f"User {n}" for n in range(500)])

    def test_no_message_creates_no_user(self):
        response, trailers = self.create([])
        self.assertEqual((response.created_count, list(response.user_ids)), (0, []))
        self.assertEqual(trailers["users-failed"], "0")

    def test_without_failures_there_are_no_details(self):
        _, trailers = self.create([ALICE])
        self.assertEqual(trailers["users-failed"], "0")
        self.assertNotIn("users-failures-bin", trailers)

    def test_an_invalid_message_is_named_and_does_not_stop_the_others(self):
        bad_email = CreateUserRequest(name="Bob", email="bob")
        response, trailers = self.create([ALICE, NOBODY, ALICE, bad_email, ALICE])
        self.assertEqual((response.created_count, len(response.user_ids)), (3, 3))
        self.assertEqual(trailers["users-failed"], "2")
        failures = error_details_pb2.BadRequest.FromString(trailers["users-failures-bin"])
        self.assertEqual(fields(failures), ["messages[1].name", "messages[1].email", "messages[3].email"])

    def test_the_trailers_of_ten_thousand_failures_are_not_too_large_for_the_client(self):
        response, trailers = self.create([NOBODY] * 10_000)
        self.assertEqual(response.created_count, 0)
        self.assertEqual(trailers["users-failed"], "10000")
        failures = error_details_pb2.BadRequest.FromString(trailers["users-failures-bin"])
        self.assertEqual(fields(failures)[:2], ["messages[0].name", "messages[0].email"])

    def test_ten_thousand_messages_are_allowed_and_no_more(self):
        self.assertEqual(self.create([ALICE] * 10_000)[0].created_count, 10_000)
        self.fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.create([ALICE] * 10_001))

    def test_a_cancelled_stream_ends_on_the_server_and_its_users_stay(self):
        before, request_id = total(self.users), str(uuid.uuid4())
        with Conversation(self.users.CreateUsers.future, metadata=[("x-request-id", request_id)]) as batch:
            batch.send(ALICE)
            eventually(lambda: total(self.users) == before + 1)
        access = self.server.access(request_id)
        self.assertEqual((access["status"], access["messages_in"]), ("CANCELLED", 1))
        self.assertEqual(total(self.users), before + 1)


@also_over_tls
class CreateUsersBeyondTheBatch(ServerCase):
    flags = ("--max-batch", "5")

    def test_the_details_say_how_many_were_created_and_these_stay(self):
        before = total(self.users)
        # Two of the five are not valid.
        requests = [ALICE, NOBODY, ALICE, NOBODY, ALICE, ALICE]
        error = self.fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.users.CreateUsers(iter(requests)))
        info = self.detail(error, error_details_pb2.ErrorInfo)
        self.assertEqual((info.domain, info.metadata["created"]), (SERVICE, "3"))
        self.assertTrue(info.reason)
        self.assertEqual(dict(error.trailing_metadata())["users-failed"], "2")
        self.assertEqual(total(self.users), before + 3)

    def test_a_client_that_does_not_stop_sending_gets_the_status_all_the_same(self):
        endless = iter(lambda: ALICE, None)
        error = self.fails_with(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: self.users.CreateUsers(endless))
        self.assertEqual(self.detail(error, error_details_pb2.ErrorInfo).metadata["created"], "5")


@also_over_tls
class UpdateUsers(ServerCase):
    def setUp(self):
        self.user = self.users.CreateUser(ALICE)

    def update(self, **values):
        return UserUpdate(user_id=self.user.id, **values)

    def stored(self):
        return self.users.GetUser(GetUserRequest(user_id=self.user.id))

    def test_each_answer_comes_before_the_next_update_is_sent(self):
        with Conversation(self.users.UpdateUsers) as updates:
            for n in range(200):
                self.assertEqual(updates.ask(self.update(name=f"Alice {n}")).name, f"Alice {n}")
            updates.half_close()
            self.assertEqual(list(updates.call), [])
            self.assertIs(updates.call.code(), grpc.StatusCode.OK)

    def test_answers_come_in_the_order_of_the_updates(self):
        names = [f"Alice {n}" for n in range(5_000)]
        answers = self.users.UpdateUsers(self.update(name=name) for name in names)
        self.assertEqual([answer.name for answer in answers], names)

    def test_an_empty_field_keeps_its_value(self):
        renamed, moved, kept = self.users.UpdateUsers(
            iter([self.update(name=" Bob "), self.update(email="bob@example.com"), self.update()])
        )
        self.assertEqual((renamed.name, renamed.email), ("Bob", "alice@example.com"))
        self.assertEqual((moved.name, moved.email), ("Bob", "bob@example.com"))
        self.assertEqual(kept, moved)
        self.assertEqual((kept.id, kept.created_at, kept.status), (self.user.id, self.user.created_at, ACTIVE))
        self.assertEqual(self.stored(), kept)

    def ends_after_one_answer(self, code, bad_update):
        """The error of a stream of two good updates around a bad one."""
        answers = self.users.UpdateUsers(iter([self.update(name="First"), bad_update, self.update(name="Last")]))
        self.assertEqual(next(answers).name, "First")
        error = self.fails_with(code, lambda: next(answers))
        self.assertEqual(self.stored().name, "First")
        return error

    def test_an_unknown_id_ends_the_stream_after_the_earlier_answers(self):
        for user_id in [UNKNOWN_ID, "кто"]:
            with self.subTest(user_id):
                error = self.ends_after_one_answer(grpc.StatusCode.NOT_FOUND, UserUpdate(user_id=user_id, name="X"))
                self.assertEqual(error.details(), f"User not found: {user_id}")

    def test_an_empty_id_ends_the_stream_after_the_earlier_answers(self):
        error = self.ends_after_one_answer(grpc.StatusCode.INVALID_ARGUMENT, UserUpdate(name="X"))
        self.assertEqual(fields(self.detail(error, error_details_pb2.BadRequest)), ["user_id"])

    def test_an_invalid_value_ends_the_stream_after_the_earlier_answers(self):
        error = self.ends_after_one_answer(grpc.StatusCode.INVALID_ARGUMENT, self.update(name=" ", email="x"))
        self.assertEqual(fields(self.detail(error, error_details_pb2.BadRequest)), ["name", "email"])

    def test_no_update_gets_no_answer(self):
        self.assertEqual(list(self.users.UpdateUsers(iter([]))), [])

    def test_concurrent_updates_of_one_user_lose_no_field(self):
        # Each stream owns one field, so each of its answers must hold what it has just written.
        def write(field, values):
            answers = self.users.UpdateUsers(self.update(**{field: value}) for value in values)
            return [getattr(answer, field) for answer in answers]

        names = [f"Alice {n}" for n in range(2_000)]
        emails = [f"alice{n}@example.com" for n in range(2_000)]
        with ThreadPoolExecutor(2) as pool:
            answered = pool.map(write, ["name", "email"], [names, emails])
        self.assertEqual(list(answered), [names, emails])
        self.assertEqual((self.stored().name, self.stored().email), (names[-1], emails[-1]))
