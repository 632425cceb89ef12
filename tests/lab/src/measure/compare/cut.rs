//! The link between the nodes fails, sessions go on being opened, and then the active machine dies: how many
//! of them live on, and whether anybody was told before. Once the nodes see their link go down, as with a
//! pulled cable; once they do not, as when something between them stops passing frames.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    Plan,
    subject::{ECHO_PORT, Own, Subject, System},
};
use crate::{
    crowd::{TcpCrowd, UdpCrowd},
    echo::EchoServer,
    error::Result,
    faults::{self, Cable},
    netns,
    topology::{Host, SyncLink},
};

/// UDP sessions and TCP connections that are opened while the link is cut.
pub(super) const UDP: usize = 200;
pub(super) const TCP: usize = 100;
/// From the cut to the first of them, and from the last of them to the death.
const CALM: Duration = Duration::from_secs(2);
/// How long they may take to go on.
const RECOVERY: Duration = Duration::from_secs(6);

/// Who is looked at, and how the link fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    system: System,
    /// Our own without its second way over the data ports.
    alone: bool,
    silent: bool,
}

impl Kind {
    pub(super) const ALL: [Kind; 7] = [
        Kind { system: System::Understudy, alone: false, silent: false },
        Kind { system: System::Direct, alone: false, silent: false },
        Kind { system: System::Cached, alone: false, silent: false },
        Kind { system: System::Understudy, alone: false, silent: true },
        Kind { system: System::Understudy, alone: true, silent: true },
        Kind { system: System::Direct, alone: false, silent: true },
        Kind { system: System::Cached, alone: false, silent: true },
    ];

    pub(super) const fn system(self) -> System {
        self.system
    }

    pub(super) const fn name(self) -> &'static str {
        if self.alone { "Understudy with lan-fallback = false" } else { self.system.name() }
    }

    fn fail(self) -> Result<()> {
        if !self.silent {
            return faults::cut(Cable::Sync(SyncLink::FIRST));
        }
        // Out of the bridge, the cables stay plugged in.
        let ports = Host::NODES.map(|node| SyncLink::FIRST.node_port(node));
        netns::batch(Host::Switch, &ports.map(|port| format!("link set {port} nomaster\n")).concat())
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Cut {
    /// The system.
    pub system: &'static str,
    /// The nodes did not see their link go down.
    pub silent: bool,
    /// UDP sessions that lived on.
    pub udp: usize,
    /// TCP connections that lived on.
    pub tcp: usize,
    /// What an operator could have seen before the death.
    pub warnings: Vec<String>,
    /// Why there is no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Cuts and kills one of them; what goes wrong is part of the result.
pub(super) fn run(kind: Kind, plan: &Plan) -> Cut {
    let mut cut =
        Cut { system: kind.name(), silent: kind.silent, udp: 0, tcp: 0, warnings: Vec::new(), fault: None };
    if let Err(error) = course(kind, plan, &mut cut) {
        cut.fault = Some(error.to_string());
    }
    cut
}

fn course(kind: Kind, plan: &Plan, cut: &mut Cut) -> Result<()> {
    let mut subject: Box<dyn Subject> = if kind.alone {
        Box::new(Own::up(1_000, plan.patience, false)?)
    } else {
        kind.system.up(1_000, plan.patience)?
    };
    let _echo = EchoServer::start(Host::Server, ECHO_PORT)?;
    subject.settle(Host::A, Instant::now())?;
    let place = subject.log_place()?;
    kind.fail()?;
    thread::sleep(CALM);
    let udp = UdpCrowd::start(UDP, Duration::from_millis(50))?;
    let tcp = TcpCrowd::start(ECHO_PORT, TCP, Duration::from_millis(50))?;
    thread::sleep(CALM);
    cut.warnings = subject.warnings(&place)?;
    subject.kill(Host::A)?;
    // What was under way at the death arrives until then.
    thread::sleep(Duration::from_millis(100));
    let dead = Instant::now();
    cut.udp = udp.wait_alive_since(dead, RECOVERY);
    cut.tcp = tcp.wait_alive_since(dead, RECOVERY.saturating_sub(dead.elapsed()).max(Duration::from_secs(1)));
    Ok(())
}
