"""One end of a TCP connection that moves bytes as fast as it can: stream.py listen|connect HOST PORT send|take BYTES

The one that listens prints its port (PORT 0 is any) and serves one connection; the one that connects prints how many
seconds it took until the other end had everything.
"""

import socket
import sys
import time

CHUNK = 1 << 20


def send(connection, count):
    chunk = bytes(CHUNK)
    while count > 0:
        count -= connection.send(chunk[:count] if count < CHUNK else chunk)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)  # The other end has read everything when it hangs up.


def take(connection, count):
    room = bytearray(CHUNK)
    while got := connection.recv_into(room):
        count -= got
    if count:
        sys.exit(f"{count} bytes are missing")


def main(role, host, port, what, count):
    move = {"send": send, "take": take}[what]
    if role == "listen":
        with socket.create_server((host, int(port))) as server:
            print(server.getsockname()[1], flush=True)
            with server.accept()[0] as connection:
                move(connection, int(count))
        return
    start = time.perf_counter()
    with socket.create_connection((host, int(port))) as connection:
        move(connection, int(count))
    print(time.perf_counter() - start)


main(*sys.argv[1:])
