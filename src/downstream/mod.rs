//! The client's side: HTTP/1.1 as the gateway speaks it itself, request after request on one connection.
//!
//! Knows no routes, no bodies but as bytes, and no upstreams. HTTP/2 is Pingora's.

pub mod connection;
pub mod head;
