"""openai-python: chat completions and the responses API, with the plain and the asyncio client."""

import asyncio
import json
import math
import time

import openai
from harness import *  # noqa: F403
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
PING = [{"role": "user", "content": "ping"}]


class Thing(BaseModel):
    name: str
    count: int
    tags: list[str]


def connect(**options):
    return OpenAI(**{"base_url": f"{GATEWAY}/v1", "api_key": KEY, "max_retries": 0} | options)


sdk = connect()


def errors(row, dialect, call, read):
    @row.check("401")
    def _():
        fault = raised(lambda: call(connect(api_key=WRONG_KEY), MODEL))
        equal(type(fault), openai.AuthenticationError)
        equal((fault.status_code, fault.type, fault.code), (401, "auth_error", "401"))
        return repr(fault)

    @row.check("429")
    def _():
        fault = raised(lambda: call(sdk, "standin/error-429"))
        equal(type(fault), openai.RateLimitError)
        equal((fault.status_code, fault.code), (429, "rate_limit_exceeded"))
        equal(fault.response.headers["retry-after"], "1")
        return repr(fault)

    @row.check("retry-after")
    def _():
        return waits_as_told(lambda: call(connect(max_retries=2), MODEL))

    for behaviour, name in BROKEN.items():

        @row.check(behaviour)
        def _():
            if behaviour != "error frame":
                raised(lambda: call(sdk, name))
            return broken_off(lambda seen: read(name, seen))

    @row.check("early end")
    def _():
        plays(unfinished(dialect))
        return broken_off(lambda seen: read(MODEL, seen))


