"""The transports: plaintext, TLS, and TLS with client certificates."""

import functools
import os
import pathlib
import subprocess

import grpc

SUBJECT_ALTERNATIVE_NAMES = "DNS:localhost,IP:127.0.0.1"

# Without its own file openssl uses the system's, which makes every certificate a CA certificate.
OPENSSL_CONFIG = "[req]\ndistinguished_name = subject\n[subject]\n"


class Identity:
    """A certificate and its key, PEM files that openssl makes for this run."""

    def __init__(self, name, *extensions, signed_by=None):
        folder = pathlib.Path(os.environ["LOG_DIR"])
        self.certificate, self.key = (folder / f"{name}.{suffix}" for suffix in ("crt", "key"))
        config = folder / "openssl.cnf"
        config.write_text(OPENSSL_CONFIG)
        command = ["openssl", "req", "-x509", "-config", config, "-subj", f"/CN={name}", "-days", "2", "-noenc"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-keyout", self.key, "-out", self.certificate]
        for extension in extensions:
            command += ["-addext", extension]
        if signed_by:
            command += ["-CA", signed_by.certificate, "-CAkey", signed_by.key]
        subprocess.run(command, check=True, capture_output=True, text=True)

    @staticmethod
    @functools.cache
    def authority(name):
        return Identity(f"{name}-authority", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")

    @staticmethod
    @functools.cache
    def server():
        """One for the addresses of this machine."""
        extensions = ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth"]
        extensions.append(f"subjectAltName={SUBJECT_ALTERNATIVE_NAMES}")
        return Identity("server", *extensions, signed_by=Identity.authority("server"))

    @staticmethod
    @functools.cache
    def client(authority, usage="clientAuth"):
        extensions = ["basicConstraints=critical,CA:FALSE", f"extendedKeyUsage={usage}"]
        return Identity(f"client-of-{authority}-{usage}", *extensions, signed_by=Identity.authority(authority))


class Plaintext:
    server_flags = ()
    # The files that a client needs: the authority that it trusts, its certificate and its key.
    client_files = ()
    grpcurl_flags = ("-plaintext",)
    health_probe_flags = ()

    @staticmethod
    def channel(address, options):
        return grpc.insecure_channel(address, options)


class Tls:
    """TLS as a client speaks it, and the server that it is meant for.

    `client` is the client's certificate, a function, since certificates are made when they are needed."""

    def __init__(self, *, asks_for_certificate=False, client=None, trusts="server"):
        self._asks_for_certificate, self._client, self._trusts = asks_for_certificate, client, trusts

    @property
    def server_flags(self):
        server = Identity.server()
        flags = ["--tls-cert", server.certificate, "--tls-key", server.key]
        if self._asks_for_certificate:
            flags += ["--tls-client-ca", Identity.authority("client").certificate]
        return flags

    @property
    def client_files(self):
        client = self._client and self._client()
        identity = [client.certificate, client.key] if client else []
        return [Identity.authority(self._trusts).certificate, *identity]

    @property
    def grpcurl_flags(self):
        return self._flags("-cacert", "-cert", "-key")

    @property
    def health_probe_flags(self):
        return ["-tls", *self._flags("-tls-ca-cert", "-tls-client-cert", "-tls-client-key")]

    def _flags(self, *names):
        return [word for flag in zip(names, self.client_files) for word in flag]

    def channel(self, address, options):
        authority, *identity = (path.read_bytes() for path in self.client_files)
        certificate, key = identity or (None, None)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, key, certificate), options)


PLAINTEXT = Plaintext()
TLS = Tls()
MUTUAL_TLS = Tls(asks_for_certificate=True, client=lambda: Identity.client("client"))
