"""The work that is asked of every proxy, and the proof that each one does it."""

import hashlib
import http.client
import json
import random
import socket
import ssl
import subprocess
import time

from harness import Failure

BODIES = {"1k": 1024, "64k": 64 * 1024, "1m": 1024 * 1024, "json": 100 * 1024}
# 50 routes: ten hosts with five prefixes each, one upstream for each prefix. The load hits one in the middle.
HOSTS = [f"app{number:02}.example.test" for number in range(10)]
UPSTREAMS = {"/": "site", "/account": "account", "/api": "api", "/search": "search", "/static": "static"}
HOST, PREFIX = "app05.example.test", "/api"
# The same files as below PREFIX, which may be stored for an hour.
CACHED = f"{PREFIX}/cached"

# What Chrome sends with a navigation, without `Host`: 13 fields.
BROWSER_FIELDS = {
    "sec-ch-ua": '"Chromium";v="128", "Not;A=Brand";v="24", "Google Chrome";v="128"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "upgrade-insecure-requests": "1",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
    "referer": "https://app05.example.test/account/orders?page=2",
    "accept-encoding": "gzip, deflate, br, zstd",
    "accept-language": "en-GB,en;q=0.9,de;q=0.8",
    "cookie": "session=9f8b1c2d3e4f5a6b7c8d9e0f1a2b3c4d; theme=dark; consent=all; _ga=GA1.1.1234567890.1712345678",
}
# What every proxy has to tell the origin; where there is `None`, any value will do.
FORWARDED_FIELDS = {
    "host": HOST,
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-proto": None,
    "x-forwarded-host": HOST,
    "x-real-ip": "127.0.0.1",
    "forwarded": None,
    "via": None,
    "x-request-id": None,
    "cookie": BROWSER_FIELDS["cookie"],
}


def make_certificate(directory):
    """One self-signed ECDSA P-256 certificate for every target."""
    certificate, key = directory / "site.pem", directory / "site.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "30", "-subj", f"/CN={HOST}",
         "-addext", "subjectAltName=DNS:*.example.test,DNS:localhost"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    (directory / "both.pem").write_text(certificate.read_text() + key.read_text())
    # The clients offer the same to everyone: X25519 alone (a newer OpenSSL would offer a post-quantum group that
    # not every target knows), and one cipher suite, the one that browsers prefer where AES has hardware.
    (directory / "openssl.cnf").write_text(
        "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = client\n[client]\n"
        "MinProtocol = TLSv1.3\nGroups = X25519\nCiphersuites = TLS_AES_128_GCM_SHA256\n"
    )
    return certificate, key


