//! Segments that a blind attacker could send at any moment of a living connection: outside the windows they
//! never change state. The windows are computed here a second time, in 64-bit arithmetic.

use proptest::prelude::*;
use wire::{TcpFields, tcp_flags};

use super::model::Network;
use crate::track::tcp::{self, Half, Known, TcpConn, TcpState, conn_flags};
use crate::track::{Dir, Segment, SynOptions, Verdict, Why};

/// `value` as a distance from `base`, −2^31 to 2^31 − 1.
fn distance(value: u32, base: u32) -> i64 {
    i64::from(value.wrapping_sub(base) as i32)
}

fn window(half: &Half) -> i64 {
    i64::from(half.max_window) << half.scale
}

/// True if van Rooij's bounds allow the segment.
fn is_in_window(conn: &TcpConn, dir: Dir, fields: &TcpFields) -> bool {
    let (sender, receiver) = (&conn.halves[dir.index()], &conn.halves[dir.other().index()]);
    let end = fields.seq.wrapping_add(u32::from(fields.payload_len));
    distance(end, sender.max_end) <= 2
        && distance(end, sender.end) >= -window(receiver) - 4
        && distance(fields.ack, receiver.end) <= 0
        && distance(fields.ack, receiver.end) >= -window(sender) - 4
}

fn is_exact_rst(conn: &TcpConn, dir: Dir, fields: &TcpFields) -> bool {
    fields.seq == conn.halves[dir.index()].end || fields.seq == conn.halves[dir.other().index()].ack
}

prop_compose! {
    /// A number near one that matters, or anywhere.
    fn number()(kind in 0..3_u8, near in -70_000..70_000_i32, close in -6..6_i32, any in any::<u32>())
        -> (bool, u32) {
        match kind {
            0 => (true, near as u32),
            1 => (true, close as u32),
            _ => (false, any),
        }
    }
}

prop_compose! {
    fn forged()(
        seq in number(), ack in number(), by_max_end in any::<bool>(),
        window in any::<u16>(), payload in prop_oneof![Just(0_u16), 0..1500_u16],
        flags in prop_oneof![
            4 => Just(tcp_flags::ACK),
            2 => Just(tcp_flags::ACK | tcp_flags::FIN),
            2 => Just(tcp_flags::RST),
            1 => Just(tcp_flags::RST | tcp_flags::ACK),
            1 => Just(tcp_flags::SYN),
            1 => Just(tcp_flags::SYN | tcp_flags::ACK),
            1 => any::<u8>(),
        ],
        scale in prop::option::of(0..15_u8), from_initiator in any::<bool>(),
    ) -> Forgery {
        Forgery { seq, ack, by_max_end, window, payload, flags, scale, from_initiator }
    }
}

#[derive(Debug, Clone, Copy)]
struct Forgery {
    seq: (bool, u32),
    ack: (bool, u32),
    by_max_end: bool,
    window: u16,
    payload: u16,
    flags: u8,
    scale: Option<u8>,
    from_initiator: bool,
}

