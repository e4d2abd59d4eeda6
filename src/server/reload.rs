//! Reload: read the file again, check it, swap the snapshot or keep the old one and say why.
//!
//! Nothing of a request in flight changes. What only a new process can change is said, not ignored.

use super::{StartError, authorities};
use crate::config::{self, Config, Environment, GatewaySettings, Strictness};
use crate::snapshot::{Live, Snapshot};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long new upstream names may take before the swap happens without their addresses.
const NAMES_MAX: Duration = Duration::from_secs(3);

/// What a reload came to; the text is for people.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is live now.
    Taken(String),
    /// The old configuration goes on.
    Refused(String),
}

/// Reloads one process's file, one at a time.
pub struct Reloader {
    live: Arc<Live>,
    path: PathBuf,
    environment: Environment,
    turn: Mutex<()>,
    /// The hash of the last file that was looked at.
    seen: std::sync::Mutex<String>,
}

impl Reloader {
    /// A reloader of `path`. Environment variables are those of the process's start.
    pub fn new(live: Arc<Live>, path: PathBuf, environment: Environment) -> Self {
        Reloader { live, path, environment, turn: Mutex::new(()), seen: Default::default() }
    }

    /// The file.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Whether a file of this hash has not been looked at just before.
    pub fn is_news(&self, hash: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let news = *seen != hash;
        hash.clone_into(&mut seen);
        news
    }

    /// Reads, checks and swaps. Never fails half-way.
    pub async fn reload(&self) -> Outcome {
        let _turn = self.turn.lock().await;
        let outcome = self.attempt().await;
        match &outcome {
            Outcome::Taken(words) => log::info!("{words}"),
            Outcome::Refused(why) => {
                log::error!("the configuration was not taken, the old one goes on:\n{why}");
                self.live.refuse(why.clone());
            }
        }
        outcome
    }

    async fn attempt(&self) -> Outcome {
        let (config, report) = config::load(&self.path, &self.environment, Strictness::Serve);
        let Some(config) = config else { return Outcome::Refused(report.to_string()) };
        if let Err(cause) = authorities::of_system(&config, &self.environment) {
            return Outcome::Refused(StartError::SystemAuthorities(cause).to_string());
        }
        let fixed = self.fixed(&config);
        let (hash, models) = (config.source.hash.clone(), config.deployments.len());
        let snapshot = match Snapshot::build(config, &self.live.directory, Some(&self.live.snapshot())) {
            Ok(snapshot) => snapshot,
            Err(faults) => return Outcome::Refused(faults.join("\n")),
        };
        if !self.live.directory.all_known() {
            // A name that does not resolve is no reason to refuse: its models answer 502 until it does.
            let _ = tokio::time::timeout(NAMES_MAX, self.live.directory.refresh(NAMES_MAX)).await;
        }
        self.live.swap(snapshot);
        self.live.directory.prune();
        let mut words = format!("configuration {hash} is live: {models} deployments");
        for name in fixed {
            words.push_str(&format!(
                "\n{name} cannot change in a running process: `nanogate upgrade` or a restart applies it"
            ));
        }
        if report.warnings() > 0 {
            words.push_str(&format!("\n{report}"));
        }
        Outcome::Taken(words)
    }

    /// Settings that differ from the live ones and bind a process for its life.
    fn fixed(&self, config: &Config) -> Vec<&'static str> {
        let live = self.live.snapshot();
        let (old, new) = (&live.config.gateway, &config.gateway);
        let differs = |same: fn(&GatewaySettings, &GatewaySettings) -> bool| !same(old, new);
        [
            ("gateway_settings.admin_port", differs(|a, b| a.admin_port == b.admin_port)),
            ("gateway_settings.admin_host", differs(|a, b| a.admin_host == b.admin_host)),
            ("gateway_settings.upstream_ca_file", differs(|a, b| a.upstream_ca_file == b.upstream_ca_file)),
            ("gateway_settings.h2c", differs(|a, b| a.h2c == b.h2c)),
            ("gateway_settings.watch", differs(|a, b| a.watch == b.watch)),
            ("gateway_settings.grace_period", differs(|a, b| a.grace_period_ms == b.grace_period_ms)),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }
}
