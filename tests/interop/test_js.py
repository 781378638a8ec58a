"""grpc-js, the gRPC of Node.js."""

import pathlib

from client import ClientCase
from support import also_over_tls
from transport import MUTUAL_TLS

CLIENT = pathlib.Path(__file__).parent / "js" / "client.mjs"


@also_over_tls
class GrpcJs(ClientCase):
    def test_all(self):
        self.run_cases("node", CLIENT)


class GrpcJsWithCertificate(GrpcJs):
    transport = MUTUAL_TLS
