//! The endpoints without a conversation: embeddings, images, audio, moderations, rerank, models.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::step::Step;
use super::turn::tokens;
use super::{fresh_id, now};

const DIMENSIONS: u64 = 256;
const DIMENSIONS_MAX: u64 = 8192;
/// A PNG of one transparent pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const MODELS: [&str; 8] = [
    "zai-org/glm-4.7",
    "deepseek/deepseek-v3.2",
    "moonshotai/kimi-k2.6",
    "openai/gpt-5.2",
    "anthropic/claude-sonnet-4.6",
    "text-embedding-3-small",
    "standin/slow",
    "standin/error-429",
];

pub(super) fn embeddings(body: &Value) -> Step {
    let inputs: Vec<&Value> = match &body["input"] {
        // A list of numbers is one input that was tokenised already.
        Value::Array(items) if !items.first().is_some_and(Value::is_number) => items.iter().collect(),
        one => vec![one],
    };
    let dimensions = body["dimensions"].as_u64().unwrap_or(DIMENSIONS).clamp(1, DIMENSIONS_MAX);
    let as_base64 = body["encoding_format"] == "base64";
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(&input.to_string(), dimensions);
        let embedding = if as_base64 {
            json!(STANDARD.encode(vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>()))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<_> = data.collect();
    let count: usize =
        inputs.iter().map(|input| input.as_array().map_or_else(|| tokens(&input.to_string()), Vec::len)).sum();
    Step::json(
        200,
        json!({"object": "list", "model": body["model"], "data": data,
        "usage": {"prompt_tokens": count, "total_tokens": count}}),
    )
}

/// A vector of length one, the same for the same text.
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let seed = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut random = fastrand::Rng::with_seed(seed);
    let raw: Vec<f32> = (0..dimensions).map(|_| random.f32() - 0.5).collect();
    let length = raw.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.iter().map(|number| number / length).collect()
}

pub(super) fn images() -> Step {
    Step::json(200, json!({"created": now(), "data": [{"b64_json": PIXEL}], "cost": 0.0, "paymentSource": "USD"}))
}

/// Silence, as far as a decoder that skips what it does not know is concerned.
pub(super) fn speech() -> Step {
    let mut sound = b"ID3\x04\0\0\0\0\0\0".to_vec();
    sound.resize(2048, 0);
    Step::raw(200, "audio/mpeg", sound).header("x-cost", "0")
}

pub(super) fn transcription() -> Step {
    let text = "This is nanogate's stand-in upstream: nobody listened.";
    Step::json(200, json!({"text": text, "language": "en", "duration": 1.0}))
}

pub(super) fn moderations(body: &Value) -> Step {
    let count = body["input"].as_array().map_or(1, Vec::len);
    let result = json!({"flagged": false, "categories": {"violence": false}, "category_scores": {"violence": 0.0}});
    Step::json(200, json!({"id": fresh_id("modr-"), "model": body["model"], "results": vec![result; count]}))
}

pub(super) fn rerank(body: &Value) -> Step {
    let documents = body["documents"].as_array().map_or(0, Vec::len);
    let top = body["top_n"].as_u64().and_then(|top| usize::try_from(top).ok()).unwrap_or(documents).min(documents);
    let score = |index: usize| 1.0 / (index as f64 + 2.0);
    let results: Vec<_> = (0..top).map(|index| json!({"index": index, "relevance_score": score(index)})).collect();
    Step::json(200, json!({"id": fresh_id("rerank-"), "model": body["model"], "results": results}))
}

pub(super) fn models() -> Step {
    let data: Vec<_> = MODELS.iter().map(|id| entry(id)).collect();
    Step::json(200, json!({"object": "list", "data": data}))
}

pub(super) fn model(id: &str) -> Step {
    Step::json(200, entry(&id.replace("%2F", "/").replace("%2f", "/")))
}

fn entry(id: &str) -> Value {
    let owner = id.split_once('/').map_or("nanogpt", |(owner, _)| owner);
    json!({"id": id, "object": "model", "created": now(), "owned_by": owner})
}

#[cfg(test)]
mod tests {
    use super::super::super::step::Kind;
    use super::*;

    fn document(step: Step) -> Value {
        let Kind::Fixed { body, .. } = step.kind else { panic!("a document") };
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn inputs_are_counted_as_the_sdks_mean_them() {
        for (input, count) in [(json!("a"), 1), (json!(["a", "b"]), 2), (json!([1, 2, 3]), 1), (json!([[1], [2]]), 2)] {
            assert_eq!(
                document(embeddings(&json!({"input": input})))["data"].as_array().unwrap().len(),
                count,
                "{input}"
            );
        }
    }

    #[test]
    fn base64_holds_the_same_floats() {
        let floats = document(embeddings(&json!({"input": "a", "dimensions": 3})));
        let packed = document(embeddings(&json!({"input": "a", "dimensions": 3, "encoding_format": "base64"})));
        let bytes = STANDARD.decode(packed["data"][0]["embedding"].as_str().unwrap()).unwrap();
        let unpacked: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        let plain: Vec<f32> = serde_json::from_value(floats["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(unpacked, plain);
    }
}
