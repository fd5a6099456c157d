"""langchain-groq."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestGroq(ProviderCases):
    def make_wire(self):
        return OpenAICompatibleWire(thought_in="reasoning", error_code=0)

    def make_model(self, url):
        from langchain_groq import ChatGroq

        return ChatGroq(model="m", base_url=url, api_key="any", max_retries=0)
