//! The stand-in as its peers see it: raw bytes over TCP, and HTTP/2 over TLS.

mod broken;
mod peer;
mod protocol;
mod served;
mod tls;
