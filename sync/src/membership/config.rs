//! What the decision maker is told once.

use crate::ids::{Micros, NodeId};
use crate::lease::LeaseRules;
use thiserror::Error;

/// What becomes of the mirror when the active node restarts before the standby noticed its death.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnActiveRestart {
    /// A ready standby takes over at once; an unfit one gives the table back.
    #[default]
    Reclaim,
    /// The mirror is emptied and the restarted node goes on.
    Purge,
}

/// Settings of one node. The paths are part of it: a flag for each, whether it carries session sync.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// The other one.
    pub partner: NodeId,
    /// Whether the configuration prefers this node as the active one.
    pub preferred: bool,
    /// For each path, whether session sync runs over it.
    pub paths: Vec<bool>,
    /// So many paths, the first ones, are sync links. The others are data ports, on which nothing is heard
    /// while workers park.
    pub sync_links: usize,
    /// Time between heartbeats; also how long an absence may be before the node drains and re-judges.
    pub interval: Micros,
    /// Heartbeats that may be missing.
    pub misses: u32,
    /// What a lease is shorter than the dead time: delay between the nodes plus a burst.
    pub margin: Micros,
    /// How long a new incarnation listens, and how long one waits that is not armed.
    pub boot_delay: Micros,
    /// How long `recovering` waits for the mirror.
    pub recover_limit: Micros,
    /// After that long without a sign a partner is no longer counted on: the lease becomes infinite.
    pub forget: Micros,
    /// How long a partner that stopped on purpose is taken to restart.
    pub restart_limit: Micros,
    /// Whether a node without a complete mirror takes over from a dead active node.
    pub takeover_incomplete: bool,
    /// What becomes of the mirror when the active node restarts.
    pub on_active_restart: OnActiveRestart,
    /// Whether the active node hands over to a partner of better quality.
    pub swap_on_quality: bool,
    /// By how much better that must be.
    pub hysteresis: u8,
    /// For how long it must be so.
    pub settle: Micros,
    /// Whether the preferred node gets the role back.
    pub preempt: bool,
    /// No voluntary change that soon after the last one.
    pub hold_down: Micros,
    /// No voluntary change after `flap_limit` activations within `flap_window`.
    pub flap_limit: u8,
    /// The window of the flap limit.
    pub flap_window: Micros,
    /// How long the target may take to prepare for a switchover.
    pub prepare_limit: Micros,
    /// How long bursts may be parked, and how long a grant holds.
    pub grant_limit: Micros,
    /// How long workers may take to confirm before the node announces itself anyway.
    pub confirm_limit: Micros,
    /// Time between periodic announcements of the owned addresses.
    pub announce_every: Micros,
    /// How long stray frames are redirected after a switchover.
    pub redirect: Micros,
    /// Time between repetitions of the alarm that the sync link is lost.
    pub alarm_every: Micros,
}

/// Settings that cannot work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// Terms are unique by the parity of the node id.
    #[error("the two node ids must be one odd, one even")]
    Parity,
    /// No way to hear the partner, or more than can be named.
    #[error("a pair needs 1 to {max} paths")]
    Paths {
        /// The most there may be.
        max: usize,
    },
    /// The lease would be over when it begins.
    #[error("misses x interval must be longer than the margin, and both longer than zero")]
    Margin,
}

/// As many paths as can be configured: two sync links and each data interface.
pub const MAX_PATHS: usize = 34;

impl Config {
    /// The defaults: heartbeats of 100 ms, three misses, one sync link and one data path.
    #[must_use]
    pub fn new(node: NodeId, partner: NodeId) -> Self {
        Self {
            node,
            partner,
            preferred: node < partner,
            paths: vec![true, false],
            sync_links: 1,
            interval: Micros::from_millis(100),
            misses: 3,
            margin: Micros::from_millis(10),
            boot_delay: Micros::from_secs(3),
            recover_limit: Micros::from_secs(1),
            forget: Micros::from_secs(30),
            restart_limit: Micros::from_secs(120),
            takeover_incomplete: true,
            on_active_restart: OnActiveRestart::Reclaim,
            swap_on_quality: true,
            hysteresis: 10,
            settle: Micros::from_millis(500),
            preempt: false,
            hold_down: Micros::from_secs(10),
            flap_limit: 4,
            flap_window: Micros::from_secs(300),
            prepare_limit: Micros::from_secs(2),
            grant_limit: Micros::from_millis(50),
            confirm_limit: Micros::from_millis(20),
            announce_every: Micros::from_secs(10),
            redirect: Micros::from_secs(10),
            alarm_every: Micros::from_secs(60),
        }
    }

    /// Says whether these settings can work.
    ///
    /// # Errors
    /// If they cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.node.0 & 1 == self.partner.0 & 1 {
            return Err(ConfigError::Parity);
        }
        if self.paths.is_empty() || self.paths.len() > MAX_PATHS {
            return Err(ConfigError::Paths { max: MAX_PATHS });
        }
        if self.interval.0 == 0 || self.margin.0 == 0 || self.margin >= self.dead() {
            return Err(ConfigError::Margin);
        }
        Ok(())
    }

    /// After how long a silent partner is dead.
    #[must_use]
    pub const fn dead(&self) -> Micros {
        Micros(self.interval.0.saturating_mul(self.misses as u64))
    }

    /// How long a grant may be used by the one who gets it: less than the granting side waits.
    #[must_use]
    pub(super) fn grant_use(&self) -> Micros {
        self.grant_limit.since(self.margin)
    }

    /// The lease that follows from these settings.
    #[must_use]
    pub const fn lease(&self) -> LeaseRules {
        LeaseRules { dead: self.dead(), margin: self.margin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = Config::new(NodeId(0), NodeId(1));
        assert_eq!(good.check(), Ok(()));
        assert_eq!(Config::new(NodeId(1), NodeId(3)).check(), Err(ConfigError::Parity));
        let pathless = Config { paths: vec![], ..good.clone() };
        assert_eq!(pathless.check(), Err(ConfigError::Paths { max: 34 }));
        let short = Config { margin: Micros::from_millis(300), ..good };
        assert_eq!(short.check(), Err(ConfigError::Margin));
    }
}
