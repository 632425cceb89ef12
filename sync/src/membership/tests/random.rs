//! Any events in any order: no panic, and what must hold holds.

use super::super::*;
use super::pair::{A, B, Pair};
use crate::heartbeat::{Areas, Beat, Claim, Difference, Echo};
use crate::ids::{Incarnation, Micros, NodeId, PathId, Term};
use crate::lease::RoleWord;
use proptest::prelude::*;
use std::sync::Arc;

fn any_claim() -> impl Strategy<Value = Claim> {
    let terms = (0u32..40, 0u32..40, 0u32..40, proptest::option::of(0u32..40));
    let flags = any::<[bool; 6]>();
    let standing = proptest::option::of((any::<bool>(), 0u32..9, 0u8..=100));
    (0..Role::ALL.len(), terms, flags, 0u8..4, 0u8..=100, 0u8..6, any::<u16>(), standing).prop_map(
        |(role, (term, seen, reserve, vote), flags, mirror, quality, phase, until, standing)| {
            let t = |term| Term::new(term).unwrap();
            Claim {
                role: Role::ALL[role],
                term: t(term),
                seen: t(seen),
                reserve: t(reserve),
                vote: vote.map(t),
                able: flags[0],
                may_take_over: flags[1],
                fenced: flags[2],
                preferred: flags[3],
                forced_active: flags[4],
                leaving: flags[0] && !flags[1],
                mirror: Mirror::from_wire(mirror).unwrap(),
                quality,
                phase: Phase::from_wire(phase, t(reserve), Micros(u64::from(until))).unwrap(),
                contest: standing.map(|(able, activity, quality)| Standing { able, activity, quality }),
            }
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    let beat = (any_claim(), 0u64..3, 0u64..50, 0u64..3_000, 0u8..3).prop_map(
        |(claim, incarnation, number, clock, path)| {
            let said = Echo { incarnation: Incarnation(incarnation), number, clock: Micros(clock * 1_000) };
            let echo = Echo { incarnation: Incarnation(9), ..said };
            let differs = (number % 7 == 0).then_some(Difference::Config(Areas::default()));
            Event::Heard { path: PathId(path), beat: Beat { said, echo, claim }, differs }
        },
    );
    let fitness = (0u8..3, any::<bool>(), any::<u8>(), 0u32..9).prop_map(
        |(forwarding, config_valid, quality, activity)| {
            let forwarding =
                [Forwarding::Able, Forwarding::Isolated, Forwarding::Fault][usize::from(forwarding)];
            Event::Fitness(Fitness { forwarding, config_valid, quality, activity })
        },
    );
    prop_oneof![
        4 => Just(Event::Tick),
        6 => beat,
        1 => (0u64..3).prop_map(|incarnation| Event::PeerConfirmed(Incarnation(incarnation))),
        3 => Just(Event::BeatsSent),
        2 => Just(Event::Drained),
        1 => (0u8..3, any::<bool>()).prop_map(|(path, up)| Event::PathLink { path: PathId(path), up }),
        1 => fitness,
        1 => (0u8..4).prop_map(|mirror| Event::Mirror(Mirror::from_wire(mirror).unwrap())),
        1 => any::<bool>().prop_map(Event::Proven),
        1 => (0u32..40).prop_map(|term| Event::Persisted(Term::new(term).unwrap())),
        1 => (0u32..40).prop_map(|term| Event::Installed(Term::new(term).unwrap())),
        1 => Just(Event::TargetPrepared),
        1 => Just(Event::Parked),
        1 => Just(Event::Flushed),
        1 => (0usize..4).prop_map(|command| Event::Command(
            [Command::Switchover, Command::ForceActive, Command::ForceStandby, Command::Unforce][command]
        )),
    ]
}

/// What happens to a pair, for the second property.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Run(u64),
    Kill(usize),
    Stall(usize, bool),
    Cut(usize, bool),
    Forward(usize, bool),
    Switchover(usize),
    Sync,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (1u64..700).prop_map(Happening::Run),
        1 => (0usize..2).prop_map(Happening::Kill),
        2 => (0usize..2, any::<bool>()).prop_map(|(node, on)| Happening::Stall(node, on)),
        2 => (0usize..2, any::<bool>()).prop_map(|(path, on)| Happening::Cut(path, on)),
        1 => (0usize..2, any::<bool>()).prop_map(|(node, on)| Happening::Forward(node, on)),
        2 => (0usize..2).prop_map(Happening::Switchover),
        2 => Just(Happening::Sync),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_sequence_of_events_panics_or_breaks_an_invariant(
        events in proptest::collection::vec((any_event(), 0u64..400_000), 1..200)
    ) {
        let config = Arc::new(Config::new(NodeId(0), NodeId(1)));
        let mut state = State::new(config, Incarnation(9), Term::ZERO, Micros(0));
        let mut now = Micros(0);
        let mut term = Term::ZERO;
        for (event, pause) in events {
            now = now.after(Micros(pause));
            let was_active = state.role() == Role::Active;
            let sent = event == Event::BeatsSent;
            let lease = state.role_word().deadline;
            let (next, effects) = step(state, event, now);
            state = next;
            prop_assert!(effects.len() < 24, "{effects:?}");
            let word = state.role_word();
            // The workers always see the word that holds, and it survives packing.
            prop_assert!(state.shown == Some(word));
            prop_assert_eq!(RoleWord::unpack(word.pack()).role, word.role);
            if state.role() == Role::Active {
                // A claimed term is this node's own and grows.
                prop_assert_eq!(state.term().get() % 2, 0);
                prop_assert!(state.term() >= term);
                term = state.term();
            } else {
                prop_assert_eq!(word.deadline, Micros(0));
            }
            // Only a heartbeat that went out lengthens a lease.
            if was_active && word.deadline > lease && !sent {
                prop_assert!(word.deadline <= now, "{word:?}");
            }
            prop_assert!(state.deadline() <= now.after(Micros::from_millis(50)));
        }
    }

    #[test]
    fn whatever_happens_a_healed_pair_ends_with_one_active(
        happenings in proptest::collection::vec(any_happening(), 1..25)
    ) {
        let mut pair = Pair::at_work();
        for happening in happenings {
            match happening {
                Happening::Run(ms) => pair.run(ms),
                Happening::Kill(node) => {
                    pair.kill(node);
                    pair.run(50);
                    pair.start(node);
                }
                Happening::Stall(node, on) => pair.nodes[node].stalled = on,
                Happening::Cut(path, on) => pair.cut[path] = [on; 2],
                Happening::Forward(node, able) => pair.fitness(node, |fitness| {
                    fitness.forwarding = if able { Forwarding::Able } else { Forwarding::Isolated };
                }),
                Happening::Switchover(node) => pair.event(node, Event::Command(Command::Switchover)),
                Happening::Sync => {
                    for node in [A, B] {
                        if pair.role(node) == Some(Role::Syncing) {
                            pair.sync(node);
                        }
                    }
                }
            }
        }
        pair.cut_all(false);
        for node in [A, B] {
            pair.nodes[node].stalled = false;
            pair.fitness(node, |fitness| fitness.forwarding = Forwarding::Able);
        }
        pair.run(1);
        pair.confirm(A);
        pair.confirm(B);
        pair.run(5_000);
        pair.overlaps.clear();
        pair.run(500);
        let active = [A, B].map(|node| pair.role(node) == Some(Role::Active));
        prop_assert_eq!(active.iter().filter(|active| **active).count(), 1, "{:?}", pair.roles());
        prop_assert!(pair.forwards(A) != pair.forwards(B));
        prop_assert_eq!(pair.state(A).term(), pair.state(B).term());
    }
}
