"""LangChain for Python: ChatOpenAI and OpenAIEmbeddings."""

import openai
from harness import *  # noqa: F403
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Thing(BaseModel):
    """A thing."""

    name: str
    count: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


def connect(name=MODEL, **options):
    return ChatOpenAI(**{"model": name, "base_url": f"{GATEWAY}/v1", "api_key": KEY, "max_retries": 0} | options)


def read(name, seen):
    for chunk in connect(name).stream("ping"):
        seen["text"] += chunk.text
        seen["chunks"] = seen.get("chunks", 0) + 1
        seen["finish"] = chunk.response_metadata.get("finish_reason") or seen.get("finish")
    return seen


row = Client("LangChain (Python)", versions("langchain-openai", "langchain-core", "openai"))
row.lacks("models", "LangChain does not list models")


@row.check("plain")
def _():
    for name in (MODEL, OTHER_MODEL):
        answer = connect(name).invoke("ping")
        matches(answer.text, SAID)
        equal((answer.response_metadata["model_name"], answer.response_metadata["finish_reason"]), (name, "stop"))
        assert answer.usage_metadata["total_tokens"] > 0


@row.check("stream")
def _():
    seen = read(MODEL, {"text": ""})
    matches(seen["text"], SAID)
    equal(seen["finish"], "stop")
    assert seen["chunks"] > 5, seen["chunks"]
    return f"{seen['chunks']} chunks"


@row.check("tools")
def _():
    bound = connect().bind_tools([weather])
    messages = [HumanMessage("weather?")]
    first = bound.invoke(messages)
    equal([(call["name"], call["args"]) for call in first.tool_calls], [("weather", {"city": "example"})])
    streamed = None
    for chunk in bound.stream(messages):
        streamed = chunk if streamed is None else streamed + chunk
    equal(streamed.tool_calls[0]["args"], {"city": "example"})
    result = weather.invoke(first.tool_calls[0])
    assert isinstance(result, ToolMessage)
    matches(bound.invoke([*messages, first, result]).text, TOOL_RESULT_ARRIVED)


@row.check("structured")
def _():
    wanted = Thing(name="example", count=1)
    for method in ("json_schema", "function_calling"):
        equal(connect().with_structured_output(Thing, method=method).invoke("ping"), wanted)


@row.check("embeddings")
def _():
    # It would count tokens first, with a table it downloads; the texts are short.
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small", base_url=f"{GATEWAY}/v1", api_key=KEY, check_embedding_ctx_length=False
    )
    one, two = embeddings.embed_documents(["one", "two"])
    is_unit_vector(one, 256)
    is_unit_vector(two, 256)
    assert one != two


@row.check("images")
def _():
    image = {"type": "image", "base64": PIXEL, "mime_type": "image/png"}
    answer = connect().invoke([HumanMessage([{"type": "text", "text": "ping"}, image])])
    matches(answer.text, PIXEL_SEEN, SAID)


@row.check("abort")
def _():
    def begin():
        stream = connect("standin/stall").stream("ping")
        next(stream)
        return stream

    return lets_go(begin, lambda stream: stream.close())


@row.check("401")
def _():
    fault = raised(lambda: connect(api_key=WRONG_KEY).invoke("ping"))
    assert isinstance(fault, openai.AuthenticationError), repr(fault)
    equal(fault.status_code, 401)
    return repr(fault)


@row.check("429")
def _():
    fault = raised(lambda: connect("standin/error-429").invoke("ping"))
    assert isinstance(fault, openai.RateLimitError), repr(fault)
    equal((fault.status_code, fault.response.headers["retry-after"]), (429, "1"))
    return repr(fault)


@row.check("retry-after")
def _():
    return waits_as_told(lambda: connect(max_retries=2).invoke("ping"))


for behaviour, name in BROKEN.items():

    @row.check(behaviour)
    def _():
        if behaviour != "error frame":
            raised(lambda: connect(name).invoke("ping"))
        return broken_off(lambda seen: read(name, seen))


@row.check("early end")
def _():
    plays(unfinished("chat"))
    return broken_off(lambda seen: read(MODEL, seen))