def make_bodies(directory):
    """Text that does not repeat, so that nobody gains by luck, and a list of records; the same bytes in every run."""
    folder, cached = (directory / "www" / prefix.strip("/") for prefix in (PREFIX, CACHED))
    cached.mkdir(parents=True)
    digests = {}
    for name, size in BODIES.items():
        body = records(size) if name == "json" else random.Random(name).randbytes(size // 2).hex().encode()
        (folder / name).write_bytes(body)
        (cached / name).write_bytes(body)
        digests[name] = hashlib.sha256(body).hexdigest()
    for path in (directory, directory / "www", folder, cached):
        path.chmod(0o755)
    return digests


def records(size):
    """JSON as the API of a shop answers it, which brotli brings down to about a fifth."""
    draw = random.Random("json")
    words = [draw.randbytes(draw.randint(2, 5)).hex() for _ in range(400)]
    found = []
    while len(json.dumps(found)) < size:
        found.append({
            "id": draw.randrange(10**6), "sku": draw.randbytes(4).hex(), "price": round(draw.uniform(1, 500), 2),
            "name": " ".join(draw.choices(words, k=4)), "in_stock": draw.random() < 0.7,
            "description": " ".join(draw.choices(words, k=20)), "tags": draw.sample(words[:40], 3),
        })
    return json.dumps(found).encode()[:size]


def fields(coding=None):
    """The browser's, or those of a browser that knows one content coding alone."""
    return dict(BROWSER_FIELDS, **({"accept-encoding": coding} if coding else {}))


def fetch(target, paths, tls, close, coding=None):
    """Requests with the browser's fields, all on one connection; their responses, bodies, and the TLS version."""
    raw = socket.create_connection(("127.0.0.1", target.tls if tls else target.plain), 10)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(target.directory / "site.pem")
        raw = context.wrap_socket(raw, server_hostname=HOST)
    version = raw.version() if tls else None
    connection = http.client.HTTPConnection(HOST)
    connection.sock, connection.auto_open = raw, False
    answers = []
    for path in paths:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        for name, value in fields(coding).items():
            connection.putheader(name, value)
        if close:
            connection.putheader("connection", "close")
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        answers.append((response, body))
        if response.status != 200:
            log = target.workshop.log(target.name)
            raise Failure(f"{target.name}, {path}: status {response.status}\n{body[:500]!r}\n{log}")
        if response.will_close != close:
            raise Failure(f"{target.name}, {path}: asked to {'close' if close else 'keep'} the connection, it did not")
    connection.close()
    return answers, version


def check_answer(target, path, digest, tls, close, coding=None):
    """The right bytes over the right protocol, and every field that the others have to set as well."""
    what = f"{target.name}, {path}{' over TLS' if tls else ''}"
    seen_path = f"{PREFIX}/seen"
    if close:
        (answer,), version = fetch(target, [path], tls, True, coding)
        (seen,), _ = fetch(target, [seen_path], tls, True)
    else:
        (answer, _, seen), version = fetch(target, [path, path, seen_path], tls, False, coding)
    response, body = answer
    if response.getheader("content-encoding") != coding:
        raise Failure(f"{what}: content coding {response.getheader('content-encoding')}, expected {coding}")
    if hashlib.sha256(decoded(body, coding)).hexdigest() != digest:
        raise Failure(f"{what}: the body is not the origin's ({len(body)} bytes)")
    if tls and version != "TLSv1.3":
        raise Failure(f"{what}: {version} instead of TLSv1.3")
    for name in ("via", "x-request-id"):
        if not response.getheader(name):
            raise Failure(f"{what}: the response has no `{name}`: not the same work")

    seen = dict(line.split(": ", 1) for line in seen[1].decode().splitlines() if ": " in line)
    wanted = dict(FORWARDED_FIELDS, **{"x-forwarded-proto": "https" if tls else "http", "protocol": "HTTP/1.1"})
    for name, value in wanted.items():
        if not seen.get(name) or (value is not None and seen[name] != value):
            raise Failure(f"{what}: the origin sees `{name}: {seen.get(name, '')}`, expected `{value or 'a value'}`")


def decoded(body, coding):
    if coding is None:
        return body
    return subprocess.run(["brotli", "-dc"], input=body, stdout=subprocess.PIPE, check=True).stdout


def settled_length(target, path, coding):
    """How long the body is that is sent, once that has not changed for two seconds: a better one may be in the making."""
    lengths = []
    while len(lengths) < 5 or len(set(lengths[-5:])) > 1:
        if len(lengths) > 60:
            raise Failure(f"{target.name}, {path}: the encoded body is a new one again and again: {lengths[-5:]} bytes")
        time.sleep(0.5)
        ((_, body),), _ = fetch(target, [path], False, False, coding)
        lengths.append(len(body))
    return lengths[-1]


def check_hits(origin, target, load):
    """Runs a load and fails unless the origin has nothing to do with it."""
    _, before = origin.counters()
    requests = load()
    _, after = origin.counters()
    if after - before > 0.001 * requests + 2:  # looking counts as well
        raise Failure(f"{target.name} asked the origin {after - before} times for {requests} requests: no cache hits")


def check_reuse(origin, target, load, connections):
    """Runs a load and fails unless almost every request travelled on a connection that was there already.

    A pool may still be growing to as many for each server as there are clients; without reuse it is one per request.
    """
    accepted_before, served_before = origin.counters()
    load()
    accepted, served = (after - before for after, before in zip(origin.counters(), (accepted_before, served_before)))
    if accepted > 0.02 * served + min(len(origin.ports) * connections, 0.1 * served) + 8:
        raise Failure(
            f"{target.name} does not keep its upstream connections alive: {accepted} connections for {served} requests"
        )
    return accepted, served
