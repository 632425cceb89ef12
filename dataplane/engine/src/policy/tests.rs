use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use wire::{FlowKey, Proto};

use super::generate::{SplitMix, generate, queries};
use super::*;
use crate::ids::{GroupId, RuleId, ZoneId};

const LAN: ZoneId = ZoneId(0);
const WAN: ZoneId = ZoneId(1);

fn rule(name: &str, from: impl Into<ZoneSet>, to: impl Into<ZoneSet>, action: Action) -> Rule {
    Rule {
        name: name.into(),
        id: RuleId::from_name(name),
        from: from.into(),
        to: to.into(),
        source: Vec::new(),
        destination: Vec::new(),
        services: Vec::new(),
        action,
        log: false,
        replicate: true,
        sync_after_s: 0,
        group: GroupId(0),
    }
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|p| p.parse().unwrap()).collect()
}

fn port(proto: Proto, low: u16, high: u16) -> Service {
    Service::Ports { proto, low, high }
}

fn query(from: ZoneId, to: ZoneId, src: &str, dst: &str, proto: Proto, dport: u16) -> Query {
    let [src, dst] = [src, dst].map(|a| a.parse::<IpAddr>().unwrap().into());
    Query { from, to, key: FlowKey::new(src, dst, proto, 40_000, dport).unwrap(), echo: false }
}

fn compile(rules: &[Rule]) -> Policy {
    Policy::compile(rules, &mut RuleSlots::new()).unwrap()
}

/// What the meaning of the rules demands.
fn expected(policy: &Policy, query: &Query) -> Decision {
    match oracle::first_match(policy.rules(), query) {
        Some(place) => policy.decisions()[place],
        None => Decision::DEFAULT_DENY,
    }
}

/// The default policy of the lab: LAN to WAN tcp, udp and echo; nothing else.
fn lab() -> Vec<Rule> {
    let services = vec![Service::Proto(Proto::TCP), Service::Proto(Proto::UDP), Service::IcmpEcho];
    vec![
        Rule { destination: nets(&["10.2.0.66/32"]), ..rule("no-printer", LAN, WAN, Action::Reject) },
        Rule { services, ..rule("lan-to-wan", LAN, WAN, Action::Allow) },
        Rule {
            services: vec![Service::IcmpEcho],
            log: true,
            replicate: false,
            sync_after_s: 9,
            group: GroupId(3),
            ..rule("ping-me", ZoneSet::ANY, ZoneId::SELF, Action::Allow)
        },
    ]
}

#[test]
fn the_lab_policy_decides_as_it_reads() {
    let policy = compile(&lab());
    let name = |q: &Query| {
        let id = policy.classify(q).rule;
        policy.rules().iter().find(|r| r.id == id).map_or("default-deny", |r| r.name.as_str())
    };
    let cases = [
        (LAN, WAN, "10.1.0.10", "10.2.0.10", Proto::TCP, 80, false, "lan-to-wan"),
        (LAN, WAN, "fd00:1::10", "fd00:2::10", Proto::UDP, 53, false, "lan-to-wan"),
        (LAN, WAN, "10.1.0.10", "10.2.0.66", Proto::TCP, 80, false, "no-printer"),
        (LAN, WAN, "10.1.0.10", "10.2.0.10", Proto::ICMP, 0, true, "lan-to-wan"),
        (LAN, WAN, "fd00:1::10", "fd00:2::10", Proto::ICMP6, 0, true, "lan-to-wan"),
        (LAN, WAN, "10.1.0.10", "10.2.0.10", Proto::ICMP, 0, false, "default-deny"),
        (LAN, WAN, "10.1.0.10", "10.2.0.10", Proto::GRE, 0, false, "default-deny"),
        (WAN, LAN, "10.2.0.10", "10.1.0.10", Proto::TCP, 22, false, "default-deny"),
        (LAN, ZoneId::SELF, "10.1.0.10", "10.1.0.1", Proto::ICMP, 0, true, "ping-me"),
        (LAN, ZoneId::SELF, "10.1.0.10", "10.1.0.1", Proto::TCP, 22, false, "default-deny"),
        (ZoneId(9), ZoneId(8), "10.1.0.10", "10.2.0.10", Proto::TCP, 80, false, "default-deny"),
    ];
    for (from, to, src, dst, proto, dport, echo, wanted) in cases {
        let query = Query { echo, ..query(from, to, src, dst, proto, dport) };
        assert_eq!(name(&query), wanted, "{query:?}");
        assert_eq!(policy.classify(&query), expected(&policy, &query), "{query:?}");
    }
}

