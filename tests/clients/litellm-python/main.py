"""LiteLLM's own SDK, with the gateway where its proxy would be."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from harness import *  # noqa: E402, F403
from pydantic import BaseModel  # noqa: E402

litellm.suppress_debug_info = True
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]


class Thing(BaseModel):
    name: str
    count: int


def complete(name=MODEL, content="ping", **more):
    ask = {"messages": [{"role": "user", "content": content}], "max_retries": 0, "api_key": KEY}
    return litellm.completion(model=f"openai/{name}", api_base=f"{GATEWAY}/v1", **ask | more)


def read(name, seen):
    for chunk in complete(name, stream=True):
        choice = chunk.choices[0]
        seen["text"] += choice.delta.content or ""
        seen["chunks"] = seen.get("chunks", 0) + 1
        seen["finish"] = choice.finish_reason or seen.get("finish")
    return seen


row = Client("LiteLLM SDK", versions("litellm", "openai"))


@row.check("models")
def _():
    names = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_base=f"{GATEWAY}/v1", api_key=KEY
    )
    assert any(name.endswith(MODEL) for name in names), names


@row.check("plain")
def _():
    for name in (MODEL, OTHER_MODEL):
        answer = complete(name)
        matches(answer.choices[0].message.content, SAID)
        equal((answer.model, answer.choices[0].finish_reason), (name, "stop"))
        assert answer.usage.total_tokens > 0


@row.check("stream")
def _():
    seen = read(MODEL, {"text": ""})
    matches(seen["text"], SAID)
    equal(seen["finish"], "stop")
    assert seen["chunks"] > 5, seen["chunks"]
    return f"{seen['chunks']} chunks"


@row.check("tools")
def _():
    messages = [{"role": "user", "content": "weather?"}]
    first = complete(messages=messages, tools=TOOLS).choices[0]
    call = first.message.tool_calls[0]
    equal((first.finish_reason, call.function.name), ("tool_calls", "weather"))
    equal(json.loads(call.function.arguments), {"city": "example"})
    whole = litellm.stream_chunk_builder(list(complete(messages=messages, tools=TOOLS, stream=True)))
    equal(json.loads(whole.choices[0].message.tool_calls[0].function.arguments), {"city": "example"})
    messages += [first.message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    matches(complete(messages=messages, tools=TOOLS).choices[0].message.content, TOOL_RESULT_ARRIVED)


@row.check("structured")
def _():
    answer = complete(response_format=Thing)
    equal(Thing.model_validate_json(answer.choices[0].message.content), Thing(name="example", count=1))


@row.check("embeddings")
def _():
    answer = litellm.embedding(
        model="openai/text-embedding-3-small", input=["one", "two"], api_base=f"{GATEWAY}/v1", api_key=KEY
    )
    one, two = (entry["embedding"] for entry in answer.data)
    is_unit_vector(one, 256)
    is_unit_vector(two, 256)
    assert one != two


@row.check("images")
def _():
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    answer = complete(content=[{"type": "text", "text": "ping"}, image])
    matches(answer.choices[0].message.content, PIXEL_SEEN, SAID)


@row.check("abort")
def _():
    def begin():
        stream = complete("standin/stall", stream=True)
        next(stream)
        return stream

    return lets_go(begin, lambda stream: stream.completion_stream.close())


@row.check("401")
def _():
    fault = raised(lambda: complete(api_key=WRONG_KEY))
    assert isinstance(fault, litellm.AuthenticationError), repr(fault)
    equal(fault.status_code, 401)
    return repr(fault)


@row.check("429")
def _():
    fault = raised(lambda: complete("standin/error-429"))
    assert isinstance(fault, litellm.RateLimitError), repr(fault)
    equal((fault.status_code, fault.litellm_response_headers["retry-after"]), (429, "1"))
    return repr(fault)


@row.check("retry-after")
def _():
    return waits_as_told(lambda: complete(max_retries=2))


for behaviour, name in BROKEN.items():

    @row.check(behaviour)
    def _():
        if behaviour != "error frame":
            raised(lambda: complete(name))
        return broken_off(lambda seen: read(name, seen))


@row.check("early end")
def _():
    plays(unfinished("chat"))
    return broken_off(lambda seen: read(MODEL, seen))
