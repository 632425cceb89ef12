//! What the control thread asks of a worker: it owns no transmit queue (decision 10) and no shard.

use engine::PortId;
use engine::table::Slot;

/// The longest frame that the control thread sends: questions for neighbours.
pub const FRAME_MAX: usize = 128;

/// Messages that wait for one worker, at most.
pub const MAILBOX: usize = 256;

/// A message to a worker.
#[derive(Clone, Copy, Debug)]
pub enum Mail {
    /// Send this frame.
    Send {
        /// On this port.
        port: PortId,
        /// The frame.
        frame: SmallFrame,
    },
    /// End this session.
    Terminate(Slot),
    /// Harm the copy of this session, for tests: nobody is told.
    Damage(Slot, Harm),
}

/// How a mirrored session is harmed on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// It is not what was applied.
    Corrupt,
    /// It is gone.
    Drop,
    /// One like it appears that the partner never had.
    Add,
}

/// A short frame, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallFrame {
    len: u8,
    bytes: [u8; FRAME_MAX],
}

impl SmallFrame {
    /// `None` if it is longer than [`FRAME_MAX`].
    pub fn new(frame: &[u8]) -> Option<Self> {
        let mut bytes = [0; FRAME_MAX];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(Self { len: frame.len() as u8, bytes })
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_as_it_went_in_or_does_not_fit() {
        let longest: Vec<u8> = (0..128).collect();
        for len in [0, 1, 60, 86, 128] {
            assert_eq!(SmallFrame::new(&longest[..len]).unwrap().bytes(), &longest[..len]);
        }
        assert_eq!(SmallFrame::new(&[0; 129]), None);
    }
}
