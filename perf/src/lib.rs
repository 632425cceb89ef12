//! What the benches share: a firewall without ports, a stateless packet generator, and a clock.
//!
//! One-core mode (decision 15): generator and engine alternate on one thread, burst by burst, and only the
//! engine's part is timed. The generator keeps no state: a flow is a keyed permutation of a counter, so
//! packets come in random order over all sessions, which is the order that costs most.
#![forbid(unsafe_code)]

pub mod bed;
pub mod flows;
pub mod onecore;
pub mod region;
