"""What the scripts take from the machine: folders, free ports, programs to install, a certificate, test bytes."""

import atexit
import functools
import hashlib
import os
import pathlib
import random
import resource
import shutil
import socket
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]

# Debian packages are pinned by the Debian release; what comes from npm is pinned here.
NODE_MODULES = {"express": "5.3.0", "ws": "8.23.0"}
PACKAGES = {
    "chromium": "chromium", "curl": "curl", "h2load": "nghttp2-client", "nginx": "nginx-light", "node": "nodejs",
    "npm": "npm", "openssl": "openssl", "taskset": "util-linux", "varnishd": "varnish", "wrk": "wrk",
}

MIB = 1024 * 1024

_given = set()


def cache_dir():
    """Kept from run to run, so that the second run installs nothing."""
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def work_dir():
    """Of this run, removed at its end; KEEP=1 leaves it (and says where) for a look at the logs."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-e2e-"))
    # nginx workers started by root run as another user and must get in.
    folder.chmod(0o755)
    if os.environ.get("KEEP"):
        print(f"logs: {folder}", flush=True)
    else:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def free_port():
    """A port that nothing listens on, below the range from which the kernel takes the ports of outgoing connections."""
    while True:
        port = random.randrange(20000, 28000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def raise_open_files():
    """Lifts the limit of open files to what is allowed; children inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def need(*programs):
    """Installs the Debian packages of the programs that are missing."""
    missing = sorted({PACKAGES[program] for program in programs if not _which(program)})
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)
    root = [] if os.geteuid() == 0 else ["sudo"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL,
             "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run([*root, "apt-get", "update", "-qq"], timeout=120, check=False, **quiet)
    subprocess.run(
        [*root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], timeout=300, check=True, **quiet
    )


def need_node_modules():
    """Installs the npm packages; returns the environment under which Node finds them."""
    need("node")
    folder = cache_dir() / "node"
    wanted = [f"{name}@{version}" for name, version in NODE_MODULES.items()]
    mark = folder / "installed"
    if not mark.exists() or mark.read_text().split() != wanted:
        need("npm")
        print(f"installing {' '.join(wanted)}", flush=True)
        folder.mkdir(exist_ok=True)
        subprocess.run(
            ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", "--no-save", "--loglevel=error", *wanted],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=180, check=True,
        )
        mark.write_text("\n".join(wanted))
    return {"NODE_PATH": str(folder / "node_modules")}


@functools.cache
def certificate(name="site"):
    """A self-signed certificate for localhost, another for each name: the paths of certificate and key."""
    need("openssl")
    cert, key = work_dir() / f"{name}.pem", work_dir() / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True, timeout=30,
    )
    return cert, key


@functools.cache
def payload(size=64 * MIB):
    """A file of random bytes and their SHA-256."""
    file = work_dir() / f"payload-{size}"
    file.write_bytes(random.randbytes(size))
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


def _which(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
