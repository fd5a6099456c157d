"""langchain-google-genai."""

from tests.support.wires import GeminiWire
from tests.support.wires.cases import ProviderCases, is_repeated_by_the_graph_alone


class TestGoogleGenAI(ProviderCases):
    efforts = (
        {"thinking_budget": 2048},
        {"thinking_budget": 0},
        lambda body: str(body["generationConfig"].get("thinkingConfig", {}).get("thinking_budget", "")),
    )

    def make_wire(self):
        return GeminiWire()

    def make_model(self, url):
        from langchain_google_genai import ChatGoogleGenerativeAI

        return ChatGoogleGenerativeAI(model="gemini-2.5-flash", base_url=url, api_key="any")

    async def test_its_own_retries_are_off(self, wire):
        await is_repeated_by_the_graph_alone(self.graph, wire)
