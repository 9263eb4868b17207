"""What a profile says of its progress, with times: what tests/cli/test_time_left.py replays.

    python benchmarks/record_progress.py OUT.json --space nano --validate 40 [--device D] [--runtime R] [--protocol P]

Each event is [seconds since the start, done, total, what is being done]; the last one is the end of the whole run.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from nasvit_edge.flows.profile import profile_devices
from nasvit_edge.listening import Listener
from nasvit_edge.requests.profile import Request

KEPT = 150  # events


def recorded(request: Request) -> list[list[object]]:
    start, events = time.monotonic(), []

    def progress(done: int, total: int, detail: str) -> None:
        events.append([round(time.monotonic() - start, 2), done, total, detail])

    profile_devices(request, lambda name: Listener(note=print, progress=progress))
    events.append([round(time.monotonic() - start, 2), 1, 1, "done"])
    return events


def thinned(events: list[list[object]]) -> list[list[object]]:
    """Some of the events, the first and the last of each phase among them."""
    step, edges = max(1, len(events) // KEPT), set()
    for place in range(1, len(events)):
        if events[place][2:] != events[place - 1][2:]:
            edges |= {place - 1, place}
    return [event for place, event in enumerate(events) if place % step == 0 or place in edges]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--space", default="nano")
    parser.add_argument("--device", default="host")
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--protocol", default="default")
    parser.add_argument("--validate", type=int, default=40)
    parser.add_argument("--tables", type=Path, help="where the table is kept; thrown away otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asked = Request(
            device=[options.device],
            space=options.space,
            runtime=[options.runtime],
            protocol=options.protocol,
            validate=options.validate,
            out=options.tables or Path(folder),
        )
        events = recorded(asked)
    about = {key: getattr(options, key) for key in ("space", "device", "runtime", "protocol", "validate")}
    options.out.write_text(json.dumps({**about, "events": thinned(events)}) + "\n")


if __name__ == "__main__":
    main()
