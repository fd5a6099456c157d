"""What went wrong on the way to a model."""

import httpx2
import openai
import pytest
from hypothesis import given, strategies as st
from langchain_core.exceptions import ModelRateLimitError, ModelTimeoutError

from sot_graph.errors import carried_status
from sot_graph.llm.provider_errors import RETRYABLE, advice, explain, meaning_of
from sot_graph.llm.retry_policy import retry_after_seconds
from tests.support.http_errors import REQUEST, http_error, wrapped


@pytest.mark.parametrize(("code", "callers"), [(400, False), (401, True), (403, True), (404, True), (429, False)])
def test_a_refused_key_or_name_is_the_callers_to_fix(code: int, callers: bool):
    assert (meaning_of(http_error(code)) == "callers") is callers
    assert (meaning_of(wrapped(http_error(code))) == "callers") is callers


def test_the_status_is_found_on_other_providers_errors_too():
    class OtherError(Exception):
        status_code = 418

    class WithResponseError(Exception):
        response = httpx2.Response(503, request=REQUEST)

    assert carried_status(OtherError()) == 418
    assert carried_status(WithResponseError()) == 503
    assert carried_status(ValueError()) is None
    assert carried_status(http_error(503, {"code": "9" * 5000})) == 503


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
    assert carried_status(error) is None
    assert retry_after_seconds(error) is None
    assert meaning_of(error) not in RETRYABLE


def test_a_circle_of_causes_ends():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert carried_status(first) is None
    assert explain(first) == "a"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (http_error(429, {"message": "Slow down."}), "Slow down. (HTTP 429)"),
        (http_error(400, {"error": {"message": "Too\n  long."}}), "Too long. (HTTP 400)"),
        (http_error(404, {"error": "model not found"}), "model not found (HTTP 404)"),
        (http_error(500, {"detail": "x"}), "x (HTTP 500)"),
        (ValueError("several\nlines\n\there"), "several lines here"),
        (ValueError(), "ValueError"),
        (ValueError("unexpected end of template near {{}}"), "unexpected end of template near {{}}"),
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


class AnyError(Exception):
    """Of a client that need not be installed."""

    def __init__(self, text: str = "", **attributes: object) -> None:
        super().__init__(text)
        self.__dict__.update(attributes)


def in_a_stream(body: object) -> openai.APIError:
    """An error within a reply of status 200, as OpenAI's client and those made after it raise it."""
    return openai.APIError("x", REQUEST, body=body)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


BAD_KEYS = [
    ValueError("Forbidden control character detected in headers. Potential header injection attack."),
    ValueError("Illegal header value b'Bearer ***"),
    UnicodeEncodeError("ascii", "Bearer \u043a", 7, 8, "ordinal not in range(128)"),
    caused(openai.APIConnectionError(request=REQUEST), UnicodeEncodeError("ascii", "\u043a", 0, 1, "x-api-key")),
]


@pytest.mark.parametrize("error", BAD_KEYS, ids=lambda error: type(error).__name__)
def test_a_key_that_no_header_holds_is_the_callers_and_is_named(error: Exception):
    lost = wrapped(error)
    assert meaning_of(lost) == "callers"
    assert "the key, or another header, holds a line break" in explain(lost)


def test_an_expanders_own_error_keeps_its_words():
    error = UnicodeEncodeError("ascii", "caf\u00e9", 3, 4, "ordinal not in range(128)")
    assert meaning_of(error) == "final"
    assert explain(error) == str(error)


def lost_call(url):
    return caused(openai.APIConnectionError(request=httpx2.Request("POST", url)), ConnectionRefusedError("refused"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "the base URL is right: https://a.example:8/v1."),
        ({"HTTPS_PROXY": "http://me:secret@b"}, "proxy is set by HTTPS_PROXY"),
        ({"http_proxy": "http://b"}, "right: https://a.example:8/v1."),
        ({"ALL_PROXY": "http://b", "no_proxy": ".example"}, "right: https://a.example:8/v1."),
        ({"OPENAI_PROXY": "http://b"}, "proxy is set by OPENAI_PROXY"),
    ],
)
def test_of_a_lost_call_the_address_and_the_proxy_are_named(monkeypatch, environment, said):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OPENAI_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = advice(lost_call("https://me:secret@a.example:8/v1/chat/completions"))
    assert said in told
    assert "secret" not in told
    assert ("proxy" in told) == ("proxy is set" in said)