#[test]
fn a_decision_carries_all_that_the_rule_says() {
    let policy = compile(&lab());
    let ping = Query { echo: true, ..query(WAN, ZoneId::SELF, "10.2.0.10", "10.2.0.1", Proto::ICMP, 0) };
    let wanted = Decision {
        action: Action::Allow,
        rule: RuleId::from_name("ping-me"),
        slot: 3,
        log: true,
        replicate: false,
        sync_after_s: 9,
        group: GroupId(3),
    };
    assert_eq!(policy.classify(&ping), wanted);
    let nothing = query(WAN, LAN, "10.2.0.10", "10.1.0.10", Proto::TCP, 22);
    assert_eq!(policy.classify(&nothing), Decision::DEFAULT_DENY);
    assert_eq!(compile(&[]).classify(&ping), Decision::DEFAULT_DENY);
}

#[test]
fn rules_keep_their_order_across_words_and_kinds() {
    // 200 narrow rules between wide ones: the wide one at the front of what is left decides.
    let mut rules: Vec<Rule> = (0..200)
        .map(|i| Rule {
            services: vec![port(Proto::TCP, i, i)],
            ..rule(&format!("p{i}"), LAN, WAN, Action::Allow)
        })
        .collect();
    rules.insert(100, rule("wide", ZoneSet::ANY, ZoneSet::ANY, Action::Drop));
    let policy = compile(&rules);
    for dport in 0..300 {
        let q = query(LAN, WAN, "10.0.0.1", "10.0.0.2", Proto::TCP, dport);
        let wanted = if dport < 100 { format!("p{dport}") } else { "wide".into() };
        assert_eq!(policy.classify(&q).rule, RuleId::from_name(&wanted), "{dport}");
    }
}

#[test]
fn address_lists_are_classes_and_not_rules() {
    let mut rng = SplitMix::new(3);
    let list: Vec<IpNet> = (0..100_000)
        .map(|_| IpNet::new(IpAddr::from((rng.bits() as u32).to_be_bytes()), 32).unwrap())
        .collect();
    let listed = list[77_777].addr().to_string();
    let rules = [
        Rule { source: list, ..rule("blocked", ZoneSet::ANY, ZoneSet::ANY, Action::Drop) },
        rule("rest", ZoneSet::ANY, ZoneSet::ANY, Action::Allow),
    ];
    let policy = compile(&rules);
    let from = |src: &str| policy.classify(&query(WAN, LAN, src, "10.0.0.1", Proto::TCP, 1)).rule;
    assert_eq!(from(&listed), RuleId::from_name("blocked"));
    assert_eq!(from("10.0.0.0"), RuleId::from_name("rest"));
    assert!(policy.memory_bytes() < 32 << 20, "{}", policy.memory_bytes());
    assert!(policy.words.len() < 20, "{:?}", policy.words);
}

fn error(rules: &[Rule]) -> String {
    Policy::compile(rules, &mut RuleSlots::new()).unwrap_err().to_string()
}

