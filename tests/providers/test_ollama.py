"""langchain-ollama."""

from tests.support.wires import OllamaWire
from tests.support.wires.cases import ProviderCases


class TestOllama(ProviderCases):
    efforts = ({"reasoning": True}, {"reasoning": False}, lambda body: str(body.get("think", "")))

    def make_wire(self):
        return OllamaWire()

    def make_model(self, url):
        from langchain_ollama import ChatOllama

        return ChatOllama(model="m", base_url=url)

    test_refused = None  # Ollama has no word for it
