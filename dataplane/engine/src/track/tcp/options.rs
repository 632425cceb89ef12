//! The two options of a SYN that tracking needs.

/// Window scale and SACK permission, as a SYN or SYN-ACK carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SynOptions {
    /// The shift of a window scale option, at most 14 (RFC 7323 §2.3: larger values are used as 14).
    pub scale: Option<u8>,
    /// SACK permitted (RFC 2018 §2).
    pub sack: bool,
}

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const MAX_SCALE: u8 = 14;

impl SynOptions {
    /// Reads the bytes behind the fixed header. A malformed option ends the list, as end hosts do.
    pub fn parse(mut bytes: &[u8]) -> SynOptions {
        let mut options = SynOptions::default();
        loop {
            bytes = match *bytes {
                [] | [END, ..] => break,
                [NO_OPERATION, ref rest @ ..] => rest,
                [kind, len, ..] if len >= 2 => {
                    let Some((option, rest)) = bytes.split_at_checked(usize::from(len)) else { break };
                    match (kind, option) {
                        (WINDOW_SCALE, &[_, _, shift]) => options.scale = Some(shift.min(MAX_SCALE)),
                        (SACK_PERMITTED, &[_, _]) => options.sack = true,
                        _ => {}
                    }
                    rest
                }
                _ => break,
            };
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_linux_sends() {
        // MSS 1460, SACK permitted, timestamps, NOP, window scale 7.
        let bytes = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(SynOptions::parse(&bytes), SynOptions { scale: Some(7), sack: true });
    }

    #[test]
    fn no_options_are_no_options() {
        assert_eq!(SynOptions::parse(&[]), SynOptions::default());
        assert_eq!(SynOptions::parse(&[0, 3, 3, 7]), SynOptions::default(), "behind the end of the list");
    }

    #[test]
    fn large_scales_count_as_fourteen() {
        assert_eq!(SynOptions::parse(&[3, 3, 255]).scale, Some(14));
    }

    #[test]
    fn malformed_options_end_the_list() {
        for bytes in [&[3, 0, 7][..], &[3, 1, 7], &[3, 3], &[3], &[2, 200, 1, 3, 3, 7]] {
            assert_eq!(SynOptions::parse(bytes), SynOptions::default(), "{bytes:?}");
        }
        // A wrong length for a known kind: skipped, the rest counts.
        assert_eq!(SynOptions::parse(&[3, 4, 7, 7, 4, 2]), SynOptions { scale: None, sack: true });
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(SynOptions::parse(&bytes).scale.unwrap_or(0) <= 14);
        }
    }
}