#[test]
fn errors_say_which_rule_and_what_to_do() {
    let good = rule("good", LAN, WAN, Action::Allow);
    assert_eq!(error(&[good.clone(), good.clone()]), "two rules are named `good`; rename one of them");
    let twin = Rule { id: good.id, ..rule("twin", LAN, WAN, Action::Allow) };
    assert!(error(&[good.clone(), twin]).starts_with("the rules `good` and `twin` have the same id"));
    let reserved = Rule { id: RuleId::DEFAULT_DENY, ..good.clone() };
    assert!(error(&[reserved]).starts_with("rule `good` has the id of the default rule"));
    let nowhere = rule("nowhere", LAN, ZoneSet::NONE, Action::Allow);
    assert_eq!(error(&[nowhere]), "rule `nowhere` has no zone in its `to` list; name one, or \"any\"");
    let inverted = Rule { services: vec![port(Proto::UDP, 20, 10)], ..good.clone() };
    assert_eq!(error(&[inverted]), "rule `good`: the port range 20-10 is the wrong way round; write 10-20");
    let portless = Rule { services: vec![port(Proto::GRE, 1, 1)], ..good.clone() };
    assert!(error(&[portless]).starts_with("rule `good` names ports of IP protocol 47"));
    let mixed = Rule { source: nets(&["10.0.0.0/8"]), destination: nets(&["fd00::/8"]), ..good.clone() };
    assert!(error(&[mixed]).starts_with("rule `good` can never match: its sources are IPv4 only"));
    let many: Vec<Rule> = (0..4097).map(|i| rule(&format!("{i}"), LAN, WAN, Action::Drop)).collect();
    assert!(error(&many).starts_with("4097 rules, at most 4096 are possible"));
}

