"""Builds the servers and the tools; what cannot be built is named, and left out."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target")).resolve()
RELEASE = TARGET / "release"
# What is made beside binaries.
WORK = TARGET / "compare"
# Peers in packages of their own, so that the features which they need change nothing in the others.
PACKAGES = {"serve-volo": "compare-volo", "serve-ntex": "compare-ntex"}
GHZ_VERSION = "v0.121.0"


def build(binaries):
    """Builds the named servers, and "ghz"; returns those that cannot be built, each with the reason."""
    WORK.mkdir(parents=True, exist_ok=True)
    cargo("load", "check", "prepare")
    run([RELEASE / "prepare", "certificate", WORK])
    run([RELEASE / "prepare", "token", WORK])
    missing = {}
    for binary in sorted(binaries):
        try:
            if binary == "serve-grpc-go":
                go()
            elif binary == "ghz":
                ghz()
            else:
                cargo(binary)
        except (OSError, subprocess.CalledProcessError) as error:
            missing[binary] = f"cannot be built: {error}"
    return missing


def cargo(*binaries):
    flags = [word for binary in binaries for word in ("--bin", binary)]
    flags += ["--package", PACKAGES.get(binaries[0], "compare")]
    if binaries == ("serve-ntex",):
        # It declares Rust 1.97, and builds on 1.95.
        flags.append("--ignore-rust-version")
    run(["cargo", "build", "--release", "--locked", "--manifest-path", HERE / "Cargo.toml",
         "--target-dir", TARGET, *flags])


def go():
    need_go()
    plugins = ["google.golang.org/protobuf/cmd/protoc-gen-go",
               "google.golang.org/grpc/cmd/protoc-gen-go-grpc"]
    module = HERE / "go"
    run(["go", "build", "-C", module, "-o", f"{WORK}/", *plugins])
    for plugin in plugins:
        run([RELEASE / "prepare", "go", WORK / Path(plugin).name, module / "pb"])
    run(["go", "build", "-C", module, "-buildvcs=false", "-o", RELEASE / "serve-grpc-go", "."])


def ghz():
    need_go()
    run(["go", "install", f"github.com/bojand/ghz/cmd/ghz@{GHZ_VERSION}"], {"GOBIN": str(WORK)})


def need_go():
    if not shutil.which("go"):
        raise FileNotFoundError("there is no Go toolchain")


def run(command, environment=None):
    subprocess.run(command, check=True, env=os.environ | (environment or {}))


def versions():
    """The versions of what is compared, by name."""
    found = {"rustc": output("rustc", "--version").split()[1]}
    lock = (HERE / "Cargo.lock").read_text().split("[[package]]")
    packages = [dict(line.split(" = ", 1) for line in entry.splitlines() if " = " in line)
                for entry in lock]
    for name in ["tonic", "hyper", "h2", "tokio", "connectrpc", "pajamax", "volo-grpc", "ntex-grpc",
                 "ntex", "rustls", "mimalloc"]:
        numbers = [p["version"] for p in packages if p.get("name") == f'"{name}"']
        found[name] = ", ".join(number.strip('"') for number in numbers)
    if shutil.which("go"):
        found["go"] = output("go", "env", "GOVERSION")
        lines = (HERE / "go" / "go.mod").read_text().split("\n")
        found["grpc-go"] = next((line.split()[1] for line in lines
                                 if line.strip().startswith("google.golang.org/grpc v")), "")
        found["ghz"] = GHZ_VERSION
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        found["balafon"] = output("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return found


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
