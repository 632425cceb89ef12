//! Files that nobody should write: too long, too deep, of bytes that are no text, or of values in the wrong
//! places. Each is refused in time and with a reason.

use super::tests::{EXAMPLE, RULE, SMALL, lines, one_problem, parsed, small_with};
use super::*;
use proptest::prelude::*;

#[test]
fn files_that_are_no_configuration_are_refused_before_they_are_read() {
    let dir = std::env::temp_dir().join(format!("understudy-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    assert_eq!(Config::load(&file("good.toml", EXAMPLE.as_bytes())).unwrap(), parsed(EXAMPLE));
    let padded = |len: usize| [EXAMPLE.as_bytes(), &vec![b'\n'; len - EXAMPLE.len()]].concat();
    assert!(Config::load(&file("longest.toml", &padded(MAX_FILE_BYTES))).is_ok());
    let error = Config::load(&file("long.toml", &padded(MAX_FILE_BYTES + 1))).unwrap_err();
    assert!(matches!(error, ConfigError::TooLong { .. }), "{error}");
    let error = Config::load(&file("latin1.toml", b"# caf\xe9\n")).unwrap_err();
    assert!(matches!(error, ConfigError::NotText { at: 5, .. }), "{error}");
    let error = Config::load(&dir.join("absent.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
    for endless in [dir.as_path(), Path::new("/dev/zero")] {
        let error = Config::load(endless).unwrap_err();
        assert!(matches!(error, ConfigError::NotAFile { .. }), "{error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn long_lists_are_judged_in_time() {
    let list = |count: u32, item: &dyn Fn(u32) -> String| {
        (0..count).map(|n| format!("{:?},", item(n))).collect::<String>()
    };
    let prefix = |n: u32| std::net::Ipv4Addr::from(0x0b00_0000 + n * 2).to_string();
    let sources = list(50_000, &prefix);
    let before = std::time::Instant::now();
    let config = parsed(&small_with(&format!("{RULE}source = [{sources}]\n")));
    assert_eq!(config.rules[0].source.len(), 50_000);
    let services = list(60_000, &|n| format!("tcp/{n}"));
    let config = parsed(&small_with(&format!("{RULE}services = [{services}]\n")));
    assert_eq!(config.rules[0].services.len(), 60_000);
    let addresses = list(40_000, &|n| format!("11.{}.{}.1/30", n / 256, n % 256));
    let text = SMALL.replace("\"10.2.0.1/24\"", addresses.trim_end_matches(','));
    one_problem(&text, "[[port]] \"wan\" has 40001 addresses (at most 64 can be used)");
    // Pairwise comparison of any of these takes minutes in a debug build.
    assert!(before.elapsed() < std::time::Duration::from_secs(20), "{:?}", before.elapsed());
}

#[test]
fn deep_nesting_is_refused_and_does_not_exhaust_the_stack() {
    for text in [
        format!("a = {}", "[".repeat(500_000)),
        format!("a = {}{}", "[".repeat(500_000), "]".repeat(500_000)),
        format!("{} = 1", vec!["a"; 250_000].join(".")),
        format!("[{}]", vec!["a"; 250_000].join(".")),
        format!("a = {}", "{a=".repeat(200_000)),
        "[a]\n".repeat(200_000),
        "[[port]]\n".repeat(100_000),
    ] {
        assert!(lines(&text).len() <= 51);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Config::parse("t", &String::from_utf8_lossy(&bytes));
    }

    /// Cut, doubled and overwritten pieces of the example: close enough to right to reach every check.
    #[test]
    fn no_mutation_of_the_example_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, "[ -~\n]{0,12}"), 1..12)
    ) {
        let mut text = EXAMPLE.to_owned();
        for (at, len, with) in edits {
            let start = text.floor_char_boundary(at.index(text.len().max(1)));
            let end = text.floor_char_boundary((start + len).min(text.len()));
            text.replace_range(start..end.max(start), &with);
        }
        if let Err(error) = Config::parse("t", &text) {
            prop_assert!(!error.lines().is_empty(), "refused without a reason");
            let mut shown = String::new();
            let handler = miette::NarratableReportHandler::new();
            prop_assert!(handler.render_report(&mut shown, &error).is_ok());
        }
    }

    /// Values of every type in every place.
    #[test]
    fn no_value_makes_it_panic(
        line in any::<prop::sample::Index>(),
        value in "(-?[0-9]{1,20}|[0-9]\\.[0-9]|true|1979-05-27|\\[\\]|\\[\\[1\\]\\]|\\{\\}|\"[0-9a-f:./,_-]{0,24}\"|\"\\\\u0000\")",
    ) {
        let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        let keyed: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].contains(" = ") && !lines[*n].starts_with('#')).collect();
        let at = keyed[line.index(keyed.len())];
        let key = lines[at].split(" = ").next().unwrap().to_owned();
        lines[at] = format!("{key} = {value}");
        let _ = Config::parse("t", &lines.join("\n"));
    }
}
