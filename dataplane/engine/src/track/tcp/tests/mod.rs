//! Traces: what was sent, what the tracker said, where the connection stands.

mod handshake;
mod trace;
