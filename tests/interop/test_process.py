"""The server as a process: its start, errors at the start, log and end."""

import json
import os
import signal
import socket
import subprocess
import unittest

import grpc

from support import Conversation, Server, ServerCase, also_over_tls, eventually
from transport import PLAINTEXT, Identity
from user_service_pb2 import CreateUserRequest, GetUserRequest, UserUpdate
from user_service_pb2_grpc import UserServiceStub

ALICE = CreateUserRequest(name="Alice", email="alice@example.com")

FLAGS = ["listen", "store", "workers", "max-batch", "drain-timeout", "tls-cert", "tls-key", "tls-client-ca"]
FLAGS += ["reflection", "log-format", "log-level"]

# A server that cannot start fails within this time; one that starts by mistake is killed after it.
SECONDS = 10


def start(*arguments, **environment):
    # In memory unless a test sets a store: the default is a file in the working directory.
    environment = {"USER_SERVER_STORE": "memory:", **environment}
    return subprocess.run(
        [os.environ["SERVER"], *arguments], env=environment, capture_output=True, text=True, timeout=SECONDS
    )


class StartErrors(unittest.TestCase):
    def refused(self, done, *words):
        """It must have ended with exit code 2 and one line on stderr that holds these words."""
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_a_port_that_another_process_listens_on(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            self.refused(start("--listen", address), address, "in use")

    def test_a_port_that_a_second_server_listens_on(self):
        server = Server()
        self.addCleanup(server.stop)
        self.refused(start("--listen", server.address), server.address, "in use")

    def test_an_address_that_is_none(self):
        for address in ["nonsense", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536", ""]:
            with self.subTest(address):
                self.refused(start("--listen", address), address, "listen")

    def test_an_address_that_is_not_of_this_machine(self):
        # No host has an address of TEST-NET-1 (RFC 5737).
        self.refused(start("--listen", "192.0.2.1:9090"), "192.0.2.1:9090")

    def test_a_host_that_does_not_exist(self):
        # RFC 6761 reserves this name: it never exists.
        self.refused(start("--listen", "host.invalid:9090"), "host.invalid:9090")

    def test_an_unknown_store(self):
        for store in ["nonsense", "redis://localhost", "memory", ""]:
            with self.subTest(store):
                self.refused(start("--store", store), store, "store")

    def test_a_value_that_is_none(self):
        wrong = [("--max-batch", "many"), ("--max-batch", "-1"), ("--workers", "0"), ("--workers", "x")]
        wrong += [("--log-format", "xml"), ("--log-level", "loud=loud=loud")]
        for flag, value in wrong:
            with self.subTest(flag, value=value):
                self.refused(start(f"{flag}={value}"), flag, value)

    def test_a_value_in_the_environment_that_is_none(self):
        self.refused(start(USER_SERVER_LISTEN="nonsense"), "nonsense")
        self.refused(start(USER_SERVER_STORE="nonsense"), "nonsense")

    def test_certificates_and_keys_that_cannot_be_used(self):
        server, client = Identity.server(), Identity.client("client")
        wrong = [("no-such-file", server.key), (server.certificate, "no-such-file"), (server.key, server.key)]
        wrong += [(server.certificate, server.certificate), (server.certificate, client.key)]
        for certificate, key in wrong:
            with self.subTest(certificate, key=key):
                self.refused(start("--tls-cert", certificate, "--tls-key", key), "cannot")
        own = ["--tls-cert", server.certificate, "--tls-key", server.key]
        self.refused(start(*own, "--tls-client-ca", server.key), "cannot use", str(server.key))

    def test_an_unknown_flag_is_refused_with_the_same_code(self):
        done = start("--no-such-flag")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--no-such-flag", done.stderr)


class Help(unittest.TestCase):
    def test_it_names_each_flag_and_its_environment_variable(self):
        done = start("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for flag in FLAGS:
            with self.subTest(flag):
                self.assertIn(f"--{flag}", done.stdout)
                self.assertIn(f"USER_SERVER_{flag.upper().replace('-', '_')}", done.stdout)


class Log(ServerCase):
    def test_each_call_has_one_line_with_its_end(self):
        metadata = [("x-request-id", "log-1")]
        self.fails_with(
            grpc.StatusCode.NOT_FOUND, lambda: self.users.GetUser(GetUserRequest(user_id="42"), metadata=metadata)
        )
        access = self.server.access("log-1")
        self.assertEqual(access["method"], "/ru.tinkoff.kora.example.UserService/GetUser")
        self.assertEqual((access["status"], access["correlation_id"]), ("NOT_FOUND", "log-1"))
        self.assertEqual((access["messages_in"], access["messages_out"]), (1, 0))
        self.assertTrue(access["peer"].startswith("127.0.0.1:"))
        self.assertGreaterEqual(access["duration_us"], 0)

    def test_messages_are_counted(self):
        request = iter([ALICE] * 7)
        self.users.CreateUsers(request, metadata=[("x-request-id", "log-2")])
        access = self.server.access("log-2")
        self.assertEqual((access["status"], access["messages_in"], access["messages_out"]), ("OK", 7, 1))

    def test_every_line_is_an_object_of_json_whatever_the_client_sends(self):
        path = '/no.such"Service/{}'
        self.fails_with(grpc.StatusCode.UNIMPLEMENTED, lambda: self.channel.unary_unary(path)(b""))
        self.fails_with(grpc.StatusCode.NOT_FOUND, lambda: self.users.GetUser(GetUserRequest(user_id='"\n{\u2028')))
        self.users.CreateUser(ALICE, metadata=[("x-request-id", 'log-3"\\}')])
        lines = eventually(lambda: self.complete_log_with("log-3"))
        for line in lines:
            self.assertIsInstance(json.loads(line), dict)

    def test_names_and_addresses_are_not_logged(self):
        self.users.CreateUser(CreateUserRequest(name="Hidden Person", email="hidden@example.com"))
        invalid = CreateUserRequest(name="Hidden Person", email="hidden.example.com")
        self.fails_with(grpc.StatusCode.INVALID_ARGUMENT, lambda: self.users.CreateUser(invalid))
        self.users.CreateUser(ALICE, metadata=[("x-request-id", "log-4")])
        text = "".join(eventually(lambda: self.complete_log_with("log-4")))
        self.assertNotIn("idden", text)

    def complete_log_with(self, request_id):
        text = self.server.log.read_text()
        return request_id in text and text.endswith("\n") and text.rstrip("\n").split("\n")


class UnixSocket(unittest.TestCase):
    def test_a_client_is_served_over_it(self):
        path = f"{os.environ['LOG_DIR']}/users.sock"
        server = Server("--listen", f"unix:{path}")
        self.addCleanup(server.stop)
        # By itself C-core sends the path as :authority, which is none (docs/limits.md).
        options = [("grpc.default_authority", "localhost")]
        with grpc.insecure_channel(f"unix:{path}", options) as channel:
            self.assertEqual(UserServiceStub(channel).CreateUser(ALICE).name, ALICE.name)


@also_over_tls
class Shutdown(unittest.TestCase):
    transport = PLAINTEXT

    def start(self, *flags):
        """A server, and a client that has created a user on it."""
        server = Server(*flags, transport=self.transport)
        self.addCleanup(server.stop)
        channel = server.channel()
        self.addCleanup(channel.close)
        users = UserServiceStub(channel)
        return server, users, users.CreateUser(ALICE)

    def test_without_calls_it_ends_at_once_with_0_although_a_client_is_connected(self):
        for number in [signal.SIGTERM, signal.SIGINT]:
            with self.subTest(number):
                server, _, _ = self.start()
                server.signal(number)
                self.assertEqual(server.wait(seconds=5), 0)

    def test_a_signal_as_soon_as_it_listens_is_a_shutdown_like_any_other(self):
        statuses = [Server(transport=self.transport).stop() for _ in range(20)]
        self.assertEqual(statuses, [0] * 20)

    def test_a_connection_that_has_not_said_anything_does_not_hold_it_up(self):
        server, _, _ = self.start()
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port))):
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(seconds=5), 0)

    def test_a_call_under_way_goes_on_to_its_end(self):
        server, users, user = self.start()
        with Conversation(users.UpdateUsers) as updates:
            updates.ask(UserUpdate(user_id=user.id))
            server.signal(signal.SIGTERM)
            eventually(lambda: not server.accepts())
            self.assertEqual(updates.ask(UserUpdate(user_id=user.id, name="Later")).name, "Later")
            updates.half_close()
            self.assertEqual(list(updates.call), [])
            self.assertIs(updates.call.code(), grpc.StatusCode.OK)
            self.assertEqual(server.wait(seconds=5), 0)

    def test_a_call_that_does_not_end_is_ended_at_the_drain_timeout(self):
        server, users, user = self.start("--drain-timeout", "1s")
        with Conversation(users.UpdateUsers) as updates:
            updates.ask(UserUpdate(user_id=user.id))
            server.signal(signal.SIGTERM)
            with self.assertRaises(grpc.RpcError) as caught:
                next(updates.call)
            self.assertIs(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(server.wait(seconds=5), 0)

    def test_a_second_signal_ends_it_at_once(self):
        server, users, user = self.start()
        with Conversation(users.UpdateUsers) as updates:
            updates.ask(UserUpdate(user_id=user.id))
            server.signal(signal.SIGTERM)
            eventually(lambda: not server.accepts())
            server.signal(signal.SIGTERM)
            self.assertNotEqual(server.wait(seconds=5), 0)
