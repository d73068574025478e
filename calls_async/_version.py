"""The version; the rule: a tag of the repository gives it, and the installed package tells it.

A constant here would be a second truth, and a file that the build writes would be stale in every
checkout that has moved on since.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("calls_async")
except PackageNotFoundError:  # a checkout that was not installed, or a frozen program
    __version__ = "0+unknown"
