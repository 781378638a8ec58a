"""Runs one server and one load at a time, each on a CPU of its own."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

from build import RELEASE, WORK
from tables import IDLE_CONNECTIONS, SHORT

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]
# Longer than any one run takes, also under valgrind.
PATIENCE = 600


class Failed(Exception):
    """A server or a load that did not do what it should."""


def on(cpu):
    return lambda: os.sched_setaffinity(0, {cpu})


class Running:
    """A server under way."""

    def __init__(self, spec, workload, wrapper=()):
        self.port = free_port()
        command = [*wrapper, str(RELEASE / spec.binary), str(self.port), *spec.flags]
        needs = workload.needs if workload is not None else ()
        self.tls = "tls" in needs
        self.token = "token" in needs
        if self.tls:
            command += ["--tls", str(WORK / "cert.pem"), str(WORK / "key.pem")]
        if self.token:
            command += ["--production", str(WORK / "secret")]
        if workload is not None:
            command += workload.flags
        self.log = open(WORK / "server.log", "w+")
        # A log line for each call is written, and goes nowhere.
        quiet = "interceptors" in needs
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else self.log, text=True, preexec_fn=on(SERVER_CPU))
        self.ids = self.process.stdout.readline()
        self.pid = self.process.pid
        for _ in range(1000):
            if self.process.poll() is not None:
                raise Failed(f"did not start: {self.said()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise Failed("does not listen")

    def said(self):
        self.log.seek(0)
        return self.log.read().strip()[-500:]

    def memory(self, field):
        """VmRSS or VmHWM, its peak, in KiB."""
        with open(f"/proc/{self.pid}/status") as status:
            return int(next(line.split()[1] for line in status if line.startswith(field)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def end(self, pid):
        """Ends the process by a signal that it, or whatever wraps it, can handle."""
        os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def load_command(server, workload, **options):
    options = {"connections": workload.connections, "streams": workload.streams,
               "payload": workload.payload, "method": workload.method} | options
    command = [str(RELEASE / "load"), "--address", f"127.0.0.1:{server.port}"]
    if server.tls:
        command += ["--tls", str(WORK / "cert.pem")]
    if server.token:
        command += ["--authorization", str(WORK / "authorization")]
    return command + [str(word) for name, value in options.items()
                      for word in ("--" + name.replace("_", "-"), value)]


def load(server, workload, **options):
    done = subprocess.run(load_command(server, workload, **options), input=server.ids, text=True,
                          capture_output=True, timeout=PATIENCE, preexec_fn=on(LOAD_CPU))
    if done.returncode != 0:
        raise Failed(done.stderr.strip() or server.said())
    return json.loads(done.stdout)


def check(spec, tls):
    """Raises if the server does not answer as it should."""
    kind = "unary" if "streams" in spec.lacks else "all"
    with Running(spec, tls) as server:
        command = [str(RELEASE / "check"), f"127.0.0.1:{server.port}", kind]
        if server.tls:
            command.append(str(WORK / "cert.pem"))
        done = subprocess.run(command, input=server.ids, text=True, capture_output=True, timeout=60)
        if done.returncode != 0:
            raise Failed(done.stderr.strip() or server.said())


def measure(spec, workload, seconds):
    """One round of one workload on one server, freshly started."""
    options = {"warmup": min(1.0, seconds / 4), "seconds": seconds}
    if workload.rate:
        options["rate"] = workload.rate
    with Running(spec, workload) as server:
        found = load(server, workload, server_pid=server.pid, **options)
        found["peak_rss_kib"] = server.memory("VmHWM")
    if found["calls"] == 0:
        raise Failed("not one call ended in time")
    units = found["calls"] * workload.units
    found["units_per_second"] = units / found["seconds"]
    found["cpu_us"] = found["server_cpu"] / units * 1e6
    found["server_busy"] = found["server_cpu"] / found["seconds"]
    found["load_busy"] = found["load_cpu"] / found["seconds"]
    return found


def writes(spec, workload):
    """System calls that write, for each call."""
    if not shutil.which("strace"):
        raise Failed("there is no strace")
    summary = WORK / "strace.txt"
    # Only what is counted is stopped for (--seccomp-bpf): the rest runs at its usual speed.
    wrapper = ["strace", "-f", "--seccomp-bpf", "-c", "-o", str(summary), "-e",
               "trace=write,writev,sendto,sendmsg"]
    with Running(spec, workload, wrapper) as server:
        load(server, workload, calls=workload.counted)
        with open(f"/proc/{server.pid}/task/{server.pid}/children") as children:
            server.end(int(children.read().split()[0]))
    total = [line.split() for line in summary.read_text().splitlines() if line.endswith("total")]
    if not total:
        raise Failed("strace cannot trace here")
    return int(total[0][3]) / (workload.counted * workload.units)


def instructions(spec, workload):
    """Instructions in user space for each call: the difference of two runs, so without the start."""
    if not shutil.which("valgrind"):
        raise Failed("there is no valgrind")
    wrapper = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    # Instructions vary little, and a run takes fifty times as long.
    long = max(10, workload.counted // 4)
    counts = []
    for calls in (int(long * SHORT), long):
        with Running(spec, workload, wrapper) as server:
            load(server, workload, calls=calls)
            server.end(server.pid)
            match = re.search(r"I +refs: +([\d,]+)", server.said())
        if not match:
            raise Failed("cachegrind cannot run it")
        counts.append(int(match[1].replace(",", "")))
    return (counts[1] - counts[0]) / ((long - int(long * SHORT)) * workload.units)


def idle(spec, workload):
    """KiB for each of many connections that have had one call, and how many they were."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE_CONNECTIONS, hard - 200)
    with Running(spec, workload) as server:
        before = server.memory("VmRSS")
        command = load_command(server, workload, connections=count, streams=1, calls=count,
                               hold="true")
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, preexec_fn=on(LOAD_CPU))
        client.stdin.write(server.ids)
        client.stdin.flush()
        line = client.stdout.readline()
        time.sleep(0.5)
        after = server.memory("VmRSS")
        _, errors = client.communicate()
    if not line:
        raise Failed(errors.strip())
    return {"connections": count, "kib": (after - before) / count}
