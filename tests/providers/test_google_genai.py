"""langchain-google-genai."""

from tests.support.wires import GeminiWire
from tests.support.wires.cases import ProviderCases


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

        return ChatGoogleGenerativeAI(model="gemini-2.5-flash", base_url=url, api_key="any", max_retries=1)
