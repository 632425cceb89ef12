//! The standby's side of comparison and repair: verdicts over digests, and mentions of what it holds.

use std::collections::VecDeque;

use super::hash::{BUCKETS, bucket_of};
use super::marks::Marks;
use super::message::{
    LISTED, Level, VERDICTS, Verdict, kind, read_ask, read_digests, write_buckets, write_mentioned,
    write_verdicts,
};
use super::{Reading, Sink, Stream};
use crate::ids::{Micros, SessionHandle};
use crate::record::{Mention, Record, RecordWriter};

/// Verdicts that wait to be sent, at most; the active node asks again.
const MAX_VERDICTS: usize = 4_096;
/// Mentions that wait to be sent.
const MAX_MENTIONS: usize = 1_024;
/// Handles that one turn looks through for sessions to mention.
const QUANTUM: u32 = 16_384;

/// What the standby has to say about its table.
#[derive(Debug)]
pub(super) struct Answers {
    verdicts: VecDeque<(u32, Level, u16, Verdict)>,
    /// Buckets that are asked about, under this token.
    asked: Marks,
    token: u32,
    /// Handles that are still to be looked through, and the next one.
    left: u32,
    at: u32,
    mentions: VecDeque<Mention>,
    /// All is mentioned, and that is to be said.
    report: bool,
    /// Buckets that are damaged here.
    pub want: Marks,
    want_at: Micros,
}

impl Answers {
    pub fn new() -> Self {
        Self {
            verdicts: VecDeque::new(),
            asked: Marks::new(BUCKETS as u32),
            token: 0,
            left: 0,
            at: 0,
            mentions: VecDeque::new(),
            report: false,
            want: Marks::new(BUCKETS as u32),
            want_at: Micros::NEVER,
        }
    }

    pub fn clear(&mut self) {
        self.verdicts.clear();
        self.asked.clear_all();
        self.mentions.clear();
        self.want.clear_all();
        (self.token, self.left, self.report, self.want_at) = (0, 0, false, Micros::NEVER);
    }

    /// Asks the active node for a bucket, as often as it takes.
    pub fn want(&mut self, bucket: u16, now: Micros) {
        self.want.set(u32::from(bucket));
        self.want_at = self.want_at.min(now);
    }

    /// When there is something to say.
    pub fn deadline(&self) -> Micros {
        let answers = !self.verdicts.is_empty() || !self.mentions.is_empty() || self.report;
        let at = if answers { Micros(0) } else { Micros::NEVER };
        at.min(if self.want.is_empty() { Micros::NEVER } else { self.want_at })
    }

    /// There are handles to be looked through, and room for what is found.
    pub fn is_walking(&self) -> bool {
        self.left > 0 && self.mentions.len() < MAX_MENTIONS
    }

    /// Writes what there is to say until the datagram is full.
    pub fn write(&mut self, writer: &mut RecordWriter<'_>, now: Micros) {
        self.write_verdicts(writer);
        if now >= self.want_at && !self.want.is_empty() {
            let mut buckets = [0; LISTED];
            let listed = buckets.iter_mut().zip(self.want.iter());
            let found = listed.map(|(place, bucket)| *place = bucket as u16).count();
            if !writer.push_raw(kind::WANT, write_buckets(None, &buckets[..found]).bytes()) {
                return;
            }
            self.want_at = now.after(Micros::from_millis(50));
        }
        while let Some(mention) = self.mentions.front() {
            if !writer.push(&Record::Mention(*mention)) {
                return;
            }
            self.mentions.pop_front();
        }
        if self.report {
            let body = write_mentioned(self.token, self.asked.len());
            self.report = !writer.push_raw(kind::MENTIONED, body.bytes());
        }
    }

    fn write_verdicts(&mut self, writer: &mut RecordWriter<'_>) {
        while let Some(&(token, level, ..)) = self.verdicts.front() {
            let mut said = [(0, Verdict::Busy); VERDICTS];
            let same = self.verdicts.iter().take_while(|(t, l, ..)| (*t, *l) == (token, level));
            let listed = said.iter_mut().zip(same);
            let found = listed.map(|(place, &(_, _, number, verdict))| *place = (number, verdict)).count();
            if !writer.push_raw(kind::VERDICTS, write_verdicts(token, level, &said[..found]).bytes()) {
                return;
            }
            self.verdicts.drain(..found);
        }
    }
}

impl Stream {
    /// The active node's sums: each is compared at once, or said to be busy.
    pub(super) fn digests(&mut self, seq: u64, body: &[u8]) {
        let Some((token, level, sums)) = read_digests(body, seq) else {
            self.counters.skipped += 1;
            return;
        };
        let applied = self.follow.window.applied_through();
        // A table that is not counted, or not settled, says nothing, not even that something is equal.
        let later = self.follow.counting.is_some() || self.follow.has_strays();
        for sum in sums {
            let mine = match level {
                Level::Group => match u8::try_from(sum.number) {
                    Ok(group) => self.table.group(group),
                    Err(_) => continue,
                },
                Level::Bucket => self.table.bucket(sum.number),
            };
            let verdict = if later {
                Verdict::Later
            } else if mine.sum == sum.sum {
                Verdict::Equal
            } else if applied >= sum.last && mine.last < seq {
                // Everything that the sum covers is applied, and nothing that it does not cover.
                Verdict::Differs
            } else {
                Verdict::Busy
            };
            let verdicts = &mut self.follow.answers.verdicts;
            if verdicts.len() < MAX_VERDICTS {
                verdicts.push_back((token, level, sum.number, verdict));
            }
        }
    }

    /// The active node asks what is held in some buckets.
    pub(super) fn asked(&mut self, body: &[u8]) {
        let Some((token, buckets)) = read_ask(body) else {
            self.counters.skipped += 1;
            return;
        };
        let handles = self.table.handles();
        let answers = &mut self.follow.answers;
        let ahead = token.wrapping_sub(answers.token);
        if ahead > u32::MAX / 2 {
            return;
        }
        if ahead > 0 {
            answers.token = token;
            answers.asked.clear_all();
            answers.mentions.clear();
            (answers.left, answers.report) = (0, false);
        }
        let mut new = false;
        for bucket in buckets.map(u32::from) {
            new |= answers.asked.set(bucket);
            answers.want.clear(bucket);
        }
        if new {
            answers.left = handles;
        } else if answers.left == 0 && answers.mentions.is_empty() {
            answers.report = true;
        }
        self.follow.hurry = true;
    }

    /// Looks for what is to be mentioned.
    pub(super) fn walk_mentions(&mut self, sink: &mut impl Sink) {
        if self.follow.counting.is_some() || self.follow.has_strays() {
            return;
        }
        let handles = self.table.handles();
        let mut quantum = QUANTUM;
        while self.follow.answers.is_walking() && quantum > 0 {
            quantum -= 1;
            let answers = &mut self.follow.answers;
            let handle = SessionHandle(answers.at);
            answers.at = if answers.at + 1 < handles { answers.at + 1 } else { 0 };
            answers.left -= 1;
            answers.report = answers.left == 0;
            let entry = self.table.entry(handle);
            if !entry.is_present() || !answers.asked.contains(u32::from(bucket_of(entry.word))) {
                continue;
            }
            if let Reading::Session(session) = sink.held(handle) {
                let (key, version, group) = (session.key, session.version, session.group);
                answers.mentions.push_back(Mention { key, version, group });
            }
        }
        self.follow.hurry |= self.follow.answers.is_walking();
    }
}
