"""langchain-aws."""

from tests.support.wires import BedrockWire
from tests.support.wires.cases import ProviderCases


class TestAWS(ProviderCases):
    efforts = (
        {"additional_model_request_fields": {"thinking": {"type": "enabled", "budget_tokens": 2048}}},
        {"additional_model_request_fields": {"thinking": {"type": "disabled"}}},
        lambda body: (body.get("additionalModelRequestFields") or {}).get("thinking", {}).get("type"),
    )

    def make_wire(self):
        return BedrockWire()

    def make_model(self, url):
        from langchain_aws import ChatBedrockConverse

        return ChatBedrockConverse(
            model="anthropic.claude-3-5-sonnet-20240620-v1:0",
            base_url=url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            max_retries=1,
        )
