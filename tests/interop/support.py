"""Shared parts of the tests: servers, conversations, and readers of statuses and logs."""

import atexit
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import time
import unittest

import grpc
from grpc_status import rpc_status

import user_service_pb2_grpc
from transport import PLAINTEXT, TLS

SERVICE = "ru.tinkoff.kora.example.UserService"

# The server's default drain timeout is 30 s; without open calls it should not wait at all.
DRAIN_TIMEOUT_SECONDS = 30


def eventually(condition, seconds=10):
    """Returns the first true value of `condition`; fails if there is none in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds} s")
        time.sleep(0.01)
    return value


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A server process with an empty in-memory store, ready for calls once constructed."""

    # The log files of all servers, also of those that have been stopped.
    logs = []

    def __init__(self, *flags, transport=PLAINTEXT):
        self.transport = transport
        self.address = f"127.0.0.1:{free_port()}"
        self.log = pathlib.Path(os.environ["LOG_DIR"]) / f"server-{self.address.rpartition(':')[2]}.log"
        self.logs.append(self.log)
        command = [os.environ["SERVER"], "--listen", self.address, "--store", "memory:"]
        command += ["--log-format", "json", "--log-level", "info", *transport.server_flags, *flags]
        with self.log.open("wb") as log:
            # The server reads settings from its environment. It gets only the one that selects the transport.
            environment = {name: value for name, value in os.environ.items() if name == "USER_SERVER_HTTP2"}
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        atexit.register(self.process.kill)
        eventually(self._listens)

    def _listens(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the server exited with {self.process.returncode}: {self.log.read_text()}")
        return self.accepts()

    def accepts(self):
        """Whether it takes a new connection."""
        host, port = self.address.split(":")
        with socket.socket() as client:
            return client.connect_ex((host, int(port))) == 0

    def channel(self, *options, transport=None):
        """A separate connection; channels of one process share connections otherwise."""
        options = [("grpc.use_local_subchannel_pool", 1), *options]
        return (transport or self.transport).channel(self.address, options)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=DRAIN_TIMEOUT_SECONDS + 5):
        """The exit status."""
        return self.process.wait(seconds)

    def stop(self):
        """The exit status after SIGTERM."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait()
        finally:
            self.process.kill()

    def access(self, request_id):
        """The fields of the one access-log line of a call, once it is there."""
        lines = eventually(lambda: [line for line in self.log.read_text().split("\n") if request_id in line])
        if len(lines) != 1:
            raise AssertionError(f"not one line with {request_id}: {lines}")
        line = json.loads(lines[0])
        return {**line, **line.get("fields", {})}


def also_over_tls(case):
    """Adds a class beside this one, with the same tests over TLS."""
    name = f"{case.__name__}OverTls"
    attributes = {"transport": TLS, "__module__": case.__module__}
    setattr(sys.modules[case.__module__], name, type(name, (case,), attributes))
    return case


class ServerCase(unittest.TestCase):
    """A class whose tests share one server, which must stop in an orderly way."""

    flags = ()
    transport = PLAINTEXT

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags, transport=cls.transport)
        cls.addClassCleanup(cls.check_stop)
        cls.channel = cls.server.channel()
        cls.addClassCleanup(cls.channel.close)
        cls.users = user_service_pb2_grpc.UserServiceStub(cls.channel)

    @classmethod
    def check_stop(cls):
        status = cls.server.stop()
        assert status == 0, f"after SIGTERM the server exited with {status}"

    def fails_with(self, code, call):
        """Runs `call`, a function; returns the error, which must have this code."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertIs(caught.exception.code(), code, caught.exception)
        return caught.exception

    def detail(self, error, kind):
        """The one status detail of this type. Fails if code or message differ between details and trailers."""
        status = rpc_status.from_call(error)
        self.assertIsNotNone(status, "there are no details")
        self.assertEqual([any.TypeName() for any in status.details], [kind.DESCRIPTOR.full_name])
        return kind.FromString(status.details[0].value)


class Conversation:
    """A streaming call whose requests are sent one by one. Cancelled at the end of its `with` block."""

    def __init__(self, method, **options):
        self._requests = queue.SimpleQueue()
        self.call = method(iter(self._requests.get, None), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.call.cancel()
        self.half_close()

    def send(self, request):
        self._requests.put(request)

    def half_close(self):
        self._requests.put(None)

    def ask(self, request):
        """Sends one request and waits for its answer."""
        self.send(request)
        return next(self.call)
