//! The trace language: segments written as tcpdump writes them.
//!
//! `"S 1000 win 64240 wscale 7 sack"`, `"S. 5000 ack 1001"`, `". 1001 ack 5001"` (no data),
//! `"P. 1001:1101 ack 5001"` (100 bytes), `"F. 1101 ack 5001"`, `"R 1001"`. The window is 1000 unless given.
//! Each step is judged twice, on the plain connection and on its packed words, and both must agree.

use wire::{TcpFields, tcp_flags};

use crate::track::{Dir, Segment, SynOptions, TcpConn, TcpState, Verdict, Why, tcp};

/// A segment from its text.
pub fn segment(text: &str) -> Segment {
    let mut words = text.split_whitespace();
    let flags = words.next().expect("flags").chars().fold(0, |flags, letter| {
        flags
            | match letter {
                'S' => tcp_flags::SYN,
                'F' => tcp_flags::FIN,
                'R' => tcp_flags::RST,
                'P' => tcp_flags::PSH,
                'U' => tcp_flags::URG,
                'E' => 0x40,
                'W' => 0x80,
                '.' => tcp_flags::ACK,
                '-' => 0,
                other => panic!("unknown flag {other} in {text:?}"),
            }
    });
    let range = words.next().expect("sequence number");
    let (first, last) = range.split_once(':').unwrap_or((range, range));
    let (seq, end): (u32, u32) = (first.parse().expect("seq"), last.parse().expect("end of data"));
    let mut fields = TcpFields { seq, window: 1000, flags, header_len: 20, ..TcpFields::default() };
    fields.payload_len = u16::try_from(end.wrapping_sub(seq)).expect("at most 65535 bytes");
    let mut options = SynOptions::default();
    while let Some(word) = words.next() {
        let mut number = || words.next().expect("a number").parse::<u32>().expect("a number");
        match word {
            "ack" => fields.ack = number(),
            "win" => fields.window = number() as u16,
            "wscale" => options.scale = Some(number() as u8),
            "sack" => options.sack = true,
            other => panic!("unknown word {other} in {text:?}"),
        }
    }
    Segment { fields, options }
}

/// One connection as the firewall sees it, with its history for the report when a step surprises.
#[derive(Debug, Default)]
pub struct Trace {
    pub conn: Option<TcpConn>,
    history: Vec<String>,
    accepted: u32,
    passed: u32,
    invalid: u32,
}

/// What came of one segment, to be asserted.
pub struct Step<'a> {
    trace: &'a mut Trace,
    before: Option<TcpConn>,
    result: Result<Verdict, Why>,
}

impl Trace {
    pub fn new() -> Trace {
        Trace::default()
    }

    /// A connection after its handshake: initiator 1000, responder 5000, no scaling, windows 1000.
    pub fn established() -> Trace {
        let mut t = Trace::new();
        t.initiator("S 1000").accept(TcpState::SynSent);
        t.responder("S. 5000 ack 1001").accept(TcpState::SynReceived);
        t.initiator(". 1001 ack 5001").accept(TcpState::Established);
        t
    }

