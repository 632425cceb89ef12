//! What is counted, and why a packet was dropped.
//!
//! Each worker has its own counters and is their only writer: plain adds, no locked instruction. Everybody
//! else reads them at any time.

use crate::atomics::{AtomicU64, Ordering};
use crate::track::Why;
use wire::parse::ParseError;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident, $text:literal, $meaning:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// A stable name for counters.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// What it means, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $($name::$variant => $meaning,)* }
            }
        }
    };
}

reasons! {
    /// Why the engine itself refused a packet that could be parsed.
    Refusal {
        PolicyDrop, "policy-drop", "A rule, or the default deny behind all rules, drops it (ha-ctl rules says which).";
        PolicyReject, "policy-reject", "A rule rejects it: the sender was told.";
        NotForUs, "not-for-us", "The destination MAC address is not this port's.";
        SpoofedSource, "spoofed-source", "The source address is reached through another zone (RFC 3704).";
        WrongZone, "wrong-zone", "A packet of a known session came in through another zone.";
        NoRoute, "no-route", "No route to the destination.";
        NoRouteBack, "no-route-back", "No route to the source: a reply could not pass.";
        TtlExceeded, "ttl-exceeded", "The TTL or hop limit ran out here: the sender was told.";
        TooBig, "too-big", "Larger than the MTU of the port it must leave by: the sender was told.";
        Fragment, "fragment", "Fragments are not supported yet.";
        Multicast, "multicast", "Multicast and broadcast are not forwarded.";
        LocalNoService, "local-no-service", "For one of the firewall's own addresses, where nothing listens.";
        TableFull, "table-full", "No room for a new session; established ones are never evicted.";
        NeighbourUnreachable, "neighbour-unreachable", "The next hop does not answer ARP or neighbour discovery.";
        NeighbourPendingFull, "neighbour-pending-full", "Too many packets wait for a neighbour's MAC address.";
        NeighbourTimeout, "neighbour-timeout", "Waited too long for a neighbour's MAC address.";
        IcmpErrorUnrelated, "icmp-error-unrelated", "An ICMP error that quotes no packet of a known session.";
        IcmpOther, "icmp-other", "An ICMP message that is neither echo, error nor neighbour discovery.";
        NeighbourDiscoveryIgnored, "neighbour-discovery-ignored", "ARP or neighbour discovery that does not concern this node.";
        BadL4Checksum, "bad-l4-checksum", "A wrong TCP or ICMP checksum on a message that would change state.";
        HeadersSplit, "headers-split-no-room", "Headers beyond the first segment, and no room to join the segments.";
        WorkerRingFull, "worker-ring-full", "The ring to the worker that owns the session was full.";
        TransmitFull, "transmit-full", "The port's transmit queue was full.";
        PolicyChanged, "policy-changed", "The session's rule no longer admits it: the session was ended.";
        SessionEnding, "session-ending", "The session is being ended on command: nothing of it is forwarded any more.";
        Standby, "standby", "This node is not the active one: it forwards nothing.";
        LeaseExpired, "lease-expired", "The active role was not renewed in time: nothing is forwarded until it is.";
        StaleSession, "stale-session", "After a takeover with a stale mirror: the session had outlived its timeout by then, and was ended.";
        StaleUnconfirmed, "stale-unconfirmed", "After a takeover with a stale mirror: from the responder of a connection whose initiator has not spoken yet.";
        CoreRingFull, "core-ring-full", "A datagram of the partner's that found the ring to the sync core full.";
    }
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It could not be parsed.
    Parse(ParseError),
    /// It does not fit its session.
    Track(Why),
    /// The engine refused it.
    Engine(Refusal),
}

impl From<ParseError> for DropReason {
    fn from(e: ParseError) -> Self {
        DropReason::Parse(e)
    }
}

