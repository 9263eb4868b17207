"""The promised commands on the system that this runs on."""

from __future__ import annotations

import sys

import pytest
from promised import LINES, PROMISED, failures, not_refused, there


@pytest.mark.slow  # on Linux the other tests show as much, and `test_systems` what differs
def test_every_module_is_imported_and_what_is_promised_runs(tmp_path):
    refused = {line: line for line in LINES.get(sys.platform, {})}
    results = there(tmp_path, PROMISED | refused)
    assert results["failed"] == {}
    assert failures(results["done"], PROMISED) == {}
    assert not_refused(results["done"], sys.platform) == {}
