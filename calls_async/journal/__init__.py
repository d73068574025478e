"""The journal of a bulk job: what was asked for and what became of it, in one SQLite file.

A job that was killed goes on where it was: run it again with the same journal, and only what has no
final outcome is fetched.
"""

from calls_async.errors import JournalError
from calls_async.journal._records import FailureRecord, FetchedRecord, JobStatus, Minute
from calls_async.journal._store import Journal

__all__ = [
    "FailureRecord",
    "FetchedRecord",
    "JobStatus",
    "Journal",
    "JournalError",
    "Minute",
]
