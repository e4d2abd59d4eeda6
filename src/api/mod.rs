//! The API the gateway speaks: routes, dialects, errors, parameters, the local lists. Plain values in, plain values out.

pub mod content;
pub mod dialect;
pub mod endpoint;
pub mod error;
pub mod face;
pub mod models;
pub mod params;
pub mod render;
