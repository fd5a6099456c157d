"""What went wrong on the way to a model."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, strategies as st

from sot_graph.errors import SkeletonError, SotConfigError, status_code
from sot_graph.llm.provider_errors import backoff_seconds, explain, is_callers_to_fix, is_retryable, retry_after_seconds

REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")


def http_error(code: int, body: Any = None, headers: dict[str, str] | None = None) -> openai.APIStatusError:
    response = httpx2.Response(code, request=REQUEST, headers=headers)
    return openai.APIStatusError("Error", response=response, body=body)


def wrapped(error: BaseException) -> Exception:
    try:
        raise RuntimeError("outer") from error
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504, 520, 524, 529])
def test_a_passing_status_is_worth_another_try(code: int):
    assert is_retryable(http_error(code))
    assert is_retryable(wrapped(http_error(code)))


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_lasting_status_is_not(code: int):
    assert not is_retryable(http_error(code))
    assert not is_retryable(wrapped(http_error(code)))


def test_a_used_up_quota_is_no_rate_limit():
    error = http_error(429, {"code": "insufficient_quota", "message": "You exceeded your current quota."})
    assert error.code == "insufficient_quota"
    assert not is_retryable(error)
    assert not is_retryable(wrapped(error))


@pytest.mark.parametrize(
    "error",
    [
        openai.APIConnectionError(request=REQUEST),
        openai.APITimeoutError(request=REQUEST),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("peer closed connection"),
        ConnectionResetError("reset"),
        TimeoutError(),
    ],
)
def test_a_lost_connection_is_worth_another_try(error: Exception):
    assert is_retryable(error)
    assert is_retryable(wrapped(error))
    assert status_code(error) is None


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), SkeletonError("x"), SotConfigError("x")])
def test_any_other_error_is_not(error: Exception):
    assert not is_retryable(error)


def test_our_own_errors_are_never_retried_whatever_caused_them():
    error = SkeletonError("no skeleton")
    error.__cause__ = http_error(503)
    assert not is_retryable(error)


@pytest.mark.parametrize(("code", "callers"), [(400, False), (401, True), (403, True), (404, True), (429, False)])
def test_a_refused_key_or_name_is_the_callers_to_fix(code: int, callers: bool):
    assert is_callers_to_fix(http_error(code)) is callers
    assert is_callers_to_fix(wrapped(http_error(code))) is callers


def test_the_status_is_found_on_other_providers_errors_too():
    class OtherError(Exception):
        status_code = 418

    class WithResponseError(Exception):
        response = httpx2.Response(503, request=REQUEST)

    assert status_code(OtherError()) == 418
    assert status_code(WithResponseError()) == 503
    assert status_code(ValueError()) is None


class UnspeakableError(Exception):
    """Of a class whose own parts fail."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    @property
    def status_code(self) -> int:
        raise RuntimeError("no status")

    class response:
        headers = 5


def test_an_error_whose_own_parts_fail_is_still_explained():
    error = UnspeakableError()
    assert explain(error) == "UnspeakableError"
    assert status_code(error) is None
    assert retry_after_seconds(error) is None
    assert not is_retryable(error)


def test_a_circle_of_causes_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert status_code(first) is None
    assert explain(first) == "a"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Mon, 01 Jan 99999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "Mon, 01 Jan 2024 00:00:00 +99999999"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_the_provider_asks_for_is_read(headers: dict[str, str], seconds: float | None):
    assert retry_after_seconds(http_error(429, headers=headers)) == seconds
    assert retry_after_seconds(wrapped(http_error(429, headers=headers))) == seconds


def test_a_date_to_wait_for_becomes_seconds():
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    wait = retry_after_seconds(http_error(503, headers={"retry-after": later}))
    assert wait is not None
    assert 3000 < wait <= 3600


def test_an_error_without_a_response_asks_for_no_wait():
    assert retry_after_seconds(TimeoutError()) is None


@pytest.mark.parametrize("attempt", [2, 3, 4, 10, 100])
def test_waits_grow_and_are_bounded(attempt: int):
    waits = [backoff_seconds(attempt) for _ in range(50)]
    longest = min(8.0, 0.5 * 2 ** (attempt - 2))
    assert all(longest / 2 <= wait <= longest for wait in waits)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (http_error(429, {"message": "Slow down."}), "Slow down. (HTTP 429)"),
        (http_error(400, {"error": {"message": "Too\n  long."}}), "Too long. (HTTP 400)"),
        (http_error(404, {"error": "model not found"}), "model not found (HTTP 404)"),
        (http_error(500, {"detail": "x"}), "Error (HTTP 500)"),
        (ValueError("several\nlines\n\there"), "several lines here"),
        (ValueError(), "ValueError"),
        (ValueError("a\x00b \ud800 c"), "ab ? c"),
        (openai.APITimeoutError(request=REQUEST), "the model did not answer in time"),
        (httpx2.ReadTimeout("x"), "the model did not answer in time"),
        (TimeoutError(), "the model did not answer in time"),
        (ConnectionRefusedError("refused"), "the model could not be reached (refused)"),
    ],
)
def test_an_error_is_one_readable_line(error: Exception, line: str):
    assert explain(error) == line


def test_a_long_message_is_cut():
    assert len(explain(ValueError("word " * 1000))) <= 300


def test_a_reply_that_is_not_json_says_so():
    with pytest.raises(ValueError, match="Expecting") as caught:
        httpx2.Response(200, text="<html>", request=REQUEST).json()
    assert "not JSON" in explain(caught.value)


KEYS = [
    "sk-abc",
    "sk-proj-0123456789abcdefABCDEF",
    "sk-ant-api03-AbC_dEf-123",
    "gsk_0123456789abcdefghijklmnopqrstuvwxyz",
    "hf_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "0123456789abcdef0123456789abcdef",
]
PLACES = [
    "Incorrect API key provided: {}.",
    "'{}'",
    '"{}"',
    "key={}",
    "https://host/v1?key={}&x=1",
    "https://user:{}@host/v1",
    "Authorization: Bearer {}",
    "({})",
    "b'Bearer {}\\n'",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("place", PLACES)
def test_a_key_is_never_in_an_explanation(key: str, place: str):
    text = place.format(key)
    for error in (ValueError(text), http_error(401, {"message": text}), ConnectionError(text)):
        assert key not in explain(error)


@pytest.mark.parametrize(
    ("place", "key"), [("Bearer {}", "mysecret"), ("http://u:{}@h/v1", "hunter2"), ("{}", "ab***yz")]
)
def test_a_key_of_any_form_is_hidden_where_keys_stand(place: str, key: str):
    assert key not in explain(ValueError(place.format(key)))


@pytest.mark.parametrize(
    "text",
    [
        "a task-force for risk-free desk-work",
        "The model `gpt-4o-mini-2024-07-18` does not exist",
        "model meta-llama/Llama-3.3-70B-Instruct-Turbo-Free-2024-12 is unknown",
        "[Errno 111] Connect call failed ('127.0.0.1', 9)",
        "http://localhost:11434/v1/chat/completions",
        "maximum context length is 8192 tokens",
    ],
)
def test_what_is_no_key_stays(text: str):
    assert explain(ValueError(text)) == text


@given(st.text(max_size=400))
def test_any_message_becomes_one_bounded_line(text: str):
    line = explain(ValueError(text))
    assert line
    assert len(line.splitlines()) == 1
    assert len(line) <= 300