impl Forgery {
    fn against(&self, conn: &TcpConn) -> (Dir, Segment) {
        let dir = if self.from_initiator { Dir::Initiator } else { Dir::Responder };
        let (sender, receiver) = (&conn.halves[dir.index()], &conn.halves[dir.other().index()]);
        let base = if self.by_max_end { sender.max_end } else { sender.end };
        let place =
            |(near, value): (bool, u32), base: u32| if near { base.wrapping_add(value) } else { value };
        let fields = TcpFields {
            seq: place(self.seq, base).wrapping_sub(u32::from(self.payload)),
            ack: place(self.ack, receiver.end),
            window: self.window,
            flags: self.flags,
            header_len: 20,
            payload_len: self.payload,
        };
        (dir, Segment { fields, options: SynOptions { scale: self.scale, sack: false } })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn x_07_outside_the_windows_nothing_changes_the_state(
        seed in any::<u64>(), steps in 0..3000_u32,
        forgeries in prop::collection::vec(forged(), 100),
    ) {
        let mut network = Network::new(seed);
        network.run_into_the_middle(steps);
        let conn = network.firewall.now();
        for forgery in forgeries {
            let (dir, seg) = forgery.against(&conn);
            let mut after = conn;
            let verdict = tcp::track(&mut after, dir, &seg);
            if after == conn {
                continue;
            }
            let control = seg.fields.flags & (tcp_flags::SYN | tcp_flags::RST | tcp_flags::FIN | tcp_flags::ACK);
            match control {
                tcp_flags::SYN if verdict == Verdict::PassUnlearned(Why::SynOnLive) => {
                    let cleared = TcpConn { mark: conn.mark, mark_scale: conn.mark_scale, flags: conn.flags, ..after };
                    prop_assert_eq!(cleared, conn, "a SYN leaves its mark and nothing else");
                    prop_assert_eq!(after.flags & !conn_flags::MARKED, conn.flags & !conn_flags::MARKED);
                }
                tcp_flags::ACK | 0x11 => {
                    prop_assert!(is_in_window(&conn, dir, &seg.fields), "{verdict:?} for {seg:?} on {conn:#?}");
                }
                0x04 | 0x14 => {
                    prop_assert!(is_exact_rst(&conn, dir, &seg.fields), "{verdict:?} for {seg:?} on {conn:#?}");
                    prop_assert_eq!(after.state, TcpState::Closed);
                }
                // An old duplicate of the SYN was marked, and its number guessed: 32 bits, like an exact RST.
                0x12 if conn.flags & conn_flags::MARKED != 0 => {
                    prop_assert_eq!(verdict, Verdict::Restart);
                    prop_assert_eq!((dir, seg.fields.ack), (Dir::Responder, conn.mark.wrapping_add(1)));
                }
                _ => prop_assert!(false, "{verdict:?} for {seg:?} on {conn:#?}"),
            }
        }
    }

    #[test]
    fn what_fits_the_bounds_is_accepted_and_learned(
        seed in any::<u64>(), steps in 0..3000_u32,
        forgeries in prop::collection::vec(forged(), 100),
    ) {
        // The other half of the oracle: on an established connection the hot path takes exactly these.
        let mut network = Network::new(seed);
        network.run_into_the_middle(steps);
        let mut conn = network.firewall.now();
        conn.state = TcpState::Established;
        conn.flags = conn_flags::SYN_ACKED | conn_flags::SYN_ACKED << 1;
        for forgery in forgeries {
            let (dir, mut seg) = forgery.against(&conn);
            seg.fields.flags = tcp_flags::ACK;
            let mut after = conn;
            let verdict = tcp::track(&mut after, dir, &seg);
            let fits = is_in_window(&conn, dir, &seg.fields);
            // Told of once in 2^28 bytes.
            let changed = (after.halves[dir.index()].end ^ conn.halves[dir.index()].end) >> 28 != 0;
            prop_assert_eq!(verdict == Verdict::Accept { changed }, fits, "{:?} for {:?} on {:#?}", verdict, seg, conn);
        }
    }

    #[test]
    fn any_segment_on_any_connection_is_survived(
        words in any::<[u64; 4]>(), meta in any::<u32>(), fields in any::<(u32, u32, u16, u8, u16)>(),
        scale in prop::option::of(any::<u8>()), from_initiator in any::<bool>(),
    ) {
        // Also what a partner's record could hold: no panic, and plain and packed agree.
        let mut conn = TcpConn::unpack(&words, meta);
        let (seq, ack, window, flags, payload_len) = fields;
        let fields = TcpFields { seq, ack, window, flags, header_len: 20, payload_len };
        let seg = Segment { fields, options: SynOptions { scale, sack: true } };
        let dir = if from_initiator { Dir::Initiator } else { Dir::Responder };
        let (mut words, mut meta) = conn.pack();
        let packed = tcp::track_packed(&mut words, &mut meta, dir, &seg);
        prop_assert_eq!(packed, tcp::track(&mut conn, dir, &seg));
        prop_assert_eq!(TcpConn::unpack(&words, meta), conn);
        let _ = tcp::open(&seg);
    }

    /// A mirror tells of a connection what it was told.
    #[test]
    fn x_03_a_connection_is_handed_on_without_a_loss(
        words in any::<[u64; 4]>(), meta in any::<u32>(), idle in any::<bool>(),
    ) {
        let told = TcpConn::unpack(&words, meta).told();
        let (words, meta) = told.taken_over(idle).pack();
        prop_assert_eq!(tcp::is_idle(meta), idle);
        prop_assert_eq!(TcpConn::unpack(&words, meta).told(), told);
    }

    #[test]
    fn packing_keeps_every_field(
        halves in any::<[(u32, u32, u32, u16, u8); 2]>(), state in 0..9_u8, flags in 0..4096_u16,
        mark in any::<u32>(), mark_scale in 0..16_u8, known in any::<[u8; 2]>(),
    ) {
        let halves = halves.map(|(end, max_end, ack, max_window, scale)| {
            Half { end, max_end, ack, max_window, scale: scale % 15 }
        });
        let known = known.map(|bits| Known::from_bits(bits.into()));
        let conn = TcpConn { state: TcpState::from_bits(state), flags, halves, mark, mark_scale, known };
        let (words, meta) = conn.pack();
        prop_assert_eq!(TcpConn::unpack(&words, meta), conn);
        prop_assert_eq!(tcp::state_of(meta), conn.state);
        prop_assert_eq!(meta >> 28, known[0] as u32 | (known[1] as u32) << 2);
        prop_assert_eq!(words[0], u64::from(halves[0].end) | u64::from(halves[0].max_end) << 32);
        prop_assert_eq!(words[2] >> 48 | words[3] >> 48 << 16, u64::from(mark));
    }
}
