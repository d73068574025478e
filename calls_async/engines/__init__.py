"""Engines that spread a bulk job over processes and machines."""
