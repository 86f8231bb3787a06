#!/usr/bin/env python3
"""Listen on the manager interface of an Asterisk (FreePBX) and tell a hook of resyncctl after each reload.

    freepbx-ami-reload.py --ami 127.0.0.1:5038 --user resyncctl --ami-secret-file F --hook URL --hook-secret-file F

Changes nothing on the PBX but one manager user that may read `system` events. Reconnects for ever. A reload that happens
while there is no connection goes unnoticed; `--on-connect` tells the hook then. Needs Python 3.6 and nothing else.
"""

# ruff: noqa: T201, PTH123, S310  (a script for the PBX: it prints, it opens files and URLs that its administrator names)
import argparse
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import sys
import time
import urllib.error
import urllib.request

IDLE = 30.0
"""Seconds of silence after which we ask whether the PBX is still there; after two of them it is not."""
LONGEST = 1 << 20
"""Bytes of one line."""
TRIES = 5


def main() -> None:
    options = arguments()
    wait = 1.0
    while True:
        try:
            with socket.create_connection(options.ami, timeout=IDLE) as connection:
                manager = Manager(connection)
                manager.log_in(options.user, read(options.ami_secret_file))
                say(f"connected to {options.ami[0]}:{options.ami[1]}")
                wait = 1.0
                if options.on_connect:
                    tell(options, "connected")
                listen(manager, options)
        except OSError as error:
            say(f"no connection to the manager interface: {error}; again in {wait:g} s")
        time.sleep(wait)
        wait = min(wait * 2, 30.0)


def listen(manager: "Manager", options: argparse.Namespace) -> None:
    """Tell the hook of every reload; raise OSError when the connection ends."""
    while True:
        block = manager.next_block()
        if block.get("event") == "Reload" and options.module in {"*", block.get("module")}:
            tell(options, f"reload of {block.get('module', 'unknown')}")


class Manager:
    """A connection to the manager interface. Every method raises OSError when it is lost."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._bytes = b""

    def log_in(self, user: str, secret: str) -> None:
        """Read the greeting and log in."""
        if not self._line().startswith("Asterisk Call Manager"):
            raise OSError("this is not an Asterisk manager interface")
        self._send("Login", Username=user, Secret=secret, Events="system")
        answer = self.next_block()
        while "response" not in answer:
            answer = self.next_block()
        if answer["response"] != "Success":
            raise OSError(f"the login is refused: {answer.get('message', '')}")

    def next_block(self) -> dict:
        """Return the next block by lower-case keys; empty ones are passed over."""
        block: dict = {}
        while True:
            line = self._line()
            if line:
                key, _, value = line.partition(":")
                block[key.lower()] = value.strip()
            elif block:
                return block

    def _line(self) -> str:
        asked = False
        while b"\n" not in self._bytes:
            try:
                more = self._connection.recv(65536)
            except socket.timeout:  # noqa: UP041  (not the same before Python 3.10)
                if asked:
                    raise OSError("it does not answer any more") from None
                asked = True
                self._send("Ping")
                continue
            if not more:
                raise OSError("it was closed")
            self._bytes += more
            if len(self._bytes) > LONGEST:
                raise OSError("a line without end")
        line, _, self._bytes = self._bytes.partition(b"\n")
        return line.decode("utf-8", "replace").strip("\r")

    def _send(self, action: str, **fields: str) -> None:
        """Send an action. Values are the administrator's own and hold no line breaks."""
        lines = [f"Action: {action}", *(f"{key}: {value}" for key, value in fields.items())]
        self._connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())


def tell(options: argparse.Namespace, reason: str) -> None:
    """Call the hook, signed or with a token, a few times if need be. Never raises: the next reload is another chance."""
    for number in range(TRIES):
        try:
            with urllib.request.urlopen(request(options, reason), timeout=5) as answer:
                say(f"{reason}: {answer.read(1000).decode('utf-8', 'replace')}")
                return
        except (OSError, ValueError) as error:
            detail = error.read(1000).decode("utf-8", "replace") if isinstance(error, urllib.error.HTTPError) else ""
            say(f"{reason}: the hook was not told: {error} {detail}")
            time.sleep(min(2.0**number, 8.0))


def request(options: argparse.Namespace, reason: str) -> urllib.request.Request:
    # The nonce makes two calls of one second differ: a signature is good once.
    body = json.dumps({"reason": reason, "nonce": secrets.token_hex(8)}).encode()
    headers = {"Content-Type": "application/json"}
    if options.hook_token_file:
        headers["Authorization"] = "Bearer " + read(options.hook_token_file)
    else:
        now = str(int(time.time()))
        key = read(options.hook_secret_file).encode()
        headers["X-Resyncctl-Timestamp"] = now
        headers["X-Resyncctl-Signature"] = (
            "sha256=" + hmac.new(key, now.encode() + b"." + body, hashlib.sha256).hexdigest()
        )
    return urllib.request.Request(options.hook, body, headers)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def address(text: str) -> tuple:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ami", type=address, default=("127.0.0.1", 5038), metavar="HOST:PORT")
    parser.add_argument("--user", required=True, help="a user of manager.conf with read = system")
    parser.add_argument("--ami-secret-file", required=True, metavar="F")
    parser.add_argument("--hook", required=True, metavar="URL")
    proof = parser.add_mutually_exclusive_group(required=True)
    proof.add_argument("--hook-secret-file", metavar="F", help="what `resyncctl hook add` has printed")
    proof.add_argument("--hook-token-file", metavar="F", help="an API token of scope trigger")
    parser.add_argument("--module", default="All", help="of which module; All (default) is a full reload, * any")
    parser.add_argument("--on-connect", action="store_true", help="tell the hook after each connection as well")
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
