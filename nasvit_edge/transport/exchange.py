"""Who is measured, what it is asked and what it answered: the pull protocol without HTTP.

Everything runs on the server's loop, one step after the other, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nasvit_edge import files
from nasvit_edge.errors import DeviceError
from nasvit_edge.listening import Listener
from nasvit_edge.transport import answers
from nasvit_edge.transport.answers import Broken, Description, Failure, Message

AWAY_S = 45.0  # without a sign of life: clients ask or beat at least every 20 s
POLL_S = 20.0  # a question for a job waits so long
FINISH_S = 3.0  # how long the device has to ask once more and be told that all is done
GIVEN = 5  # times that one job is given before the model is to blame


class Conflict(Exception):  # noqa: N818 - an answer of the protocol
    """Not with this session, device or nonce."""


@dataclass(slots=True)
class PostedJob:
    """One job: `nonce` is new whenever a session begins, so that answers to an earlier one do not count."""

    request: Message
    files: Mapping[str, Path]
    answer: asyncio.Future[Message]
    nonce: str = ""
    asked_at: float = 0.0
    given: int = 0
    given_at: float = 0.0
    kept: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Exchange:
    """The device's side (`hello` to `file`) and the runner's (`first` to `finish`)."""

    who: str
    wait_s: float
    listener: Listener
    description: Description | None = None
    session: str = ""
    install: str = ""
    asked: PostedJob | None = None
    done: bool = False
    seen: float = -math.inf
    polls: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    # what the device does

    def hello(self, description: Description) -> str:
        """A new session; Conflict for another device than the one that is measured."""
        if self.description is not None:
            if description.about != self.description.about:
                raise Conflict("another device is measured; start the command anew to measure this one")
            other = description.install and self.install and description.install != self.install
            if other and not self._is_away():
                raise Conflict("another device of this kind is measured")
        self.description, self.install = description, description.install or self.install
        self.session = secrets.token_urlsafe(16)
        if self.asked is not None and not self.asked.answer.done():
            self.asked.nonce = secrets.token_hex(16)
        self._sign_of_life()
        self._wake()
        return self.session

    async def job(self, session: str) -> Message | None:
        """The job to do; None where there is none yet. Conflict for another session; `done` tells the end."""
        self._check(session)
        self.polls += 1
        try:
            async with asyncio.timeout(POLL_S):
                while not self.done and self._open() is None:
                    await self._news.wait()
                    self._check(session)
        except TimeoutError:
            return None
        finally:
            self.polls -= 1
            self._sign_of_life()
        posted = self._open()
        if self.done or posted is None:
            self._over.set()
            return None
        posted.given += 1
        posted.given_at = _now()
        return posted.request | {"nonce": posted.nonce}

    async def result(self, session: str, body: bytes) -> bool:
        """Take an answer; whether it is on disk already (False: send it again). Conflict where it does not count."""
        self._check(session)
        answer, posted = decoded(body), self.asked
        nonce = str(answer.get("nonce", "")) if answer else ""
        if posted is None or not hmac.compare_digest(nonce.encode(errors="replace"), posted.nonce.encode()):
            raise Conflict("the nonce is not the current job's")
        if not posted.answer.done():
            posted.answer.set_result(answer or {})
        try:
            await asyncio.wait_for(posted.kept.wait(), POLL_S)
        except TimeoutError:
            return False
        finally:
            self._sign_of_life()
        return True

    def beat(self, session: str) -> None:
        """A sign of life."""
        self._check(session)

    def file(self, digest: str) -> Path | None:
        """A file of the current job."""
        if self.asked is not None and digest in self.asked.files:
            self._sign_of_life()
            return self.asked.files[digest]
        return None

    # what the runner does

    async def first(self) -> Description:
        """The description of the device that came; DeviceError where none came."""
        start = _now()
        while self.description is None:
            if _now() - start > self.wait_s:
                raise DeviceError(
                    f"no device came in {_shown(self.wait_s)}",
                    f"run the command again and open the address it shows on the {self.who}",
                )
            await self._pause()
        return self.description

    async def ask(self, request: Message, sources: Mapping[str, Path], timeout_s: float) -> Message | Failure:
        """The device's answer as it came, or why this model failed; DeviceError where the device is gone."""
        self.acknowledge()
        nonce = secrets.token_hex(16)
        posted = self.asked = PostedJob(
            request, sources, asyncio.get_running_loop().create_future(), nonce, _now()
        )
        self._wake()
        announced = False
        while not posted.answer.done():
            await asyncio.wait([posted.answer], timeout=0.25)
            reason = None if posted.answer.done() else self._overdue(posted, timeout_s)
            if reason is not None:
                self.asked = None
                return (Failure if posted.given <= GIVEN else Broken)(id=request["id"], error=reason)
            announced = self._tell(announced)
        return posted.answer.result()

    def acknowledge(self) -> None:
        """What was answered last is on disk."""
        if self.asked is not None:
            self.asked.kept.set()
        self.asked = None

    async def finish(self) -> None:
        """No more jobs: tell the device, if it is there."""
        self.acknowledge()
        self.done = True
        self._wake()
        if self.session and not self._is_away():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), FINISH_S)
                await asyncio.sleep(0.2)  # until it is sent

    def _overdue(self, posted: PostedJob, timeout_s: float) -> str | None:
        """Why a model is given up; DeviceError where the device is."""
        silent = self._silent_s()
        if silent > self.wait_s:
            raise DeviceError(
                f"the {self.who} has been away for {_shown(silent)}",
                "open the page or app on it and keep it there",
            )
        if self._is_away():
            return None
        if not posted.given and _now() - posted.asked_at > max(self.wait_s, AWAY_S):
            raise DeviceError(
                f"the {self.who} is there and has not asked for a model for {_shown(self.wait_s)}: "
                "let it cool down, or open its page or app anew"
            )
        if posted.given > GIVEN:
            return f"it was given {GIVEN} times and never answered: the model may crash the runtime there"
        if posted.given and _now() - posted.given_at > timeout_s:
            return f"no answer in {timeout_s:g} s"
        return None

    def _tell(self, announced: bool) -> bool:
        """Say once that the device is away, and once that it is back."""
        away = self._is_away()
        if away and not announced:
            self.listener.note(
                f"the {self.who} is away: waiting up to {_shown(self.wait_s)}; open the page or app again"
            )
        elif announced and not away:
            self.listener.note(f"the {self.who} is back")
        return away

    def _open(self) -> PostedJob | None:
        """The job without an answer, if there is one."""
        return None if self.asked is None or self.asked.answer.done() else self.asked

    def _check(self, session: str) -> None:
        if not self.session or not hmac.compare_digest(
            session.encode(errors="replace"), self.session.encode()
        ):
            raise Conflict("this session is over; say hello again")
        self._sign_of_life()

    def _sign_of_life(self) -> None:
        self.seen = _now()

    def _silent_s(self) -> float:
        return 0.0 if self.polls else _now() - self.seen

    def _is_away(self) -> bool:
        return self._silent_s() > min(AWAY_S, self.wait_s)

    def _wake(self) -> None:
        """Whoever waits looks again."""
        self._news.set()
        self._news = asyncio.Event()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.25)


def decoded(body: bytes) -> Message | None:
    """A JSON object of finite numbers; None for anything else."""
    try:
        value = files.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def described(body: bytes) -> Description | None:
    """A description with only what it may hold, each of its kind; None where it is none."""
    description = answers.description(decoded(body) or {}, Description)
    return description if description is not None and description.about else None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _shown(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
