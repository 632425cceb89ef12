//! What starting the EAL does to the process's threads, and registered workers.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;

use dpdk::testing::test_config;
use dpdk::{Eal, LcoreGuard, Mempool, MempoolConfig, cycles, tsc_hz};
use rustix::thread::{CpuSet, sched_getaffinity};

fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

#[test]
fn the_start_leaves_the_affinity_of_this_thread_and_of_later_ones_alone() {
    // In a thread of its own whose affinity nothing else has touched.
    std::thread::spawn(|| {
        let before = cpus();
        assert!(before.len() > 1, "this test needs two processors to tell anything, there is {before:?}");
        dpdk::testing::eal();
        assert_eq!(cpus(), before);
        assert_eq!(std::thread::spawn(cpus).join().unwrap(), before);
    })
    .join()
    .unwrap();
}

#[test]
fn restricting_the_eal_to_one_processor_does_not_restrict_the_caller() {
    let before = cpus();
    let allowed_cpus = vec![before[0]];
    match Eal::init(&dpdk::EalConfig { allowed_cpus, ..test_config() }) {
        Ok(eal) => assert_eq!(eal.warnings(), Vec::<String>::new()),
        // Under a runner with one process for all tests, another test was first.
        Err(error) => assert!(matches!(error, dpdk::EalError::AlreadyStarted), "{error}"),
    }
    assert_eq!(cpus(), before);
}

#[dpdk::test]
fn workers_have_ids_of_their_own_while_they_live(pool: &Mempool) {
    let eal = pool.eal();
    let (sender, ids) = mpsc::channel();
    let (release, wait) = mpsc::channel::<()>();
    let first = std::thread::spawn(move || {
        let guard = LcoreGuard::register(eal).unwrap();
        sender.send(guard.id()).unwrap();
        wait.recv().ok();
        drop(guard);
        LcoreGuard::register(eal).unwrap().id()
    });
    let id = ids.recv().unwrap();
    let other = std::thread::spawn(move || LcoreGuard::register(eal).unwrap().id()).join().unwrap();
    assert_ne!(id, other);
    drop(release);
    first.join().unwrap();
    for _ in 0..500 {
        // More than there are ids: each is given back.
        std::thread::spawn(move || LcoreGuard::register(eal).unwrap().id()).join().unwrap();
    }
}

#[dpdk::test]
fn a_second_guard_in_a_thread_shares_its_id(pool: &Mempool) {
    let eal = pool.eal();
    std::thread::spawn(move || {
        let outer = LcoreGuard::register(eal).unwrap();
        let inner = LcoreGuard::register(eal).unwrap();
        assert_eq!(outer.id(), inner.id());
        drop(inner);
        assert_eq!(LcoreGuard::register(eal).unwrap().id(), outer.id(), "still registered");
    })
    .join()
    .unwrap();
}

#[dpdk::test]
fn mbufs_in_a_workers_cache_count_as_available(pool: &Mempool) {
    let config = MempoolConfig { capacity: 255, cache: 32, ..MempoolConfig::default() };
    let cached = Mempool::create(pool.eal(), &config).unwrap();
    std::thread::spawn(move || {
        let _guard = LcoreGuard::register(cached.eal()).unwrap();
        drop((0..100).map(|_| cached.alloc().unwrap()).collect::<Vec<_>>());
    })
    .join()
    .unwrap();
    assert_eq!((cached.available(), cached.in_use()), (255, 0));
    let from_here = std::iter::from_fn(|| cached.alloc()).collect::<Vec<_>>().len();
    assert!((200..=255).contains(&from_here), "what lies in another thread's cache stays there: {from_here}");
    assert_eq!(cached.in_use(), 0);
}

#[dpdk::test]
fn the_clock_runs_at_the_speed_it_says(pool: &Mempool) {
    let hz = tsc_hz(pool.eal());
    let (start, clock) = (cycles(), std::time::Instant::now());
    std::thread::sleep(std::time::Duration::from_millis(50));
    let seconds = (cycles() - start) as f64 / hz as f64;
    let real = clock.elapsed().as_secs_f64();
    assert!((seconds / real - 1.0).abs() < 0.02, "{seconds} s by cycles, {real} s by the clock, {hz} Hz");
}
