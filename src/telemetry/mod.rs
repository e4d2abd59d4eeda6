//! What the gateway says about itself: log lines, metrics, the access line. Knows no configuration and no sockets.

pub mod access;
pub mod batch;
pub mod logging;
pub mod metrics;
pub mod series;
