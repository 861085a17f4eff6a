"""The log of accepted requests and their answers, which outlive the server process."""

from glmserve.journal.entry import Delta as Delta
from glmserve.journal.entry import Entry as Entry
from glmserve.journal.entry import Phase as Phase
from glmserve.journal.entry import Record as Record
from glmserve.journal.entry import digest_of as digest_of
from glmserve.journal.errors import EntryBusyError as EntryBusyError
from glmserve.journal.errors import StoreError as StoreError
from glmserve.journal.fingerprint import fingerprint as fingerprint
from glmserve.journal.group_commit import Commit as Commit
from glmserve.journal.journal import Journal as Journal
from glmserve.journal.sqlite_store import SqliteStore as SqliteStore
from glmserve.journal.store import Claim as Claim
from glmserve.journal.store import Store as Store
