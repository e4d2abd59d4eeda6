//! Fault drills: what becomes of clients and upstream calls when the other side misbehaves.

mod leaving;
