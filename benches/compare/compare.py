"""Measures balafon and other gRPC servers beside each other; `run` is the command."""

import argparse
import dataclasses
import datetime
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import build
import ghz
import measure
import plot
import report
from measure import Failed
from tables import GHZ_SERVERS, GHZ_WORKLOADS, SERVERS, WORKLOADS

DESCRIPTION = """
Builds balafon and its peers, lets each answer a correctness check, and runs every workload on every
server, interleaved, in a number of rounds: the server on one CPU, the load on another. Prints the
tables and writes latest.md, latest.svg and latest.json: a whole run to benches/record, any other
(--quick, --only, --servers, --no-ghz) to compare/ below the target folder. Needs Linux, cargo and
Python 3; uses Go, strace and valgrind if they are there, and names what it had to leave out. Go is
for grpc-go, and for ghz, a second load generator that measures two workloads on some servers.
"""


def main():
    options = arguments()
    servers, workloads = chosen(options)
    start = time.monotonic()
    binaries = {server.binary for server in servers if server.binary[0] != "/"}
    missing = build.build(binaries | ({"ghz"} if ghz_cells(servers, workloads, options) else set()))
    print(f"built in {time.monotonic() - start:.0f} s", flush=True)

    record = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["benches/compare/run", *sys.argv[1:]]).replace(f"{build.ROOT}/", ""),
        "machine": machine(),
        "versions": build.versions(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "left_out": {},
        "runs": [],
        "ghz": [],
        "writes": {},
        "instructions": {},
        "idle": {},
    }
    start = time.monotonic()
    servers = checked(servers, missing, record)
    measured(servers, workloads, options, record)
    if "ghz" in missing:
        record["left_out"]["ghz"] = missing["ghz"]
    else:
        measured_by_ghz(ghz_cells(servers, workloads, options), options, record)
    counted(servers, workloads, options, record)
    print(f"\nmeasured in {time.monotonic() - start:.0f} s\n", flush=True)

    record["servers"] = [{"name": server.name, "about": server.about, "flags": server.flags,
                          "lacks": sorted(server.lacks)} for server in servers]
    record["workloads"] = [dataclasses.asdict(workload) | {"needs": sorted(workload.needs)}
                           for workload in workloads]
    folder = Path(options.record) if options.record else default_folder(options)
    folder.mkdir(parents=True, exist_ok=True)
    text = report.markdown(record)
    (folder / "latest.json").write_text(report.as_json(record))
    (folder / "latest.md").write_text(text)
    (folder / "latest.svg").write_text(plot.svg(record))
    print(text)
    print(f"written to {folder}")


def arguments():
    parser = argparse.ArgumentParser(prog="benches/compare/run", description=DESCRIPTION)
    names = lambda table: ", ".join(entry.name for entry in table)
    parser.add_argument("--quick", action="store_true", help="one round of half a second each: four minutes")
    parser.add_argument("--only", metavar="WORKLOAD,..", help=names(WORKLOADS))
    parser.add_argument("--servers", metavar="SERVER,..", help=names(SERVERS))
    parser.add_argument("--rounds", type=int, metavar="N", help="5; 1 if quick")
    parser.add_argument("--seconds", type=float, metavar="S", help="each measurement: 2; 0.5 if quick")
    parser.add_argument("--instructions", action="store_true",
                        help="counts instructions, under valgrind, also if quick")
    parser.add_argument("--no-ghz", action="store_true", help="leaves out the runs under ghz")
    parser.add_argument("--binary", action="append", default=[], metavar="NAME=PATH",
                        help="another build of serve-balafon, shown under this name")
    parser.add_argument("--record", metavar="FOLDER", help="where the results go")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    return options


def chosen(options):
    servers = list(SERVERS)
    for extra in options.binary:
        name, path = extra.split("=", 1)
        binary = str(Path(path).resolve(strict=True))
        servers.insert(1, dataclasses.replace(SERVERS[0], name=name, binary=binary,
                                              about=f"another build: {Path(path).name}"))
    return pick(servers, options.servers), pick(WORKLOADS, options.only)


