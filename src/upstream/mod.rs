//! The provider's side: names to addresses, addresses to peers, deployments to request heads.
//!
//! Templates are built once per deployment when a configuration is loaded; a request only clones. Knows no bodies and
//! no clients.

pub mod address;
pub mod connector;
pub mod exchange;
pub mod h1;
pub mod head;
pub mod peer;
pub mod pool;
