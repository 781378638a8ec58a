"""TLS: clients that are served and clients that are refused, client certificates, and clients that do not trust the
server."""

import os
import socket
import ssl
import subprocess

import grpc

from support import SERVICE, ServerCase
from transport import MUTUAL_TLS, PLAINTEXT, TLS, Identity, Tls
from user_service_pb2 import CreateUserRequest, GetUserRequest, UserUpdate
from user_service_pb2_grpc import UserServiceStub

ALICE = CreateUserRequest(name="Alice", email="alice@example.com")

# The clients' own limit for a connection is longer, or none.
SECONDS = 20

# The credentials of clients.
WITHOUT_TLS = PLAINTEXT
WITHOUT_CERTIFICATE = TLS
OF_ANOTHER_AUTHORITY = Tls(client=lambda: Identity.client("other"))
OF_THE_AUTHORITY_OF_SERVERS = Tls(client=lambda: Identity.client("server"))
NOT_FOR_CLIENTS = Tls(client=lambda: Identity.client("client", usage="serverAuth"))


class TlsCase(ServerCase):
    def tearDown(self):
        """The server and its other client still work after each refusal."""
        user = self.users.CreateUser(ALICE, timeout=10)
        self.assertEqual(self.users.GetUser(GetUserRequest(user_id=user.id), timeout=10), user)

    def refused(self, transport, *options):
        """A client on this transport gets no answer, and the server sees no call."""
        with self.server.channel(*options, transport=transport) as channel:
            call = UserServiceStub(channel).CreateUser
            metadata = [("x-request-id", "refused")]
            self.fails_with(grpc.StatusCode.UNAVAILABLE, lambda: call(ALICE, timeout=10, metadata=metadata))
        self.assertNotIn("refused", self.server.log.read_text())

    def grpcurl(self, transport):
        limits = ["-connect-timeout", "2", "-max-time", "5"]
        data = ["-d", '{"name": "Alice", "email": "alice@example.com"}']
        flags = [*transport.grpcurl_flags, *limits, *data]
        return self.run_tool("GRPCURL", *flags, self.server.address, f"{SERVICE}/CreateUser")

    def probe(self, transport):
        return self.run_tool("GRPC_HEALTH_PROBE", f"-addr={self.server.address}", *transport.health_probe_flags)

    def run_tool(self, tool, *arguments):
        return subprocess.run([os.environ[tool], *arguments], capture_output=True, text=True, timeout=SECONDS)


class WithoutClientCertificates(TlsCase):
    transport = TLS

    def test_a_client_without_tls_is_refused(self):
        self.refused(WITHOUT_TLS)
        self.assertNotEqual(self.grpcurl(WITHOUT_TLS).returncode, 0)
        self.assertNotEqual(self.probe(WITHOUT_TLS).returncode, 0)

    def test_a_client_that_trusts_another_authority_does_not_go_on(self):
        stranger = Tls(trusts="other")
        self.refused(stranger)
        self.assertIn("certificate signed by unknown authority", self.grpcurl(stranger).stderr)
        self.assertNotEqual(self.probe(stranger).returncode, 0)

    def test_a_client_that_expects_another_name_does_not_go_on(self):
        self.refused(TLS, ("grpc.ssl_target_name_override", "example.com"))

    def test_it_is_known_by_name_and_by_address(self):
        for name in ["localhost", "127.0.0.1"]:
            with self.subTest(name), self.server.channel(("grpc.ssl_target_name_override", name)) as channel:
                UserServiceStub(channel).CreateUser(ALICE)

    def test_a_certificate_that_was_not_asked_for_does_no_harm(self):
        with self.server.channel(transport=OF_ANOTHER_AUTHORITY) as channel:
            UserServiceStub(channel).CreateUser(ALICE)

    def test_both_versions_of_tls_are_spoken_with_h2_and_none_that_is_older(self):
        for version in [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]:
            with self.subTest(version):
                self.assertEqual(self.handshake(["h2"], minimum=version, maximum=version), "h2")
        with self.assertRaises(OSError):
            self.handshake(["h2"], minimum=ssl.TLSVersion.TLSv1, maximum=ssl.TLSVersion.TLSv1_1)

    def test_h2_is_chosen_among_others_and_nothing_else_is_spoken(self):
        self.assertEqual(self.handshake(["http/1.1", "h2"]), "h2")
        with self.assertRaises(OSError):
            self.handshake(["http/1.1"])

    def handshake(self, protocols, minimum=ssl.TLSVersion.TLSv1_2, maximum=ssl.TLSVersion.MAXIMUM_SUPPORTED):
        """The protocol that client and server agree upon."""
        (authority,) = self.transport.client_files
        context = ssl.create_default_context(cafile=authority)
        context.set_alpn_protocols(protocols)
        context.minimum_version, context.maximum_version = minimum, maximum
        # Otherwise OpenSSL itself would refuse, not the server.
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        host, port = self.server.address.split(":")
        with socket.create_connection((host, int(port)), SECONDS) as connection:
            with context.wrap_socket(connection, server_hostname=host) as tls:
                return tls.selected_alpn_protocol()

    def test_a_client_that_has_not_begun_its_handshake_holds_up_nobody(self):
        host, port = self.server.address.split(":")
        silent = [socket.create_connection((host, int(port))) for _ in range(50)]
        with self.server.channel() as channel:
            UserServiceStub(channel).CreateUser(ALICE, timeout=5)
        for connection in silent:
            connection.close()


class WithClientCertificates(TlsCase):
    transport = MUTUAL_TLS

    def test_a_client_with_a_certificate_of_the_authority_is_served(self):
        user = self.users.CreateUser(ALICE)
        answers = self.users.UpdateUsers(UserUpdate(user_id=user.id, name=f"Alice {n}") for n in range(100))
        self.assertEqual([answer.name for answer in answers], [f"Alice {n}" for n in range(100)])
        done = self.grpcurl(MUTUAL_TLS)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = self.probe(MUTUAL_TLS)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_client_without_tls_is_refused(self):
        self.refused_to_all(WITHOUT_TLS)

    def test_a_client_without_a_certificate_is_refused(self):
        self.refused_to_all(WITHOUT_CERTIFICATE)

    def test_a_client_with_a_certificate_of_another_authority_is_refused(self):
        self.refused_to_all(OF_ANOTHER_AUTHORITY)
        self.refused_to_all(OF_THE_AUTHORITY_OF_SERVERS)

    def test_a_client_with_a_certificate_that_is_not_for_clients_is_refused(self):
        self.refused_to_all(NOT_FOR_CLIENTS)

    def refused_to_all(self, transport):
        self.refused(transport)
        self.assertNotEqual(self.grpcurl(transport).returncode, 0)
        self.assertNotEqual(self.probe(transport).returncode, 0)
