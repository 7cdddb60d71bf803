"""A program at a terminal, and the person before it."""

import os
import pty
import select
import time

from instance import COMMAND_TIMEOUT_S, Failure, expect


class Terminal:
    """`command` runs there until it ends or `end` is called."""

    def __init__(self, command, environment):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)

    def expect(self, text):
        """Reads on until `text` has come, which is then behind us."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.fd], [], [], max(left, 0))
            expect(ready, f"'{text}' does not come after {self.seen!r}")
            try:
                data = os.read(self.fd, 4096)
            except OSError as closed:
                raise Failure(f"it ended; '{text}' is not in {self.seen!r}") from closed
            self.seen += data.decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]

    def type(self, text):
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())

    def end(self, how):
        """The exit code."""
        self.type(how)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)