LOW_BALANCE = AnyError(
    "Error code: 400 - {'type': 'error', 'error': {'type': 'invalid_request_error', 'message': 'Your credit balance is "
    "too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.'}}",
    status_code=400,
)


@pytest.mark.parametrize("error", [LOW_BALANCE, http_error(403, {"code": "AllocationQuota.FreeTierOnly"})])
def test_of_an_account_without_credit_the_account_is_named(error: Exception):
    assert meaning_of(error) == "callers"
    assert advice(error) == " Check the account's credit and its limits."


def test_of_a_provider_that_stays_busy_the_option_that_waits_longer_is_named():
    for code in (429, 503):
        assert "rate_limit_patience" in advice(http_error(code))
        assert "endpoint is up" not in advice(http_error(code))


MEANINGS: list[tuple[str, Exception]] = [
    ("busy", http_error(429)),
    ("busy", http_error(503)),
    ("busy", http_error(503, {"type": "server_error", "message": "Try later."})),
    ("busy", http_error(529)),
    ("busy", http_error(200, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})),
    ("busy", in_a_stream({"code": 429, "message": "Slow down."})),
    ("busy", ValueError({"message": "Provider returned error", "code": 429})),
    ("busy", ValueError("OpenRouter API returned an error: Provider returned error (code: 429)")),
    ("busy", AnyError(response={"Error": {"Code": "ThrottlingException", "Message": "Too many"}})),
    ("busy", AnyError(code=429, status="RESOURCE_EXHAUSTED")),
    ("busy", ModelRateLimitError("busy")),
    ("transient", http_error(500)),
    ("transient", in_a_stream({"code": 502, "message": "Provider returned error"})),
    ("transient", in_a_stream({"type": "server_error", "message": "x"})),
    ("transient", AnyError(status_code=-1)),
    ("transient", ValueError("No data received from Ollama stream.")),
    ("transient", ValueError("No generations found in stream.")),
    ("transient", IndexError("list index out of range")),
    ("transient", AnyError(response={"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": 500}})),
    ("transient", ModelTimeoutError("late")),
    ("callers", http_error(401)),
    ("callers", http_error(402)),
    ("callers", http_error(429, {"code": "insufficient_quota"})),
    ("callers", http_error(429, {"type": "exceeded_current_quota_error"})),
    ("callers", http_error(400, {"code": "Arrearage"})),
    ("callers", LOW_BALANCE),
    ("callers", AnyError(code=400, details={"error": {"details": [{"reason": "API_KEY_INVALID"}]}})),
    ("callers", AnyError(response={"Error": {"Code": "UnrecognizedClientException"}})),
    ("callers", type("NoCredentialsError", (Exception,), {})()),
    ("callers", TypeError("Could not resolve authentication method.")),
    ("final", http_error(400)),
    ("final", http_error(501)),
    ("final", ValueError("x")),
]


@pytest.mark.parametrize(("meaning", "error"), MEANINGS, ids=lambda value: repr(value)[:60])
def test_what_an_error_means_is_in_what_it_carries_whoevers_class_it_is(meaning: str, error: Exception):
    assert meaning_of(error) == meaning
    assert meaning_of(wrapped(error)) == meaning or isinstance(error, (IndexError, ModelRateLimitError))


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError({"message": "Provider returned error", "code": 429}), "Provider returned error (HTTP 429)"),
        (ValueError("OpenRouter said: Slow down. (code: 429)"), "OpenRouter said: Slow down. (HTTP 429)"),
        (AnyError("ErrorResponse 400 {'error': {'message': 'Too long.'}}"), "Too long."),
        (
            AnyError('Error response 429 while fetching x: {"message":"Slow down."}', status_code=429),
            "Slow down. (HTTP 429)",
        ),
        (
            AnyError("x", response={"Error": {"Code": "ThrottlingException", "Message": "Too many tokens."}}),
            "Too many tokens.",
        ),
        (IndexError("list index out of range"), "there is nothing in the reply"),
    ],
)
def test_nobody_is_shown_a_dictionary(error: Exception, line: str):
    assert explain(error) == line
