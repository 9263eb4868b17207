"""The history of benchmarks: a line of JSON a figure and run, appended and never rewritten."""

from __future__ import annotations
