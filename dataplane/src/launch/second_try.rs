//! When huge pages that were free a moment ago are gone.
//!
//! Free pages are counted before the EAL starts (decision 12), but it takes them a tenth of a second later,
//! and processes that are not ours take no turns with us. An EAL that fails for want of memory cannot be
//! started again in the same process. Where ordinary pages will do, the program therefore begins once more in
//! its place: same process id, same arguments, and a word in the environment that says why.

use super::LaunchError;
use crate::config::HugePages;
use dpdk::{EalError, Errno};
use std::os::unix::process::CommandExt;
use std::process::Command;

const VARIABLE: &str = "UNDERSTUDYD_ORDINARY_PAGES";

/// Whether this is the second try already: what an operator should know of it.
pub(super) fn warning() -> Option<String> {
    std::env::var_os(VARIABLE).is_some().then(|| {
        "DPDK uses ordinary pages, which halves its speed: huge pages were free when it started, and taken by \
         somebody else before it had them; reserve more with `echo N > /proc/sys/vm/nr_hugepages` and restart"
            .to_owned()
    })
}

/// Whether an EAL that did not start may start with ordinary pages.
pub(super) fn may_help(error: &LaunchError, wanted: HugePages) -> bool {
    let lacks_memory =
        matches!(error, LaunchError::Eal(EalError::Init { errno, .. }) if *errno == Errno::NO_MEMORY);
    lacks_memory && wanted == HugePages::Auto && warning().is_none()
}

/// Begins the program anew. Comes back only if that is not possible, with what was wrong in the first place.
pub(super) fn begin_anew(error: LaunchError) -> LaunchError {
    tracing::warn!(event = "second-try", "starting again with ordinary pages, since {error}");
    let mut program = Command::new("/proc/self/exe");
    program.args(std::env::args_os().skip(1)).env(VARIABLE, "1");
    if let Some(name) = std::env::args_os().next() {
        program.arg0(name);
    }
    let refused = program.exec();
    tracing::warn!(event = "second-try-failed", "cannot start again: {refused}");
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: Errno) -> LaunchError {
        EalError::Init { errno, args: "understudy".to_owned() }.into()
    }

    #[test]
    fn only_missing_memory_and_a_free_choice_of_pages_are_worth_a_second_try() {
        assert!(may_help(&failed(Errno::NO_MEMORY), HugePages::Auto));
        assert!(!may_help(&failed(Errno::INVALID), HugePages::Auto));
        assert!(!may_help(&failed(Errno::NO_MEMORY), HugePages::Never), "it had ordinary pages");
        assert!(!may_help(&failed(Errno::NO_MEMORY), HugePages::Require), "it must not do without");
        assert!(!may_help(&LaunchError::SyncCoreLost, HugePages::Auto));
        assert_eq!(warning(), None);
    }
}
