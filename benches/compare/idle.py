"""Opens keep-alive connections, sends one request on each, and holds them open until a line comes in.

Usage: idle.py PORT NAME|- REQUEST_FILE BODY_SIZE CONNECTIONS; with `-` for NAME it speaks without TLS.
"""

import socket
import ssl
import sys


def main():
    port, name, request_file, body_size, connections = sys.argv[1:]
    with open(request_file, "rb") as file:
        request = file.read()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opened = []
    while len(opened) < int(connections):
        batch = []
        for _ in range(min(64, int(connections) - len(opened))):
            connection = socket.create_connection(("127.0.0.1", int(port)), 30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            batch.append(connection if name == "-" else context.wrap_socket(connection, server_hostname=name))
        exchange(batch, request, int(body_size))
        opened += batch
    print("open %d" % len(opened), flush=True)
    sys.stdin.readline()
    exchange(opened, request, int(body_size))  # proof that the server had not closed them
    print("alive %d" % len(opened), flush=True)


def exchange(connections, request, body_size):
    for connection in connections:
        connection.sendall(request)
    for connection in connections:
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < body_size:
            piece = connection.recv(65536)
            if not piece:
                raise SystemExit("the server closed a connection after %d bytes" % len(answer))
            answer += piece
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit("unexpected answer: %r" % answer[:200])


if __name__ == "__main__":
    main()
