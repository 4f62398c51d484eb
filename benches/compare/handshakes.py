"""A load of full TLS handshakes: a new connection for each request, never a resumed session.

wrk and h2load may offer the ticket of the connection before; a Python client does so only when told to, and says
afterwards whether the server resumed. Usage: handshakes.py PORT NAME REQUEST_FILE BODY_SIZE SECONDS PROCESSES
"""

import os
import socket
import ssl
import sys
import time


def main():
    port, name, request_file, body_size, seconds, processes = sys.argv[1:]
    with open(request_file, "rb") as file:
        request = file.read()
    started = time.monotonic()
    deadline = started + float(seconds)
    pipes = []
    for _ in range(int(processes)):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            os.write(writer, ("%d %d %d" % load(int(port), name, request, int(body_size), deadline)).encode())
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    requests = resumed = failed = 0
    for reader in pipes:
        counts = os.read(reader, 100).split()
        requests, resumed, failed = requests + int(counts[0]), resumed + int(counts[1]), failed + int(counts[2])
    print("requests=%d resumed=%d failed=%d seconds=%.3f" % (requests, resumed, failed, time.monotonic() - started))


def load(port, name, request, body_size, deadline):
    # One context for the trust settings alone: a session is reused only if passed to `wrap_socket`, which it is not.
    # The certificate chain is not judged, its signature over the handshake is.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    requests = resumed = failed = 0
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as raw:
                with context.wrap_socket(raw, server_hostname=name) as secured:
                    secured.sendall(request)
                    answer = b""
                    while piece := secured.recv(65536):  # to the end: the server closes, as it was asked to
                        answer += piece
                    resumed += secured.session_reused
        except OSError:
            failed += 1
            continue
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200 ") and len(body) == body_size:
            requests += 1
        else:
            failed += 1
    return requests, resumed, failed


if __name__ == "__main__":
    main()