def chat():
    row = Client("openai-python, chat", versions("openai"))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]

    def read(name, seen, **more):
        for chunk in sdk.chat.completions.create(model=name, messages=PING, stream=True, **more):
            seen["chunks"] = seen.get("chunks", 0) + 1
            seen["model"], seen["usage"] = chunk.model, chunk.usage or seen.get("usage")
            for choice in chunk.choices:
                seen["text"] += choice.delta.content or ""
                seen["finish"] = choice.finish_reason or seen.get("finish")
        return seen

    @row.check("models")
    def _():
        names = [entry.id for entry in sdk.models.list()]
        assert MODEL in names, names
        equal(sdk.models.retrieve(MODEL).id, MODEL)

    @row.check("plain")
    def _():
        for name in (MODEL, OTHER_MODEL):
            answer = sdk.chat.completions.create(model=name, messages=PING)
            equal((answer.model, answer.choices[0].finish_reason), (name, "stop"))
            matches(answer.choices[0].message.content, SAID)
            assert answer.usage.total_tokens > 0

    @row.check("stream")
    def _():
        seen = read(MODEL, {"text": ""})
        matches(seen["text"], SAID)
        equal((seen["model"], seen["finish"], seen["usage"]), (MODEL, "stop", None))
        assert seen["chunks"] > 5, seen["chunks"]
        counted = read(MODEL, {"text": ""}, stream_options={"include_usage": True})
        assert counted["usage"].completion_tokens > 0
        return f"{seen['chunks']} chunks"

    @row.check("tools")
    def _():
        messages = [{"role": "user", "content": "weather?"}]
        first = sdk.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0]
        call = first.message.tool_calls[0]
        equal((first.finish_reason, call.function.name), ("tool_calls", "weather"))
        equal(json.loads(call.function.arguments), {"city": "example"})
        with sdk.chat.completions.stream(model=MODEL, messages=messages, tools=tools) as stream:
            streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
        equal(json.loads(streamed.function.arguments), {"city": "example"})
        messages += [first.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
        second = sdk.chat.completions.create(model=MODEL, messages=messages, tools=tools)
        matches(second.choices[0].message.content, TOOL_RESULT_ARRIVED)

    @row.check("structured")
    def _():
        answer = sdk.chat.completions.parse(model=MODEL, messages=PING, response_format=Thing)
        equal(answer.choices[0].message.parsed, Thing(name="example", count=1, tags=["example"]))

    @row.check("embeddings")
    def _():
        ask = {"model": "text-embedding-3-small", "input": ["one", "two"]}
        one, two = (entry.embedding for entry in sdk.embeddings.create(**ask).data)
        is_unit_vector(one, 256)
        is_unit_vector(two, 256)
        assert one != two
        spelt = sdk.embeddings.create(**ask, dimensions=64, encoding_format="float")
        is_unit_vector(spelt.data[1].embedding, 64)

    @row.check("images")
    def _():
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        content = [{"type": "text", "text": "ping"}, image]
        answer = sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
        matches(answer.choices[0].message.content, PIXEL_SEEN, SAID)

    async def cancelled():
        plays({"kind": "hang"})
        async with AsyncOpenAI(base_url=f"{GATEWAY}/v1", api_key=KEY, max_retries=0) as plain:
            task = asyncio.create_task(plain.chat.completions.create(model=MODEL, messages=PING))
            await asyncio.to_thread(until, busy, "the upstream to be at work")
            task.cancel()
            left = time.monotonic()
            await asyncio.to_thread(until, idle, "the upstream to be let go", 2)
            assert task.cancelled()
            return f"upstream let go within {math.ceil((time.monotonic() - left) * 1000)} ms"

    @row.check("abort")
    def _():
        def begin():
            stream = sdk.chat.completions.create(model="standin/stall", messages=PING, stream=True)
            next(stream)
            return stream

        lets_go(begin, lambda stream: stream.close())
        return asyncio.run(cancelled())

    errors(row, "chat", lambda sdk, name: sdk.chat.completions.create(model=name, messages=PING), read)


def responses():
    row = Client("openai-python, responses", versions("openai"))
    tools = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}]

    def read(name, seen):
        for event in sdk.responses.create(model=name, input="ping", stream=True):
            if event.type == "response.output_text.delta":
                seen["text"] += event.delta
            if event.type == "response.completed":
                seen["finish"], seen["model"] = event.response.status, event.response.model
            if event.type == "error":
                raise RuntimeError(event.message)
        return seen

    row.lacks("models", "not part of this API")
    row.lacks("embeddings", "not part of this API")

    @row.check("plain")
    def _():
        answer = sdk.responses.create(model=MODEL, input="ping")
        equal((answer.model, answer.status), (MODEL, "completed"))
        matches(answer.output_text, SAID)
        assert answer.usage.total_tokens > 0

    @row.check("stream")
    def _():
        seen = read(MODEL, {"text": ""})
        matches(seen["text"], SAID)
        equal((seen["finish"], seen["model"]), ("completed", MODEL))

    @row.check("tools")
    def _():
        asked = [{"role": "user", "content": "weather?"}]
        first = sdk.responses.create(model=MODEL, input=asked, tools=tools)
        call = first.output[0]
        equal((call.type, call.name, json.loads(call.arguments)), ("function_call", "weather", {"city": "example"}))
        with sdk.responses.stream(model=MODEL, input=asked, tools=tools) as stream:
            equal(json.loads(stream.get_final_response().output[0].arguments), {"city": "example"})
        asked += [call.to_dict(), {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
        matches(sdk.responses.create(model=MODEL, input=asked, tools=tools).output_text, TOOL_RESULT_ARRIVED)

    @row.check("structured")
    def _():
        answer = sdk.responses.parse(model=MODEL, input="ping", text_format=Thing)
        equal(answer.output_parsed, Thing(name="example", count=1, tags=["example"]))

    @row.check("images")
    def _():
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
        content = [{"type": "input_text", "text": "ping"}, image]
        answer = sdk.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
        matches(answer.output_text, PIXEL_SEEN, SAID)

    @row.check("abort")
    def _():
        def begin():
            stream = sdk.responses.create(model="standin/stall", input="ping", stream=True)
            next(stream)
            return stream

        return lets_go(begin, lambda stream: stream.close())

    errors(row, "responses", lambda sdk, name: sdk.responses.create(model=name, input="ping"), read)


chat()
responses()
