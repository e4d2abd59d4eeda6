//! Names to plans: which deployments a request may use, in which order.
//!
//! Works on plain numbers (a deployment is its place in the configuration). Knows no HTTP, no sockets and no clocks.

pub mod balance;
pub mod budget;
pub mod limit;
pub mod plan;
pub mod resolve;
pub mod vitals;
pub mod window;
