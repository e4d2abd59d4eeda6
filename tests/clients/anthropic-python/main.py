"""anthropic-python: messages against the gateway's /v1/messages."""

import anthropic
from anthropic import Anthropic
from harness import *  # noqa: F403
from pydantic import BaseModel

TOOLS = [
    {
        "name": "weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


class Thing(BaseModel):
    name: str
    count: int


def connect(**options):
    return Anthropic(**{"base_url": GATEWAY, "api_key": KEY, "max_retries": 0} | options)


def ask(name, **more):
    return {"model": name, "max_tokens": 200, "messages": [{"role": "user", "content": "ping"}]} | more


def read(name, seen):
    for event in sdk.messages.create(**ask(name), stream=True):
        seen["events"] = seen.get("events", 0) + 1
        if event.type == "message_start":
            seen["model"] = event.message.model
        if event.type == "content_block_delta":
            seen["text"] += event.delta.text
        if event.type == "message_delta":
            seen["finish"] = event.delta.stop_reason
    return seen


row = Client("anthropic-python", versions("anthropic"))
sdk = connect()
row.lacks("embeddings", "the API has none")


@row.check("models")
def _():
    names = [entry.id for entry in sdk.models.list()]
    assert MODEL in names, names
    equal(sdk.models.retrieve(MODEL).id, MODEL)


@row.check("plain")
def _():
    for name, options in ((MODEL, {}), (OTHER_MODEL, {"api_key": None, "auth_token": KEY})):
        answer = connect(**options).messages.create(**ask(name))
        equal((answer.model, answer.stop_reason), (name, "end_turn"))
        matches(answer.content[0].text, SAID)
        assert answer.usage.output_tokens > 0
    counted = sdk.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "ping"}])
    assert counted.input_tokens > 0


@row.check("stream")
def _():
    seen = read(MODEL, {"text": ""})
    matches(seen["text"], SAID)
    equal((seen["model"], seen["finish"]), (MODEL, "end_turn"))
    assert seen["events"] > 5, seen["events"]
    with sdk.messages.stream(**ask(MODEL)) as stream:
        equal("".join(stream.text_stream), seen["text"])
    return f"{seen['events']} events"


@row.check("tools")
def _():
    messages = [{"role": "user", "content": "weather?"}]
    first = sdk.messages.create(**ask(MODEL, messages=messages, tools=TOOLS))
    use = first.content[0]
    equal((first.stop_reason, use.type, use.name, use.input), ("tool_use", "tool_use", "weather", {"city": "example"}))
    with sdk.messages.stream(**ask(MODEL, messages=messages, tools=TOOLS)) as stream:
        equal(stream.get_final_message().content[0].input, {"city": "example"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = sdk.messages.create(**ask(MODEL, messages=messages, tools=TOOLS))
    matches(second.content[0].text, TOOL_RESULT_ARRIVED)


@row.check("structured")
def _():
    answer = sdk.messages.parse(**ask(MODEL), output_format=Thing)
    equal(answer.parsed_output, Thing(name="example", count=1))


@row.check("images")
def _():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    content = [{"type": "text", "text": "ping"}, image]
    answer = sdk.messages.create(**ask(MODEL, messages=[{"role": "user", "content": content}]))
    matches(answer.content[0].text, PIXEL_SEEN, SAID)


@row.check("abort")
def _():
    def begin():
        stream = sdk.messages.create(**ask("standin/stall"), stream=True)
        next(stream)
        return stream

    return lets_go(begin, lambda stream: stream.close())


@row.check("401")
def _():
    fault = raised(lambda: connect(api_key=WRONG_KEY).messages.create(**ask(MODEL)))
    equal(type(fault), anthropic.AuthenticationError)
    equal((fault.status_code, fault.body["type"]), (401, "error"))
    return repr(fault)


@row.check("429")
def _():
    fault = raised(lambda: sdk.messages.create(**ask("standin/error-429")))
    equal(type(fault), anthropic.RateLimitError)
    equal((fault.status_code, fault.body["error"]["type"]), (429, "rate_limit_error"))
    equal(fault.response.headers["retry-after"], "1")
    return repr(fault)


@row.check("retry-after")
def _():
    return waits_as_told(lambda: connect(max_retries=2).messages.create(**ask(MODEL)))


for behaviour, name in BROKEN.items():

    @row.check(behaviour)
    def _():
        if behaviour != "error frame":
            raised(lambda: sdk.messages.create(**ask(name)))
        return broken_off(lambda seen: read(name, seen))


@row.check("early end")
def _():
    plays(unfinished("messages"))
    return broken_off(lambda seen: read(MODEL, seen))