impl From<Why> for DropReason {
    fn from(why: Why) -> Self {
        DropReason::Track(why)
    }
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        DropReason::Engine(refusal)
    }
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = ParseError::ALL.len() + Why::ALL.len() + Refusal::ALL.len();

    /// Every reason, in the order of [`index`](Self::index).
    pub fn all() -> impl Iterator<Item = DropReason> {
        let parse = ParseError::ALL.iter().map(|e| DropReason::Parse(*e));
        let track = Why::ALL.iter().map(|why| DropReason::Track(*why));
        parse.chain(track).chain(Refusal::ALL.iter().map(|r| DropReason::Engine(*r)))
    }

    /// Its place among all counters.
    pub fn index(self) -> usize {
        match self {
            DropReason::Parse(e) => e as usize,
            DropReason::Track(why) => ParseError::ALL.len() + why as usize,
            DropReason::Engine(refusal) => ParseError::ALL.len() + Why::ALL.len() + refusal as usize,
        }
    }

    /// The counter's name.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Parse(e) => e.name(),
            DropReason::Track(why) => why.name(),
            DropReason::Engine(refusal) => refusal.name(),
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            DropReason::Parse(e) => e.meaning(),
            DropReason::Track(why) => why.meaning(),
            DropReason::Engine(refusal) => refusal.meaning(),
        }
    }
}

reasons! {
    /// Things that happened, good or neutral.
    Event {
        RxPackets, "rx-packets", "Packets that this worker took from ports and other workers.";
        RxBytes, "rx-bytes", "Bytes of those packets.";
        Forwarded, "forwarded", "Packets sent on to their next hop.";
        HandedOver, "handed-over", "Packets passed to the worker that owns their session.";
        Created, "sessions-created", "Sessions opened.";
        Expired, "sessions-expired", "Sessions whose time ran out.";
        Evicted, "half-open-evicted", "Half-open TCP sessions pushed out by newer ones.";
        Terminated, "sessions-terminated", "Sessions ended because the policy no longer admits them.";
        Reopened, "sessions-reopened", "Finished TCP sessions that began again on the same ports.";
        Rebound, "sessions-rebound", "Sessions re-evaluated after a change of policy or routes.";
        ArpAnswered, "arp-answered", "ARP requests for own addresses that were answered.";
        NdAnswered, "nd-answered", "Neighbour solicitations for own addresses that were answered.";
        NeighbourHeard, "neighbour-heard", "Other ARP and neighbour discovery that tells who is where, passed to the control thread.";
        EchoAnswered, "echo-answered", "Echo requests to own addresses that were answered.";
        IcmpErrorsForwarded, "icmp-errors-forwarded", "ICMP errors that belong to a session, forwarded.";
        IcmpErrorsSent, "icmp-errors-sent", "ICMP errors that this node sent.";
        IcmpErrorsLimited, "icmp-errors-limited", "ICMP errors and resets not sent because of the rate limit.";
        ResetsSent, "resets-sent", "TCP resets sent for a reject rule or to the ends of a session that was ended on command.";
        PendingQueued, "pending-queued", "Packets that waited for a neighbour's MAC address.";
        EventsLost, "control-events-lost", "Notices to the control thread that found its ring full.";
        ToCore, "partner-datagrams", "Datagrams of the partner's that came in over data ports, passed to the sync core.";
        Mirrored, "sessions-mirrored", "Records of the other node's sessions that were stored.";
        MirrorHeld, "mirror-held", "Records not stored because a session with the same key is as new or newer.";
        MirrorRefused, "mirror-refused", "Records that could not be stored.";
        MirrorDisplaced, "mirror-displaced", "Sessions that gave way to a newer one with one of their keys.";
        MirrorInert, "mirror-inert", "Records stored under a rule that this node does not know: asked for at their first packet.";
        MirrorRemoved, "mirror-removed", "Mirrored sessions that ended on the other node.";
        Merged, "sessions-merged", "Sessions of the other node that were taken over after a split.";
        MergeKept, "merge-kept", "Sessions offered after a split of which this node had a better copy, or another session with one of their keys.";
        MergeRefused, "merge-refused", "Sessions offered after a split that no rule admits here, or that found no room.";
        Relearned, "tcp-relearned", "Taken-over TCP connections whose numbers are known again: every segment is checked.";
        RstVerified, "rst-verified", "Resets on taken-over connections that the other end's numbers confirmed.";
        ProbesSent, "tcp-probes-sent", "Bare ACKs that ask an end of a connection for its numbers: about a reset that was held back, or before it is reset.";
        UnknownReset, "unknown-resets-sent", "TCP segments of unknown connections answered with a reset after a takeover.";
        Dropped, "sessions-dropped", "Sessions dropped without an end of their own: local ones on a node that is no longer active, or a mirror that was emptied.";
        NoBuffer, "no-buffer", "Packets of the node's own not sent because the mbuf pool was empty.";
    }
}

