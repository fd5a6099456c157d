"""What is taken out of what comes back from a failed call: keys, and where content is hidden, all words."""

import base64
import json
import time
import traceback
from urllib.parse import quote

import aiohttp
import httpx
import openai
import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_openai import ChatOpenAI

from sot_graph import SkeletonError
from sot_graph.errors import error_status
from sot_graph.llm.loop_bound_model import is_of_another_loop
from sot_graph.llm.provider_errors import explain, meaning_of, refuses_form, refuses_system
from sot_graph.llm.retry_policy import retry_after_seconds
from sot_graph.observability.redaction import Redactor, secrets_of, without_keys

KEY, OTHER = "abcd-efgh-ijkl", "mnop-qrst-uvwx"


def chat(key=KEY):
    return ChatOpenAI(model="simulated", api_key=key)


WRAPPED = {
    "alone": chat(),
    "bound": chat().bind(stop=["."]),
    "configured": chat().with_config(tags=["a"]),
    "tried again": chat().with_retry(),
    "a fallback's": RunnableLambda(str).with_fallbacks([chat()]),
    "with fields": chat().configurable_fields(temperature=ConfigurableField("temperature")),
    "an alternative": (RunnableLambda(str) | str.strip).configurable_alternatives(
        ConfigurableField("model"), other=chat()
    ),
    "in a chain": RunnableLambda(str) | chat(),
    "beside others": {"a": chat()} | RunnableLambda(str),
    "deep inside": RunnableLambda(str) | chat().bind(stop=["."]).with_retry().with_fallbacks([RunnableLambda(str)]),
}


@pytest.mark.parametrize("where", WRAPPED)
def test_a_key_is_found_wherever_its_model_stands(where):
    assert secrets_of(WRAPPED[where]) == (KEY,)


def test_every_models_key_is_found_once():
    assert set(secrets_of(chat().with_fallbacks([chat(OTHER), chat()]))) == {KEY, OTHER}


def test_what_has_no_model_has_no_key():
    assert secrets_of(RunnableLambda(str)) == ()


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"the key {KEY} is wrong", "the key *** is wrong"),
        ("the key sk-0123 is wrong", "the key *** is wrong"),
        ("the key abcd***wxyz, is wrong", "the key *** is wrong"),
        ("https://user:hunter2@host/v1?key=abc&a=b", "https://***@host/v1?key=***&a=b"),
        ("Authorization: Bearer abcdef", "Authorization: Bearer ***"),
        ("maximum context length is 8192 tokens", "maximum context length is 8192 tokens"),
        ("", ""),
    ],
)
def test_keys_are_masked_and_the_rest_stays(text, clean):
    assert Redactor([KEY]).text(text) == clean
    assert Redactor([KEY], hides_content=True).text(text) == "***"


@pytest.mark.parametrize("word", ["*", "**a", "sk", "://a", "key", "key=", "https://", "a@", "Bearer ", "\t", "x\n"])
def test_a_very_long_text_is_cut_and_takes_no_long_time(word):
    clean = without_keys(f"begins {word * 1_000_000} ends")
    assert len(clean) < 9_000
    assert clean.startswith("begins ")
    assert clean.endswith("… (cut off)")


@pytest.mark.parametrize("word", ["*", "**a", "sk", "://a", "key", "https://", "a@", "-", "a.", "\t"])
def test_a_text_as_long_as_is_searched_takes_no_long_time(word):
    started = time.process_time()
    for _ in range(10):
        without_keys((word * 8_192)[:8_192])
    assert time.process_time() - started < 2  # quadratic patterns take some ten times as long


def test_no_half_of_a_key_is_left_where_a_text_is_cut():
    text = "a " * 4_000 + "b" * 180 + f" {KEY} password"
    for length in range(len(KEY)):
        assert KEY[:5] not in Redactor([KEY]).text("c" * length + text)
        assert KEY[:5] not in without_keys("c" * length + text.replace(KEY, f"{KEY[:6]}***{KEY[-4:]}"))


