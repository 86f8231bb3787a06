"""The manager interface of an Asterisk, as far as a listener for reloads sees it; its framing with all its oddities."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Manager:
    """`with Manager() as manager`: lets `resyncctl` in with the secret `ami-secret`; `say` sends bytes to who is logged in."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.actions: list[dict[str, str]] = []
        self.logged_in = threading.Semaphore(0)
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)

    def say(self, text: bytes) -> None:
        """Send bytes as they are."""
        assert self._connection is not None
        self._connection.sendall(text)

    def hang_up(self) -> None:
        """Close the connection, as an Asterisk that is restarted does."""
        assert self._connection is not None
        self._connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            with connection:
                connection.sendall(b"Asterisk Call Manager/11.0.0\r\n")
                self._connection = connection
                self._obey(connection)

    def _obey(self, connection: socket.socket) -> None:
        action: dict[str, str] = {}
        for line in connection.makefile("rb"):
            text = line.decode().strip()
            if text:
                key, _, value = text.partition(": ")
                action[key] = value
                continue
            self.actions.append(action)
            self._answer(connection, action)
            action = {}

    def _answer(self, connection: socket.socket, action: dict[str, str]) -> None:
        if action["Action"] == "Ping":
            connection.sendall(b"Response: Success\r\nPing: Pong\r\nTimestamp: 1800000000.000001\r\n\r\n")
        elif action.get("Secret") == "ami-secret" and action.get("Username") == "resyncctl":
            connection.sendall(b"Response: Success\r\nMessage: Authentication accepted\r\n\r\n")
            connection.sendall(b"Event: FullyBooted\r\nPrivilege: system,all\r\nStatus: Fully Booted\r\n\r\n")
            self.logged_in.release()
        else:
            connection.sendall(b"Response: Error\r\nMessage: Authentication failed\r\n\r\n")
            connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._connection is not None:
            with contextlib.suppress(OSError):  # gone already
                self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
