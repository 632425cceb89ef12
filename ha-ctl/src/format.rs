//! Numbers, times and places as people read them.

use proto::{Endpoint, Protocol};
use std::net::IpAddr;

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the largest unit that leaves at least one before the point.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut scaled = number as f64;
    let mut unit = "B";
    for larger in UNITS {
        // What would be shown as 1024.0 belongs to the next unit.
        if scaled < 1023.95 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    format!("{scaled:.1} {unit}")
}

/// A duration in its two largest units.
pub fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}.{}s", ms % 1_000 / 100),
        60..3_600 => format!("{}m {:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {:02}m", s / 3_600, s / 60 % 60),
        _ => format!("{}d {:02}h", s / 86_400, s / 3_600 % 24),
    }
}

/// A point in time, from milliseconds since 1970: `2026-11-23 00:24:30 UTC`.
pub fn utc(unix_ms: u64) -> String {
    let s = unix_ms / 1_000;
    let (year, month, day) = civil(s / 86_400);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", s / 3_600 % 24, s / 60 % 60, s % 60)
}

/// The Gregorian date so many days after 1970-01-01. Eras of 400 years, years that begin in March: so the leap
/// day comes last, and months follow from a linear formula.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// One side of a session: `10.1.0.10:40000`, `[fd00:1::10]:80`, `10.1.0.10 id 7` for echo.
pub fn endpoint(side: &Endpoint, proto: Protocol) -> String {
    match (proto, side.address) {
        (Protocol::ICMP | Protocol::ICMPV6, address) => format!("{address} id {}", side.port),
        (_, address) if side.port == 0 => address.to_string(),
        (_, IpAddr::V4(address)) => format!("{address}:{}", side.port),
        (_, IpAddr::V6(address)) => format!("[{address}]:{}", side.port),
    }
}

/// Thousandths as a percentage.
pub fn permille(share: u32) -> String {
    format!("{}.{} %", share / 10, share % 10)
}

/// What fraction of `whole` is in use, as a percentage.
pub fn percent_of(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    permille(u32::try_from(u128::from(part) * 1_000 / u128::from(whole)).unwrap_or(u32::MAX))
}

/// A list on one line; `any` where it is empty.
pub fn list(items: &[String]) -> String {
    if items.is_empty() { "any".into() } else { items.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_their_edges() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!([0, 1_023, 1_024, 1_536].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB"]);
        assert_eq!([1_048_575, 1 << 40].map(bytes), ["1.0 MiB", "1.0 TiB"]);
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!([0, 999, 1_000, 59_999].map(duration), ["0ms", "999ms", "1.0s", "59.9s"]);
        assert_eq!([60_000, 3_599_999, 7_440_000].map(duration), ["1m 00s", "59m 59s", "2h 04m"]);
        assert_eq!(duration(90_000_000), "1d 01h");
        assert_eq!([permille(0), permille(1), permille(1_000)], ["0.0 %", "0.1 %", "100.0 %"]);
        assert_eq!(
            [percent_of(1, 3), percent_of(0, 0), percent_of(u64::MAX, u64::MAX)],
            ["33.3 %", "-", "100.0 %"]
        );
    }

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_393_470_000), "2026-11-23 00:24:30 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
        // Nothing that a daemon may send makes it panic.
        let _ = utc(u64::MAX);
    }
}