def pick(table, names):
    if not names:
        return table
    names = names.split(",")
    unknown = set(names) - {entry.name for entry in table}
    if unknown:
        sys.exit(f"there is no {', '.join(sorted(unknown))}")
    return [entry for entry in table if entry.name in names]


def default_folder(options):
    whole = not (options.quick or options.only or options.servers or options.no_ghz)
    return build.ROOT / "benches" / "record" if whole else build.WORK / "record"


def machine():
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cpus": os.cpu_count(),
            "kernel": platform.release(), "load_before": os.getloadavg()[0],
            "server_cpu": measure.SERVER_CPU, "load_cpu": measure.LOAD_CPU}


def checked(servers, missing, record):
    """The servers that are there and answer as they should, in plaintext and over TLS."""
    tls = next(workload for workload in WORKLOADS if "tls" in workload.needs)
    good = []
    for server in servers:
        reason = missing.get(server.binary)
        try:
            for setting in [None] + [tls] * (not reason and "tls" not in server.lacks):
                if not reason:
                    measure.check(server, setting)
        except Failed as error:
            reason = f"fails the check: {error}"
        if reason:
            record["left_out"][server.name] = reason
            print(f"{server.name}: {reason}", flush=True)
        else:
            good.append(server)
    return good


def measured(servers, workloads, options, record):
    for number in range(options.rounds):
        for workload in workloads:
            # Each round begins with another server, so that none is always the first.
            turn = number % max(1, len(servers))
            for server in servers[turn:] + servers[:turn]:
                if workload.needs & server.lacks:
                    continue
                record["runs"].append(one_run(number, server, workload, measure.measure, options))


def ghz_cells(servers, workloads, options):
    """Pairs of a workload and a server that ghz measures too."""
    if options.no_ghz:
        return []
    return [(workload, server) for workload in workloads if workload.name in GHZ_WORKLOADS
            for server in servers if server.name in GHZ_SERVERS]


def measured_by_ghz(cells, options, record):
    for number in range(options.rounds):
        turn = number % max(1, len(cells))
        for workload, server in cells[turn:] + cells[:turn]:
            record["ghz"].append(one_run(number, server, workload, ghz.measure, options))


def one_run(number, server, workload, function, options):
    """What `function` measured, or why it could not."""
    run = {"round": number, "workload": workload.name, "server": server.name}
    try:
        run |= function(server, workload, options.seconds)
        load = f"load {run['load_busy']:4.0%}" if "load_busy" in run else "ghz"
        line = (f"{run['units_per_second']:12,.0f} /s {run['cpu_us']:9.2f} us CPU "
                f"(server {run['server_busy']:4.0%}, {load})")
    except Failed as error:
        run["failed"] = line = str(error)
    print(f"{number} {workload.name:17} {server.name:17} {line}", flush=True)
    return run


def counted(servers, workloads, options, record):
    """What is counted rather than timed."""
    wanted = [workload for workload in workloads if workload.counted]
    if options.quick:
        wanted = [workload for workload in wanted if workload.name == "unary-c8m32"]
    unary = next(workload for workload in WORKLOADS if workload.name == "unary-c8m32")
    for server in servers:
        mine = [workload for workload in wanted
                if not workload.needs & server.lacks and "counts" not in server.lacks]
        for workload in mine:
            count(record["writes"], server, workload.name, measure.writes, workload)
        for workload in mine if options.instructions or not options.quick else []:
            count(record["instructions"], server, workload.name, measure.instructions, workload)
        if "idle" not in server.lacks and not options.only:
            count(record["idle"], server, "idle", measure.idle, unary)


def count(into, server, name, function, workload):
    try:
        found = function(server, workload)
    except Failed as error:
        found = {"failed": str(error)}
    into.setdefault(name, {})[server.name] = found
    print(f"{function.__name__} {name} {server.name}: {found}", flush=True)


if __name__ == "__main__":
    main()
