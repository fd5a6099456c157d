"""langchain-xai."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestXAI(ProviderCases):
    def make_wire(self):
        return OpenAICompatibleWire(thought_in="reasoning_content")

    def make_model(self, url):
        from langchain_xai import ChatXAI

        return ChatXAI(model="m", base_url=f"{url}/v1", api_key="any")
