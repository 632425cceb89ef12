//! Does the firewall keep knowing hosts that only listen?

use std::{
    thread,
    time::{Duration, Instant},
};

use lab::{
    Family,
    stream::{StreamKind, Streams},
};
use tests::Bench;

/// A neighbour's answer is trusted for thirty seconds; then it is asked three times, a second apart.
const PAST_THE_QUESTIONS: Duration = Duration::from_secs(40);

#[test]
#[ignore = "most of a minute: make soak"]
fn x_20_hosts_that_only_listen_stay_known_in_both_families() {
    let bench = Bench::up();
    let streams = Streams::start(&Family::BOTH.map(StreamKind::Udp), Duration::from_millis(5)).unwrap();
    let begun = Instant::now();
    thread::sleep(PAST_THE_QUESTIONS);
    for track in streams.tracks() {
        let silence = track.longest_silence(begun, Instant::now()).length;
        assert!(silence < Duration::from_millis(500), "{:?}: {silence:?}; {:?}", track.kind(), bench.drops());
    }
    assert_eq!(bench.dropped("neighbour-unreachable"), 0);
}
