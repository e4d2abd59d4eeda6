"""The table of client x behaviour, as Markdown."""

BEHAVIOURS = {
    "models": "the model list, and one model by name",
    "plain": "an answer in one piece: text, model name as asked, finish reason, usage",
    "stream": "the same in pieces",
    "tools": "a call with its arguments, and the answer to its result; plain and streamed",
    "structured": "an object that fits the schema, parsed by the client",
    "embeddings": "two vectors of length one, as base64 and as numbers where the client can ask for them",
    "images": "an image in the message arrives upstream with all its bytes",
    "abort": "the client leaves; the upstream is let go",
    "401": "a wrong key is the client's error class for it",
    "429": "a busy upstream is the client's error class for it, with its Retry-After",
    "retry-after": "the client asks again, and not before Retry-After is over",
    "cut": "the upstream closes in mid-answer: an error, plain and streamed",
    "reset": "the upstream resets the connection in mid-answer: an error, plain and streamed",
    "early end": "the upstream's stream ends well-formed but unfinished: an error",
    "error frame": "the upstream reports an error within the stream: an error",
}
MARKS = {True: "yes", False: "**NO**", None: "–"}


def write(path, results):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines(results)) + "\n")


def lines(results):
    rows = {}
    for result in results:
        rows.setdefault(result["client"], {})[result["behaviour"]] = result
    yield "# Clients"
    yield ""
    yield "Written by `tests/clients/run --table`: each client below was driven for real against the gateway, with the"
    yield "scriptable upstream behind it. `–`: the client has no such thing (see below)."
    yield ""
    yield f"| client | {' | '.join(BEHAVIOURS)} |"
    yield "|---" * (len(BEHAVIOURS) + 1) + "|"
    for name, row in sorted(rows.items()):
        cells = (MARKS[row[of]["ok"]] if of in row else "" for of in BEHAVIOURS)
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield "## What is asked of them"
    yield ""
    for name, meaning in BEHAVIOURS.items():
        yield f"- {name}: {meaning}."
    yield ""
    yield "Agents (Claude Code, Codex, opencode) always stream, and most ask again by themselves. For them an error is an"
    yield "exit status and a message, and a broken stream must end in that or in a second, whole answer: never in half of one."
    yield from grouped("Versions", {name: [next(iter(row.values()))["version"]] for name, row in rows.items()})
    yield from grouped("What they lack", noted(rows, None))
    yield from grouped("What failed", noted(rows, False))


def noted(rows, ok):
    """For each client, what was reported of the behaviours with this outcome."""
    return {
        name: [f"{behaviour}: {result['detail']}" for behaviour, result in sorted(row.items()) if result["ok"] is ok]
        for name, row in rows.items()
    }


def grouped(title, notes):
    found = {}
    for name, lines in sorted(notes.items()):
        for line in lines:
            found.setdefault(line, []).append(name)
    if found:
        yield ""
        yield f"## {title}"
        yield ""
    for line, names in sorted(found.items()):
        yield f"- {line} ({'; '.join(names)})"
