"""The command-line clients: grpcurl, with reflection and with the .proto file, and grpc-health-probe."""

import json
import os
import shlex
import subprocess

from support import SERVICE, ServerCase, also_over_tls

# The exit code of grpcurl is this number plus the status code.
GRPCURL_STATUS_OFFSET = 64
INVALID_ARGUMENT, NOT_FOUND = 3, 5

# The clients' own limit is longer, or none.
SECONDS = 20


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def objects(text):
    """The JSON objects of grpcurl's output, one after the other."""
    result = []
    while text := text.lstrip():
        value, end = json.JSONDecoder().raw_decode(text)
        result.append(value)
        text = text[end:]
    return result


class GrpcurlCase(ServerCase):
    # Flags by which grpcurl gets the descriptors.
    descriptors = ()

    def grpcurl(self, *arguments, flags=()):
        return run(*self.command(*flags), self.server.address, *arguments)

    def command(self, *flags):
        return [os.environ["GRPCURL"], *self.transport.grpcurl_flags, *self.descriptors, *flags]

    def call(self, method, *messages, flags=(), exit_code=0):
        """The process of a call with these messages, which are dicts."""
        data = ("-d", " ".join(json.dumps(message) for message in messages)) if messages else ()
        done = self.grpcurl(f"{SERVICE}/{method}", flags=[*data, *flags])
        self.assertEqual(done.returncode, exit_code, done.stderr)
        return done

    def answers(self, method, *messages):
        return objects(self.call(method, *messages).stdout)

    def refused(self, code, method, *messages):
        return self.call(method, *messages, exit_code=GRPCURL_STATUS_OFFSET + code)


