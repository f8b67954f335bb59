"""Free TCP ports on the loopback, kept for one cluster."""

import random
import socket

FIRST, LAST = 20000, 32000
"""Below the range from which Linux takes ports for connections that go out."""
MOST_ATTEMPTS = 1000


class ReservedPorts:
    """Ports of 127.0.0.1 that nobody else takes until ``release``; our own daemons can.

    Linux lets two sockets have one port when both ask for its reuse and neither of the first listens. Slurm's daemons
    ask for it, and whoever looks for a free port, like this class, does not.
    """

    def __init__(self, count: int) -> None:
        self._sockets: list[socket.socket] = []
        for _ in range(MOST_ATTEMPTS):
            if len(self._sockets) == count:
                break
            self._try(random.randint(FIRST, LAST))  # noqa: S311 - no secret depends on it
        self.numbers = tuple(int(held.getsockname()[1]) for held in self._sockets)
        if len(self.numbers) < count:
            self.release()
            raise OSError(f"there are no {count} free ports from {FIRST} to {LAST}")

    def release(self) -> None:
        """Give the ports back."""
        for held in self._sockets:
            held.close()

    def _try(self, number: int) -> None:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            held.bind(("127.0.0.1", number))
        except OSError:
            held.close()
            return
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sockets.append(held)
