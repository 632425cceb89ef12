//! The leak check of `#[dpdk::test]` can fail.

use dpdk::Mempool;

#[dpdk::test(capacity = 31, cache = 8)]
#[should_panic(expected = "mbuf leak: 31 were available before the test and 29 are after it")]
fn forgotten_mbufs_fail_the_test(pool: &Mempool) {
    std::mem::forget(pool.alloc().unwrap());
    std::mem::forget(pool.frame(b"lost").unwrap());
}

#[dpdk::test(capacity = 31)]
fn mbufs_given_back_do_not(pool: &Mempool) -> Result<(), String> {
    let kept = pool.alloc().ok_or("empty")?;
    drop(kept);
    Ok(())
}
