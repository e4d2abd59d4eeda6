//! The rows of `nanogate models`: what is served, by whom, with which variable. No secrets.

use super::Config;
use super::deployment::{Deployment, Key};

/// One deployment as an operator wants to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'c> {
    /// What clients ask for.
    pub name: &'c str,
    /// The deployment's id.
    pub id: &'c str,
    /// The provider's prefix.
    pub provider: &'static str,
    /// What the provider is asked for.
    pub upstream_model: &'c str,
    /// Where, in full.
    pub base: String,
    /// The variable the key comes from; `None` for a key in the file and for no key.
    pub key_variable: Option<&'c str>,
    /// Whether there is a key, or none is needed.
    pub key_set: bool,
}

impl Config {
    /// One row per deployment, in file order.
    pub fn listing(&self) -> Vec<Listed<'_>> {
        self.deployments.iter().map(Deployment::listed).collect()
    }
}

impl Deployment {
    /// This deployment's row.
    pub fn listed(&self) -> Listed<'_> {
        Listed {
            name: &self.group,
            id: &self.id,
            provider: self.provider.prefix,
            upstream_model: &self.upstream_model,
            base: self.base.url(),
            key_variable: self.key_variable.as_deref(),
            key_set: !matches!(self.key, Key::Unset { .. }),
        }
    }
}
