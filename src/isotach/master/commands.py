"""What the master wants workers to do: one bounded queue per worker, taken by long polls, answered by results.

Owns: commands waiting, commands sent and not yet answered, and who waits for an answer. Never: decides what to send.

A full queue drops what comes and says so: the worker is then told to register and report anew, and the answer to that
report names what it must drop. Commands that may be lost without harm (FREE, MARK_PERSISTED, PIN, UNPIN)
are sent again when no answer came; PERSIST and LOAD are the affair of whoever waits for them.
"""

import asyncio
from collections import deque
from itertools import takewhile
from typing import Final

import msgspec

from isotach.base.errors import UnavailableError
from isotach.base.limits import COMMAND_RESEND_S, COMMANDS_PER_POLL_MAX, COMMANDS_QUEUED_MAX
from isotach.wire.messages import Command, CommandResult

_REPEATABLE: Final = frozenset({"FREE", "MARK_PERSISTED", "PIN", "UNPIN"})


class _Sent(msgspec.Struct):
    command: Command
    sent_mono: float
    answer: asyncio.Future[CommandResult] | None


class CommandQueue:
    """The commands for one worker. For the event-loop thread only."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Command, asyncio.Future[CommandResult] | None]] = deque()
        self._sent: dict[int, _Sent] = {}
        self._arrived = asyncio.Event()
        self.overflowed = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def push(self, command: Command, answer: asyncio.Future[CommandResult] | None = None) -> None:
        """Queues a command; `answer` is resolved with the worker's result. A full queue drops the command."""
        if len(self) >= COMMANDS_QUEUED_MAX:
            self.overflowed = True
            if answer is not None:
                answer.set_exception(UnavailableError("the worker does not take its commands: see whether it hangs"))
            return
        self._waiting.append((command, answer))
        self._arrived.set()

    async def take(self, wait_s: float, now_mono: float) -> list[Command]:
        """The next commands, at once if there are any, else when one comes or `wait_s` have passed."""
        self._repeat_unanswered(now_mono)
        if not self._waiting and not self._closed:
            self._arrived.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        taken: list[Command] = []
        while self._waiting and len(taken) < COMMANDS_PER_POLL_MAX:
            command, answer = self._waiting.popleft()
            if answer is not None and answer.done():
                continue  # nobody waits for it any more
            self._sent[command.command_id] = _Sent(command, now_mono, answer)
            taken.append(command)
        return taken

    def close(self) -> None:
        """Whoever waits in `take` gets what there is."""
        self._closed = True
        self._arrived.set()

    def settle(self, results: list[CommandResult]) -> None:
        """Takes the worker's answers; an answer to an unknown command is ignored."""
        for result in results:
            sent = self._sent.pop(result.command_id, None)
            if sent is not None and sent.answer is not None and not sent.answer.done():
                sent.answer.set_result(result)

    def drop_all(self, reason: Exception) -> None:
        """Forgets every command; those who wait get `reason`."""
        answers = [answer for _, answer in self._waiting] + [sent.answer for sent in self._sent.values()]
        self._waiting.clear()
        self._sent.clear()
        for answer in answers:
            if answer is not None and not answer.done():
                answer.set_exception(reason)

    def _repeat_unanswered(self, now_mono: float) -> None:
        # In the order in which they were sent: a poll must not look at thousands that are under way.
        before = now_mono - COMMAND_RESEND_S
        late = list(takewhile(lambda sent: sent.sent_mono < before, self._sent.values()))
        for sent in late:
            answered = sent.answer is not None and sent.answer.done()
            if sent.command.kind in _REPEATABLE or answered:
                del self._sent[sent.command.command_id]
            if sent.command.kind in _REPEATABLE and not answered:
                self._waiting.append((sent.command, sent.answer))
