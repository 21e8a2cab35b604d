"""The colon form ``rollback:v1.0`` turned into flags that Fabric 3 parses; knows words and flags, runs nothing.

Fabric 1 taught operators ``task:value`` and ``task:name=value``, and runbooks say it. Invoke's parser splits words
at blanks only, so the words are rewritten before it sees them. A bare word after a task that takes a tag becomes its
tag; flags, their values and required positional arguments are left alone, and a task's name is never taken as a tag.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext


class BadUsage(Exception):
    """The command line cannot be read; the message is the one line an operator needs."""


def rewrite(
    words: Sequence[str],
    contexts: Mapping[str, ParserContext],
    core: ParserContext,
    *,
    ours: Collection[str] = (),
) -> list[str]:
    """Spell ``words`` the way Invoke's parser wants them.

    ``contexts`` holds every task by name and alias, ``core`` the flags of ``fab`` itself, ``ours`` the names of the
    tasks of this library: only those take a bare word as their tag and refuse a flag given twice. The result parses
    to the same tasks in the same order. Raises BadUsage for an unknown task or option, with the nearest known one.
    """
    walk = _Walk(contexts, core, ours)
    for word in words:
        walk.take(word)
    return walk.out


def nearest(word: str, known: Collection[str]) -> str:
    """``; did you mean 'x'?`` for the known word nearest to ``word``, or nothing."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


class _Walk:
    """Follows Invoke's own parser (``invoke.parser.ParseMachine.handle``) word by word, in the same order of rules."""

    def __init__(self, contexts: Mapping[str, ParserContext], core: ParserContext, ours: Collection[str]) -> None:
        self.out: list[str] = []
        self._contexts = contexts
        self._core = core
        self._ours = ours
        self._task = ""
        self._context: ParserContext = core
        self._given: set[str] = set()
        self._value_due = False

    def take(self, word: str) -> None:
        if self._value_due and self._flag(word) is None:
            self._value_due = False
            self.out.append(word)
        elif word.startswith("-") and len(word) > 1:
            self._take_flag(word)
        elif missing := self._missing():
            self._given.add(_name(missing[0]))
            self.out.append(word)
        elif word in self._contexts:
            self._enter(word)
        elif ":" in word:
            self._take_colon(word)
        elif self._wants_tag():
            self._give("tag", word)
        else:
            raise BadUsage(self._unknown(word))

    def _enter(self, task: str) -> None:
        self._task, self._context, self._given = task, self._contexts[task], set()
        self._value_due = False
        self.out.append(task)

    def _take_flag(self, word: str) -> None:
        name, equals, _ = word.partition("=")
        if not equals and not word.startswith("--") and len(word) > 2:
            # -vx is two switches, -Hweb a flag with its value: only the last letter of switches can still want one.
            first = _flag_in(self._context, word[:2])
            name = word[:2] if first is not None and first.takes_value else "-" + word[-1]
            equals = "=" if name == word[:2] else ""
        flag = self._flag(name)
        if flag is None:
            if name not in self._context.inverse_flags and (equals or word == name):
                who = self._task or "fab"
                raise BadUsage(f"{who} has no option {name}{nearest(name, self._flags())}")
        elif self._task and _flag_in(self._context, name):
            self._note(_name(flag))
        self._value_due = flag is not None and flag.takes_value and not equals and _name(flag) != "help"
        self.out.append(word)

    def _take_colon(self, word: str) -> None:
        task, _, rest = word.partition(":")
        if task not in self._contexts:
            near = nearest(task, self._contexts)
            raise BadUsage(f"no task {task!r}" + near.replace("'?", f":{rest}'?"))
        self._enter(task)
        if not rest:
            raise BadUsage(f"nothing after the colon of {word!r}; write {task}:{self._example()} or plain {task}")
        for part in rest.split(","):
            name, equals, value = part.partition("=")
            if equals:
                self._give(name.replace("_", "-"), value)
            elif missing := self._missing():
                self._give(_name(missing[0]).replace("_", "-"), part)
            elif self._wants_tag():
                self._give("tag", part)
            else:
                raise BadUsage(f"{task} takes no value {part!r}; see fab --help {task}")

    def _give(self, option: str, value: str) -> None:
        flag = f"--{option}" if len(option) > 1 else f"-{option}"
        found = _flag_in(self._context, flag)
        if found is None:
            names = [name.lstrip("-") for name in self._context.flag_names()]
            raise BadUsage(f"{self._task} has no option {option!r}{nearest(option, names)}")
        if not found.takes_value:
            raise BadUsage(f"{flag} of {self._task} is a switch and takes no value; write {self._task} {flag}")
        if not value:
            raise BadUsage(f"{self._task}: nothing given for {option}")
        self._note(_name(found))
        self.out.append(f"{flag}={value}")

    def _note(self, name: str) -> None:
        if self._task in self._ours and name in self._given:
            raise BadUsage(f"{self._task}: {name} is given twice")
        self._given.add(name)

    def _missing(self) -> list[Argument]:
        return [arg for arg in self._context.positional_args if _name(arg) not in self._given]

    def _wants_tag(self) -> bool:
        return self._task in self._ours and _flag_in(self._context, "--tag") is not None and "tag" not in self._given

    def _example(self) -> str:
        return "TAG" if self._wants_tag() else "VALUE"

    def _flag(self, word: str) -> Argument | None:
        return _flag_in(self._context, word) or _flag_in(self._core, word)

    def _flags(self) -> list[str]:
        return [*self._context.flag_names(), *self._context.inverse_flags, *self._core.flag_names()]

    def _unknown(self, word: str) -> str:
        near = nearest(word, self._contexts)
        if self._task in self._ours and "tag" in self._given:
            return f"{self._task} already has its tag, and there is no task {word!r}{near}"
        return f"no task {word!r}{near or '; see fab --list'}"


def _flag_in(context: ParserContext, word: str) -> Argument | None:
    flags = cast(Any, context).flags  # a Lexicon: its get() does not know the aliases that its [] does
    return flags[word] if word in flags else None  # noqa: SIM401


def _name(arg: Argument) -> str:
    return arg.name or ""
