//! What the wire room costs per document and per frame, as ratios against `serde_json` reading the same bytes and beside a
//! copy of them, since absolute times say little on a shared machine. Every figure is the best of many short rounds.
//!
//! `cargo bench --bench wire`

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nanogate::wire::json::{DEPTH_MAX_DEFAULT, skim};
use nanogate::wire::splice::Splice;
use nanogate::wire::sse::{FRAME_BYTES_MAX_DEFAULT, Framer};

const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(5);

/// Nanoseconds of one call, in the best round.
fn best(mut call: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut calls = 0u32;
        while began.elapsed() < ROUND {
            call();
            calls += 1;
        }
        best = best.min(began.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    best
}

fn chat(content_bytes: usize) -> Bytes {
    let words = "The quick \\\"brown\\\" fox jumps over the lazy dog. ".repeat(content_bytes / 48 + 1);
    Bytes::from(format!(
        r#"{{"model":"glm-4.7","stream":true,"temperature":0.7,"max_tokens":512,"messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{words}"}}]}}"#
    ))
}

/// A picture inside of a chat: one long string without an escape.
fn picture(bytes: usize) -> Bytes {
    let base64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk".repeat(bytes / 60);
    Bytes::from(format!(
        r#"{{"model":"glm-4.7","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{base64}"}}}}]}}]}}"#
    ))
}

fn stream(frames: usize) -> Bytes {
    let frame = "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"glm-4.7\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n";
    Bytes::from(frame.repeat(frames))
}

fn main() {
    println!("{:<28}{:>12}{:>12}{:>16}", "", "ns", "GB/s", "x serde_json");
    for (name, doc) in [
        ("chat 1 KB", chat(800)),
        ("chat 70 KB", chat(70_000)),
        ("chat 4 MB", chat(4_000_000)),
        ("picture 4 MB", picture(4_000_000)),
    ] {
        let reference =
            best(|| drop(black_box(serde_json::from_slice::<serde_json::Value>(black_box(&doc)).expect("valid"))));
        let copied = best(|| drop(black_box(black_box(&doc).to_vec())));
        report(&format!("copy, {name}"), copied, doc.len(), reference);
        let skimmed = best(|| drop(black_box(skim(black_box(&doc), DEPTH_MAX_DEFAULT).expect("valid"))));
        report(&format!("skim, {name}"), skimmed, doc.len(), reference);
        let found = skim(&doc, DEPTH_MAX_DEFAULT).expect("valid");
        let model = found.find(&doc, "model").expect("present");
        let spliced = best(|| {
            let mut splice = Splice::new(&doc, &found);
            splice.replace(model, &br#""zai-org/glm-4.7""#[..]);
            drop(black_box(splice.finish()));
        });
        report(&format!("splice, {name}"), spliced, doc.len(), reference);
    }
    let read = stream(64);
    let reference = best(|| {
        for line in read.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: ")) {
            drop(black_box(serde_json::from_slice::<serde_json::Value>(line).expect("valid")));
        }
    }) / 64.0;
    let framed = best(|| {
        let mut framer = Framer::new(FRAME_BYTES_MAX_DEFAULT);
        framer.push(read.clone());
        for frame in framer.by_ref() {
            black_box(frame.data());
        }
    }) / 64.0;
    report("one frame of a stream", framed, read.len() / 64, reference);
}

fn report(name: &str, ns: f64, bytes: usize, reference: f64) {
    println!("{name:<28}{ns:>12.1}{:>12.2}{:>16.3}", bytes as f64 / ns, ns / reference);
}
