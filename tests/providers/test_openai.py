"""langchain-openai."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestOpenAI(ProviderCases):
    def make_wire(self):
        return OpenAICompatibleWire()

    def make_model(self, url):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model="m", base_url=f"{url}/v1", api_key="any", stream_usage=True)
