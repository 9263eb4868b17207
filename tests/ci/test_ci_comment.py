"""The comment on a pull or merge request: one, up to date, and never a traceback."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from comment_server import TOKEN, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from nasvit_edge.report.bench_comment import MARKER, marker

SCRIPT = Path(__file__).resolve().parents[2] / ".github/actions/benchmark/comment.py"
BODY = f"{MARKER}\n### no regression\n\n| a | b |\n"
PULL = {"action": "synchronize", "pull_request": {"number": 3}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def _module():
    spec = importlib.util.spec_from_file_location("bench_comment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


comment = _module()


@pytest.fixture
def server():
    with serving() as state:
        yield state


def github(server, tmp_path, event=PULL, **changes):
    path = tmp_path / "event.json"
    path.write_text(event if isinstance(event, str) else json.dumps(event))
    variables = {"GITHUB_API_URL": server.url, "GITHUB_REPOSITORY": "owner/name", "GITHUB_TOKEN": TOKEN}
    return variables | {"GITHUB_EVENT_PATH": str(path)} | changes


def gitlab(server, tmp_path, **changes):
    variables = {"CI_API_V4_URL": server.url, "CI_PROJECT_ID": "7", "CI_MERGE_REQUEST_IID": "3"}
    return variables | {"GITLAB_TOKEN": TOKEN} | changes


def call(tmp_path, environment, body=BODY, *options):
    path = tmp_path / f"{threading.get_ident()}.md"
    path.write_text(body)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI_"))}
    process = subprocess.run(
        [sys.executable, SCRIPT, path, *options],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in process.stderr, process.stderr
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert TOKEN not in process.stderr + process.stdout
    return process.returncode, process.stderr


@pytest.mark.parametrize("system", [github, gitlab])
def test_the_first_report_is_posted_and_the_next_ones_edit_it(server, tmp_path, system):
    server.add("Nice work!")
    assert call(tmp_path, system(server, tmp_path))[0] == 0
    assert server.bodies() == ["Nice work!", BODY]
    again = f"{MARKER}\n### 1 regression\n"
    code, result = call(tmp_path, system(server, tmp_path), again)
    assert (code, "edited comment 102" in result) == (0, True)
    assert server.bodies() == ["Nice work!", again]
    assert server.writes() == ["POST", "PATCH" if system is github else "PUT"]


@pytest.mark.parametrize("most", [100, 30])
@pytest.mark.parametrize("system", [github, gitlab])
def test_a_comment_is_found_on_any_page(server, tmp_path, system, most):
    server.most = most
    for number in range(230):
        server.add(f"{MARKER}\r\n### old" if number == 150 else f"comment {number}")
    server.comments[20]["body"] = None
    assert call(tmp_path, system(server, tmp_path))[0] == 0
    assert (len(server.comments), server.bodies()[150]) == (230, BODY)
    assert server.writes() == ["PATCH" if system is github else "PUT"]


@pytest.mark.parametrize("text", [f"> {MARKER}\nquoted", f"see {MARKER}", f"{MARKER}x\n", "<!-- other -->\n"])
def test_a_comment_that_only_quotes_the_marker_is_left_alone(server, tmp_path, text):
    server.add(text)
    assert call(tmp_path, github(server, tmp_path))[0] == 0
    assert server.bodies() == [text, BODY]


def test_a_comment_of_somebody_else_is_left_alone(server, tmp_path):
    server.foreign = (server.add(f"{MARKER}\nnot yours"),)
    for _ in range(2):
        assert call(tmp_path, gitlab(server, tmp_path))[0] == 0
    assert server.bodies() == [f"{MARKER}\nnot yours", BODY]


@pytest.mark.parametrize("denied", [("POST",), ("POST", "PATCH", "PUT"), ("GET",)])
@pytest.mark.parametrize("system", [github, gitlab])
def test_a_token_that_may_not_write_is_one_line_that_says_what_to_do(server, tmp_path, system, denied):
    server.denied = denied
    if "PATCH" in denied:
        server.add(BODY)
    code, result = call(tmp_path, system(server, tmp_path) | {"GITHUB_ACTIONS": "true"})
    assert code == 1
    assert result.startswith("::warning title=nasvit-edge benchmark::no comment: ")
    assert "403: Resource not accessible by integration; " in result
    assert "pull-requests: write" in result


def test_a_wrong_token_is_one_line(server, tmp_path):
    code, result = call(tmp_path, github(server, tmp_path, GITHUB_TOKEN="other"))
    assert (code, "401: Bad credentials; the token is not valid" in result) == (1, True)


@pytest.mark.parametrize(
    "event",
    [
        {"ref": "refs/heads/main"},
        {"issue": {"number": 3}},
        {"workflow_run": {"pull_requests": []}},
        {"pull_request": None},
        [],
    ],
)
def test_what_is_no_pull_request_is_said_and_fine(server, tmp_path, event):
    code, result = call(tmp_path, github(server, tmp_path, event))
    assert (code, result.strip()) == (0, "no comment: this is not a pull request")
    assert not server.asked


def test_a_pipeline_of_a_branch_and_a_laptop_have_nothing_to_comment_on(server, tmp_path):
    assert call(tmp_path, gitlab(server, tmp_path, CI_MERGE_REQUEST_IID=""))[0] == 0
    assert call(tmp_path, {}) == (0, "no comment: this is neither GitHub Actions nor GitLab CI\n")
    assert not server.asked


@pytest.mark.parametrize(
    "event",
    [
        PULL,
        {"issue": {"number": 3, "pull_request": {}}, "x": 1},
        {"workflow_run": {"pull_requests": [{"number": 3}]}},
    ],
)
def test_the_number_is_found_in_events_about_a_pull_request(event):
    if "issue" in event:
        event["issue"]["pull_request"] = {"url": "https://example.org"}
    assert comment.pull_request(event) == 3


def test_jobs_that_post_at_once_leave_one_comment(server, tmp_path):
    jobs = 4
    server.meet = threading.Barrier(jobs)  # each has seen a request without comments
    bodies = [f"{MARKER}\n### report {number}\n" for number in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        calls = list(pool.map(lambda body: call(tmp_path, github(server, tmp_path), body), bodies))
    assert [code for code, _ in calls] == [0] * jobs
    assert len(server.comments) == 1
    assert server.bodies()[0] in bodies


def test_a_key_sets_reports_apart_and_its_marker_is_the_report_s(server, tmp_path):
    for key in ("", "jetson", "pixel 8/int8", "jetson"):
        assert call(tmp_path, github(server, tmp_path), BODY, "--key", key)[0] == 0
    firsts = [body.split("\n")[0] for body in server.bodies()]
    assert firsts == [marker(""), marker("jetson"), marker("pixel 8/int8")]
    other_body = BODY.replace(MARKER, marker("jetson"))
    assert call(tmp_path, github(server, tmp_path), other_body)[0] == 0
    assert len(server.comments) == 3


def test_a_link_is_put_below_where_there_is_room(tmp_path):
    path = tmp_path / "c.md"
    path.write_text(BODY)
    assert comment.body_of(path, link="https://example.org/1").endswith("(https://example.org/1)\n")
    path.write_text(f"{MARKER}\n" + "x" * (65_536 - len(MARKER) - 1))
    assert len(comment.body_of(path, link="https://example.org/1")) == 65_536


@pytest.mark.parametrize(
    ("body", "options", "said"),
    [
        ("### no marker\n", (), "does not start with a marker"),
        ("", (), "does not start with a marker"),
        (BODY, ("--key", "a-->b"), "is not made of letters"),
        (BODY, ("--key", "a--b"), "is not made of letters"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_asked(server, tmp_path, body, options, said):
    code, result = call(tmp_path, github(server, tmp_path), body, *options)
    assert (code, said in result) == (2, True)
    assert not server.asked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"GITHUB_TOKEN": ""}, "GITHUB_TOKEN is not set"),
        ({"GITHUB_TOKEN": "a\nb"}, "GITHUB_TOKEN is no token"),
        ({"GITHUB_REPOSITORY": ""}, "GITHUB_REPOSITORY is not set"),
        ({"GITHUB_REPOSITORY": "a/b/../c"}, "owner/name is expected"),
        ({"GITHUB_API_URL": "file:///etc/passwd"}, "no address of an API"),
        ({"GITHUB_EVENT_PATH": "absent.json"}, "cannot be read"),
    ],
)
def test_an_environment_that_does_not_fit_is_one_line(server, tmp_path, changes, said):
    code, result = call(tmp_path, github(server, tmp_path) | changes)
    assert (code, said in result) == (2, True), result
    assert not server.asked


FORK = {
    "workflow_run": {
        "event": "pull_request",
        "pull_requests": [],
        "head_branch": "faster/blocks #1",
        "head_sha": "c0ffee",
        "head_repository": {"owner": {"login": "someone"}},
    }
}
LABEL = "someone:faster/blocks #1"


@pytest.mark.parametrize(
    ("pulls", "known"),
    [
        ([(3, LABEL, "c0ffee", "open")], ()),
        ([(3, LABEL, "later", "open")], ()),  # pushed to meanwhile
        ([(2, LABEL, "c0ffee", "closed"), (3, LABEL, "c0ffee", "open")], ()),
        ([(2, LABEL, "older", "open"), (3, LABEL, "c0ffee", "open")], ()),  # into two branches
        ([(2, "someone:other", "x", "open"), (3, "someone:renamed", "c0ffee", "open")], ("c0ffee",)),
    ],
)
def test_a_workflow_run_of_a_fork_finds_its_pull_request(server, tmp_path, pulls, known):
    server.pulls, server.known = pulls, known
    code, line = call(tmp_path, github(server, tmp_path, FORK))
    assert (code, line) == (0, "posted comment 101\n")
    assert server.bodies() == [BODY]


@pytest.mark.parametrize(
    "pulls",
    [
        [],
        [(2, LABEL, "c0ffee", "closed")],
        [(2, LABEL, "x", "open"), (3, LABEL, "y", "open")],
        [(3, "else:main", "z", "open")],
    ],
)
def test_a_fork_s_pull_request_that_is_not_found_is_named_by_an_input(server, tmp_path, pulls):
    server.pulls = pulls
    code, line = call(tmp_path, github(server, tmp_path, FORK))
    assert code == 0
    assert f"no open pull request of {LABEL} was found; name it by input 'pull-request'" in line
    assert server.writes() == []
    assert call(tmp_path, github(server, tmp_path, FORK), BODY, "--pull-request", "3")[0] == 0
    assert server.bodies() == [BODY]


@pytest.mark.parametrize("event", ["push", "schedule", None])
def test_a_workflow_run_of_no_pull_request_looks_for_none(server, tmp_path, event):
    server.pulls, server.known = [(3, LABEL, "c0ffee", "open")], ("c0ffee",)
    run = {"workflow_run": FORK["workflow_run"] | {"event": event}}
    assert call(tmp_path, github(server, tmp_path, run)) == (0, "no comment: this is not a pull request\n")
    assert not server.asked


@pytest.mark.parametrize("system", [github, gitlab])
def test_a_number_that_is_given_needs_no_event(server, tmp_path, system):
    where = system(server, tmp_path)
    if system is github:
        where = github(server, tmp_path, {"ref": "refs/heads/main"})
    else:
        del where["CI_MERGE_REQUEST_IID"]
    assert call(tmp_path, where, BODY, "--pull-request", "3")[0] == 0
    assert server.bodies() == [BODY]


@pytest.mark.parametrize("number", ["0", "x", "3/comments", "-1", "../3"])
def test_a_number_that_is_none_is_bad_input(server, tmp_path, number):
    code, line = call(tmp_path, github(server, tmp_path), BODY, f"--pull-request={number}")
    assert (code, "is no number of a pull request" in line) == (2, True)
    assert not server.asked


LIMITS = [
    (403, {"Retry-After": "1"}, "You have exceeded a secondary rate limit."),
    (429, {"Retry-After": "1"}, "Retry later"),
    (403, {}, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."),
    (403, {}, "You have triggered an abuse detection mechanism."),
    (429, {}, "slow down"),
    (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}, "API limit"),
]


@pytest.fixture
def sleeps(monkeypatch):
    """The pauses that were asked for, none of which is taken."""
    pauses: list[float] = []
    monkeypatch.setattr(comment.time, "sleep", pauses.append)
    return pauses


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("limited", [("GET",), ("POST",)])
@pytest.mark.parametrize("system", [github, gitlab])
def test_at_a_limit_the_same_is_asked_again_after_the_time_that_was_told(
    server, tmp_path, sleeps, limit, limited, system
):
    server.limits, server.limited = [limit, limit], limited
    assert comment.upsert(comment.place(system(server, tmp_path)), BODY).startswith("posted")
    assert server.bodies() == [BODY]
    assert sleeps == ([1.0, 1.0] if limit[1] else [60.0, 120.0])


def test_a_limit_during_an_edit_is_no_comment_of_somebody_else(server, tmp_path, sleeps):
    server.add(BODY)
    server.limits, server.limited = [LIMITS[0]] * 3, ("PATCH",)
    with pytest.raises(comment.CommentError, match="403"):
        comment.upsert(comment.place(github(server, tmp_path)), BODY)
    assert server.writes() == ["PATCH"] * 3, "no second comment"


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ((403, {"Retry-After": "3600"}, "secondary rate limit"), "start this job again in 3600 s"),
        ((429, {}, "no"), "start this job again in some minutes"),
    ],
)
def test_a_limit_that_stays_is_told_as_one_and_not_as_a_lack_of_permission(
    server, tmp_path, sleeps, limit, said
):
    server.limits = [limit] * 3
    with pytest.raises(comment.CommentError) as caught:
        comment.upsert(comment.place(github(server, tmp_path)), BODY)
    assert "the server limits how often it is asked" in str(caught.value)
    assert said in str(caught.value)
    assert "permission" not in str(caught.value)
    assert len(server.asked) == (1 if limit[1] else 3), "an hour is not waited for"


def test_a_lack_of_permission_is_asked_once(server, tmp_path, sleeps):
    server.denied = ("GET",)
    with pytest.raises(comment.CommentError, match="pull-requests: write"):
        comment.upsert(comment.place(github(server, tmp_path)), BODY)
    assert (len(server.asked), sleeps) == (1, [])


def test_the_look_for_a_fork_s_pull_request_is_asked_again_at_a_limit(server, tmp_path, sleeps):
    server.pulls, server.limits = [(3, LABEL, "c0ffee", "open")], [LIMITS[0]]
    assert "/issues/3/" in comment.place(github(server, tmp_path, FORK)).all
    assert sleeps == [1.0]


def test_a_busy_server_is_asked_again(server, tmp_path):
    place = comment.place(github(server, tmp_path))
    server.first = [502, 504]
    assert comment.upsert(place, BODY, 0.0).startswith("posted")
    server.first = [503] * 3
    with pytest.raises(comment.CommentError, match="was answered 503: busy"):
        comment.upsert(place, BODY, 0.0)
    assert server.bodies() == [BODY]


def test_a_server_that_is_away_is_one_line(tmp_path):
    with serving() as server:
        place = comment.place(github(server, tmp_path))
    with pytest.raises(comment.CommentError, match="refused"):
        comment.upsert(place, BODY, 0.0)


def test_a_token_does_not_follow_a_redirect(server, tmp_path):
    with serving() as other:
        server.moved = other.url
        with pytest.raises(comment.CommentError, match="was answered 307"):
            comment.upsert(comment.place(github(server, tmp_path)), BODY, 0.0)
        assert not other.asked


def _line(function, *arguments):
    """What it says, or the line of its error."""
    try:
        text = str(function(*arguments))
    except comment.CommentError as error:
        text = str(error)
    assert "\n" not in text
    return text


@given(JSON)
def test_any_event_has_a_number_or_none(event):
    actual = comment.pull_request(event)
    assert actual is None or actual > 0


@given(st.sampled_from(["pull_request", "issue", "workflow_run"]), JSON)
def test_any_event_that_looks_like_one_has_a_number_or_none(name, inner):
    actual = comment.pull_request({name: inner})
    assert actual is None or actual > 0


@given(JSON)
def test_any_workflow_run_has_a_head_or_none(inner):
    run = {"event": "pull_request", "head_repository": inner, "head_branch": inner, "head_sha": inner}
    for event in (inner, {"workflow_run": inner}, {"workflow_run": run}):
        head = comment.fork_head(event)
        assert head is None or (head.label and head.sha)
    assert all(number > 0 for number, _ in comment._open_pulls(inner))


@settings(max_examples=40)
@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_of_the_server_is_a_comment_or_one_line(tmp_path_factory, answer):
    with serving() as server:
        server.answer = answer
        server.most = 1
        place = comment.place(github(server, tmp_path_factory.mktemp("event")))
        comment._MOST_PAGES = 2  # the same page for ever
        try:
            assert _line(comment.upsert, place, BODY, 0.0)
        finally:
            comment._MOST_PAGES = 200


@given(st.text(max_size=200))
@settings(max_examples=60)
def test_any_event_file_is_read_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("event") / "event.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert _line(comment.place, {"GITHUB_EVENT_PATH": str(path)})
