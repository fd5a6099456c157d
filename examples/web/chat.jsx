// A chat with a graph that `langgraph dev` serves, by either of LangGraph's React hooks. The page's address says more:
// ?graph=agent&api=http://127.0.0.1:2024&hook=sdk
import { useStream } from "@langchain/react";
import { useStream as useSdkStream } from "@langchain/langgraph-sdk/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const address = new URLSearchParams(location.search);
const server = {
  apiUrl: address.get("api") ?? "http://127.0.0.1:2024",
  assistantId: address.get("graph") ?? "sot_graph",
};
const human = (text) => ({ id: crypto.randomUUID(), type: "human", content: text });
const lastAnswer = (stream) => stream.messages.findLast((message) => message.type === "ai");

/** The hook of `@langchain/react`. */
function useReact() {
  const stream = useStream(server);
  return {
    ...stream,
    ask: (text) => stream.submit({ messages: [human(text)] }),
    askAgain: async () => {
      const states = await stream.client.threads.getHistory(stream.threadId);
      const before = states.find(({ values }) => !values.messages?.some(({ id }) => id === lastAnswer(stream).id));
      return stream.submit(undefined, { forkFrom: before.checkpoint.checkpoint_id });
    },
    decide: (decision) => stream.respond({ decisions: [decision] }),
  };
}

/** The hook of `@langchain/langgraph-sdk`, with what agent-chat-ui sets. */
function useSdk() {
  const [threadId, onThreadId] = useState(null);
  const stream = useSdkStream({ ...server, threadId, onThreadId, fetchStateHistory: true });
  const { messages, interrupt, isLoading, error } = stream;
  const options = { streamMode: ["values"], streamSubgraphs: true, streamResumable: true };
  return {
    messages, interrupt, isLoading, error,
    ask: (text) => {
      const asked = human(text);
      const optimisticValues = (before) => ({ ...before, messages: [...(before.messages ?? []), asked] });
      return stream.submit({ messages: [asked] }, { ...options, optimisticValues });
    },
    askAgain: () => {
      const seen = stream.getMessagesMetadata(lastAnswer(stream))?.firstSeenState;
      return stream.submit(undefined, { ...options, checkpoint: seen?.parent_checkpoint });
    },
    decide: (decision) => stream.submit({}, { ...options, command: { resume: { decisions: [decision] } } }),
  };
}

const useChat = address.get("hook") === "sdk" ? useSdk : useReact;

function Chat() {
  const { messages, interrupt, isLoading, error, ask, askAgain, decide } = useChat();
  return (
    <>
      {messages.map((message) => (
        <div key={message.id} className={message.type}>{message.text ?? message.content}</div>
      ))}
      {isLoading && messages.at(-1)?.type === "human" && <p role="status">Drafting the answer …</p>}
      {interrupt?.value && <Review request={interrupt.value.action_requests[0]} decide={decide} />}
      {error && <p role="alert">{String(error)}</p>}
      <form onSubmit={(event) => {
        event.preventDefault();
        ask(new FormData(event.target).get("question"));
        event.target.reset();
      }}>
        <input name="question" placeholder="Ask something that needs a long answer" />
        <button disabled={isLoading}>Ask</button>
        {lastAnswer({ messages }) && <button type="button" disabled={isLoading} onClick={askAgain}>Ask again</button>}
      </form>
    </>
  );
}

/** A skeleton that waits: its titles may be edited, one a line. */
function Review({ request, decide }) {
  const [titles, edit] = useState(request.args.titles);
  const edited = { type: "edit", edited_action: { name: request.name, args: { titles } } };
  return (
    <form onSubmit={(event) => {
      event.preventDefault();
      decide(titles === request.args.titles ? { type: "approve" } : edited);
    }}>
      <textarea rows={8} value={titles} onChange={(event) => edit(event.target.value)} />
      <button>Write it</button>
    </form>
  );
}

createRoot(document.getElementById("chat")).render(<Chat />);
