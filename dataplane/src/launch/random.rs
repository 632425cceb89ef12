//! The kernel's random numbers, for everything that must be unknown to others: keys, the index's secret, an
//! incarnation.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use sync::keys::Entropy;

/// Fills `bytes`; fails only where the system has no random numbers at all.
fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(filled) => bytes = bytes.split_at_mut_checked(filled).map_or(&mut [], |(_, rest)| rest),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Three words.
pub fn words() -> io::Result<[u64; 3]> {
    let mut bytes = [[0; 8]; 3];
    fill(bytes.as_flattened_mut())?;
    Ok(bytes.map(u64::from_be_bytes))
}

/// For the pair's handshakes.
pub struct Kernel;

impl Entropy for Kernel {
    fn draw(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // The daemon drew its index key before and would not be here if there were no numbers; they do not
        // end once there are some.
        while fill(&mut bytes).is_err() {}
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_filled_to_its_end_and_never_the_same() {
        let words = [words().unwrap(), words().unwrap()];
        assert_ne!(words[0], words[1]);
        assert!(words.as_flattened().iter().all(|word| *word != 0), "{words:x?}");
        let drawn = [Kernel.draw(), Kernel.draw()];
        assert_ne!(drawn[0], drawn[1]);
        assert!(drawn.iter().all(|bytes| bytes.chunks(8).all(|chunk| chunk != [0; 8])), "{drawn:x?}");
        let mut long = [0; 1_000];
        fill(&mut long).unwrap();
        assert!(long.chunks(50).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
