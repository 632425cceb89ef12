//! The EAL starts once per process. Alone in its file: a process of its own under any runner.

use dpdk::testing::test_config;
use dpdk::{Eal, EalError};

#[test]
fn a_second_start_says_so_and_the_first_stays_usable() {
    assert!(Eal::get().is_none());
    let first = Eal::init(&test_config()).unwrap();
    let error = Eal::init(&test_config()).unwrap_err();
    assert!(matches!(error, EalError::AlreadyStarted), "{error}");
    assert!(error.to_string().contains("once only"), "{error}");
    assert_eq!(Eal::get().unwrap().page_size(), first.page_size());
    assert_eq!(first.page_size(), 4096);
    assert!(!first.huge_pages());
    assert_eq!(first.warnings(), Vec::<String>::new(), "ordinary pages were asked for");
}
