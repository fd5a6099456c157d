"""Whether a call that failed is made again, and when."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import openai
import pytest

from sot_graph import SotOptions
from sot_graph.errors import SkeletonError, SotConfigError, carried_status
from sot_graph.llm.provider_errors import RETRYABLE, meaning_of
from sot_graph.llm.retry_policy import RetryPolicy, backoff_seconds, retry_after_seconds
from tests.support.http_errors import REQUEST, http_error, wrapped


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504, 520, 524, 529])
def test_a_passing_status_is_worth_another_try(code: int):
    assert meaning_of(http_error(code)) in RETRYABLE
    assert meaning_of(wrapped(http_error(code))) in RETRYABLE


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 422])
def test_a_lasting_status_is_not(code: int):
    assert meaning_of(http_error(code)) not in RETRYABLE
    assert meaning_of(wrapped(http_error(code))) not in RETRYABLE


def test_a_used_up_quota_is_no_rate_limit():
    error = http_error(429, {"code": "insufficient_quota", "message": "You exceeded your current quota."})
    assert error.code == "insufficient_quota"
    assert meaning_of(error) not in RETRYABLE
    assert meaning_of(wrapped(error)) not in RETRYABLE


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
    assert meaning_of(error) in RETRYABLE
    assert meaning_of(wrapped(error)) in RETRYABLE
    assert carried_status(error) is None


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), SkeletonError("x"), SotConfigError("x")])
def test_any_other_error_is_not(error: Exception):
    assert meaning_of(error) not in RETRYABLE


def test_our_own_errors_are_never_retried_whatever_caused_them():
    error = SkeletonError("no skeleton")
    error.__cause__ = http_error(503)
    assert meaning_of(error) not in RETRYABLE


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


@pytest.mark.parametrize("failures", [1, 2, 3, 9, 99])
def test_waits_grow_and_are_bounded(failures: int):
    waits = [backoff_seconds(failures) for _ in range(50)]
    longest = min(8.0, 0.5 * 2 ** (failures - 1))
    assert all(longest / 2 <= wait <= longest for wait in waits)


@pytest.mark.parametrize("asked", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "0.001", None])
@pytest.mark.parametrize("code", [429, 503, 529])
def test_a_busy_provider_is_not_asked_in_a_storm_whatever_it_says(asked: str | None, code: int):
    policy = RetryPolicy(SotOptions(rate_limit_patience=300))
    error = http_error(code, headers={} if asked is None else {"retry-after": asked})
    waits = []
    while (wait := policy.wait_after(error)) is not None:
        waits.append(wait)
    assert waits[0] >= 0.1
    assert len(waits) <= 20
    assert 200 < sum(waits) <= 300
    if asked is None:  # all of the time is used where the provider names none
        assert sum(waits) > 299


def test_a_provider_that_says_when_is_asked_then():
    policy = RetryPolicy(SotOptions(rate_limit_patience=60))
    error = http_error(429, headers={"retry-after": "2"})
    assert all(2 <= (policy.wait_after(error) or 0) <= 2.5 for _ in range(5))


def test_a_failing_server_that_says_now_is_left_alone_for_a_moment():
    policy = RetryPolicy(SotOptions(max_retries=2))
    error = http_error(500, headers={"retry-after": "0"})
    waits = [policy.wait_after(error) for _ in range(3)]
    assert 0.25 <= (waits[0] or 0) <= 0.5 <= (waits[1] or 0)
    assert waits[2] is None


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), http_error(500), ValueError("x")], ids=repr)
def test_after_a_reply_that_broke_off_the_first_wait_is_none_and_later_ones_grow(error: Exception):
    policy = RetryPolicy(SotOptions(max_retries=3))
    waits = [policy.wait_after(error, broke_off=True) for _ in range(4)]
    assert waits[0] == 0
    assert 0.5 <= (waits[1] or 0) <= 1 <= (waits[2] or 0) <= 2
    assert waits[3] is None


def test_a_provider_that_breaks_off_a_reply_since_it_is_busy_is_asked_when_it_says():
    policy = RetryPolicy(SotOptions(max_retries=0))
    error = http_error(529, headers={"retry-after": "5"})
    assert all(5 <= (policy.wait_after(error, broke_off=True) or 0) <= 6 for _ in range(5))
