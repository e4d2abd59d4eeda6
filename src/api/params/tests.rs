//! Bodies in, bodies out: the rules seen from the upstream's side.

use super::*;
use crate::wire::json::{DEPTH_MAX_DEFAULT, skim};
use crate::wire::splice::Splice;

const GLM: &str = "zai-org/glm-4.7";

fn rules(model: &str) -> Rules {
    Rules::new(Family::OpenAi, model, true, &[], &[], &[])
}

fn strict(model: &str) -> Rules {
    Rules::new(Family::OpenAi, model, false, &[], &[], &[])
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn with(additional: &[&str], allowed: &[&str], defaults: &[(&str, &str)]) -> Rules {
    let defaults: Vec<_> = defaults.iter().map(|&(name, json)| (name.to_owned(), json.to_owned())).collect();
    Rules::new(Family::OpenAi, GLM, true, &texts(additional), &texts(allowed), &defaults)
}

fn edit(rules: &Rules, shape: Shape, body: &str) -> Result<Edit, Refused> {
    let doc = Bytes::copy_from_slice(body.as_bytes());
    rules.decide(shape, &doc, &skim(&doc, DEPTH_MAX_DEFAULT).unwrap())
}

/// What leaves for `body`, as text.
fn sent(rules: &Rules, shape: Shape, body: &str) -> String {
    let doc = Bytes::copy_from_slice(body.as_bytes());
    let members = skim(&doc, DEPTH_MAX_DEFAULT).unwrap();
    let edit = rules.decide(shape, &doc, &members).unwrap();
    assert!(edit.changes.is_sorted_by_key(|(index, ..)| *index));
    let mut splice = Splice::new(&doc, &members);
    for (index, action, _) in edit.changes {
        match action {
            Action::Remove => splice.remove(index),
            Action::Rename(key) => splice.rename(index, key),
            Action::Replace(value) => splice.replace(index, value.to_vec()),
        }
    }
    for (name, value, _) in &edit.additions {
        splice.append(name, value);
    }
    let out = splice.finish();
    skim(&out, DEPTH_MAX_DEFAULT).unwrap_or_else(|error| panic!("{body} became {out:?}: {error}"));
    String::from_utf8(out.to_vec()).unwrap()
}

/// Each body with what leaves for it.
fn chat(rules: &Rules, table: &[(&str, &str)]) {
    for (body, expected) in table {
        assert_eq!(sent(rules, Shape::Chat, body), *expected, "{body}");
    }
}

/// Bodies that leave as they came.
fn untouched(rules: &Rules, shape: Shape, bodies: &[&str]) {
    for body in bodies {
        let edit = edit(rules, shape, body).unwrap();
        assert!(edit.changes.is_empty() && edit.additions.is_empty() && edit.dropped.is_empty(), "{body}: {edit:?}");
    }
}

fn refused(rules: &Rules, shape: Shape, body: &str) -> String {
    edit(rules, shape, body).unwrap_err().param
}

#[test]
fn what_is_supported_or_unknown_passes() {
    for rules in [rules(GLM), strict(GLM), Rules::new(Family::NanoGpt, GLM, false, &[], &[], &[])] {
        untouched(
            &rules,
            Shape::Chat,
            &[
                "{}",
                r#"{"temperature":0.20,"top_p":"x","max_tokens":0,"max_completion_tokens":1,"n":2,"stop":[],"seed":1}"#,
                r#"{"tools":[],"tool_choice":"auto","functions":[],"function_call":"auto","response_format":{}}"#,
                r#"{"reasoning_effort":"none","prompt_cache_retention":"24h","stream":false,"top_logprobs":3}"#,
                r#"{"top_k":1,"min_p":0,"foo_bar":{"tags":1},"reasoning":{},"memory":true,"kwargs":{},"dimensions":3}"#,
            ],
        );
    }
}

#[test]
fn what_the_model_lacks_is_dropped_and_said() {
    let body = r#"{"user":"u","thinking":{},"temperature":1,"verbosity":"low"}"#;
    assert_eq!(sent(&rules(GLM), Shape::Chat, body), r#"{"temperature":1}"#);
    assert_eq!(edit(&rules(GLM), Shape::Chat, body).unwrap().dropped, ["user", "thinking", "verbosity"]);
    let refusal = edit(&strict(GLM), Shape::Chat, body).unwrap_err();
    assert_eq!(refusal.to_string(), "`thinking` is not supported by zai-org/glm-4.7");
    assert_eq!(sent(&strict(GLM), Shape::Chat, r#"{"user":"u","a":1}"#), r#"{"a":1}"#);
    untouched(&strict("gpt-4o"), Shape::Chat, &[r#"{"user":"u"}"#]);
    assert_eq!(refused(&strict("gpt-4o"), Shape::Chat, r#"{"reasoning_effort":"low"}"#), "reasoning_effort");
}

#[test]
fn the_gateways_own_fields_and_nulls_go_silently() {
    let body = r#"{"tags":[],"metadata":{},"num_retries":1,"timeout":"7","drop_params":true,"cache":{},"id":"x",
        "azure":true,"provider_specific_header":{},"api_key":"k","max_retries":4,"foo":null,"stop":null,"x":1}"#;
    let changed = edit(&rules(GLM), Shape::Chat, body).unwrap();
    assert_eq!(changed.changes.len(), 13);
    assert!(changed.dropped.is_empty());
    assert_eq!(sent(&strict(GLM), Shape::Chat, body), r#"{"x":1}"#);
}

#[test]
fn of_duplicates_the_last_counts() {
    let body = r#"{"model":"a","temperature":0.1,"m\u006fdel":"b","temperature":0.9,"user":"x","user":null}"#;
    let expected = r#"{"m\u006fdel":"b","temperature":0.9}"#;
    assert_eq!(sent(&rules(GLM), Shape::Chat, body), expected);
}

#[test]
fn fields_without_their_partner_go() {
    chat(
        &rules(GLM),
        &[
            (r#"{"tool_choice":"auto","a":1}"#, r#"{"a":1}"#),
            (r#"{"tool_choice":"auto","tools":null}"#, "{}"),
            (r#"{"a":1,"stream_options":{"include_usage":true}}"#, r#"{"a":1}"#),
        ],
    );
    let tools_dropped = with(&["tools"], &[], &[]);
    assert_eq!(sent(&tools_dropped, Shape::Chat, r#"{"tools":[1],"tool_choice":"auto"}"#), "{}");
}

#[test]
fn streamed_chat_asks_for_usage() {
    let ask = r#""stream_options":{"include_usage":true}}"#;
    chat(
        &rules(GLM),
        &[
            (r#"{"stream":true}"#, &format!(r#"{{"stream":true,{ask}"#)),
            (r#"{"stream":true,"stream_options":null}"#, &format!(r#"{{"stream":true,{ask}"#)),
            (r#"{"stream":true,"stream_options":{}}"#, &format!(r#"{{"stream":true,{ask}"#)),
            (
                r#"{"stream_options":{ "include_usage" : false , "x": 1.0 },"stream":true}"#,
                r#"{"stream_options":{ "include_usage" : true , "x": 1.0 },"stream":true}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{ "x":1}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true, "x":1}}"#,
            ),
            (r#"{"stream":true,"stream_options":7}"#, r#"{"stream":true,"stream_options":7}"#),
        ],
    );
    let added = |rules: &Rules, body: &str| edit(rules, Shape::Chat, body).unwrap().usage_added;
    assert!(added(&rules(GLM), r#"{"stream":true}"#));
    assert!(added(&rules(GLM), r#"{"stream":true,"stream_options":{"include_usage":false}}"#));
    assert!(!added(&rules(GLM), r#"{"stream":true,"stream_options":{"include_usage":true}}"#));
    assert!(!added(&rules(GLM), r#"{"stream":true,"extra_body":{"stream_options":{"include_usage":true}}}"#));
    let by_default = with(&[], &[], &[("stream_options", r#"{"include_usage":true}"#)]);
    assert!(!added(&by_default, r#"{"stream":true}"#));
    assert_eq!(sent(&by_default, Shape::Chat, r#"{"a":1}"#), r#"{"a":1}"#);
    untouched(&with(&["stream_options"], &[], &[]), Shape::Chat, &[r#"{"stream":true}"#]);
    untouched(&rules("TEE/deepseek-v3.1"), Shape::Chat, &[r#"{"stream":true}"#]);
    untouched(&rules(GLM), Shape::Completions, &[r#"{"stream":true}"#]);
    untouched(&rules(GLM), Shape::Responses, &[r#"{"stream":true}"#, r#"{"stream_options":{}}"#]);
}

#[test]
fn gpt_models_have_their_own_names_and_values() {
    chat(
        &rules("openai/gpt-5.1"),
        &[
            (r#"{"max_tokens":5}"#, r#"{"max_completion_tokens":5}"#),
            (r#"{"max_tokens":5,"max_completion_tokens":6}"#, r#"{"max_completion_tokens":6}"#),
            (r#"{"max_tokens":5,"max_completion_tokens":null}"#, r#"{"max_completion_tokens":5}"#),
            (r#"{"temperature":0.2,"top_p":0.5}"#, r#"{"temperature":0.2,"top_p":0.5}"#),
            (r#"{"temperature":0.2,"top_p":1,"reasoning_effort":"low"}"#, r#"{"reasoning_effort":"low"}"#),
            (r#"{"reasoning_effort":"minimal","temperature":0.2}"#, r#"{"temperature":0.2}"#),
            (r#"{"temperature":1.0,"reasoning_effort":"high"}"#, r#"{"temperature":1.0,"reasoning_effort":"high"}"#),
            (r#"{"reasoning_effort":{"effort":"high","summary":"x"}}"#, r#"{"reasoning_effort":"high"}"#),
            (r#"{"stop":"x","verbosity":"low","logit_bias":{},"top_k":4}"#, r#"{"verbosity":"low","top_k":4}"#),
        ],
    );
    chat(
        &rules("gpt-5"),
        &[
            (r#"{"temperature":0.2,"user":"u","seed":1}"#, r#"{"user":"u","seed":1}"#),
            (r#"{"temperature":1,"reasoning_effort":"none"}"#, r#"{"temperature":1}"#),
            (r#"{"temperature":"hot","top_p":1}"#, "{}"),
        ],
    );
    assert_eq!(refused(&strict("gpt-5"), Shape::Chat, r#"{"temperature":0.2}"#), "temperature");
    assert_eq!(refused(&strict("gpt-5"), Shape::Chat, r#"{"reasoning_effort":"xhigh"}"#), "reasoning_effort");
    assert_eq!(refused(&strict("gpt-5.5"), Shape::Chat, r#"{"top_p":1}"#), "top_p");
    untouched(&strict("gpt-5.5"), Shape::Chat, &[r#"{"top_p":1,"reasoning_effort":"none"}"#]);
    let search = r#"{"n":1,"temperature":1,"max_tokens":2,"user":"u"}"#;
    assert_eq!(sent(&rules("gpt-5-search-api"), Shape::Chat, search), r#"{"max_completion_tokens":2,"user":"u"}"#);
    untouched(&rules("gpt-5"), Shape::Completions, &[r#"{"max_tokens":5,"temperature":0.2,"top_p":0.1}"#]);
}

#[test]
fn o_models_have_their_own_names_and_values() {
    let body = r#"{"temperature":0.2,"top_p":1,"max_tokens":5,"logit_bias":{},"parallel_tool_calls":true,"user":"u"}"#;
    let left = r#"{"max_completion_tokens":5,"logit_bias":{},"user":"u"}"#;
    assert_eq!(sent(&rules("o3-mini"), Shape::Chat, body), left);
    assert_eq!(refused(&strict("o3-mini"), Shape::Chat, r#"{"temperature":0}"#), "temperature");
    untouched(&strict("o3-mini"), Shape::Chat, &[r#"{"temperature":1,"tools":[1],"reasoning_effort":"none"}"#]);
}

#[test]
fn other_providers_get_the_older_token_limit() {
    let rules = Rules::new(Family::OpenAiLike, "openai/gpt-5", true, &[], &[], &[]);
    chat(
        &rules,
        &[
            (r#"{"max_completion_tokens":5,"temperature":0.2}"#, r#"{"max_tokens":5,"temperature":0.2}"#),
            (r#"{"max_completion_tokens":5,"max_tokens":6}"#, r#"{"max_tokens":5}"#),
            (r#"{"max_tokens":6,"reasoning_effort":"low"}"#, r#"{"max_tokens":6,"reasoning_effort":"low"}"#),
        ],
    );
    untouched(&rules, Shape::Embeddings, &[r#"{"dimensions":3}"#]);
}

#[test]
fn the_deployments_lists() {
    let rules = with(&["temperature", "top_k", "model", "tools[*].function.strict", "a.b"], &["user", "thinking"], &[]);
    let body = r#"{"model":"m","temperature":1,"top_k":2,"user":"u","thinking":{},"verbosity":"low",
"tools":[{"function":{"strict":true,"name":"f"}},{"function":{}}],"a":{"c":1}}"#;
    let expected = r#"{"model":"m","user":"u","thinking":{},
"tools":[{"function":{"name":"f"}},{"function":{}}],"a":{"c":1}}"#;
    assert_eq!(sent(&rules, Shape::Chat, body).replace(",\n", ",").replace(' ', ""), expected.replace(",\n", ","));
    let dropped = edit(&rules, Shape::Chat, body).unwrap().dropped;
    assert_eq!(dropped, ["temperature", "top_k", "verbosity", "tools[*].function.strict"]);
    assert_eq!(sent(&rules, Shape::Messages, r#"{"temperature":1,"user":null}"#), r#"{"user":null}"#);
}

#[test]
fn the_clients_lists_add_to_the_deployments() {
    let rules = with(&["top_k"], &[], &[]);
    chat(
        &rules,
        &[
            (r#"{"additional_drop_params":["seed",7],"seed":1,"top_k":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"allowed_openai_params":["verbosity"],"verbosity":"low","thinking":{}}"#, r#"{"verbosity":"low"}"#),
            (r#"{"additional_drop_params":["messages","stream"],"messages":[],"x":1}"#, r#"{"messages":[],"x":1}"#),
        ],
    );
}

#[test]
fn extra_body_is_merged() {
    chat(
        &rules(GLM),
        &[
            (r#"{"extra_body":{"top_k":4, "x":"\u0041"},"a":1}"#, r#"{"a":1,"top_k":4,"x":"\u0041"}"#),
            (r#"{"top_k":1,"extra_body":{"top_k":4}}"#, r#"{"top_k":1}"#),
            (r#"{"top_k":null,"extra_body":{"top_k":4}}"#, r#"{"top_k":4}"#),
            (r#"{"a":1,"extra_body":{"b":1,"b":2}}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1,"extra_body":{"model":"x","tags":[],"api_key":"k","stream":true,"user":"u"}}"#, r#"{"a":1}"#),
            (r#"{"a":1,"extra_body":"text"}"#, r#"{"a":1}"#),
            (r#"{"extra_body":{}}"#, "{}"),
        ],
    );
    assert_eq!(
        sent(&rules("gpt-5"), Shape::Chat, r#"{"extra_body":{"max_tokens":4}}"#),
        r#"{"max_completion_tokens":4}"#
    );
    assert_eq!(edit(&rules(GLM), Shape::Chat, r#"{"extra_body":{"user":"u"}}"#).unwrap().dropped, ["user"]);
    assert_eq!(refused(&strict(GLM), Shape::Chat, r#"{"extra_body":{"thinking":{}}}"#), "thinking");
    assert_eq!(sent(&rules(GLM), Shape::Responses, r#"{"a":null,"extra_body":{"a":1}}"#), r#"{"a":null}"#);
}

#[test]
fn defaults_fill_gaps() {
    let defaults =
        [("temperature", "0.30"), ("max_tokens", "77"), ("top_k", "5"), ("extra_body", r#"{"p":1,"top_k":9}"#)];
    let rules = with(&[], &[], &defaults);
    chat(
        &rules,
        &[
            (r#"{"max_tokens":50}"#, r#"{"max_tokens":50,"temperature":0.30,"top_k":5,"p":1}"#),
            (r#"{"temperature":null}"#, r#"{"temperature":0.30,"max_tokens":77,"top_k":5,"p":1}"#),
            (r#"{"extra_body":{"top_k":1,"temperature":2}}"#, r#"{"top_k":1,"temperature":2,"max_tokens":77,"p":1}"#),
        ],
    );
    let gpt = rules.for_model("gpt-5");
    assert_eq!(sent(&gpt, Shape::Chat, r#"{"a":1}"#), r#"{"a":1,"max_completion_tokens":77,"top_k":5,"p":1}"#);
    let own_limit = r#"{"max_completion_tokens":1}"#;
    assert_eq!(sent(&gpt, Shape::Chat, own_limit), r#"{"max_completion_tokens":1,"top_k":5,"p":1}"#);
    assert_eq!(
        sent(&rules, Shape::Responses, r#"{"top_k":null}"#),
        r#"{"top_k":null,"temperature":0.30,"max_output_tokens":77,"p":1}"#
    );
    assert_eq!(sent(&rules, Shape::Embeddings, r#"{"a":1}"#), r#"{"a":1,"top_k":5,"p":1}"#);
    let odd = with(
        &["seed"],
        &[],
        &[("seed", "1"), ("thinking", "{}"), ("stream", "true"), ("timeout", "3"), ("x", ""), ("y", "[1")],
    );
    untouched(&odd, Shape::Chat, &[r#"{"a":1}"#]);
}

#[test]
fn completions_and_embeddings() {
    untouched(
        &strict(GLM),
        Shape::Completions,
        &[r#"{"prompt":"x","suffix":"s","best_of":2,"echo":true,"logprobs":2,"user":"u","foo_bar":1,"stop":[]}"#],
    );
    let body = r#"{"prompt":"x","reasoning_effort":"low","max_completion_tokens":1}"#;
    assert_eq!(sent(&rules(GLM), Shape::Completions, body), r#"{"prompt":"x"}"#);
    assert_eq!(refused(&strict(GLM), Shape::Completions, body), "reasoning_effort");

    let body = r#"{"input":"x","dimensions":3,"user":"u","encoding_format":"float","metadata":{},"truncate":"END"}"#;
    let left = r#"{"input":"x","user":"u","encoding_format":"float","truncate":"END"}"#;
    assert_eq!(sent(&rules("baai/bge-m3"), Shape::Embeddings, body), left);
    assert_eq!(refused(&strict("baai/bge-m3"), Shape::Embeddings, body), "dimensions");
    untouched(&strict("text-embedding-3-small"), Shape::Embeddings, &[r#"{"dimensions":3,"tool_choice":"x"}"#]);
    untouched(&with(&[], &["dimensions"], &[]), Shape::Embeddings, &[r#"{"dimensions":3}"#]);
}

#[test]
fn other_apis_lose_only_what_is_ours() {
    let body =
        r#"{"metadata":{"a":1},"user":"u","thinking":{},"verbosity":"x","max_tokens":null,"tool_choice":"auto"}"#;
    untouched(&strict(GLM), Shape::Responses, &[body]);
    untouched(&strict(GLM), Shape::Messages, &[body]);
    assert_eq!(sent(&rules(GLM), Shape::Messages, r#"{"tags":[],"num_retries":1,"a":1}"#), r#"{"a":1}"#);
    untouched(&strict(GLM), Shape::Images, &[r#"{"prompt":"x","n":1,"size":"1","response_format":"url","user":"u"}"#]);
    assert!(is_consumed(Shape::Images, "metadata") && !is_consumed(Shape::Messages, "metadata"));
    assert!(is_consumed(Shape::Messages, "timeout") && !is_consumed(Shape::Chat, "timeouts"));
}

#[test]
fn every_reason_has_words_of_its_own() {
    let reasons = [
        Reason::Consumed,
        Reason::Refused,
        Reason::Duplicate,
        Reason::Null,
        Reason::Unsupported,
        Reason::NotInCatalogue,
        Reason::Additional,
        Reason::NoTools,
        Reason::NotStreaming,
        Reason::RenamedForFamily,
        Reason::OtherNameGiven,
        Reason::EffortAsText,
        Reason::MergedFromExtraBody,
        Reason::DeploymentDefault,
        Reason::UsageForStreams,
    ];
    let words: std::collections::HashSet<_> = reasons.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), reasons.len());
}
