"""langchain-openrouter."""

from tests.support.wires import OpenAICompatibleWire
from tests.support.wires.cases import ProviderCases


class TestOpenRouter(ProviderCases):
    efforts = (
        {"reasoning": {"effort": "high"}},
        {"reasoning": {"effort": "none"}},
        lambda body: (body.get("reasoning") or {}).get("effort"),
    )

    def make_wire(self):
        return OpenAICompatibleWire(thought_in="reasoning", error_code=502)

    def make_model(self, url):
        from langchain_openrouter import ChatOpenRouter

        return ChatOpenRouter(model="m", base_url=f"{url}/v1", api_key="any", max_retries=0)
