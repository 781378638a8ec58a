"""grpc-go, also as the client of two servers."""

import os
import unittest

from client import ClientCase, running
from support import Server, also_over_tls
from transport import MUTUAL_TLS, PLAINTEXT


@also_over_tls
class GrpcGo(ClientCase):
    def test_all(self):
        self.run_cases(os.environ["GO_CLIENT"])


class GrpcGoWithCertificate(GrpcGo):
    transport = MUTUAL_TLS


@also_over_tls
class GrpcGoWithTwoServers(unittest.TestCase):
    transport = PLAINTEXT

    def test_no_call_fails_when_one_of_them_shuts_down(self):
        self.shut_one_down()

    def test_no_call_fails_when_one_of_them_shuts_down_whose_health_is_watched(self):
        self.shut_one_down("-health")

    def shut_one_down(self, *flags):
        servers = [Server(transport=self.transport) for _ in range(2)]
        for server in servers:
            self.addCleanup(server.stop)
        addresses = ",".join(server.address for server in servers)
        command = [os.environ["GO_CLIENT"], "-drain", *flags, addresses, *self.transport.client_files]
        with running(*command) as client:
            self.assertEqual(client.stdout.readline(), "calling\n")
            self.assertEqual(servers[0].stop(), 0)
            client.stdin.close()
            self.assertTrue(client.stdout.readline().startswith("ok "))
        self.assertEqual(client.returncode, 0)
