//! LiteLLM's file, read whole and judged at once.
//!
//! `load` turns a `litellm_config.yaml` and the environment into one immutable `Config`, and everything that was found
//! wrong into one `Report`. LiteLLM's words (`litellm_params`, `drop_params`) live in this room only. It reads the file and
//! refuses to act on it: no socket, no log line, no exit; nothing outside learns where a value was written.
//!
//! ```text
//! text -> tree (places, anchors, merges) -> reader (typed, collects faults) -> walk (section by section) -> Config
//!                                              reference: os.environ/NAME        check: names that lead nowhere
//! ```

mod base;
mod deployment;
mod env;
mod fault;
mod gateway;
mod listing;
pub mod manual;
mod nearest;
mod provider;
mod read;
mod reader;
mod reference;
mod scalar;
mod secret;
mod settings;
mod stable;
pub mod support;
mod syntax;
mod tree;
mod walk;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use base::Base;
pub use deployment::{Deployment, Key};
pub use env::{BadVariable, Environment};
pub use fault::{Fault, Level, Place, Report};
pub use gateway::{AccessLog, GatewaySettings, QUEUE_DEFAULT, ReasoningField, ResponseModel};
pub use listing::Listed;
pub use nearest::nearest;
pub use provider::{Family, Provider};
pub use read::{load, parse};
pub use secret::Secret;
pub use settings::{Alias, Settings, Strategy};
pub use stable::digest;

/// Everything one file says, with references resolved and defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The deployments in file order; at least one.
    pub deployments: Vec<Deployment>,
    /// Settings for all of them.
    pub settings: Settings,
    /// The gateway's own options.
    pub gateway: GatewaySettings,
    /// Who gets in.
    pub door: Door,
    /// Where this came from.
    pub source: Source,
}

/// Where a `Config` came from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file as the user named it.
    pub path: PathBuf,
    /// 12 hexadecimal digits that change with the file's bytes, for `/info`.
    pub hash: String,
}

/// Who gets in.
#[derive(Debug, Clone)]
pub enum Door {
    /// Whoever has the master key.
    Key(Secret),
    /// Everyone. Only with LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true and no master key.
    Open,
}

/// What the file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// To serve: a model whose key is not set is left to fail alone.
    Serve,
    /// To judge: every model has to be usable.
    Check,
}
