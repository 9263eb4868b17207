"""Times Core ML models on the Mac it runs on: pulls jobs over HTTP(S), or runs an offline bundle.

    python3 runner.py 'http://ADDRESS:PORT/TOKEN'
    python3 runner.py --offline out.zip --out result.json

Needs macOS 13 or later, numpy and coremltools. The protocol is in devices/PROTOCOL.md; README.md says what is timed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mac_runner.errors import Refused
from mac_runner.offline import offline
from mac_runner.pull import pull
from mac_runner.timing import Open, core_ml, lacking


def main(arguments: list[str] | None = None, open_model: Open = core_ml) -> int:
    """0 where all was measured, 1 where something is missing, 2 where it cannot begin, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description="Times Core ML models for nasvit-edge on this Mac.")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("url", nargs="?", help="the address that nasvit-edge profile --device mac shows")
    way.add_argument("--url", dest="told", metavar="URL", help="the same")
    way.add_argument(
        "--offline", type=Path, metavar="BUNDLE", help="a zip of profile --offline, or its folder"
    )
    parser.add_argument("--fingerprint", help="SHA-256 of the host's certificate, with https")
    parser.add_argument("--out", type=Path, default=Path("result.json"), help="results of --offline")
    parser.add_argument("--patience", type=float, default=600, help="seconds without an answer of the host")
    given = parser.parse_args(arguments)
    try:
        missing = lacking() if open_model is core_ml else None
        if missing:
            raise Refused(missing)
        if given.offline is not None:
            return 1 if offline(given.offline, given.out, open_model) else 0
        done = pull(given.told or given.url or "", given.fingerprint, open_model, given.patience)
        print(f"{done} models measured; all done", file=sys.stderr)
        return 0
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
