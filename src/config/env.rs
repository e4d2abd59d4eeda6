//! The environment, and the only file of the gateway that reads it.
//!
//! Everything else is handed an `Environment`, so tests bring their own and nothing depends on the process. It refuses to
//! know what a variable is for beyond the handful of accessors below, and it never prints a value.

use std::collections::BTreeMap;
use std::fmt;

/// The variables of the process, plus those a file's `environment_variables` set.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

/// A variable whose value cannot be used. Its text names the variable, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadVariable {
    /// The variable.
    pub name: &'static str,
    /// What it has to be.
    pub wanted: &'static str,
}

impl Environment {
    /// The environment this process was started with. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Environment { variables: std::env::vars_os().filter_map(text).collect() }
    }

    /// An environment made of these variables only.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Environment { variables: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }

    /// A variable's value as it is, blank or not.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A variable's value without surrounding blanks; `None` when nothing is left. A blank line in a `.env` file sets
    /// its variable to nothing, and nobody means that as a value.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Sets a variable, over an earlier value.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// LITELLM_MASTER_KEY: the key clients present, when the file does not name one.
    pub fn master_key(&self) -> Option<&str> {
        self.get("LITELLM_MASTER_KEY")
    }

    /// LITELLM_SALT_KEY is set. LiteLLM encrypts what it keeps in its database with it; nothing is kept here.
    pub fn has_salt_key(&self) -> bool {
        self.filled("LITELLM_SALT_KEY").is_some()
    }

    /// LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY=true: serve without a usable master key.
    pub fn permits_weak_master_key(&self) -> bool {
        self.filled("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// PORT: the port to serve on (LiteLLM: 4000).
    pub fn port(&self) -> Result<Option<u16>, BadVariable> {
        self.number("PORT")
    }

    /// NANOGATE_ADMIN_PORT: the port of the health and metrics service; 0 turns it off.
    pub fn admin_port(&self) -> Result<Option<u16>, BadVariable> {
        self.number("NANOGATE_ADMIN_PORT")
    }

    /// HOST: the address to listen on (LiteLLM: 0.0.0.0).
    pub fn host(&self) -> Option<&str> {
        self.filled("HOST")
    }

    /// CONFIG_FILE_PATH: the file to read when no `--config` is given.
    pub fn config_file_path(&self) -> Option<&str> {
        self.filled("CONFIG_FILE_PATH")
    }

    /// The log filter: RUST_LOG, else LITELLM_LOG (DEBUG, INFO, WARNING, ERROR).
    pub fn log_filter(&self) -> Option<&str> {
        self.filled("RUST_LOG").or_else(|| self.filled("LITELLM_LOG"))
    }

    fn number(&self, name: &'static str) -> Result<Option<u16>, BadVariable> {
        let wanted = "a number from 0 to 65535";
        self.filled(name).map(|text| text.parse().map_err(|_| BadVariable { name, wanted })).transpose()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl fmt::Display for BadVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {} must be {}", self.name, self.wanted)
    }
}

impl std::error::Error for BadVariable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_variables_are_read_and_blanks_count_as_unset() {
        let env =
            Environment::from_pairs([("PORT", "4001"), ("HOST", " "), ("RUST_LOG", ""), ("LITELLM_LOG", "DEBUG")]);
        assert_eq!(env.port(), Ok(Some(4001)));
        assert_eq!(env.admin_port(), Ok(None));
        assert_eq!(env.host(), None);
        assert_eq!(env.log_filter(), Some("DEBUG"));
        let env = Environment::from_pairs([("PORT", "sk-secret")]);
        let fault = env.port().unwrap_err().to_string();
        assert_eq!(fault, "the environment variable PORT must be a number from 0 to 65535");
    }

    #[test]
    fn values_are_never_printed() {
        let env = Environment::from_pairs([("NANOGPT_API_KEY", "sk-nano-1")]);
        assert_eq!(format!("{env:?}"), r#"{"NANOGPT_API_KEY"}"#);
    }
}
