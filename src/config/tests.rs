//! What a good file becomes, and what must hold for any text at all.

use std::path::Path;

use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;

const MASTER: &str = "sk-test-master-key-0001";
const NANO: &str = "sk-nano-test-0002";

fn env() -> Environment {
    Environment::from_pairs([
        ("LITELLM_MASTER_KEY", MASTER),
        ("NANOGPT_API_KEY", NANO),
        ("FLAG", "true"),
        ("TEMP", "0.3"),
    ])
}

fn read(text: &str) -> (Option<Config>, Report) {
    parse(Path::new("c.yaml"), text, &env(), Strictness::Check)
}

fn config(text: &str) -> Config {
    let (config, report) = read(text);
    config.unwrap_or_else(|| panic!("{report}"))
}

/// A file with one model; `params` joins its `litellm_params`, `rest` follows.
fn one(params: &str, rest: &str) -> Config {
    config(&format!(
        "model_list:\n  - model_name: m\n    litellm_params: {{ model: openai/up/m, api_base: https://nano-gpt.com/api/v1, \
         api_key: os.environ/NANOGPT_API_KEY{params} }}\n{rest}"
    ))
}

#[test]
fn the_example_loads_without_a_word() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/litellm_config.yaml");
    let (config, report) = load(&path, &env(), Strictness::Check);
    assert_eq!(report.to_string(), "");
    let config = config.unwrap();
    assert!(config.settings.drop_params);
    assert_eq!(config.deployments[1].upstream_model, "zai-org/glm-4.7:thinking");
    assert_eq!(config.source.hash.len(), 12);
}

#[test]
fn the_example_names_every_supported_key() {
    let text = include_str!("../../conf/litellm_config.yaml");
    for row in support::rows() {
        let file = !matches!(row.section, support::Section::Flag | support::Section::Variable);
        let named = text.contains(&format!("{}:", row.key)) || text.contains(&format!("or {})", row.key));
        let shared =
            ["allowed_fails", "cooldown_time", "retry_after", "model_group_alias", "request_timeout", "base_url"];
        if file && matches!(row.status, support::Status::Honoured(_)) && !shared.contains(&row.key) {
            assert!(named, "{row:?}");
        }
    }
}

#[test]
fn the_placeholders_of_the_example_environment_are_refused() {
    let text = include_str!("../../.env.example");
    let pairs: Vec<(&str, &str)> =
        text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('=')).collect();
    assert_eq!(pairs.len(), 2);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/litellm_config.yaml");
    let (config, report) = load(&path, &Environment::from_pairs(pairs), Strictness::Serve);
    assert!(config.is_none() && report.to_string().contains("placeholder"), "{report}");
}

