//! The second opinion: does the partner still answer ping when its heartbeats are missing (S-26)?
//!
//! Its workers answer an echo request to its own address whatever its role, and whether its sync core runs
//! or not. So a partner that is silent and answers has a sync core that hangs, and one that does not has
//! died or is cut off. The answer decides nothing: a takeover comes after the partner's lease has ended by
//! itself, so it is as safe with an answer as without. It tells the operator where to look, and costs the
//! takeover no time, since it is asked for while the missing heartbeats are being waited for.

use sync::ids::Micros;

/// What the partner's silence looks like by ICMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opinion {
    /// Its workers answer.
    Answering,
    /// Nothing answers.
    Silent,
    /// It could not be asked.
    Unknown,
}

impl Opinion {
    /// The name that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answering => "answering",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
        }
    }
}

/// Asks while the partner is silent.
#[derive(Debug)]
pub struct SecondOpinion {
    /// Tells our questions from others'.
    id: u16,
    interval: Micros,
    sequence: u16,
    next: Micros,
    questions: u32,
    answered: bool,
}

/// Questions about one silence.
const QUESTIONS: u32 = 8;

impl SecondOpinion {
    /// For heartbeats that come in this interval.
    pub fn new(id: u16, interval: Micros) -> Self {
        Self { id, interval, sequence: 0, next: Micros(0), questions: 0, answered: false }
    }

    /// The identifier of all questions.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Whether an answer may be on its way.
    pub fn is_asking(&self) -> bool {
        self.questions > 0
    }

    /// The partner was last heard so long ago; nothing if it never was. The sequence number of a question
    /// that is due: from the first missed heartbeat on, twice an interval.
    pub fn look(&mut self, silent: Option<Micros>, now: Micros) -> Option<u16> {
        let missed = Micros(self.interval.0 + self.interval.0 / 2);
        if silent.is_none_or(|silent| silent < missed) {
            (self.questions, self.answered, self.next) = (0, false, Micros(0));
            return None;
        }
        if self.questions >= QUESTIONS || now < self.next {
            return None;
        }
        self.next = now.after(Micros(self.interval.0 / 2));
        self.sequence = self.sequence.wrapping_add(1);
        Some(self.sequence)
    }

    /// A question left.
    pub fn asked(&mut self) {
        self.questions += 1;
    }

    /// An answer came in.
    pub fn answered(&mut self) {
        self.answered |= self.is_asking();
    }

    /// What is known by now.
    pub fn verdict(&self) -> Opinion {
        match (self.answered, self.questions) {
            (true, _) => Opinion::Answering,
            (false, 0) => Opinion::Unknown,
            (false, _) => Opinion::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Micros = Micros::from_millis(100);

    fn ms(ms: u64) -> Micros {
        Micros::from_millis(ms)
    }

    /// Questions at these milliseconds of a silence that began at 0.
    fn asked(second: &mut SecondOpinion, until: u64) -> Vec<u64> {
        let due = |at: &u64| {
            let question = second.look(Some(ms(*at)), ms(*at));
            question.inspect(|_| second.asked()).is_some()
        };
        (0..until).filter(due).collect()
    }

    #[test]
    fn s_26_it_is_asked_from_the_first_missed_heartbeat_and_known_before_the_third() {
        let mut second = SecondOpinion::new(7, INTERVAL);
        assert_eq!(second.verdict(), Opinion::Unknown);
        assert_eq!(asked(&mut second, 300), [150, 200, 250]);
        assert_eq!(second.verdict(), Opinion::Silent);
        second.answered();
        assert_eq!(second.verdict(), Opinion::Answering);
        // Heard again: what was found out is over.
        assert_eq!(second.look(Some(ms(10)), ms(310)), None);
        assert_eq!(second.verdict(), Opinion::Unknown);
    }

    #[test]
    fn s_26_a_partner_that_is_heard_or_never_was_is_not_asked_and_a_dead_one_not_for_ever() {
        let mut second = SecondOpinion::new(7, INTERVAL);
        for at in 0..1_000 {
            assert_eq!(second.look(Some(ms(at % 149)), ms(at)), None);
            assert_eq!(second.look(None, ms(at)), None);
        }
        second.answered();
        assert_eq!(second.verdict(), Opinion::Unknown, "nobody had asked");
        assert_eq!(asked(&mut second, 60_000).len(), QUESTIONS as usize);
    }

    #[test]
    fn s_26_a_question_that_could_not_leave_is_no_silence() {
        let mut second = SecondOpinion::new(7, INTERVAL);
        assert!(second.look(Some(ms(200)), ms(200)).is_some());
        assert_eq!(second.verdict(), Opinion::Unknown);
    }
}