    pub fn initiator(&mut self, text: &str) -> Step<'_> {
        self.send(Dir::Initiator, text)
    }

    pub fn responder(&mut self, text: &str) -> Step<'_> {
        self.send(Dir::Responder, text)
    }

    /// Many times the same, for what must hold for ever.
    pub fn send(&mut self, dir: Dir, text: &str) -> Step<'_> {
        let before = self.conn;
        let result = self.judge(dir, &segment(text));
        match result {
            Ok(Verdict::Accept { .. } | Verdict::Restart) => self.accepted += 1,
            Ok(Verdict::PassUnlearned(_)) => self.passed += 1,
            Ok(Verdict::Invalid(_)) | Err(_) => self.invalid += 1,
            Ok(Verdict::Reopen) => {}
        }
        let arrow = if dir == Dir::Initiator { "-->" } else { "<--" };
        let state = self.conn.map_or("none", |conn| conn.state.name());
        self.history.push(format!("{arrow} {text:<40} {result:?} {state}"));
        Step { trace: self, before, result }
    }

    /// What a session table would do: track if the flow is known, else try to open.
    pub fn judge(&mut self, dir: Dir, seg: &Segment) -> Result<Verdict, Why> {
        let Some(conn) = &mut self.conn else {
            assert_eq!(dir, Dir::Initiator, "the first segment decides who is the initiator");
            self.conn = Some(tcp::open(seg)?);
            return Ok(Verdict::Accept { changed: true });
        };
        let (mut words, mut meta) = conn.pack();
        let packed = tcp::track_packed(&mut words, &mut meta, dir, seg);
        let verdict = tcp::track(conn, dir, seg);
        assert_eq!(packed, verdict, "plain and packed disagree on {seg:?}");
        assert_eq!(TcpConn::unpack(&words, meta), *conn, "plain and packed disagree after {seg:?}");
        if verdict == Verdict::Reopen {
            self.conn = Some(tcp::open(seg)?);
        }
        Ok(verdict)
    }

    /// Accepted, passed unlearned and invalid segments so far, exactly.
    pub fn totals(&self, accepted: u32, passed: u32, invalid: u32) {
        let counted = (self.accepted, self.passed, self.invalid);
        assert_eq!(counted, (accepted, passed, invalid), "accepted, passed, invalid of{}", self.report());
    }

    pub fn now(&self) -> TcpConn {
        self.conn.expect("a connection")
    }

    fn report(&self) -> String {
        format!("\n  {}\n  {:#?}", self.history.join("\n  "), self.conn)
    }
}

impl Step<'_> {
    /// Accepted, and the connection is in `state`; a changed state must have been announced.
    #[track_caller]
    pub fn accept(self, state: TcpState) {
        let Ok(Verdict::Accept { changed }) = self.result else {
            panic!("expected accept, got {:?}:{}", self.result, self.trace.report())
        };
        let now = self.trace.now();
        assert_eq!(now.state, state, "{}", self.trace.report());
        if self.before.is_none_or(|before| before.state != now.state) {
            assert!(changed, "an unannounced change of state:{}", self.trace.report());
        }
    }

    /// Passed on without a trace in the connection, but for a SYN's or a challenge's mark.
    #[track_caller]
    pub fn pass(self, why: Why) {
        assert_eq!(self.result, Ok(Verdict::PassUnlearned(why)), "{}", self.trace.report());
        let marked = matches!(why, Why::SynOnLive | Why::ChallengeAck);
        assert!(marked || self.trace.conn == self.before, "learned from it:{}", self.trace.report());
        let (before, now) = (self.before.expect("a connection"), self.trace.now());
        assert_eq!((before.state, before.halves), (now.state, now.halves), "{}", self.trace.report());
    }

    /// Refused, with nothing changed.
    #[track_caller]
    pub fn invalid(self, why: Why) {
        let refused = matches!(self.result, Ok(Verdict::Invalid(got)) | Err(got) if got == why);
        assert!(refused, "expected {why:?}, got {:?}:{}", self.result, self.trace.report());
        assert_eq!(self.trace.conn, self.before, "learned from it:{}", self.trace.report());
    }

    /// The session began anew with the responder's answer to a marked SYN.
    #[track_caller]
    pub fn restart(self) {
        assert_eq!(self.result, Ok(Verdict::Restart), "{}", self.trace.report());
        assert_eq!(self.trace.now().state, TcpState::SynReceived, "{}", self.trace.report());
    }

    /// A SYN on a finished session; the trace has opened it again.
    #[track_caller]
    pub fn reopen(self) {
        assert_eq!(self.result, Ok(Verdict::Reopen), "{}", self.trace.report());
        assert_eq!(self.trace.now().state, TcpState::SynSent, "{}", self.trace.report());
    }
}
