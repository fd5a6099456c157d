"""langchain-deepseek."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestDeepSeek(ProviderCases):
    def make_wire(self):
        return OpenAICompatibleWire(thought_in="reasoning_content")

    def make_model(self, url):
        from langchain_deepseek import ChatDeepSeek

        return ChatDeepSeek(model="m", api_base=f"{url}/v1", api_key="any")
