"""What a line needs of whatever carries its bytes, and the error that says the far end is gone."""

from __future__ import annotations

from typing import Protocol


class LinkLost(Exception):
    """The host cannot be heard any more, or was never reached. ``reached`` tells which; ``next_step`` what to do."""

    def __init__(self, why: str, next_step: str = "", *, reached: bool = True) -> None:
        super().__init__(why)
        self.why = why
        self.next_step = next_step
        self.reached = reached


class Pipe(Protocol):
    """One exec on one host: its standard streams as bytes. ``receive`` gives b'' at the end."""

    def open(self) -> None:
        """Reach the host and start the exec, once. Raises LinkLost, also where ``close`` is called meanwhile."""
        ...

    def send(self, data: memoryview) -> int:
        """Write some of ``data`` and tell how much; 0 where nothing moved for a second. Raises OSError."""
        ...

    def receive(self, size: int) -> bytes:
        """Wait for up to ``size`` bytes. Raises OSError."""
        ...

    def ending(self) -> tuple[int | None, str]:
        """Exit status (None where unknown) and the head of stderr, once ``receive`` has given b''."""
        ...

    def close(self) -> None:
        """Let go of the host. Never raises."""
        ...
