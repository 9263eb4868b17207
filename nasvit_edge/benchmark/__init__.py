"""Benchmarks: artifacts measured in turns, and verdicts that hold under noise."""
