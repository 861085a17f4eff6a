"""Transactions of SQLite, for connections that commit nothing by themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Write everything within it or, after an exception, nothing. Other writers wait meanwhile.

    Raises:
        sqlite3.Error: another process holds the lock, or the disk cannot be written.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
