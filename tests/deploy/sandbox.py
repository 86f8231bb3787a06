"""What systemd does to a service's system calls, without systemd: `python -m tests.deploy.sandbox UNIT COMMAND …`.

Of the unit it obeys SystemCallFilter (errno EPERM), RestrictAddressFamilies, MemoryDenyWriteExecute and NoNewPrivileges, by
seccomp as systemd does, and then becomes the command. The groups of calls are those of the installed systemd.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.deploy.unit import Unit

_ALLOW: Final = 0x7FFF0000  # SCMP_ACT_ALLOW
_ERRNO: Final = 0x00050000  # SCMP_ACT_ERRNO(…), with the number added
_NOT_EQUAL, _EQUAL, _MASKED_EQUAL = 1, 4, 7  # enum scmp_compare
_UNKNOWN: Final = -1  # __NR_SCMP_ERROR


class _Compare(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


class Filter:
    """A seccomp filter of this process that forbids some calls."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(_ALLOW))

    def number(self, call: str) -> int:
        """Return the number of a call; negative when this machine has none of that name."""
        return int(self._library.seccomp_syscall_resolve_name(call.encode()))

    def forbid(self, number: int, error: int, *conditions: _Compare) -> None:
        """Answer a call with an error, if all conditions hold."""
        array = (_Compare * len(conditions))(*conditions)
        status = self._library.seccomp_rule_add_array(self._context, _ERRNO | error, number, len(conditions), array)
        if status:
            raise OSError(-status, f"system call {number}: {os.strerror(-status)}")

    def load(self) -> None:
        """Put it into force, for this process and all that come of it; they get no new privileges."""
        status = self._library.seccomp_load(self._context)
        if status:
            raise OSError(-status, os.strerror(-status))


def members(group: str) -> set[str]:
    """Return the calls of a group of systemd, or the call itself."""
    if not group.startswith("@"):
        return {group}
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group], check=True, capture_output=True, text=True
    )
    names = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return set().union(*(members(name) for name in names if name and not name.startswith("#")))


def allowed_calls(unit: Unit) -> set[str]:
    """Return the calls that SystemCallFilter leaves; lines that start with ~ take away."""
    allowed: set[str] = set()
    for line in unit.all("Service", "SystemCallFilter"):
        named = set().union(*(members(name) for name in line.lstrip("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def make_filter(unit: Unit) -> Filter:
    """Return the filter that a unit asks for."""
    made = Filter()
    allowed = {made.number(call) for call in allowed_calls(unit)} | {made.number("rseq")}
    for number in set(range(made.number("pidfd_open") + 20)) - allowed:
        made.forbid(number, errno.EPERM)
    families = {int(getattr(socket, name)) for name in unit.one("Service", "RestrictAddressFamilies").split()}
    for family in range(socket.AF_UNIX, 46):
        if family not in families:
            made.forbid(made.number("socket"), errno.EAFNOSUPPORT, _Compare(0, _EQUAL, family))
    if unit.one("Service", "MemoryDenyWriteExecute") == "yes":
        both = mmap.PROT_EXEC | mmap.PROT_WRITE
        made.forbid(made.number("mmap"), errno.EPERM, _Compare(2, _MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            executable = _Compare(2, _MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC)
            made.forbid(made.number(call), errno.EPERM, executable)
    return made


def main() -> None:
    """Run a command as a unit would."""
    make_filter(Unit.read(Path(sys.argv[1]))).load()
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
