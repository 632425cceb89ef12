//! The demos: a pair whose active node is killed in the middle of traffic ([`pair`]), and one firewall alone
//! with a table of what passes it and what does not ([`single`]).

mod checks;
mod live;
mod operator;
mod outcome;
pub mod pair;
pub mod single;
mod verdict;

pub use operator::Operator;
pub use outcome::{Report, Row};
pub use verdict::{Gaps, Survival, Verdict};

/// Port of the web server.
pub const HTTP_PORT: u16 = 8080;
/// Port of the iperf3 server.
pub const IPERF_PORT: u16 = 5201;
/// Port of the echo server.
pub const ECHO_PORT: u16 = 7007;
/// Port on the client that nobody outside may reach.
pub const INSIDE_PORT: u16 = 7008;
/// Port of sshd.
pub const SSH_PORT: u16 = 2222;