/// The counters of one worker. 128-byte aligned: no other worker's line is touched.
#[repr(align(128))]
pub struct Counters {
    drops: [AtomicU64; DropReason::COUNT],
    unlearned: [AtomicU64; Why::ALL.len()],
    events: [AtomicU64; Event::ALL.len()],
    rules: Box<[RuleCounters]>,
    gauges: [AtomicU64; GAUGES],
}

const GAUGES: usize = 7;

/// What is counted for a rule.
#[derive(Default)]
struct RuleCounters {
    sessions: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// All zero, with room for so many rules (counter slots).
    pub fn new(rule_slots: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            drops: std::array::from_fn(|_| zero()),
            unlearned: std::array::from_fn(|_| zero()),
            events: std::array::from_fn(|_| zero()),
            rules: (0..rule_slots).map(|_| RuleCounters::default()).collect(),
            gauges: std::array::from_fn(|_| zero()),
        }
    }

    #[inline]
    pub(crate) fn dropped(&self, reason: DropReason) {
        add(&self.drops, reason.index(), 1);
    }

    #[inline]
    pub(crate) fn passed_unlearned(&self, why: Why) {
        add(&self.unlearned, why as usize, 1);
    }

    #[inline(always)]
    pub(crate) fn count(&self, event: Event, n: u64) {
        add(&self.events, event as usize, n);
    }

    #[inline]
    pub(crate) fn session_for(&self, rule_slot: u16) {
        if let Some(rule) = self.rules.get(usize::from(rule_slot)) {
            rule.sessions.store(rule.sessions.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn refused_by(&self, rule_slot: u16) {
        if let Some(rule) = self.rules.get(usize::from(rule_slot)) {
            rule.refused.store(rule.refused.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Publishes the numbers of sessions: by class, half-open, relaxed; and of waiting packets.
    pub(crate) fn set_gauges(&self, population: &crate::table::Population, pending: usize, relaxed: u32) {
        let [a, b, c, d] = population.in_use.map(u64::from);
        let values = [a, b, c, d, population.half_open.into(), pending as u64, relaxed.into()];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.store(value, Ordering::Relaxed);
        }
    }

    /// Packets dropped for this reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        load(&self.drops, reason.index())
    }

    /// Packets that passed although the tracker did not learn from them.
    pub fn unlearned(&self, why: Why) -> u64 {
        load(&self.unlearned, why as usize)
    }

    /// An event's count.
    pub fn event(&self, event: Event) -> u64 {
        load(&self.events, event as usize)
    }

    /// Sessions admitted and packets refused by the rule with this counter slot.
    pub fn rule(&self, slot: u16) -> (u64, u64) {
        self.rules.get(usize::from(slot)).map_or((0, 0), |rule| {
            (rule.sessions.load(Ordering::Relaxed), rule.refused.load(Ordering::Relaxed))
        })
    }

    /// Sessions by class, as of the last burst.
    pub fn sessions(&self) -> [u64; 4] {
        std::array::from_fn(|class| load(&self.gauges, class))
    }

    /// Half-open TCP sessions.
    pub fn half_open(&self) -> u64 {
        load(&self.gauges, 4)
    }

    /// Taken-over TCP connections whose numbers are not known again yet; none on a node that is not active.
    pub fn relaxed(&self) -> u64 {
        load(&self.gauges, 6)
    }

    /// Packets waiting for a neighbour.
    pub fn pending(&self) -> u64 {
        load(&self.gauges, 5)
    }
}

#[inline(always)]
fn add(counters: &[AtomicU64], at: usize, n: u64) {
    if let Some(counter) = counters.get(at) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

fn load(counters: &[AtomicU64], at: usize) -> u64 {
    counters.get(at).map_or(0, |counter| counter.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_without_gaps_and_named_once() {
        let all: Vec<_> = DropReason::all().collect();
        assert_eq!(all.len(), DropReason::COUNT);
        for (i, reason) in all.iter().enumerate() {
            assert_eq!(reason.index(), i);
            assert_eq!(all.iter().filter(|r| r.name() == reason.name()).count(), 1, "{}", reason.name());
            assert!(reason.meaning().ends_with('.'), "{}", reason.name());
        }
    }
}