class Calls:
    """The tests of all five methods, for each way to get the descriptors."""

    def test_the_service_and_its_methods_are_listed(self):
        methods = ["CreateUser", "CreateUsers", "GetAllUsers", "GetUser", "UpdateUsers"]
        listed = self.grpcurl("list", SERVICE).stdout.split()
        self.assertEqual(listed, [f"{SERVICE}.{method}" for method in methods])

    def test_the_service_is_described_with_its_shapes(self):
        described = self.grpcurl("describe", SERVICE).stdout
        self.assertIn("rpc UpdateUsers ( stream .ru.tinkoff.kora.example.UserUpdate )", described)
        self.assertIn("returns ( stream .ru.tinkoff.kora.example.UserResponse );", described)

    def test_create_user_and_get_user(self):
        (user,) = self.answers("CreateUser", {"name": "Анна 用户", "email": "anna@example.com"})
        self.assertEqual((user["name"], user["email"]), ("Анна 用户", "anna@example.com"))
        self.assertRegex(user["createdAt"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        self.assertEqual(self.answers("GetUser", {"user_id": user["id"]}), [user])

    def test_create_users_takes_several_messages_and_get_all_users_returns_them_in_order(self):
        names = ["Charlie", "Diana", "Eve"]
        messages = [{"name": name, "email": f"{name.lower()}@example.com"} for name in names]
        (created,) = self.answers("CreateUsers", *messages)
        self.assertEqual(created["createdCount"], 3)
        users = self.answers("GetAllUsers")
        self.assertEqual([user["name"] for user in users[-3:]], names)
        self.assertEqual([user["id"] for user in users[-3:]], created["userIds"])

    def test_update_users_answers_each_update(self):
        (user,) = self.answers("CreateUser", {"name": "Frank", "email": "frank@example.com"})
        renamed, moved = self.answers(
            "UpdateUsers",
            {"user_id": user["id"], "name": "Franz"},
            {"user_id": user["id"], "email": "franz@example.com"},
        )
        self.assertEqual(renamed, {**user, "name": "Franz"})
        self.assertEqual(moved, {**user, "name": "Franz", "email": "franz@example.com"})

    def test_an_error_has_its_code_and_message(self):
        error = self.refused(NOT_FOUND, "GetUser", {"user_id": "нет такого"}).stderr
        self.assertIn("Code: NotFound\n  Message: User not found: нет такого\n", error)


class GrpcurlGuide(GrpcurlCase):
    def test_the_commands_of_the_guide_succeed(self):
        alice = """grpcurl -plaintext -d '{"name": "Alice", "email": "alice@example.com"}' \
            localhost:9090 ru.tinkoff.kora.example.UserService/CreateUser"""
        bob = """grpcurl -plaintext -d '{"name": "Bob", "email": "bob@example.com"}' \
            localhost:9090 ru.tinkoff.kora.example.UserService/CreateUser"""
        all_users = "grpcurl -plaintext localhost:9090 ru.tinkoff.kora.example.UserService/GetAllUsers"
        # Of several -d, which the guide writes here, grpcurl takes the last; it takes several messages in one.
        batch = """grpcurl -plaintext -d '{"name": "Charlie", "email": "charlie@example.com"}
            {"name": "Diana", "email": "diana@example.com"} {"name": "Eve", "email": "eve@example.com"}' \
            localhost:9090 ru.tinkoff.kora.example.UserService/CreateUsers"""
        frank = """grpcurl -plaintext -d '{"name": "Frank", "email": "frank@example.com"}' \
            localhost:9090 ru.tinkoff.kora.example.UserService/CreateUser"""

        port = self.server.address.rpartition(":")[2]
        for command in [alice, bob, batch, frank]:
            done = self.guide(command, port)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = self.guide(all_users, port)
        names = [user["name"] for user in objects(done.stdout)]
        self.assertEqual([n for n in names if n in ["Alice", "Bob", "Frank"]], ["Alice", "Bob", "Frank"])

    def guide(self, command, port):
        _, *arguments = shlex.split(command.replace("localhost:9090", f"localhost:{port}"))
        return run(os.environ["GRPCURL"], *arguments)


@also_over_tls
class Grpcurl(Calls, GrpcurlCase):
    def test_the_services_are_listed(self):
        services = self.grpcurl("list").stdout.split()
        self.assertLessEqual({SERVICE, "grpc.health.v1.Health"}, set(services))

    def test_every_message_is_described(self):
        for name in ["CreateUserRequest", "GetUserRequest", "UserResponse", "CreateUsersResponse", "UserUpdate"]:
            with self.subTest(name):
                described = self.grpcurl("describe", f"ru.tinkoff.kora.example.{name}")
                self.assertIn(f"message {name} {{", described.stdout)

    def test_the_status_of_a_user_is_shown_by_its_name(self):
        message = {"name": "Alice", "email": "alice@example.com"}
        (user,) = objects(self.call("CreateUser", message, flags=["-emit-defaults"]).stdout)
        self.assertEqual(user["status"], "ACTIVE")

    def test_an_error_is_shown_with_its_details(self):
        error = self.refused(INVALID_ARGUMENT, "CreateUser", {"name": "", "email": "x"}).stderr
        self.assertIn("type.googleapis.com/google.rpc.BadRequest", error)

    def test_the_answers_before_an_error_are_shown(self):
        (user,) = self.answers("CreateUser", {"name": "Grace", "email": "grace@example.com"})
        done = self.refused(NOT_FOUND, "UpdateUsers", {"user_id": user["id"], "name": "Grete"}, {"user_id": "42"})
        self.assertEqual([answer["name"] for answer in objects(done.stdout)], ["Grete"])

    def test_a_call_whose_client_was_killed_ends_on_the_server(self):
        (user,) = self.answers("CreateUser", {"name": "Heidi", "email": "heidi@example.com"})
        command = self.command("-rpc-header", "x-request-id: killed", "-d", "@")
        client = subprocess.Popen(
            [*command, self.server.address, f"{SERVICE}/UpdateUsers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with client:
            client.stdin.write(json.dumps({"user_id": user["id"]}).encode() + b"\n")
            client.stdin.flush()
            client.stdout.readline()
            client.kill()
        self.assertEqual(self.server.access("killed")["status"], "CANCELLED")

    def test_metadata_is_shown_where_it_belongs(self):
        done = self.call("GetAllUsers", flags=["-v", "-H", "x-request-id: from-grpcurl"])
        headers = done.stdout.partition("Response contents:")[0]
        self.assertRegex(headers, r"(?m)^users-total: \d+$")
        self.assertIn("x-request-id: from-grpcurl\n", headers)
        done = self.call("CreateUsers", {"name": "", "email": ""}, flags=["-v"])
        trailers = done.stdout.partition("Response trailers received:")[2]
        self.assertIn("users-failed: 1\n", trailers)
        self.assertIn("users-failures-bin: ", trailers)

    def test_the_health_of_the_server_can_be_asked(self):
        done = self.grpcurl("grpc.health.v1.Health/Check")
        self.assertEqual(objects(done.stdout), [{"status": "SERVING"}])


@also_over_tls
class GrpcurlWithProtoFile(Calls, GrpcurlCase):
    flags = ("--reflection", "false")
    descriptors = ("-import-path", os.environ["PROTO_DIR"], "-proto", "user_service.proto")

    def test_without_the_file_it_is_told_that_there_is_no_reflection(self):
        done = run(os.environ["GRPCURL"], *self.transport.grpcurl_flags, self.server.address, "list")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("server does not support the reflection API", done.stderr)


@also_over_tls
class GrpcHealthProbe(ServerCase):
    # The exit code of the probe when the call itself failed.
    CALL_FAILED = 3

    def probe(self, *arguments):
        flags = [f"-addr={self.server.address}", *self.transport.health_probe_flags]
        return run(os.environ["GRPC_HEALTH_PROBE"], *flags, *arguments)

    def test_the_server_and_its_user_service_are_serving(self):
        for service in [[], [f"-service={SERVICE}"]]:
            with self.subTest(service):
                done = self.probe(*service)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("SERVING", done.stdout + done.stderr)

    def test_an_unknown_service_is_not_serving(self):
        done = self.probe("-service=no.such.Service")
        self.assertEqual(done.returncode, self.CALL_FAILED, done.stderr)
