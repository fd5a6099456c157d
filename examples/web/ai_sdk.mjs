// What the AI SDK's `useChat` shows, the question and then the answer as it grows: node ai_sdk.mjs [question] [graph] [server]
import { LangSmithDeploymentTransport } from "@ai-sdk/langchain";
import { readUIMessageStream } from "ai";

const [question = "How do plants grow?", graphId = "sot_graph", url = "http://127.0.0.1:2024"] = process.argv.slice(2);
const transport = new LangSmithDeploymentTransport({ url, graphId });
const asked = { id: "1", role: "user", parts: [{ type: "text", text: question }] };
console.log(JSON.stringify(asked));
const stream = await transport.sendMessages({ messages: [asked] });
for await (const message of readUIMessageStream({ stream })) {
  console.log(JSON.stringify(message));
}
