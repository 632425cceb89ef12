//! What a node has logged as events: stable names with their moment, kept in order. The log is the one place
//! where a daemon that was killed has also left them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An event of a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Microseconds since 1970.
    pub at_us: u64,
    /// Its stable name.
    pub name: String,
    /// The whole line.
    pub line: String,
}

impl LoggedEvent {
    /// Whether a field has a value.
    pub fn has(&self, field: &str, value: &str) -> bool {
        self.line.contains(&format!("(\"{field}\", \"{value}\")"))
    }

    /// Whether it is the change to a role.
    pub fn became(&self, role: &str) -> bool {
        self.name == "role_changed" && self.has("to", role)
    }
}

/// The events of a log, oldest first.
pub fn events_of(log: &str) -> Vec<LoggedEvent> {
    log.lines()
        .filter_map(|line| {
            let name = line.split_once(" event=\"")?.1.split('"').next()?;
            let stamp = line.split_ascii_whitespace().next()?;
            Some(LoggedEvent { at_us: unix_us(stamp)?, name: name.into(), line: line.into() })
        })
        .collect()
}

/// Now, as events count it.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970 of a moment as `2026-11-23T04:03:43.453978Z`.
fn unix_us(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split(':');
    let hours: u64 = time.next()?.parse().ok()?;
    let minutes: u64 = time.next()?.parse().ok()?;
    let seconds: f64 = time.next()?.parse().ok()?;
    // Days since 1970, the year beginning in March so that a leap day is its last.
    let (year, month) = if month <= 2 { (year.checked_sub(1)?, month + 9) } else { (year, month - 3) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = days.checked_sub(719_468)?;
    let seconds_us = (seconds * 1e6).round() as u64;
    Some(((days * 24 + hours) * 60 + minutes) * 60_000_000 + seconds_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_the_calendar_has_them() {
        assert_eq!(unix_us("1970-01-01T00:00:00.000000Z"), Some(0));
        assert_eq!(unix_us("2000-02-29T12:00:00.000001Z"), Some(951_825_600_000_001));
        assert_eq!(unix_us("2026-11-23T04:03:43.453978Z"), Some(1_795_406_623_453_978));
        assert_eq!(unix_us("yesterday"), None);
    }

    #[test]
    fn events_are_found_among_other_lines() {
        let log = "EAL: nothing\n2026-11-23T04:04:01.943039Z  WARN standby became active (silence) event=\"role_changed\" fields=[(\"from\", \"standby\"), (\"to\", \"active\"), (\"cause\", \"silence\")]\n";
        let [event] = &events_of(log)[..] else { panic!("one event") };
        assert!(event.became("active") && !event.became("standby") && event.has("cause", "silence"));
        assert_eq!(event.at_us % 1_000_000, 943_039);
    }
}
