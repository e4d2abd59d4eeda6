//! The page of the manual: a few words, then the table.

use std::fmt::Write;

use super::drill::{Ask, Beside, Drill, Load};
use super::one_dead::BACK_MOST;
use super::{leaving, one_dead, table};

const INTRODUCTION: &str = "# When upstreams misbehave\n\n\
    This page is made from the table of fault drills in `tests/it/resilience/table.rs`: each row is played against the real gateway, in \
    front of a scripted upstream, over real sockets, whenever the tests run (`cargo test --test it -- resilience`). A row that comes out \
    otherwise fails the test, and so does a page that differs from the table (`cargo test --test it -- bless_resilience --ignored` writes it \
    anew).\n\n\
    How it works, in short:\n\n\
    - **Retries.** What may pass is tried again: no connection, a broken one, 408, 429, 5xx, a malformed answer, a time-out. Twice by \
    default (`num_retries`), and only until the first byte of the answer has gone to the client. Other 4xx are passed on as they are.\n\
    - **Pauses.** Another deployment of the same model is tried at once. The same one gets a pause first: between 0.25 and 0.5 s, then \
    between 0.5 and 1 s, and so on, or as long as its `Retry-After` asks. If it asks for more than 30 s, or for more than the client's own \
    time-out leaves, there is no retry. No pause follows the last try.\n\
    - **Budget.** Retries are at most a fifth of the requests plus ten a second (`retry_budget`), over ten seconds and for the whole \
    process: when everything is down, the \
    upstreams get the load they are used to and not three times as much.\n\
    - **Cooldown.** Three failures in a row (`allowed_fails`), or failures of half of its requests, or a `Retry-After`, or a 401 to 404, put a \
    deployment to rest for five seconds (`cooldown_time`), longer each time. Meanwhile the others of its model serve. Then one live request tries it. The only one of a model is \
    called all the same.\n\
    - **Fallbacks.** When a model has been tried as often as allowed, or refuses (401, 403, 404), the next one of its fallback list serves. \
    The client's own mistakes (400, 413, 422) are answered at once.\n\
    - **Time-outs.** A connection: `connect_timeout`, 5 s. The head of the answer: `timeout`, `stream_timeout`, 600 s, for each try; or the \
    request's own `timeout`, for all tries together. Silence in the middle of an answer: `stream_idle_timeout`, 300 s. The drills set them \
    to half a second where they matter.\n\
    - **Streams.** A stream may come from elsewhere until it has content, where another deployment or a fallback is left. After that, and \
    where nobody is left, one that breaks ends in one error frame, never in a clean end. A plain answer is judged whole before \
    any of it goes out, so it may break anywhere and still be tried again.\n";

/// The whole page.
pub fn markdown() -> String {
    let mut page = String::from(INTRODUCTION);
    page.push_str(
        "\nIn the table, \"after\" is the time until the whole answer was there; < 0.25 s means that nobody paused or waited for a \
         time-out. \"Calls\" are all calls to all upstreams. After each drill nothing is left running, in the gateway or upstream.\n",
    );
    for topic in table::topics() {
        let _ = write!(
            page,
            "\n## {}\n\n| the upstream | who else | settings | request | the client sees | after | calls |\n|---|---|---|---|---|---|---|\n",
            topic.title
        );
        for drill in &topic.drills {
            page.push_str(&line(drill));
        }
    }
    page.push_str(&under_load());
    page
}

fn line(drill: &Drill) -> String {
    let beside = match drill.beside {
        Beside::Nobody => "–",
        Beside::Another => "another deployment",
        Beside::TwoMore => "two more deployments",
        Beside::Fallback => "a fallback",
    };
    let settings = [("", drill.params), ("", drill.router), ("", drill.gateway), ("in the request: ", drill.member)];
    let settings = settings.iter().filter(|(_, part)| !part.is_empty());
    let settings: Vec<_> = settings.map(|(whose, part)| format!("{whose}`{part}`")).collect();
    let kind = match drill.asks {
        [Ask::Plain] => "plain",
        [Ask::Stream] => "stream",
        _ => "both",
    };
    let request = match drill.load {
        Load::One => kind.to_owned(),
        Load::InTurn(count) => format!("{kind}, {count} in turn"),
        Load::AtOnce(count) => format!("{kind}, {count} at once"),
    };
    let settings = if settings.is_empty() { "–".to_owned() } else { settings.join(", ") };
    let cells = [drill.wrong, beside, &settings, &request, drill.seen];
    format!("| {} | {} | {} |\n", cells.join(" | "), drill.took, drill.calls)
}

fn under_load() -> String {
    let mut text = String::from("\n## One of three deployments dies under load\n\n");
    let _ = write!(
        text,
        "Plain requests and streams by the clock, 500 a second in the long form (`NANOGATE_DRILL_RATE=500 cargo test --test it -- one_dead \
         --nocapture` prints the figures); `cooldown_time: {}`, `timeout: {}`. After two seconds one of three deployments dies, later it \
         comes back. Held by the test:\n\n| it dies like this | good answers after the first second | upstream calls for each request | \
         in use again after its return |\n|---|---|---|---|\n",
        one_dead::COOLDOWN_S,
        one_dead::TIMEOUT_S,
    );
    for (_, words) in one_dead::Death::ALL {
        let (good, calls) = (one_dead::GOOD_LEAST * 100.0, one_dead::CALLS_MOST);
        let back = format!("within {} s", BACK_MOST.as_secs());
        let _ = writeln!(text, "| {words} | at least {good:.1} % | at most {calls} | {back} |");
    }
    let _ = write!(
        text,
        "\n200 clients that leave at random moments (before the head, during a pause, in streams and plain answers) leave no upstream call \
         running {} s later.\n",
        leaving::LEFT_RUNNING_MOST.as_secs()
    );
    text
}
