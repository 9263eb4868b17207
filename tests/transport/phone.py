"""A stand-in for a phone: the pull protocol in Python, models really run by ONNX Runtime."""

from __future__ import annotations

import http.client
import json
import ssl
import tempfile
import threading
import time
import urllib.parse
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
from conftest import TINY, edited, space_of

from nasvit_edge import files
from nasvit_edge.profile.protocol import PROTOCOLS

SCHEMA = json.loads((files.shipped("devices") / "protocol.json").read_text())
ABOUT = {"board": "Stand-in 1", "soc": "made of Python", "architecture": "arm64", "cores": 4}
MICRO = edited(
    TINY,
    ('name = "tiny"', 'name = "micro"'),
    ("resolutions = [8, 12]", "resolutions = [8]"),
    ("kernel_size = [3, 5]", "kernel_size = [3]"),
    ("depth = [1, 2, 3]", "depth = [1, 2]"),
    ("width = [16, 24]", "width = [16]"),
    ("expand_ratio = [2, 3]", "expand_ratio = [2]"),
)
SPACE = space_of(MICRO)
RUNTIMES = {"onnxruntime-web": "1.30.0"}


def valid(value, kind):
    """`value`, if it is what the protocol calls `kind`."""
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]}).validate(value)
    return value


def fewer_subnets(monkeypatch):
    """Whole subnets take most of the time of a small space's table."""
    monkeypatch.setitem(PROTOCOLS, "quick", replace(PROTOCOLS["quick"], subnets=8))


class Gone(Exception):  # noqa: N818 - an event
    """The host is done, or this phone was told to vanish."""


class Phone:
    """One device; `crashes` are the numbers of the jobs at which it vanishes without a word."""

    def __init__(self, url, about=ABOUT, crashes=(), runtimes=RUNTIMES, **description):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.base = parts.hostname, parts.port, parts.path
        self.secure = parts.scheme == "https"
        self.description = {"id": "hello", "about": about, "runtimes": runtimes, **description}
        self.crashes, self.jobs, self.session, self.measured = set(crashes), 0, "", []

    def ask(self, method, path, body=None, host=None, timeout=30, raw=False):
        """Status and body of the answer."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
        options = {"context": context} if self.secure else {}
        connection = kind(self.host, self.port, timeout=timeout, **options)
        headers = {"Host": host} if host else {}
        content = body if raw or body is None else json.dumps(body).encode()
        try:
            connection.request(method, self.base + path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def hello(self):
        status, body = self.ask("POST", "hello", valid(self.description, "description"))
        if status == 200:
            self.session = json.loads(body)["session"]
        return status

    def job(self):
        """The next job; Gone at the end."""
        while True:
            status, body = self.ask("GET", f"job?session={self.session}")
            if status == 200:
                return valid(json.loads(body), "job")
            if status != 204:
                raise Gone(status)

    def fetch(self, digest):
        status, body = self.ask("GET", f"file/{digest}")
        assert status == 200
        return body

    def post(self, answer):
        return self.ask("POST", f"result?session={self.session}", valid(answer, "answer"))[0]

    def measure(self, job):
        """A real, quick measurement."""
        import onnxruntime as ort

        with tempfile.TemporaryDirectory() as folder:
            for entry in job["files"]:
                Path(folder, entry["path"]).write_bytes(self.fetch(entry["sha256"]))
            start = time.perf_counter()
            session = ort.InferenceSession(
                str(Path(folder, job["model"])), providers=["CPUExecutionProvider"]
            )
            loaded = time.perf_counter()
        values = np.random.default_rng(0).normal(size=job["input"]["shape"]).astype(np.float32)
        feeds = {job["input"]["name"]: values}
        samples = []
        for _ in range(job["runs"]):
            before = time.perf_counter()
            session.run(None, feeds)
            samples.append(1e6 * (time.perf_counter() - before))
        return answer_to(job, samples) | {"load_ms": 1e3 * (loaded - start)}

    def run(self):
        """Until the host is done or this phone vanishes."""
        assert self.hello() == 200
        while True:
            job = self.job()
            self.jobs += 1
            if self.jobs in self.crashes:
                raise Gone("crashed")
            answer = self.measure(job)
            self.measured.append(job["id"])
            assert self.post(answer) in (200, 409)

    def start(self, pause=0.2):
        """`run` in a thread, again after each crash."""

        def stay():
            while True:
                try:
                    self.run()
                except Gone as gone:
                    if str(gone) != "crashed":
                        return
                except (OSError, http.client.HTTPException):
                    return
                time.sleep(pause)

        thread = threading.Thread(target=stay, daemon=True)
        thread.start()
        return thread


def answer_to(job, samples=(100.0, 101.0, 102.0), **more):
    """A measurement of a job."""
    answer = {
        "id": job["id"],
        "nonce": job["nonce"],
        "samples_us": list(samples),
        "runtime_version": "1.30.0",
    }
    return answer | more