#[test]
fn a_deployment_is_ready_to_call() {
    let config = one(
        ", temperature: os.environ/TEMP, max_tokens: 77, extra_body: { top_k: 9, max_tokens: 1, deep: { a: [1, yes, 'yes'] } }, \
         extra_headers: { X-Billing-Mode: paygo }, organization: org-x, timeout: 1.5, stream_timeout: 10m, weight: 2, \
         drop_params: os.environ/FLAG, rpm: 5",
        "",
    );
    let deployment = &config.deployments[0];
    assert_eq!(deployment.configured, "openai/up/m");
    assert_eq!((deployment.upstream_model.as_str(), deployment.provider.family), ("up/m", Family::OpenAi));
    assert_eq!(deployment.base.url(), "https://nano-gpt.com/api/v1");
    assert!(matches!(&deployment.key, Key::Known(key) if key.expose() == NANO));
    assert_eq!(deployment.key_variable.as_deref(), Some("NANOGPT_API_KEY"));
    let defaults: Vec<String> = deployment.defaults.iter().map(|(name, json)| format!("{name}={json}")).collect();
    assert_eq!(defaults, ["temperature=0.3", "max_tokens=77", "top_k=9", r#"deep={"a":[1,true,"yes"]}"#]);
    assert_eq!((deployment.timeout_ms, deployment.stream_timeout_ms), (Some(1_500), Some(600_000)));
    assert_eq!((deployment.weight, deployment.drop_params, deployment.rpm), (Some(2.0), Some(true), Some(5)));
    assert_eq!(deployment.extra_headers[0].0, "x-billing-mode");
    assert!(matches!(config.door, Door::Key(key) if key.expose() == MASTER));
}

#[test]
fn settings_of_both_sections_are_merged_and_the_router_wins() {
    let settings = one(
        "",
        "litellm_settings: { num_retries: 5, request_timeout: 30, fallbacks: [{ m: [m2] }], allowed_fails: 1 }\n\
         router_settings: { num_retries: 1, cooldown_time: 2.5, model_group_alias: { m2: { model: m, hidden: yes } }, \
         routing_strategy: usage-based-routing-v2 }\n\
         general_settings: { max_request_size_mb: 1, forward_client_headers_to_llm_api: on }\n",
    )
    .settings;
    assert_eq!(
        (settings.num_retries, settings.request_timeout_ms, settings.allowed_fails),
        (Some(1), Some(30_000), Some(1))
    );
    assert_eq!((settings.cooldown_time_ms, settings.strategy), (Some(2_500), Strategy::UsageBased));
    assert_eq!(settings.fallbacks, [("m".to_owned(), vec!["m2".to_owned()])]);
    assert_eq!(settings.aliases, [Alias { name: "m2".into(), target: "m".into(), hidden: true }]);
    assert_eq!((settings.body_bytes_max, settings.forward_client_headers), (1 << 20, true));
}

#[test]
fn gateway_settings_speak_seconds_and_sizes() {
    let gateway = one("", "gateway_settings: { stream_keepalive: 0, grace_period: 2m, frame_bytes_max: 1MiB, access_log: off, admin_port: 0 }\n").gateway;
    assert_eq!((gateway.stream_keepalive_ms, gateway.grace_period_ms, gateway.frame_bytes_max), (0, 120_000, 1 << 20));
    assert_eq!((gateway.access_log, gateway.admin_port), (AccessLog::Off, Some(0)));
    assert_eq!((gateway.connect_timeout_ms, gateway.body_timeout_ms), (5_000, 60_000));
}

#[test]
fn ids_are_stable_unique_and_free_of_secrets() {
    let entry =
        "  - model_name: m\n    litellm_params: { model: openai/m, api_base: https://h.example/v1, api_key: KEY }\n";
    let ids = |key: &str, times: usize| -> Vec<String> {
        let text = format!("model_list:\n{}", entry.replace("KEY", key).repeat(times));
        config(&text).deployments.into_iter().map(|deployment| deployment.id).collect()
    };
    let first = ids("one", 2);
    assert_eq!(first, ids("two", 2));
    assert_ne!(first[0], first[1]);
    assert_eq!(first[0].len(), 16);
    assert_eq!(ids("one", 1)[0], first[0]);
}

#[test]
fn the_key_goes_where_its_variable_says() {
    let model = |params: &str| {
        config(&format!("model_list: [{{ model_name: m, litellm_params: {{ {params} }} }}]")).deployments.remove(0)
    };
    let usual = model("model: nano-gpt/zai-org/glm-4.7");
    assert_eq!(
        (usual.base.url().as_str(), usual.key_variable.as_deref()),
        ("https://nano-gpt.com/api/v1", Some("NANOGPT_API_KEY"))
    );
    let seen = model("model: zai-org/glm-4.7, api_base: https://api.nano-gpt.com/api/v1");
    assert_eq!((seen.provider.family, seen.upstream_model.as_str()), (Family::NanoGpt, "zai-org/glm-4.7"));
    let local = model("model: hosted_vllm/qwen, api_base: http://127.0.0.1:8000/v1");
    assert!(matches!(local.key, Key::None));
    let ollama = model("model: ollama_chat/qwen, api_base: http://127.0.0.1:11434");
    assert_eq!(ollama.base.url(), "http://127.0.0.1:11434/v1");
    let explicit = model("model: gpt-4o, custom_llm_provider: openai, api_base: https://nano-gpt.com/api/v1");
    assert_eq!((explicit.provider.prefix, explicit.upstream_model.as_str()), ("openai", "gpt-4o"));
}

#[test]
fn a_missing_key_stops_check_and_not_the_others_when_serving() {
    let text = "model_list:\n  - { model_name: a, litellm_params: { model: groq/a } }\n  - { model_name: b, litellm_params: { model: nano-gpt/b } }\n";
    assert!(read(text).0.is_none());
    let (config, report) = parse(Path::new("c.yaml"), text, &env(), Strictness::Serve);
    let config = config.unwrap();
    assert_eq!((report.errors(), report.warnings()), (0, 1));
    assert!(matches!(&config.deployments[0].key, Key::Unset { variable } if variable == "GROQ_API_KEY"));
    let listed = config.listing();
    assert_eq!((listed[0].key_set, listed[0].key_variable, listed[1].key_set), (false, Some("GROQ_API_KEY"), true));
}

#[test]
fn variables_of_the_file_win_over_the_process() {
    let config =
        one("", "environment_variables: { NANOGPT_API_KEY: from-the-file, LITELLM_MASTER_KEY: os.environ/TEMP }\n");
    assert!(matches!(&config.deployments[0].key, Key::Known(key) if key.expose() == "from-the-file"));
    assert!(matches!(&config.door, Door::Key(key) if key.expose() == "0.3"));
}

#[test]
fn nothing_printed_holds_a_secret() {
    let config = one(
        ", extra_headers: { X-Team: sk-header-secret }",
        "general_settings: { master_key: sk-inline-master-key }\n",
    );
    let printed = format!("{config:?} {config:#?} {:?} {:?}", env(), config.listing());
    for secret in [MASTER, NANO, "sk-header-secret", "sk-inline-master-key"] {
        assert!(!printed.contains(secret), "{secret}");
    }
    assert!(printed.contains("***"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let secret = "sk-nano-0123456789abcdef0123456789abcdef";
    for text in [
        format!(
            "model_list: [{{ model_name: m, litellm_params: {{ model: {secret}, api_base: {secret}, timeout: {secret} }} }}]"
        ),
        format!("general_settings: {{ {secret}: 1, max_request_size_mb: {secret} }}\n{secret}: {secret}"),
        format!("model_list: {{ api_key: \"{secret}"),
        format!("litellm_settings:\n  fallbacks: {secret}\n  num_retries: [{secret}]\n {secret}: x"),
        format!("router_settings: {{ model_group_alias: {{ {secret}: {secret} }}, routing_strategy: {secret} }}"),
    ] {
        let (config, report) = read(&text);
        assert!(config.is_none());
        assert!(!report.to_string().contains("0123456789abcdef"), "{report}");
    }
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &Path| load(path, &env(), Strictness::Serve).1.to_string();
    assert!(said(&folder.path().join("none.yaml")).ends_with("none.yaml: error: there is no such file\n"));
    assert!(said(folder.path()).contains("Docker makes one"));
    let file = folder.path().join("latin1.yaml");
    std::fs::write(&file, b"a: 1\nb: \xfc\n").unwrap();
    assert!(said(&file).contains("latin1.yaml:2:1: error: this line is not UTF-8"));
    std::fs::write(&file, vec![b'#'; (8 << 20) + 1]).unwrap();
    assert!(said(&file).contains("larger than 8 MiB"));
}

proptest! {
    #[test]
    fn any_text_gets_an_answer(text in "\\PC*") {
        let (config, report) = read(&text);
        prop_assert_eq!(config.is_some(), report.errors() == 0);
    }

    /// Pieces of real files in any order find deeper ways than noise does.
    #[test]
    fn any_mixture_of_pieces_gets_an_answer(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)) {
        let (config, report) = read(&pieces.concat());
        prop_assert_eq!(config.is_some(), report.errors() == 0);
        prop_assert!(config.is_none_or(|config| !config.deployments.is_empty()));
        prop_assert!(!report.to_string().contains(NANO));
    }
}

const PIECES: &[&str] = &[
    "model_list:",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "model_name: ",
    "litellm_params: ",
    "model: ",
    "openai/",
    "glm-4.7",
    "*",
    "\"",
    "'",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "&a ",
    "*a",
    "<<: *a",
    "api_base: ",
    "https://",
    "nano-gpt.com",
    "api_key: ",
    "os.environ/NANOGPT_API_KEY",
    "os.environ/",
    "${X}",
    "router_settings:",
    "model_group_alias: ",
    "fallbacks: ",
    "general_settings:",
    "master_key: ",
    "null",
    "!!str ",
    "!x ",
    "|\n",
    "\t",
    "#",
    "---",
    "gateway_settings:",
    "1e400",
    "stream_keepalive: ",
    "extra_headers: ",
    "model_info: ",
    "id: ",
    "0",
    "-1",
    "é",
    "\u{0}",
    "? ",
    "%YAML 9",
    "timeout: ",
];
