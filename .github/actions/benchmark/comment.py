"""Keeps one comment of a benchmark report on a pull request (GitHub) or merge request (GitLab) up to date.

    python3 comment.py bench/comment.md [--key NAME] [--link URL] [--pull-request NUMBER]

The first line of the Markdown is a hidden marker. The oldest comment that starts with it is edited; without one, a
comment is posted. `--key` sets reports of one request apart: each has a comment of its own. `--link` is put below.

The request is the one that the event is about. Of a `workflow_run` for a fork's pull request, whose event does not name it, it is looked for by
commit and branch. `--pull-request` names it where no event does.

GitHub Actions gives GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_EVENT_PATH; GITHUB_TOKEN needs pull-requests: write.
GitLab gives CI_API_V4_URL, CI_PROJECT_ID and CI_MERGE_REQUEST_IID; GITLAB_TOKEN is a project access token with api scope.

Exit code 0: commented, or there is no request to comment on; 1: the server refused; 2: bad input. Needs only
Python 3.10.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PAGE, _MOST_PAGES = 100, 200
_MOST = 65_536  # characters that GitHub takes
_TRIES, _BUSY = 3, (429, 502, 503, 504)
_WAIT_S, _TIMEOUT_S = 2.0, 30.0
_LIMIT_S, _MOST_WAIT_S = 60.0, 300.0  # at a limit that does not say for how long; the longest wait for one
_MOST_BYTES = 1 << 25  # of an answer
_ADVICE = {
    401: "the token is not valid",
    403: "the token may not write here: give the job 'permissions: pull-requests: write' (GitLab: a token with api scope); "
    "on pull requests from forks it is read-only",
    404: "the request does not exist, or the token cannot see it",
}


class CommentError(Exception):
    """One line for the person.

    Attributes:
        exit_code: of this program.
        status: of the server's answer; 0 without one.
        limit_s: how long to wait where the server limits how often it is asked; 0: it does not say. None: it is no limit.
    """

    def __init__(self, text: str, exit_code: int = 1, status: int = 0, limit_s: float | None = None) -> None:
        super().__init__(" ".join(text.split()))
        self.exit_code, self.status, self.limit_s = exit_code, status, limit_s


@dataclass(frozen=True, slots=True)
class Place:
    """Where the comments of one request are.

    Attributes:
        all: address of the list; post there. one: address of a comment, without its id. order: of the list, oldest first.
        edit: the method that edits.
    """

    all: str
    one: str
    edit: str
    order: str
    headers: tuple[tuple[str, str], ...]


_Headers = tuple[tuple[str, str], ...]


class _Stay(urllib.request.HTTPRedirectHandler):
    """The token goes nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def place(environment: Mapping[str, str], number: str = "", wait_s: float = _WAIT_S) -> Place | str:
    """Where to comment, or why there is nothing to comment on; `number` is that of the request, if it was given.

    Raises:
        CommentError: what the CI system should have set is missing or damaged, or the server cannot be asked.
    """
    if number and not re.fullmatch(r"[1-9][0-9]{0,9}", number):
        raise CommentError(f"--pull-request {number!r} is no number of a pull request, like 12", 2)
    if environment.get("GITHUB_EVENT_PATH"):
        return _github(environment, number, wait_s)
    if environment.get("CI_API_V4_URL"):
        return _gitlab(environment, number or environment.get("CI_MERGE_REQUEST_IID", ""))
    return "this is neither GitHub Actions nor GitLab CI"


def _github(environment: Mapping[str, str], number: str, wait_s: float) -> Place | str:
    event = _event(Path(environment["GITHUB_EVENT_PATH"]))
    number = number or str(pull_request(event) or "")
    head = None if number else fork_head(event)
    if not number and head is None:
        return "this is not a pull request"
    repository = _needed(environment, "GITHUB_REPOSITORY")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository, re.ASCII):
        raise CommentError(f"GITHUB_REPOSITORY is {repository!r}; owner/name is expected", 2)
    repo = f"{_address(environment.get('GITHUB_API_URL') or 'https://api.github.com')}/repos/{repository}"
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {_token(environment, 'GITHUB_TOKEN')}",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    if head is not None:
        number = _looked_up(tuple(headers.items()), repo, head, wait_s)
        if not number:
            return f"no open pull request of {head.label} was found; name it by input 'pull-request' (--pull-request NUMBER)"
    issues = f"{repo}/issues"
    return Place(f"{issues}/{number}/comments", f"{issues}/comments", "PATCH", "", tuple(headers.items()))