ODD = 'öffne-"dich"/sesam+&'
FORMS = {
    "upper case": str.upper,
    "lower case": str.lower,
    "JSON": json.dumps,
    "an address": lambda key: quote(key, safe=""),
    "hex": lambda key: key.encode().hex(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of an address": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "basic authorization": lambda key: base64.b64encode(f"me:{key}".encode()).decode(),
    "base64 of a header": lambda key: base64.b64encode(f"Bearer {key}, and more".encode()).decode(),
}


@pytest.mark.parametrize("key", [KEY, ODD, "0123456789abcdef"])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_masked_in_every_form_that_a_server_may_write_it_in(form, key):
    written = FORMS[form](key)
    clean = Redactor([key]).text(f"a {written} b")
    assert clean.startswith("a ")
    assert clean.endswith(" b")
    assert "***" in clean
    kept = clean.removeprefix("a ").removesuffix(" b").split("***")
    assert sum(map(len, kept)) <= len(written) - len(key)  # at most what stood beside it


def openai_error():
    body = {"message": "no", "code": f"bad {KEY}", "type": f"type {KEY}", "param": KEY, KEY: [[KEY]]}
    response = httpx.Response(400, json={"error": body}, request=httpx.Request("POST", "http://127.0.0.1/v1"))
    return openai.BadRequestError("no", response=response, body=body)


def test_a_key_is_taken_out_of_every_attribute_of_an_error():
    error = openai_error()
    assert error.code
    Redactor([KEY]).redact_error(error)
    assert (error.code, error.type, error.param) == ("bad ***", "type ***", "***")
    assert error.body == {"message": "no", "code": "bad ***", "type": "type ***", "param": "***", "***": [["***"]]}
    assert KEY not in error.response.text
    assert error.status_code == 400


def test_a_key_is_taken_out_of_the_request_that_aiohttp_shows():
    headers = {"Authorization": f"Bearer {KEY}"}
    info = aiohttp.RequestInfo("http://127.0.0.1/v1", "POST", headers, "http://127.0.0.1/v1")
    error = aiohttp.ClientResponseError(info, (), status=400, message=f"no {KEY}", headers=headers)
    assert KEY in repr(error)
    Redactor([KEY]).redact_error(error)
    assert KEY not in repr(error) + str(error) + repr(vars(error))
    assert error.status == 400


def test_a_key_is_taken_out_of_all_errors_of_a_group_and_of_what_was_being_handled():
    outer = ExceptionGroup("some", [ValueError(KEY), ExceptionGroup("more", [OSError(5, KEY)])])
    outer.__cause__, outer.__context__ = TypeError(KEY), KeyError(KEY)
    Redactor([KEY]).redact_error(outer)
    found = [outer.__cause__, outer.__context__, outer.exceptions[0], outer.exceptions[1].exceptions[0]]
    assert KEY not in repr(found)


def test_a_deep_or_a_broad_body_is_searched_as_far_as_anybody_reads_and_dropped_from_there():
    deep = KEY
    for _ in range(5_000):
        deep = [deep]
    error = ProviderError("no", {"deep": deep, "broad": [KEY] * 1_000_000, "text": KEY})
    Redactor([KEY]).redact_error(error)
    assert list(error.body) == ["deep", "broad", "text"]
    assert error.body["text"] == "***"
    assert error.body["broad"][0] == "***"
    assert len(error.body["broad"]) < 1_001
    level, depth = error.body["deep"], 0
    while isinstance(level, list):
        (level,), depth = level, depth + 1
    assert (level, depth) == (" … (cut off)", 20)


def test_whether_to_try_again_is_known_of_an_error_whose_words_are_hidden():
    body = {"message": "Why?", "code": "insufficient_quota", "type": "Why?"}
    error = openai.RateLimitError(
        "Why?", response=httpx.Response(429, request=httpx.Request("POST", "http://a")), body=body
    )
    Redactor(hides_content=True).redact_error(error)
    assert error.code == "insufficient_quota"
    assert error.type == error.body["message"] == "***"


@pytest.mark.parametrize("word", ["overloaded_error", "RESOURCE_EXHAUSTED", "api_error", "authentication_error"])
def test_an_error_without_a_status_means_the_same_when_its_words_are_hidden(word):
    error = ProviderError("Why?", {"error": {"type": word, "message": "Why?"}})
    error.status_code = None
    before = meaning_of(error)
    assert before != "final"
    Redactor(hides_content=True).redact_error(error)
    assert "Why?" not in repr(vars(error))
    assert meaning_of(error) == before


def test_an_empty_reply_is_asked_for_again_where_words_are_hidden():
    error = ValueError("No data received from Ollama stream. Why?")
    Redactor(hides_content=True).redact_error(error)
    assert meaning_of(error) == "transient"
    assert str(error) == "no data received"


WORDS = [
    "Why? Could not resolve authentication method.",
    "Why? malformed_function_call",
    "Why? Provider returned error (code: 429)",
    "Why? No endpoints support response_format. (status code: 404)",
    "Why? System role not supported (status: 400)",
    "Why? <asyncio.Lock> is bound to a different event loop",
]


def decided_by(error):
    read = (meaning_of, error_status, refuses_form, refuses_system, is_of_another_loop)
    return [each(error) for each in read]


@pytest.mark.parametrize("words", WORDS)
def test_what_is_decided_by_an_errors_words_is_decided_alike_once_they_are_hidden(words):
    error = RuntimeError("It failed.")
    error.__cause__ = RuntimeError(words)
    decided = decided_by(error)
    assert decided != decided_by(RuntimeError("Why?"))
    for _ in range(2):  # a call's error is redacted for its traces, and once more for its caller
        Redactor(hides_content=True).redact_error(error)
        assert "Why?" not in repr(error.__cause__) + repr(vars(error.__cause__))
        assert decided_by(error) == decided


class ProviderError(Exception):
    def __init__(self, message, body=None, response=None):
        super().__init__(message)
        self.message, self.body, self.response = message, body, response
        self.status_code = 429


def provider_error():
    request = httpx.Request("POST", "http://127.0.0.1/v1")
    headers = {"retry-after": "3", "x-question": "Why?", "set-cookie": KEY}
    response = httpx.Response(429, headers=headers, text=f"Why? {KEY}", request=request)
    error = ProviderError(f"Why? {KEY}", {"error": {"message": f"Why? {KEY}", "code": 7}}, response)
    error.__cause__ = FileNotFoundError(2, f"Why? {KEY}", f"/data/Why?/{KEY}")
    error.add_note(f"Why? {KEY}")
    return error


def everything_of(error):
    held = [error.message, error.body, error.response.text, dict(error.response.headers), error.__cause__.filename]
    return "".join(traceback.format_exception(error)) + repr(held)


def test_keys_are_taken_out_of_an_error_in_place_and_its_words_stay():
    error = provider_error()
    Redactor([KEY]).redact_error(error)
    assert KEY not in everything_of(error)
    assert str(error) == error.body["error"]["message"] == error.response.text == "Why? ***"
    assert error.response.headers["x-question"] == "Why?"


def test_of_an_error_whose_words_are_hidden_its_class_its_status_and_its_wait_are_left():
    error = provider_error()
    Redactor(hides_content=True).redact_error(error)
    assert "Why?" not in everything_of(error)
    assert KEY not in everything_of(error)
    assert repr(error) == "ProviderError('*** (HTTP 429)')"
    assert repr(error.__cause__) == "FileNotFoundError(2, '***')"
    assert str(error.__cause__) == "[Errno 2] ***: '***'"
    assert error.body == {"error": {"message": "***", "code": 7}}
    assert explain(error) == "ProviderError (HTTP 429)"
    assert retry_after_seconds(error) == 3


def test_an_object_that_an_error_holds_is_hidden_too():
    error = KeyError(HumanMessage("Why?"), {"question": "Why?"}, 7, None)
    Redactor(hides_content=True).redact_error(error)
    assert error.args == ("***", "***", 7, None)


def test_what_the_library_says_itself_is_not_hidden():
    error = SkeletonError("No skeleton: ValueError.")
    error.__cause__ = ValueError("Why?")
    Redactor(hides_content=True).redact_error(error)
    assert str(error) == "No skeleton: ValueError."
    assert str(error.__cause__) == "***"


def test_a_key_is_taken_out_of_a_list_of_whoevers_class():
    class Lines(list):
        pass

    error = openai_error()
    error.body = Lines([f"key {KEY}", "and more"])
    Redactor([KEY]).redact_error(error)
    assert error.body == ["key ***", "and more"]


@pytest.mark.parametrize(
    "error", [ImportError(f"no {KEY}"), SyntaxError(f"no {KEY}"), UnicodeDecodeError("utf-8", b"", 0, 1, f"no {KEY}")]
)
def test_a_key_is_taken_out_of_errors_that_keep_their_words_elsewhere(error):
    assert KEY in str(error)
    Redactor([KEY]).redact_error(error)
    assert KEY not in str(error) + repr(error)
    Redactor(hides_content=True).redact_error(error)
    assert "no" not in str(error).replace("Unknown", "").split()
