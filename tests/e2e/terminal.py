"""A program in a terminal of its own, as a person at the keyboard has it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import Self

CTRL_C = "\x03"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """`screen` is all that was written, without what moves the cursor or sets colours."""

    def __init__(self, *arguments: str, environment: dict[str, str], patience_s: float = 20) -> None:
        self._arguments = arguments
        self._environment = {**os.environ, **environment, "TERM": "xterm-256color"}
        self._patience_s = patience_s
        self._written = b""

    @property
    def screen(self) -> str:
        return _CONTROL.sub("", self._written.decode(errors="replace"))

    def __enter__(self) -> Self:
        self._keyboard, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, env=self._environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call; Ctrl-C is this terminal's
        )  # fmt: skip
        os.close(theirs)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._keyboard)

    def until(self, text: str, *, times: int = 1) -> None:
        """Read until the text was written so many times."""
        end = time.monotonic() + self._patience_s
        while self.screen.count(text) < times:
            more = self._read() and time.monotonic() < end
            assert more, f"{text!r} is not there:\n{self.screen}"

    def press(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def status(self) -> int:
        """The exit status, once it has ended."""
        end = time.monotonic() + self._patience_s
        while self._read():
            assert time.monotonic() < end, f"it goes on:\n{self.screen}"
        return self._process.wait(self._patience_s)

    def _read(self) -> bool:
        """Whether there may be more to come."""
        if select.select([self._keyboard], [], [], 0.1)[0]:
            try:
                self._written += (part := os.read(self._keyboard, 65536))
            except OSError:  # that is how Linux says that the other side is gone
                return False
            return bool(part)
        return True
