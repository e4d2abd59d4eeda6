//! The rooms built from one configuration, swapped whole on a reload; and what lives longer than any of them.

mod edit;
mod health;
mod live;
mod queue;

pub use edit::Edited;
pub use live::{Arriving, Buffered, Guard, InFlight, Live, Refused};
pub use queue::Queue;

use crate::api::models::{self, Shown};
use crate::api::params::{Family, Rules};
use crate::auth::Keyring;
use crate::config::{self, Config, Key, Secret};
use crate::routing::balance::{Share, Strategy};
use crate::routing::limit::Limits;
use crate::routing::plan::Fallbacks;
use crate::routing::resolve::{Entry, Names, Resolved};
use crate::routing::vitals::{Policy, Vitals};
use crate::telemetry::series::Series;
use crate::upstream::address::Directory;
use crate::upstream::{head, peer};
use crate::wire::json::quoted;
use bytes::Bytes;
use http::HeaderValue;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Model names whose answers are signed byte for byte (reference/nanogpt-api.md, section 2).
static SIGNED_PREFIXES: &[&str] = &["TEE/", "phala/"];

/// One deployment, ready to call.
pub struct Deployment {
    /// Its identity in headers, metrics and logs.
    pub id: Arc<str>,
    /// The name clients use for its group.
    pub group: Arc<str>,
    /// The model name it sends; may hold a `*`.
    pub upstream_model: Arc<str>,
    /// The same as a JSON string.
    pub quoted_model: Vec<u8>,
    /// Its group as a header; none where the name cannot be one.
    pub group_header: Option<HeaderValue>,
    /// The same of its id.
    pub id_header: Option<HeaderValue>,
    /// Its parameter rules.
    pub rules: Rules,
    /// Whether parameters it does not take are dropped instead of refused.
    pub drops_params: bool,
    /// Its connections.
    pub peer: peer::Template,
    /// Its request heads.
    pub head: head::Template,
    /// Its key, to be taken out of what the upstream says about it.
    pub key: Option<Secret>,
    /// The variable that should hold its key and does not.
    pub missing_variable: Option<String>,
    /// Limit for the head of a plain answer and of a stream.
    pub head_timeout: Duration,
    /// See `head_timeout`.
    pub stream_head_timeout: Duration,
    /// What traffic shows of it.
    pub vitals: Arc<Vitals>,
    /// Where its requests are counted.
    pub series: Series,
}

impl Deployment {
    /// The same, going on with what traffic has shown of the deployment of this id.
    fn with_vitals_of(mut self, before: Option<&Snapshot>) -> Self {
        let twin = before.and_then(|before| before.deployments.iter().find(|deployment| deployment.id == self.id));
        if let Some(twin) = twin {
            self.vitals = Arc::clone(&twin.vitals);
        }
        self
    }

    /// Whether the answers of this upstream model are signed and must not be touched.
    pub fn is_signed(model: &str) -> bool {
        SIGNED_PREFIXES.iter().any(|prefix| model.starts_with(prefix))
    }
}

/// Everything a reload swaps, immutable.
pub struct Snapshot {
    /// What was read.
    pub config: Config,
    /// Who may come in.
    pub keyring: Keyring,
    /// Names to groups.
    pub names: Names,
    /// In the order of the file.
    pub deployments: Vec<Deployment>,
    /// Beside `deployments`.
    pub shares: Vec<Share>,
    /// How the next deployment is chosen.
    pub strategy: Strategy,
    /// When a deployment rests.
    pub rest: Policy,
    /// What all deployments together may use.
    pub limits: Limits,
    /// The body of `/v1/models`.
    pub models_list: Bytes,
    /// The body of `/model/info`.
    pub model_info: Bytes,
    /// The body of `/model_group/info`.
    pub group_info: Bytes,
    /// When it was built.
    pub loaded_at: SystemTime,
    fallbacks: HashMap<String, Fallbacks>,
    default_fallbacks: Vec<Resolved>,
}

/// LiteLLM's default of `allowed_fails`.
const FAILURES_MAX: u32 = 3;
/// LiteLLM's default of `cooldown_time`.
const REST_MS: u64 = 5_000;
/// Default for `timeout`, `stream_timeout` and `request_timeout` (contract, section 7).
const HEAD_TIMEOUT_MS: u64 = 600_000;

