"""The input, output and error file of `glmserve batch`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glmserve.batches.answers import AnswerFiles
from glmserve.batches.id_set import IdSet
from glmserve.batches.lines import InputLine, LineError, check_lines, read_lines
from glmserve.batches.record_file import RecordError
from glmserve.errors import OptionError

_MOST_PROBLEMS = 20
"""Lines that are reported as wrong."""


class BatchFiles:
    """Checks the files before anything is asked."""

    def __init__(self, source: Path, output: Path, errors: Path) -> None:
        self.source = source
        self.output = output
        self.errors = errors

    def check(self, max_body_size: int) -> int:
        """Check all lines of the input; the number of its requests.

        Raises:
            OptionError: there is no such file, or lines are wrong.
        """
        with _readable(self.source), self.source.open("rb") as file:
            if not file.seekable():
                raise OptionError(f"{self.source} must be a file, as it is read more than once")
            count, problems = check_lines(file, max_body_size, 0, None, _MOST_PROBLEMS)
        if problems:
            raise OptionError(f"{self.source}: " + "; ".join(map(_in_words, problems)))
        return count

    @contextmanager
    def open_answers(self, max_body_size: int) -> Iterator[AnswerFiles]:
        """The output and error file, which may have answers already.

        Raises:
            OptionError: they cannot be written, or are of another input.
        """
        try:
            answers = AnswerFiles(self.output, self.errors)
        except RecordError as error:
            raise OptionError(f"{error}; name another file, or move it away") from None
        except OSError as error:
            raise OptionError(_reason(error, self.output)) from None
        try:
            self._check_belonging(answers.done, max_body_size)
            yield answers
        finally:
            answers.close()
            if not answers.num_failed:
                self.errors.unlink(missing_ok=True)

    def _check_belonging(self, done: IdSet, max_body_size: int) -> None:
        """Raise an OptionError if there are answers to requests that the input does not have."""
        if not len(done):
            return
        with self.source.open("rb") as file:
            lines = read_lines(file, max_body_size)
            asked = sum(isinstance(line, InputLine) and line.custom_id in done for line in lines)
        if asked < len(done):
            raise OptionError(
                f"{self.output} or {self.errors} has answers to {len(done) - asked} requests that "
                f"{self.source} does not have; name another output, or move it away"
            )


def _in_words(problem: LineError) -> str:
    where = f"line {problem.line}: " if problem.line is not None else ""
    return where + problem.message


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OptionError(_reason(error, path)) from None


def _reason(error: OSError, path: Path) -> str:
    if error.errno == errno.EWOULDBLOCK:
        return f"{path} is being written by another process"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{error.filename or path}: {reason.lower()}"