def _gitlab(environment: Mapping[str, str], number: str) -> Place | str:
    if not number:
        return "this is not a merge request"
    project = urllib.parse.quote(_needed(environment, "CI_PROJECT_ID"), safe="")
    number = urllib.parse.quote(number, safe="")
    api = _address(environment["CI_API_V4_URL"])
    notes = f"{api}/projects/{project}/merge_requests/{number}/notes"
    token = ("PRIVATE-TOKEN", _token(environment, "GITLAB_TOKEN"))
    return Place(notes, notes, "PUT", "&sort=asc&order_by=created_at", (token,))


def pull_request(event: Any) -> int | None:
    """The number of the pull request that an event is about; None where it is about none."""
    for path in (("pull_request",), ("issue",), ("workflow_run", "pull_requests", 0)):
        found = event
        for key in path:
            there = isinstance(found, list) and len(found) > 0 if key == 0 else isinstance(found, dict)
            found = found[0] if there and key == 0 else found.get(key) if there else None
        if isinstance(found, dict) and (path[0] != "issue" or found.get("pull_request")):
            number = found.get("number")
            if type(number) is int and number > 0:
                return number
    return None


@dataclass(frozen=True, slots=True)
class Head:
    """What a pull request would merge: `owner:branch`, and its commit."""

    label: str
    sha: str


def fork_head(event: Any) -> Head | None:
    """The head of the pull request that a `workflow_run` is of; None where it is of none.

    Of a fork's pull request GitHub leaves `pull_requests` empty.
    """
    run = event.get("workflow_run") if isinstance(event, dict) else None
    if not isinstance(run, dict) or run.get("event") not in ("pull_request", "pull_request_target"):
        return None
    repository = run.get("head_repository")
    owner = repository.get("owner") if isinstance(repository, dict) else None
    login = owner.get("login") if isinstance(owner, dict) else None
    branch, sha = run.get("head_branch"), run.get("head_sha")
    if not all(isinstance(text, str) and text for text in (login, branch, sha)):
        return None
    return Head(f"{login}:{branch}", str(sha))


def _looked_up(headers: _Headers, repo: str, head: Head, wait_s: float) -> str:
    """The number of the open pull request with this head; empty where there is none, or none that is the only one."""
    sha, label = (urllib.parse.quote(text, safe="") for text in (head.sha, head.label))
    # by commit GitHub answers nothing where that is in the fork only
    for address in (f"{repo}/pulls?state=open&head={label}", f"{repo}/commits/{sha}/pulls"):
        try:
            listed = _call(headers, "GET", address, None, wait_s)
        except CommentError as error:
            if error.status not in (404, 422):  # a commit that is not known here
                raise
            continue
        found = _open_pulls(listed)
        exact = [number for number, at in found if at == head.sha]
        chosen = exact or [number for number, _ in found]
        if len(chosen) == 1:
            return str(chosen[0])
    return ""


def _open_pulls(listed: Any) -> list[tuple[int, Any]]:
    """Number and commit of those pull requests that are open."""
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    heads = [entry["head"] if isinstance(entry.get("head"), dict) else {} for entry in entries]
    return [
        (entry["number"], head.get("sha"))
        for entry, head in zip(entries, heads, strict=True)
        if entry.get("state") == "open" and type(entry.get("number")) is int and entry["number"] > 0
    ]


