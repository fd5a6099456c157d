"""Which keys are looked for in what comes back from a failed call."""

import pytest
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_openai import ChatOpenAI

from sot_graph.scrubbing import secrets_of

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
