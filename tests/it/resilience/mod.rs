//! Fault drills: what a client sees, after how long and at the cost of how many upstream calls, when an upstream
//! misbehaves. `docs/resilience.md` is the table of this run.

mod drill;
mod leaving;
mod one_dead;
mod page;
mod table;
mod upstreams;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use drill::{Ask, Drill, Fault};

/// So many gateways at a time: drills mostly wait, but each starts a process.
const AT_ONCE: usize = 6;
/// A drill that was only late is repeated by itself this often: a busy machine makes anything late.
const LATE_MAX: usize = 3;

fn manual() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/resilience.md")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_as_the_table_says() {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (drill, ask) in each() {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await.expect("nobody closes it");
            let done = play(&drill, ask).await;
            (drill, ask, done)
        });
    }
    let (mut faults, mut late) = (Vec::new(), Vec::new());
    while let Some(ended) = running.join_next().await {
        match ended.expect("a drill that panics is a fault like others") {
            (_, _, Ok(())) => {}
            (drill, ask, Err(Fault::Late(_))) => late.push((drill, ask)),
            (drill, ask, Err(fault)) => faults.push(drill.report(ask, &fault)),
        }
    }
    for (drill, ask) in late {
        let mut done = Ok(());
        for _ in 0..LATE_MAX {
            done = play(&drill, ask).await;
            if !matches!(done, Err(Fault::Late(_))) {
                break;
            }
        }
        faults.extend(done.err().map(|fault| drill.report(ask, &fault)));
    }
    assert!(faults.is_empty(), "{} drills went wrong:\n{}", faults.len(), faults.join("\n"));
}

/// In a task of its own, so that a client that gets no answer at all ends its drill and not the run.
async fn play(drill: &Arc<Drill>, ask: Ask) -> Result<(), Fault> {
    let drill = Arc::clone(drill);
    match tokio::spawn(async move { drill.play(ask).await }).await {
        Ok(done) => done,
        Err(broken) => Err(Fault::Wrong(broken.to_string())),
    }
}

fn each() -> impl Iterator<Item = (Arc<Drill>, Ask)> {
    let drills = table::topics().into_iter().flat_map(|topic| topic.drills).map(Arc::new);
    drills.flat_map(|drill| drill.asks.iter().map(move |ask| (Arc::clone(&drill), *ask)))
}

#[test]
fn the_manual_is_not_stale() {
    let written = std::fs::read_to_string(manual()).unwrap_or_default();
    let stale = "docs/resilience.md is stale: cargo test --test it -- bless_resilience --ignored";
    assert!(written == page::markdown(), "{stale}");
}

#[test]
#[ignore = "writes docs/resilience.md"]
fn bless_resilience() {
    std::fs::write(manual(), page::markdown()).expect("docs/ can be written");
}
