//! The namespace lab: a firewall between a client and a server, on one machine, with real programs.
//!
//! One place knows how to put it up and, more important, how to take it down: the command `lab`, the demo
//! and the end-to-end suites all use this library. [`Lab`] is a guard; whatever ends it, a return, an error
//! or a panic, the namespaces, the daemon and every program inside go with it, and what a SIGKILL left
//! behind is swept by the next one.
//!
//! Start with [`Lab::up`], look at [`topology`] for who is where, and run programs with [`exec::on`] or
//! code with [`netns::within`].

#![forbid(unsafe_code)]

mod background;
pub mod baseline;
pub mod checksum;
pub mod config;
pub mod control;
pub mod crowd;
pub mod demo;
pub mod echo;
pub mod error;
pub mod events;
pub mod exec;
pub mod faults;
pub mod forwarder;
pub mod frames;
pub mod generator;
pub mod growth;
pub mod guard;
pub mod interrupt;
pub mod measure;
pub mod netns;
pub mod node;
pub mod pair;
pub mod pairview;
pub mod picture;
pub mod probe;
pub mod process;
pub mod raw;
pub mod report;
pub mod rival;
pub mod servers;
pub mod ssh;
pub mod state;
pub mod status;
pub mod stream;
mod svg;
pub mod topology;
pub mod traffic;

pub use error::{LabError, Result};
pub use guard::{Lab, LabOptions, Polling};
pub use node::Node;
pub use pair::PairSettings;
pub use topology::{Family, Host, Network, SyncLink};
