# /// script
# requires-python = ">=3.11"
# dependencies = ["llama-index-llms-openai-like==0.8.1"]
# ///
"""LlamaIndex's client for servers like OpenAI's."""

from importlib.metadata import version
from typing import Literal

from client_tasks import BASE_URL, MODEL, QUESTION, Client, check_place
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from weather import Weather

ASKED = [ChatMessage(role="system", content="Be brief."), ChatMessage(content=QUESTION)]


def look_up(place: Literal["here", "there"]) -> str:
    """Look up the weather of a place."""
    return f"It is cold {place}."


def opened() -> OpenAILike:
    return OpenAILike(
        model=MODEL,
        api_base=BASE_URL,
        api_key="none",
        is_chat_model=True,
        is_function_calling_model=True,
        temperature=0,
        max_tokens=100,
        max_retries=0,
        context_window=2048,
    )


def chat() -> None:
    assert opened().chat(ASKED).message.content


def stream() -> None:
    text = "".join(part.delta or "" for part in opened().stream_chat(ASKED))
    assert text == opened().chat(ASKED).message.content


def tool_call() -> None:
    llm = opened()
    tool = FunctionTool.from_defaults(look_up)
    answer = llm.chat_with_tools([tool], user_msg=QUESTION, tool_required=True)
    (call, *_) = llm.get_tool_calls_from_response(answer)
    check_place(call.tool_kwargs)


def structured_answer() -> None:
    answer = opened().as_structured_llm(Weather).chat(ASKED)
    assert isinstance(answer.raw, Weather)


client = Client("LlamaIndex", version("llama-index-llms-openai-like"))
client.add("chat completions", "chat", chat)
client.add("chat completions", "stream", stream)
client.add("chat completions", "tool call", tool_call)
client.add("chat completions", "structured answer", structured_answer)
client.run()
