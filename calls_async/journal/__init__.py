"""The journal of a bulk job: what was asked for and what became of it, in one SQLite file.

A job that was killed goes on where it was: run it again with the same journal, and only what has no
final outcome is fetched.
"""

from calls_async.errors import JournalError
from calls_async.journal._export import export_calls
from calls_async.journal._journal import Journal
from calls_async.journal._records import FailureRecord, FetchedRecord, JobStatus, Minute

__all__ = [
    "FailureRecord",
    "FetchedRecord",
    "JobStatus",
    "Journal",
    "JournalError",
    "Minute",
    "export_calls",
]