def upsert(where: Place, body: str, wait_s: float = _WAIT_S) -> str:
    """Edit the comment that has the first line of `body`, or post one.

    Two jobs that post at once leave one comment: who sees that its own is not the oldest moves its text there.

    Returns: what was done.

    Raises:
        CommentError: the server refused, or cannot be reached.
    """
    mark = body.split("\n", 1)[0]
    for number in _marked(where, mark, wait_s):
        if _edit(where, number, body, wait_s):
            return f"edited comment {number}"
    made = _call(where.headers, "POST", where.all, {"body": body}, wait_s)
    own = made.get("id") if isinstance(made, dict) else None
    if type(own) is not int:
        raise CommentError(f"the answer to POST {where.all} has no id: {str(made)[:80]!r}")
    for number in _marked(where, mark, wait_s):
        if number >= own:
            break
        if _edit(where, number, body, wait_s):
            _delete(where, own, wait_s)
            return f"edited comment {number}"
    return f"posted comment {own}"


def _marked(where: Place, mark: str, wait_s: float) -> Iterator[int]:
    """The ids of comments that start with the marker, oldest first."""
    for page in range(1, _MOST_PAGES + 1):
        address = f"{where.all}?per_page={_PAGE}&page={page}{where.order}"
        listed = _call(where.headers, "GET", address, None, wait_s)
        if not isinstance(listed, list):
            raise CommentError(f"the answer to GET {address} is no list: {str(listed)[:80]!r}")
        for comment in listed:
            body = comment.get("body") if isinstance(comment, dict) else None
            if isinstance(body, str) and type(comment.get("id")) is int and _first_line(body) == mark:
                yield comment["id"]
        if not listed:
            return


def _first_line(body: str) -> str:
    return body.split("\n", 1)[0].rstrip("\r")


def _edit(where: Place, number: int, body: str, wait_s: float) -> bool:
    """Whether it could be edited; somebody else's comment, or one that is gone meanwhile, cannot."""
    try:
        _call(where.headers, where.edit, f"{where.one}/{number}", {"body": body}, wait_s)
    except CommentError as error:
        if error.status not in (403, 404) or error.limit_s is not None:
            raise
        return False
    return True


def _delete(where: Place, number: int, wait_s: float) -> None:
    try:
        _call(where.headers, "DELETE", f"{where.one}/{number}", None, wait_s)
    except CommentError as error:
        if error.status != 404:  # the other job was faster
            raise


def _call(headers: _Headers, method: str, address: str, content: Any, wait_s: float) -> Any:
    """The answer as JSON, None without one; a server that is busy, or asked too often, is asked again."""
    for attempt in range(1, _TRIES + 1):
        try:
            return _ask(headers, method, address, content)
        except CommentError as error:
            # a post without an answer may have been done; `upsert` finds it afterwards
            limited = error.limit_s is not None
            if not (limited or error.status in (0, *_BUSY)) or attempt == _TRIES:
                raise
            pause_s = (error.limit_s or _LIMIT_S * attempt) if limited else wait_s * attempt
            if pause_s > _MOST_WAIT_S:
                raise
            time.sleep(pause_s)
    raise AssertionError("the last attempt returns or raises")


def _ask(headers: _Headers, method: str, address: str, content: Any) -> Any:
    data = None if content is None else json.dumps(content).encode()
    sent = dict(headers, **{"User-Agent": "nasvit-edge", "Content-Type": "application/json"})
    request = urllib.request.Request(address, data, sent, method=method)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=_TIMEOUT_S) as answer:
            text = answer.read(_MOST_BYTES)
        return json.loads(text) if text.strip() else None
    except urllib.error.HTTPError as error:
        with error:
            told = _message(error)
        limit_s = _limit_s(error, told)
        advice = _ADVICE.get(error.code) if limit_s is None else _limited(limit_s)
        line = f"{method} {address} was answered {error.code}{told}{'; ' + advice if advice else ''}"
        raise CommentError(line, status=error.code, limit_s=limit_s) from None
    except (OSError, http.client.HTTPException) as error:
        raise CommentError(
            f"{method} {address} failed: {getattr(error, 'reason', None) or error!r}"
        ) from None
    except (ValueError, RecursionError):
        raise CommentError(f"the answer to {method} {address} is no JSON", status=200) from None