#[test]
fn a_refused_rule_set_leaves_the_slots_alone() {
    let mut slots = RuleSlots::new();
    Policy::compile(&lab(), &mut slots).unwrap();
    let bad = [rule("new", LAN, WAN, Action::Allow), rule("new", LAN, WAN, Action::Allow)];
    Policy::compile(&bad, &mut slots).unwrap_err();
    assert_eq!(slots.slot(RuleId::from_name("new")), None);
    let policy = Policy::compile(&lab()[1..], &mut slots).unwrap();
    assert_eq!(policy.decisions().iter().map(|d| d.slot).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_rule_hidden_by_one_before_it_is_a_warning() {
    let wide = Rule {
        source: nets(&["10.0.0.0/9", "10.128.0.0/9"]),
        services: vec![port(Proto::TCP, 0, 99), port(Proto::TCP, 100, 200)],
        ..rule("wide", ZoneSet::TRANSIT, WAN, Action::Allow)
    };
    let hidden = Rule {
        source: nets(&["10.0.0.0/8"]),
        destination: nets(&["192.0.2.0/24"]),
        services: vec![port(Proto::TCP, 50, 150)],
        ..rule("hidden", LAN, WAN, Action::Drop)
    };
    let warn = |rules: &[Rule]| compile(rules).warnings().to_vec();
    let found = PolicyWarning::Unreachable { rule: "hidden".into(), by: "wide".into() };
    assert_eq!(warn(&[wide.clone(), hidden.clone()]), [found]);
    assert_eq!(warn(&[hidden.clone(), wide.clone()]), []);
    let one_port_more = Rule { services: vec![port(Proto::TCP, 50, 201)], ..hidden.clone() };
    assert_eq!(warn(&[wide.clone(), one_port_more]), []);
    let one_address_more = Rule { source: nets(&["10.0.0.0/8", "11.0.0.0/32"]), ..hidden.clone() };
    assert_eq!(warn(&[wide.clone(), one_address_more]), []);
    let other_family = Rule { source: nets(&["fd00::/8"]), destination: Vec::new(), ..hidden.clone() };
    assert_eq!(warn(&[wide.clone(), other_family]), []);
    let to_itself = Rule { to: ZoneSet::ANY, ..hidden };
    assert_eq!(warn(&[wide, to_itself]), []);
}

#[test]
fn warnings_tell_the_truth_about_generated_rules() {
    let rules = generate(11, 600, 3);
    let policy = compile(&rules);
    assert!(!policy.warnings().is_empty());
    let hidden: Vec<&str> =
        policy.warnings().iter().map(|PolicyWarning::Unreachable { rule, .. }| rule.as_str()).collect();
    for q in queries(12, &rules, 3, 20_000) {
        if let Some(place) = oracle::first_match(&rules, &q) {
            assert!(!hidden.contains(&rules[place].name.as_str()), "{q:?}");
        }
    }
}

/// Moves a question to a neighbouring value in one of its dimensions: boundaries are where mistakes live.
fn nudge(rng: &mut SplitMix, q: &Query) -> Query {
    let mut q = *q;
    let step = if rng.below(2) == 0 { 1_u32 } else { u32::MAX };
    let far = rng.below(32);
    let moved = |word: u32| word.wrapping_add(step.wrapping_mul(1 << far));
    let source = rng.below(2) == 0;
    match rng.below(8) {
        0..3 if q.key.is_v6() => {
            let half = usize::from(rng.below(2) == 0) + if source { 0 } else { 2 };
            let value = u64::from_be(q.key.a[half]);
            let change = 1_u64.wrapping_shl(rng.below(64));
            let value = if step == 1 { value.wrapping_add(change) } else { value.wrapping_sub(change) };
            q.key.a[half] = value.to_be();
        }
        0..3 => {
            let shift = if source { 0 } else { 32 };
            let value = moved(u32::from_be((q.key.a[0] >> shift) as u32)).to_be();
            q.key.a[0] = q.key.a[0] & !(0xffff_ffff << shift) | u64::from(value) << shift;
        }
        3 => {
            let dport = q.key.dport().wrapping_add(step as u16);
            q.key.tail = q.key.tail & !0xffff_0000 | u64::from(dport) << 16;
        }
        4 => {
            let proto = [6, 17, 132, 1, 58, 47, rng.below(256) as u8][rng.below(7) as usize];
            q.key.tail = q.key.tail & !(0xff << 32) | u64::from(proto) << 32;
        }
        5 => q.from = [ZoneId::SELF, ZoneId(rng.below(256) as u8)][rng.below(2) as usize],
        6 => q.to = [ZoneId::SELF, ZoneId(rng.below(256) as u8)][rng.below(2) as usize],
        _ => q.echo = !q.echo,
    }
    q
}

fn agree(policy: &Policy, q: &Query) -> Result<(), TestCaseError> {
    prop_assert_eq!(policy.classify(q), expected(policy, q), "{:?}", q);
    Ok(())
}

/// Takes parts of the rules apart in ways that the generator does not: mixed families in one list, any
/// and the firewall as zones, nested and repeated prefixes, overlapping services.
fn vary(rng: &mut SplitMix, rules: &mut [Rule]) {
    let donors: Vec<Rule> = rules.to_vec();
    for rule in rules {
        let donor = &donors[rng.below(donors.len() as u32) as usize];
        match rng.below(12) {
            0 => rule.from = ZoneSet::ANY,
            1 => rule.to = ZoneSet::ANY,
            2 => rule.from = rule.from.with(ZoneId::SELF).with(ZoneId(254)),
            3 => rule.to = rule.to.with(ZoneId::SELF).with(ZoneId(64)),
            4 => {
                rule.source.extend(&donor.source);
                rule.destination.extend(&donor.destination);
            }
            5 => rule.source.extend(donor.source.iter().filter_map(|p| p.supernet())),
            6 => rule.services.extend(&donor.services),
            7 => rule.services.push(Service::Any),
            8 => rule.source = nets(&["0.0.0.0/0", "::/0"]),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn compiled_equals_first_match(seed: u64, count in 1_usize..150, zones in 1_u8..6) {
        let mut rng = SplitMix::new(seed);
        let mut rules = generate(seed, count, zones);
        vary(&mut rng, &mut rules);
        rules.retain(|r| check::validate(std::slice::from_ref(r)).is_ok());
        let policy = compile(&rules);
        for q in queries(seed, &rules, zones, 200) {
            agree(&policy, &q)?;
            let near = nudge(&mut rng, &q);
            agree(&policy, &near)?;
            agree(&policy, &nudge(&mut rng, &near))?;
        }
    }
}

#[test]
fn large_policies_stay_right_and_small() {
    for (count, zones, limit_kb) in [(1000, 8, 1 << 10), (4096, 8, 4 << 10), (4096, 32, 16 << 10)] {
        let rules = generate(1, count, zones);
        let policy = compile(&rules);
        assert!(policy.memory_bytes() >> 10 < limit_kb, "{count}: {}", policy.memory_bytes());
        let mut rng = SplitMix::new(4);
        for q in queries(5, &rules, zones, 2000) {
            for q in [q, nudge(&mut rng, &q)] {
                assert_eq!(policy.classify(&q), expected(&policy, &q), "{q:?}");
            }
        }
    }
}
