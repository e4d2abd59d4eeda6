//! Clients that leave at any moment leave no upstream call running.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nanogate::standin::{End, Frame, Script, Step};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::raw::{self, Client};
use crate::support::standin;
use crate::traffic::{CHAT, ask, chat, completion, delta, gateway, metric, metric_becomes, post};

const CLIENTS: u64 = 200;
/// The moments at which they leave are spread over so many milliseconds.
const SPREAD_MS: u64 = 400;
/// After the last has left, nothing runs for longer than this.
pub const LEFT_RUNNING_MOST: Duration = Duration::from_secs(1);

/// Upstream calls in every phase: before the head, while waiting for a retry, in streams and plain answers.
fn phases() -> Script {
    let drip: Vec<Frame> = (0..200).flat_map(|_| [Frame::from(delta("go")), Frame::Pause(20)]).collect();
    let cycle = [
        Step::hang(),
        Step::sse([delta("go")]).end(End::Stall),
        Step::sse(drip),
        Step::json(200, completion("late")).delay_ms(150).end(End::Stall),
        Step::json(503, json!({})).header("retry-after", "20"),
    ];
    Script::steps(cycle.iter().cycle().take(4 * CLIENTS as usize).cloned())
}

/// One client: sends its request, or a part of it, reads until its moment has come, and closes or resets.
async fn client(address: SocketAddr, mut dice: Rng) {
    let request = raw::post(CHAT, ask(CHAT, dice.bool()).to_string().as_bytes());
    let sent = if dice.u8(..10) == 0 { &request[..dice.usize(1..request.len())] } else { &request };
    let mut client = Client::connect(address).await;
    client.send(sent).await;
    // Whatever comes until then is read; an answer that ends early is no matter.
    let _ = timeout(Duration::from_millis(dice.u64(..SPREAD_MS)), client.end()).await;
    if dice.bool() {
        client.reset();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_that_leave_at_any_moment_leave_no_call_running() {
    let upstream = standin(phases()).await;
    let gateway = gateway(&upstream, "", "").await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut running = JoinSet::new();
    for number in 0..CLIENTS {
        running.spawn(client(gateway.address(), Rng::with_seed(seed.wrapping_add(number))));
    }
    running.join_all().await;
    let left = Instant::now();
    assert!(upstream.wait_for(LEFT_RUNNING_MOST, |_| upstream.active() == 0).await, "{} calls run", upstream.active());
    assert!(metric_becomes(&gateway, "nanogate_requests_in_flight", 0.0).await);
    let took = left.elapsed();
    assert!(took <= LEFT_RUNNING_MOST, "requests were running {took:?} after their clients had left");
    let cancelled = metric(&gateway, "nanogate_requests_cancelled_total").await;
    assert!(cancelled >= CLIENTS as f64 / 2.0, "only {cancelled} left while something ran");
    assert_eq!(metric(&gateway, "nanogate_buffered_bytes").await, 0.0);
    // No retry comes for somebody who is gone.
    let calls = upstream.requests().len();
    upstream.script(Script::auto());
    assert_eq!(post(&gateway, CHAT, &chat()).await.status, 200);
    assert_eq!(upstream.requests().len(), calls + 1);
    println!("{calls} calls, {cancelled} cancelled, all over {took:?} after the last had left");
}