impl Snapshot {
    /// Builds the rooms. Hosts come from `directory` and vitals from the snapshot before, so that known addresses and
    /// what traffic has shown survive a reload.
    ///
    /// # Errors
    /// A sentence for each deployment that cannot be built.
    pub fn build(mut config: Config, directory: &Directory, before: Option<&Snapshot>) -> Result<Self, Vec<String>> {
        let door = std::mem::replace(&mut config.door, config::Door::Open);
        let (mut deployments, mut faults) = (Vec::new(), Vec::new());
        for entry in &config.deployments {
            match deployment(entry, &config, directory) {
                Some(ready) => deployments.push(ready.with_vitals_of(before)),
                None => faults.push(format!("{}: a key, header or host cannot be used in a request", entry.group)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let names = names(&config);
        let listed = names.listed().iter().filter(|name| !name.contains('*'));
        let mut snapshot = Snapshot {
            keyring: Keyring::new(door),
            shares: shares(&config, &deployments),
            strategy: strategy(config.settings.strategy),
            limits: Limits {
                in_flight: config.gateway.max_parallel_requests.or(config.settings.max_parallel_requests),
                rpm: config.gateway.rpm,
                tpm: config.gateway.tpm,
            },
            rest: Policy {
                failures_max: config.settings.allowed_fails.unwrap_or(FAILURES_MAX).max(1),
                rest_ms: config.settings.cooldown_time_ms.unwrap_or(REST_MS),
            },
            models_list: models::list(listed).to_string().into(),
            model_info: models::info(shown(&config)).to_string().into(),
            group_info: models::groups(shown(&config)).to_string().into(),
            loaded_at: SystemTime::now(),
            fallbacks: HashMap::new(),
            default_fallbacks: Vec::new(),
            deployments,
            names,
            config,
        };
        snapshot.resolve_fallbacks();
        Ok(snapshot)
    }

    fn resolve_fallbacks(&mut self) {
        let settings = &self.config.settings;
        let resolve = |names: &[String]| names.iter().filter_map(|name| self.names.find(name)).collect::<Vec<_>>();
        let mut fallbacks: HashMap<String, Fallbacks> = HashMap::new();
        for (group, list) in &settings.fallbacks {
            fallbacks.entry(group.clone()).or_default().general = resolve(list);
        }
        for (group, list) in &settings.context_window_fallbacks {
            fallbacks.entry(group.clone()).or_default().context_window = resolve(list);
        }
        for (group, list) in &settings.content_policy_fallbacks {
            fallbacks.entry(group.clone()).or_default().content_policy = resolve(list);
        }
        let default_fallbacks = resolve(&settings.default_fallbacks);
        self.default_fallbacks = default_fallbacks;
        self.fallbacks = fallbacks;
    }

    /// The fallbacks of a request: its own list when it brought one, else its group's, else the default ones, never
    /// the group itself.
    pub fn fallbacks(&self, group: &str, wished: &[String]) -> Fallbacks {
        let mut fallbacks = self.fallbacks.get(group).cloned().unwrap_or_default();
        if !wished.is_empty() {
            fallbacks.general = wished.iter().filter_map(|name| self.names.find(name)).collect();
        } else if fallbacks.general.is_empty() {
            fallbacks.general = self.default_fallbacks.clone();
        }
        for list in [&mut fallbacks.general, &mut fallbacks.context_window, &mut fallbacks.content_policy] {
            list.retain(|fallback| fallback.group.name != group);
        }
        fallbacks
    }
}

fn names(config: &Config) -> Names {
    let aliases: Vec<(String, String, bool)> =
        config.settings.aliases.iter().map(|alias| (alias.name.clone(), alias.target.clone(), alias.hidden)).collect();
    let entries = config.deployments.iter().map(|deployment| Entry {
        group: &deployment.group,
        id: &deployment.id,
        configured: &deployment.configured,
    });
    Names::new(entries, &aliases)
}

fn shown(config: &Config) -> impl Iterator<Item = Shown<'_>> {
    config.deployments.iter().map(|deployment| Shown {
        group: &deployment.group,
        id: &deployment.id,
        configured: &deployment.configured,
        provider: deployment.provider.prefix.trim_end_matches('/'),
        info: &deployment.info,
    })
}

/// In LiteLLM rpm and tpm are limits under usage-based routing or by a check of their own, else only weights.
fn shares(config: &Config, deployments: &[Deployment]) -> Vec<Share> {
    let enforced = config.settings.enforces_rate_limits
        || config.settings.strategy == config::Strategy::UsageBased
        || config.gateway.queue.is_some();
    config.deployments.iter().zip(deployments).map(|(entry, ready)| share(entry, ready, enforced)).collect()
}

/// LiteLLM draws by `weight`, else by `rpm`, else by `tpm`, else evenly.
fn share(entry: &config::Deployment, ready: &Deployment, enforced: bool) -> Share {
    let limit = entry.rpm.or(entry.tpm).map(|limit| limit as f64);
    Share {
        order: entry.order.unwrap_or(u32::MAX),
        weight: entry.weight.or(limit).unwrap_or(1.0),
        rpm: entry.rpm,
        tpm: entry.tpm,
        limits: Limits {
            in_flight: entry.max_parallel_requests,
            rpm: entry.rpm.filter(|_| enforced),
            tpm: entry.tpm.filter(|_| enforced),
        },
        vitals: Arc::clone(&ready.vitals),
    }
}

fn strategy(configured: config::Strategy) -> Strategy {
    match configured {
        config::Strategy::SimpleShuffle => Strategy::SimpleShuffle,
        config::Strategy::LeastBusy => Strategy::LeastBusy,
        config::Strategy::LatencyBased => Strategy::LatencyBased,
        config::Strategy::UsageBased => Strategy::UsageBased,
    }
}

fn deployment(entry: &config::Deployment, config: &Config, directory: &Directory) -> Option<Deployment> {
    let settings = &config.settings;
    let (key, missing_variable) = match &entry.key {
        Key::Known(secret) => (Some(secret.clone()), None),
        Key::Unset { variable } => (None, Some(variable.clone())),
        Key::None => (None, None),
    };
    let additional: Vec<String> =
        entry.additional_drop_params.iter().chain(&settings.additional_drop_params).cloned().collect();
    let family = match entry.provider.family {
        config::Family::OpenAi => Family::OpenAi,
        config::Family::NanoGpt => Family::NanoGpt,
        config::Family::OpenAiLike => Family::OpenAiLike,
    };
    let drop = entry.drop_params.unwrap_or(settings.drop_params);
    let extra: Vec<(String, String)> =
        entry.extra_headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    let head_timeout_ms = entry.timeout_ms.or(settings.request_timeout_ms);
    let stream_timeout_ms = entry.stream_timeout_ms.or(settings.stream_timeout_ms).or(head_timeout_ms);
    Some(Deployment {
        id: entry.id.as_str().into(),
        group: entry.group.as_str().into(),
        upstream_model: entry.upstream_model.as_str().into(),
        quoted_model: quoted(&entry.upstream_model),
        group_header: HeaderValue::from_str(&entry.group).ok(),
        id_header: HeaderValue::from_str(&entry.id).ok(),
        rules: Rules::new(family, &entry.upstream_model, drop, &additional, &entry.allowed_params, &entry.defaults),
        drops_params: drop,
        peer: peer::Template::new(
            peer::Settings {
                tls: entry.base.tls,
                server_name: entry.base.host.clone(),
                http2: config.gateway.upstream_http2,
                connect_timeout: Duration::from_millis(config.gateway.connect_timeout_ms),
                idle_timeout: Duration::from_millis(config.gateway.upstream_idle_timeout_ms),
            },
            directory.host(&entry.base.host, entry.base.port),
        )?,
        head: head::Template::new(
            &entry.base.path,
            &entry.base.authority(),
            key.as_ref().map(Secret::expose),
            entry.organization.as_deref(),
            &extra,
        )?,
        key,
        missing_variable,
        head_timeout: Duration::from_millis(head_timeout_ms.unwrap_or(HEAD_TIMEOUT_MS)),
        stream_head_timeout: Duration::from_millis(stream_timeout_ms.unwrap_or(HEAD_TIMEOUT_MS)),
        vitals: Arc::default(),
        series: Series::default(),
    })
}
