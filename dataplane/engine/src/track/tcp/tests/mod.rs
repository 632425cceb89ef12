//! Traces: what was sent, what the tracker said, where the connection stands.

mod blind;
mod close;
mod forged;
mod handshake;
mod live_syn;
mod model;
mod trace;
mod window;
