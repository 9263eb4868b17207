"""Measuring ops and subnets on a device."""
