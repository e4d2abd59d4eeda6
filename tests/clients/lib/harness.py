"""What every Python client shares; the twin of harness.mjs, which says more."""

import base64
import json
import math
import os
import threading
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

GATEWAY = os.environ["GATEWAY_URL"]
KEY = os.environ["GATEWAY_KEY"]
WRONG_KEY = "sk-not-the-key"
STANDIN = os.environ["STANDIN_URL"]
DEADLINE_SECONDS = 30

MODEL = "glm-4.7"
OTHER_MODEL = "vendor/some-model"
SAID = 'You said: "ping"'
TOOL_RESULT_ARRIVED = "The tool's result arrived."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PIXEL_SEEN = f"Images: 1 ({len(base64.b64decode(PIXEL))} bytes)."
BROKEN = {"cut": "standin/cut", "reset": "standin/reset", "error frame": "standin/error-frame"}

BUSY_ONCE = [
    {
        "kind": "json",
        "status": 429,
        "headers": {"retry-after": "1"},
        "body": {"error": {"message": "Busy.", "type": "rate_limit_error", "code": "rate_limit_exceeded", "param": None}},
    },
    {"kind": "auto"},
]


def versions(*names):
    return ", ".join(f"{name} {version(name)}" for name in names)


class Client:
    """One row of the table."""

    def __init__(self, name, version):
        self.name, self.version = name, version

    def check(self, behaviour):
        """Decorates a function that raises when the behaviour is not met; it runs at once."""

        def run(met):
            try:
                plays()
                until(idle, "the upstream to be idle before the check")
                self.report(behaviour, True, within(DEADLINE_SECONDS, met))
            except Exception as fault:
                self.report(behaviour, False, f"{type(fault).__name__}: {fault}")

        return run

    def lacks(self, behaviour, why):
        self.report(behaviour, None, why)

    def report(self, behaviour, ok, detail):
        line = {"client": self.name, "version": self.version, "behaviour": behaviour, "ok": ok}
        with open(os.environ["CLIENT_RESULTS"], "a") as results:
            results.write(json.dumps(line | {"detail": str(detail or "")[:400]}) + "\n")


def control(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{STANDIN}/__standin/{path}", data=data, timeout=5) as answer:
        return json.load(answer)


def plays(*steps):
    control("script", steps)


def counts():
    return control("requests")


def idle():
    return counts()["active"] == 0


def busy():
    return counts()["active"] == 1


def unfinished(dialect):
    frames = json.loads((Path(__file__).parent / "unfinished.json").read_text())[dialect]
    return {"kind": "sse", "frames": frames, "end": "clean"}


def waits_as_told(call):
    plays(*BUSY_ONCE)
    before = counts()["requests"]
    begun = time.monotonic()
    call()
    waited_ms = round((time.monotonic() - begun) * 1000)
    asked = counts()["requests"] - before
    assert asked == 2, f"{asked} requests reached the upstream, not 2"
    assert waited_ms >= 950, f"asked again after {waited_ms} ms, told to wait a second"
    return f"asked again after {waited_ms} ms"


def lets_go(begin, leave):
    begun = begin()
    until(busy, "the upstream to be at work")
    left = time.monotonic()
    leave(begun)
    until(idle, "the upstream to be let go", 2)
    return f"upstream let go within {math.ceil((time.monotonic() - left) * 1000)} ms"


def raised(call):
    try:
        value = call()
    except Exception as fault:
        return fault
    raise AssertionError(f"no error, but {value!r:.200}")


def broken_off(read):
    """`read(seen)` collects `seen["text"]` and `seen["finish"]`; it must raise after some text and before a finish."""
    seen = {"text": "", "finish": None}
    fault = raised(lambda: read(seen))
    assert seen["text"], f"nothing was seen before {fault!r}"
    assert not seen["finish"], f"finished with {seen['finish']}"
    return f"{type(fault).__name__} after {len(seen['text'])} characters: {fault}"


def until(condition, what, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.005)


def is_unit_vector(vector, length):
    assert len(vector) == length, len(vector)
    norm = math.hypot(*vector)
    assert abs(norm - 1) < 1e-3, f"norm {norm}"


def matches(text, *parts):
    for part in parts:
        assert text and part in text, f"{part!r} is not in {text!r}"


def equal(seen, wanted):
    assert seen == wanted, f"{seen!r} is not {wanted!r}"


def within(seconds, call):
    outcome = {}

    def work():
        try:
            outcome["value"] = call()
        except BaseException as fault:
            outcome["fault"] = fault

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not over after {seconds} s"
    if "fault" in outcome:
        raise outcome["fault"]
    return outcome["value"]
