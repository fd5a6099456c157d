"""langchain-openai, of Azure's deployments."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestAzure(ProviderCases):
    def make_wire(self):
        return OpenAICompatibleWire()

    def make_model(self, url):
        from langchain_openai import AzureChatOpenAI

        return AzureChatOpenAI(
            azure_deployment="m", azure_endpoint=url, api_key="any", api_version="2024-10-21", stream_usage=True
        )
