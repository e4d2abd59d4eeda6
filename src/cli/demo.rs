//! `nanogate demo`: the example configuration, served without a key against the bundled stand-in; or against NanoGPT
//! when a key for it is set.

use super::serve::{default_threads, serve};
use super::{DemoArgs, FAILED, INVALID, OK};
use crate::config::{self, Environment, Strictness};
use crate::server::{Options, listen_address};
use crate::standin::{self, Pace, Standin};
use crate::telemetry::logging;
use log::LevelFilter;
use std::net::SocketAddr;
use std::path::Path;

const EXAMPLE: &str = include_str!("../../conf/litellm_config.yaml");
const EXAMPLE_NAME: &str = "conf/litellm_config.yaml";
const NANOGPT: &str = "https://nano-gpt.com/api/v1";
/// The key of a demo that was given none; it opens a loopback port with no model behind it.
const DEMO_KEY: &str = "sk-demo";

pub fn run(args: &DemoArgs) -> u8 {
    let environment = Environment::of_process();
    logging::install(environment.get("RUST_LOG"), LevelFilter::Info);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("cannot start: {cause}");
            return FAILED;
        }
    };
    if let Some(listen) = args.only_upstream {
        return only_upstream(&runtime, args, listen);
    }
    let master = environment.get("LITELLM_MASTER_KEY").filter(|key| !key.is_empty()).unwrap_or(DEMO_KEY).to_owned();
    let own_key = environment.get("NANOGPT_API_KEY").filter(|key| !key.is_empty()).map(str::to_owned);
    let standin = match own_key {
        Some(_) => None,
        None => match runtime.block_on(start(args, SocketAddr::from(([127, 0, 0, 1], 0)))) {
            Ok(standin) => Some(standin),
            Err(cause) => {
                eprintln!("the stand-in cannot listen: {cause}");
                return FAILED;
            }
        },
    };
    let text = match &standin {
        Some(standin) => EXAMPLE.replace(NANOGPT, &format!("http://{}/api/v1", standin.address())),
        None => EXAMPLE.to_owned(),
    };
    let upstream_key = own_key.unwrap_or_else(|| "sk-nano-standin".to_owned());
    let pairs = [("LITELLM_MASTER_KEY", master.as_str()), ("NANOGPT_API_KEY", upstream_key.as_str())];
    let example = Environment::from_pairs(pairs);
    let (config, report) = config::parse(Path::new(EXAMPLE_NAME), &text, &example, Strictness::Serve);
    let Some(config) = config else {
        eprint!("{report}");
        return INVALID;
    };
    let Ok(listen) = listen_address("127.0.0.1", args.port) else { return INVALID };
    let admin = (args.admin_port != 0).then(|| SocketAddr::from(([127, 0, 0, 1], args.admin_port)));
    println!("{}", words(args.port, &master, standin.is_some()));
    let config_path = config.source.path.clone();
    serve(
        config,
        &Options { listen, admin, threads: default_threads(), upgrade_from: None, config_path, environment: example },
    )
}

async fn start(args: &DemoArgs, listen: SocketAddr) -> std::io::Result<Standin> {
    let pace = if args.instant { Pace::instant() } else { Pace::human() };
    Standin::start(standin::Options { listen, pace, record: false, control: true, ..standin::Options::default() }).await
}

/// Serves the stand-in until the process is ended.
fn only_upstream(runtime: &tokio::runtime::Runtime, args: &DemoArgs, listen: SocketAddr) -> u8 {
    runtime.block_on(async {
        let standin = match start(args, listen).await {
            Ok(standin) => standin,
            Err(cause) => {
                eprintln!("cannot listen on {listen}: {cause}");
                return FAILED;
            }
        };
        println!("stand-in upstream on http://{}/api/v1, no model behind it", standin.address());
        let _ = tokio::signal::ctrl_c().await;
        OK
    })
}

fn words(port: u16, key: &str, standin: bool) -> String {
    let behind = if standin {
        "NO MODEL IS BEHIND THIS: a bundled stand-in answers, so that you can see the gateway work without a key.\n  \
         Set NANOGPT_API_KEY and start again to talk to NanoGPT."
    } else {
        "NANOGPT_API_KEY is set: requests go to NanoGPT and are billed."
    };
    let key = if key == DEMO_KEY { DEMO_KEY } else { "$LITELLM_MASTER_KEY" };
    format!(
        r#"
  {behind}

  curl:
    curl -N http://127.0.0.1:{port}/v1/chat/completions -H 'Authorization: Bearer {key}' \
      -H 'Content-Type: application/json' \
      -d '{{"model":"glm-4.7","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'

  Python:
    OpenAI(base_url="http://127.0.0.1:{port}/v1", api_key="{key}")

  JavaScript:
    new OpenAI({{ baseURL: "http://127.0.0.1:{port}/v1", apiKey: "{key}" }})
    createOpenAICompatible({{ name: "nanogate", baseURL: "http://127.0.0.1:{port}/v1", apiKey: "{key}" }})
    new Anthropic({{ baseURL: "http://127.0.0.1:{port}", authToken: "{key}" }})
"#
    )
}
