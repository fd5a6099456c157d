"""langchain-mistralai."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestMistralAI(ProviderCases):
    def make_wire(self):
        return OpenAICompatibleWire(thought_in="blocks")

    def make_model(self, url):
        from langchain_mistralai import ChatMistralAI

        return ChatMistralAI(model="m", base_url=f"{url}/v1", api_key="any", max_retries=0)
