"""What is measured: the servers, and what is asked of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Server:
    name: str
    binary: str
    flags: tuple = ()
    # Kinds of workloads that are left out for it: see LACKS.
    lacks: frozenset = frozenset()
    about: str = ""


@dataclass(frozen=True)
class Workload:
    name: str
    about: str
    method: str
    connections: int
    streams: int
    needs: frozenset = frozenset()
    payload: int = 0
    # Calls a second, where it is fixed.
    rate: int = 0
    # What one call counts for, and what that is called.
    units: int = 1
    unit: str = "call"
    flags: tuple = ()
    # Calls of the runs whose writes and whose instructions are counted; 0 for none.
    counted: int = 0


# Why workloads are left out for a server, in the words of the report.
LACKS = {
    "streams": "it has no streaming calls",
    "tls": "it has no TLS",
    "interceptors": "this comparison has no access log and no authentication for it",
    "long": "it has no messages over 16 KiB",
    "idle": "it cannot hold as many connections",
    "counts": "it uses io_uring, whose writes strace does not see, and which stands still under valgrind",
}


def lacks(*what):
    assert set(what) <= LACKS.keys()
    return frozenset(what)


SERVERS = [
    Server("balafon", "serve-balafon", about="`workers(1)`, no interceptors"),
    Server("balafon-native", "serve-balafon", ("--native",), about="the same over its own HTTP/2 engine"),
    Server("tonic", "serve-tonic", about="its defaults: tokio's multi-threaded runtime"),
    Server("tonic-current", "serve-tonic", ("--current-thread",),
           about="its defaults on a current-thread runtime"),
    Server("tonic-tuned", "serve-tonic", ("--current-thread", "--tuned"),
           about="current-thread runtime, windows of 1 and 4 MiB, frames of 1 MiB"),
    Server("connectrpc", "serve-connectrpc", lacks=lacks("interceptors"),
           about="its defaults: tokio's multi-threaded runtime"),
    Server("connectrpc-tuned", "serve-connectrpc", ("--current-thread", "--tuned"),
           lacks("interceptors"), "current-thread runtime, windows of 1 and 4 MiB"),
    Server("pajamax", "serve-pajamax", (), lacks("streams", "tls", "interceptors", "long", "idle"),
           "its defaults; unary calls of at most 16 KiB, a thread for each connection"),
    Server("pajamax-tuned", "serve-pajamax", ("--tuned",),
           lacks("streams", "tls", "interceptors", "long", "idle"), "up to 1,000 answers a flush"),
    Server("volo-grpc", "serve-volo", (), lacks("interceptors"),
           "its defaults: tokio's multi-threaded runtime, windows of 1 MiB"),
    Server("volo-grpc-current", "serve-volo", ("--current-thread",), lacks("interceptors"),
           "its defaults on a current-thread runtime"),
    Server("ntex-grpc", "serve-ntex", (), lacks("interceptors", "counts"),
           "its defaults: its own runtime over io_uring, a worker for each CPU"),
    Server("grpc-go", "serve-grpc-go", (), lacks("interceptors"), "its defaults, a store in Go"),
    Server("grpc-go-tuned", "serve-grpc-go", ("--tuned",), lacks("interceptors"),
           "stream workers, shared write buffers, windows of 1 and 4 MiB, GOGC=400"),
]

STREAMS = frozenset({"streams"})

WORKLOADS = [
    Workload("unary-c1m1", "GetUser, one call at a time", "get", 1, 1),
    Workload("unary-c1m100", "GetUser, 1 connection, 100 calls in flight", "get", 1, 100,
             counted=20_000),
    Workload("unary-c8m32", "GetUser, 8 connections, 32 calls in flight on each", "get", 8, 32,
             counted=20_000),
    Workload("unary-c64m10", "GetUser, 64 connections, 10 calls in flight on each", "get", 64, 10,
             counted=20_000),
    Workload("server-stream", "GetAllUsers, 1,000 users a call, 4 connections with 2 calls", "all",
             4, 2, STREAMS, counted=200),
    Workload("client-stream", "CreateUsers, 1,000 messages a call, 4 connections with 2 calls",
             "create", 4, 2, STREAMS, counted=200),
    Workload("bidi-ping", "UpdateUsers, one message at a time, 8 connections with 4 calls", "ping",
             8, 4, STREAMS, units=100, unit="message", counted=100),
    Workload("bidi-flow", "UpdateUsers, 1,000 messages a call, 4 connections with 2 calls", "flow",
             4, 2, STREAMS, counted=100),
    Workload("echo-1KiB", "1 KiB there and back, 8 connections with 32 calls", "echo", 8, 32,
             payload=1 << 10, counted=20_000),
    Workload("echo-1MiB", "1 MiB there and back, 2 connections with 2 calls", "echo", 2, 2,
             frozenset({"long"}), payload=1 << 20),
    Workload("tls-c8m32", "unary-c8m32 over TLS 1.3 (AES-128-GCM)", "get", 8, 32,
             frozenset({"tls"})),
    Workload("access-log-c8m32", "unary-c8m32 with an access log and correlation ids", "get", 8, 32,
             frozenset({"interceptors"}), flags=("--access-log",)),
    Workload("production-c8m32", "unary-c8m32 with metrics, an access log, tokens and roles, and a rate limit",
             "get", 8, 32, frozenset({"interceptors", "token"})),
    Workload("rate-10k", "GetUser, 10,000 calls a second on 8 connections, whatever comes back",
             "get", 8, 64, rate=10_000),
]

# What ghz, a load generator of another project, measures too.
GHZ_WORKLOADS = ["unary-c8m32", "unary-c64m10"]
GHZ_SERVERS = ["balafon", "balafon-native", "tonic", "tonic-current", "grpc-go"]

# The one that all others are divided by.
BASELINE = "tonic"
# Calls of the shorter of the two runs whose instructions are counted, as a part of the longer.
SHORT = 0.2
IDLE_CONNECTIONS = 10_000
