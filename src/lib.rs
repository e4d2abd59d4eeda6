//! nanogate: a gateway for LLM APIs on Pingora that takes the place of the LiteLLM proxy container.
//!
//! The layers, top down; a module may name only those below it (`tests/tidy.rs` holds this):
//!
//! ```text
//! main -> cli -> server -> {gateway, admin} -> snapshot
//!      -> {api, auth, downstream, routing, upstream, usage} -> {config, telemetry} -> wire
//! ```
//!
//! `standin` is the bundled OpenAI-compatible upstream of `nanogate demo` and of the tests; it names no other room.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod auth;
pub mod cli;
pub mod config;
pub mod downstream;
pub mod gateway;
pub mod routing;
pub mod server;
pub mod snapshot;
pub mod standin;
pub mod telemetry;
pub mod upstream;
pub mod usage;
pub mod wire;
