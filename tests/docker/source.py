#!/usr/bin/env python3
"""docker/Dockerfile, from source to a node that talks, both variants.

    python3 tests/docker/source.py --target target [--release]

No image is pulled: BUILD_IMAGE is the base image with Debian's C compiler and this machine's Rust toolchain copied in,
NODE_IMAGE the base image with this machine's Node. The crates and npm packages come from their registries; where a
container does not reach them, the test is skipped. Without --release the compiler does not optimise, which is most of the
time; sizes are judged with --release only.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "outside"))
sys.path.insert(0, str(HERE))

from blocking import Failed, check, wire  # noqa: E402
from boxes import LARGEST, OPEN, VARIANTS, Box, talk  # noqa: E402
from engine import BASE, DockerError, Engine, Missing  # noqa: E402
from results import Results  # noqa: E402

# A machine's own authorities, where a company's proxy looks into TLS; a container knows Debian's alone.
AUTHORITIES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
QUICK = ("--build-arg", "CARGO_PROFILE_RELEASE_OPT_LEVEL=0", "--build-arg", "CARGO_PROFILE_RELEASE_LTO=off")
# A project with one small dependency shows whether crates come through.
PROBE = """set -e
mkdir -p /tmp/probe/src && cd /tmp/probe && : >src/lib.rs
printf '[package]\\nname = "probe"\\nversion = "0.1.0"\\nedition = "2021"\\n[dependencies]\\nitoa = "1"\\n' >Cargo.toml
CARGO_NET_RETRY=1 timeout 60 cargo fetch"""


def words_of(command):
    """The output of a command of this machine, None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def committed(engine, word, tag, mounts, script, *changes):
    """An image of the base in which a script has run, with folders of this machine mounted."""
    if engine.run("image", "inspect", tag, check=False).returncode == 0:
        return tag
    name = engine.name(word)
    volumes = [part for place, inside in mounts.items() for part in ("-v", f"{place}:{inside}:ro")]
    engine.run("run", "--name", name, *volumes, BASE, "sh", "-ec", script, timeout=600)
    engine.run("commit", *[part for change in changes for part in ("-c", change)], name, tag, timeout=600)
    engine.remove(name)
    return tag


def build_image(engine):
    """The base image with a C compiler and this machine's Rust."""
    sysroot, version = words_of(["rustc", "--print", "sysroot"]), words_of(["rustc", "--version"])
    if not sysroot:
        raise Missing("rustc is not installed")
    mounts, trust = {sysroot: "/host/rust"}, ""
    if AUTHORITIES.exists():
        mounts[AUTHORITIES] = "/host/ca.crt"
        trust = f"cp /host/ca.crt {AUTHORITIES}\n"
    script = (f"{trust}apt-get update -qq\nDEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev\n"
              "mkdir /usr/local/rust\ncp -a /host/rust/bin /host/rust/lib /usr/local/rust/\nrm -rf /usr/local/rust/lib/rustlib/src")
    try:
        return committed(engine, "toolchain", f"nightjar-test/build:{version.split()[1]}", mounts, script,
                         "ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         f"ENV NODE_EXTRA_CA_CERTS={AUTHORITIES}")
    except DockerError as error:
        raise Missing(f"Debian's packages cannot be installed in a container: {str(error)[-300:]}") from error


def node_image(engine):
    """The base image with this machine's Node, where the official image has it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    version = words_of(["node", "--version"])
    package = pathlib.Path(npm).resolve().parent.parent if npm else pathlib.Path()
    if not (node and version) or tuple(map(int, version[1:].split("."))) < (20, 19, 0) or package.name != "npm":
        raise Missing("Node 20.19 or newer with its npm is not installed")
    return committed(engine, "node", f"nightjar-test/node:{version}", {pathlib.Path(node).resolve(): "/host/node", package: "/host/npm"},
                     "install -D /host/node /usr/local/bin/node\nmkdir -p /usr/local/lib/node_modules\ncp -a /host/npm /usr/local/lib/node_modules/npm")


def sources(folder):
    """What git knows and what is new, as a checkout has it: no build of this machine goes along."""
    names = words_of(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    if names is None:
        shutil.copytree(ROOT, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("target", ".git", "node_modules"))
        return
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def from_source(engine, variant, context, words, judged):
    """Builds a variant, starts it, talks to it on every transport."""
    tag = f"nightjar-test/source-{variant}:{os.getpid()}"
    begin = time.monotonic()
    size = engine.build(context, tag, "-f", context / "docker" / "Dockerfile", "--target", variant, *words, timeout=3000)
    if variant == "slim":
        size -= int(engine.out("image", "inspect", "-f", "{{.Size}}", BASE))
    print(f"      {variant}: built in {time.monotonic() - begin:.0f} s, {size / 1e6:.1f} MB without the base", flush=True)
    try:
        with Box(engine, tag, f"source-{variant}", *OPEN) as box, tempfile.TemporaryDirectory() as folder:
            talk(box, box.ca(folder))
            done = engine.run("exec", box.name, "nightjar", "healthcheck")
            check(done.returncode == 0, done.stdout + done.stderr)
        check(not judged or size <= LARGEST, f"{variant} has {size / 1e6:.1f} MB")
    finally:
        engine.run("image", "rm", "-f", tag, check=False)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True, help="folder of what is kept between runs")
    parser.add_argument("--release", action="store_true", help="build as people do")
    parser.add_argument("--jobs", default="", help="compilers at once")
    args = parser.parse_args()
    results = Results(ci=os.environ.get("CI") == "true")
    try:
        with Engine() as engine, tempfile.TemporaryDirectory(prefix="nightjar-source-") as folder:
            base, build, node = engine.base(args.target), build_image(engine), node_image(engine)
            probe = engine.run("run", "--rm", build, "sh", "-c", PROBE, check=False)
            if probe.returncode != 0:
                raise Missing(f"a container does not reach the crate registry: {(probe.stdout + probe.stderr).strip()[-300:]}")
            sources(pathlib.Path(folder))
            words = ["--build-arg", f"BUILD_IMAGE={build}", "--build-arg", f"BASE_IMAGE={base}",
                     "--build-arg", f"NODE_IMAGE={node}", *(() if args.release else QUICK)]
            if args.jobs:
                words += ["--build-arg", f"CARGO_BUILD_JOBS={args.jobs}"]
            for variant in VARIANTS:
                name, begin = f"docker/source/{variant}", time.monotonic()
                try:
                    from_source(engine, variant, pathlib.Path(folder), words, args.release)
                    results.ok(name, time.monotonic() - begin)
                except (Failed, DockerError, OSError, wire.WireError, subprocess.SubprocessError) as error:
                    results.fail(name, str(error) or repr(error), time.monotonic() - begin)
    except Missing as why:
        results.skip("docker/source", str(why))
    except (DockerError, subprocess.SubprocessError) as error:
        results.fail("docker/source", str(error))
    return results.close("docker source")


if __name__ == "__main__":
    sys.exit(main())