def _limit_s(error: urllib.error.HTTPError, told: str) -> float | None:
    """Seconds until a server that is asked too often may be asked again, 0 where it does not say; None where it is not that.

    As docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api has it: `retry-after`, else `x-ratelimit-reset` once nothing
    remains, else a minute. A 403 without any of these, and without a word of limits, is about permission.
    """
    if error.code not in (403, 429):
        return None
    after, reset = (error.headers.get(name, "") for name in ("Retry-After", "X-RateLimit-Reset"))
    if re.fullmatch(r"\d{1,9}", after, re.ASCII):
        return max(1.0, float(after))
    spent = error.headers.get("X-RateLimit-Remaining") == "0"
    if spent and re.fullmatch(r"\d{1,12}", reset, re.ASCII):
        return max(1.0, float(reset) - time.time())
    said = re.search("rate limit|abuse detection|too many requests|retry later", told, re.IGNORECASE)
    return 0.0 if error.code == 429 or spent or after or said else None


def _limited(limit_s: float) -> str:
    """What to do at a limit."""
    when = f"{limit_s:.0f} s" if limit_s >= 1 else "some minutes"
    return f"the server limits how often it is asked: start this job again in {when}, and fewer of its kind at once"


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says, as GitHub or GitLab says it."""
    try:
        answer = json.loads(error.read(10_000))
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        return ""
    told = answer.get("message") or answer.get("error") if isinstance(answer, dict) else None
    return f": {str(told)[:200]}" if told else ""


def _event(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CommentError(f"GITHUB_EVENT_PATH {str(path)!r} cannot be read: {str(error)[:120]}", 2) from None


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise CommentError(f"{name} is not set", 2)
    return value


def _token(environment: Mapping[str, str], name: str) -> str:
    """A token; what a header cannot hold is never shown."""
    value = _needed(environment, name).strip()
    if not re.fullmatch(r"[!-~]+", value):
        raise CommentError(
            f"{name} is no token: it has spaces or other characters that tokens do not have", 2
        )
    return value


def _address(text: str) -> str:
    if not re.fullmatch(r"https?://[!-~]+", text):
        raise CommentError(f"{text!r} is no address of an API; https://... is expected", 2)
    return text.rstrip("/")


def body_of(path: Path, key: str = "", link: str = "") -> str:
    """The Markdown with its marker; with the key in it, and with the link below where there is room for it.

    Raises:
        CommentError: the file cannot be read, starts with no marker, or the key cannot stand in one.
    """
    if not re.fullmatch(r"[\w./ -]{0,100}", key, re.ASCII) or "--" in key:
        raise CommentError(f"--key {key!r} is not made of letters, digits and . _ / -", 2)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CommentError(
            f"{str(path)!r} cannot be read: {getattr(error, 'strerror', None) or error}", 2
        ) from None
    mark, _, rest = text.partition("\n")
    if not re.fullmatch(r"<!-- nasvit-edge [^<>]* -->", mark):
        raise CommentError(
            f"{str(path)!r} does not start with a marker; write it with: nasvit-edge report bench RESULT --markdown FILE",
            2,
        )
    if key:
        mark = f"<!-- nasvit-edge bench: {key} -->"
    below = f"\n\n[Page with all samples, and files for machines]({link})" if link else ""
    whole = f"{mark}\n{rest.rstrip()}{below}\n"
    return whole if len(whole) <= _MOST else f"{mark}\n{rest}"


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Keep one comment with a benchmark report up to date.")
    parser.add_argument("file", type=Path, help="Markdown of `nasvit-edge report bench --markdown`")
    parser.add_argument("--key", default="", help="sets reports of one request apart")
    parser.add_argument("--link", default="", help="put below the report")
    parser.add_argument("--pull-request", default="", help="its number, where the event does not name it")
    options = parser.parse_args()
    try:
        body = body_of(options.file, options.key, options.link)
        where = place(os.environ, options.pull_request.strip())
        told = f"no comment: {where}" if isinstance(where, str) else upsert(where, body)
    except CommentError as error:
        prefix = "::warning title=nasvit-edge benchmark::" if os.environ.get("GITHUB_ACTIONS") else ""
        sys.stderr.write(f"{prefix}no comment: {error}\n")
        return error.exit_code
    sys.stderr.write(f"{told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
