"""Supernet training."""
