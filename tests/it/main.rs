//! The promises of the contract, held against the real binary: one file per promise, over sockets, with the stand-in as
//! the upstream.
//!
//! A test reads as three sentences: what is given, what happens, what is seen. Waits look for a condition until a
//! deadline; nothing sleeps and hopes. Everything runs in parallel, on ports and in folders of its own.

mod answers;
mod auth;
mod body;
mod captures;
mod cli;
mod disconnect;
mod drain;
mod endings;
mod errors;
mod first_content;
mod head;
mod health;
mod hedging;
mod limits;
mod names;
mod odd_upstreams;
mod relay;
mod reload;
mod resilience;
mod retries;
mod streams;
mod support;
mod traffic;
mod upgrade;
mod upgrade_faults;
mod upload;
mod upstream;
