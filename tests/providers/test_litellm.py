"""langchain-litellm."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestLiteLLM(ProviderCases):
    def make_wire(self):
        return OpenAICompatibleWire()

    def make_model(self, url):
        from langchain_litellm import ChatLiteLLM

        return ChatLiteLLM(model="openai/m", api_base=f"{url}/v1", api_key="any", max_retries=0)
