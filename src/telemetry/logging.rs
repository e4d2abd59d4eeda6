//! The process's log: `env_logger` behind the `log` facade, on standard error.
//!
//! `RUST_LOG` is followed as it stands; LiteLLM's `LITELLM_LOG` sets the level for the gateway's own lines. Pingora
//! stays at warnings, since its info lines repeat what ours say. Access lines are written in batches ([`super::batch`]).

use super::access;
use super::batch::Batch;
use log::{LevelFilter, Log, Metadata, Record};

struct Logger {
    inner: env_logger::Logger,
    access: Batch,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() != access::TARGET {
            self.inner.log(record);
        } else if self.inner.matches(record) {
            self.access.add(record);
        }
    }

    fn flush(&self) {
        self.access.flush();
        self.inner.flush();
    }
}

/// Installs the logger. `filter` is an env_logger filter text; none means our default level.
///
/// A second call changes nothing.
pub fn install(filter: Option<&str>, level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Warn).filter_module("nanogate", level);
    // Every request that ends badly gets our own access line, which names no query string.
    builder.filter_module("pingora_proxy", LevelFilter::Off);
    // It calls the ordinary course of a hand-over an error.
    builder.filter_module("pingora_core::server::transfer_fd", LevelFilter::Off);
    if let Some(filter) = filter {
        builder.parse_filters(filter);
    }
    let logger = Logger { inner: builder.build(), access: Batch::new(Box::new(std::io::stderr())) };
    let max = logger.inner.filter();
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(max);
    }
}

/// LiteLLM's level names (`DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL`) and log's own, in any case.
pub fn level(text: &str) -> Option<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Some(LevelFilter::Trace),
        "debug" => Some(LevelFilter::Debug),
        "info" => Some(LevelFilter::Info),
        "warn" | "warning" => Some(LevelFilter::Warn),
        "error" | "critical" => Some(LevelFilter::Error),
        "off" => Some(LevelFilter::Off),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litellm_words_are_levels() {
        assert_eq!(level("WARNING"), Some(LevelFilter::Warn));
        assert_eq!(level("Debug"), Some(LevelFilter::Debug));
        assert_eq!(level("loud"), None);
    }
}
