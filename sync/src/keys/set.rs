//! The keys of one handshake for one purpose, both directions, every path.

use crate::datagram::{Header, Purpose};
use crate::ids::{Incarnation, NodeId, PathId};
use crate::seal::{Opener, Rejection, Root, Sealer};

/// Sealers and openers under one root.
pub struct KeySet {
    /// How the keys are called on the wire.
    pub id: u16,
    /// The partner's incarnation that they were agreed with.
    pub peer: Incarnation,
    paths: Vec<(Sealer, Opener)>,
}

impl KeySet {
    /// Derives the keys of `paths` paths.
    pub fn new(
        root: &Root,
        id: u16,
        purpose: Purpose,
        me: NodeId,
        (peer, incarnation): (NodeId, Incarnation),
        paths: u8,
    ) -> Self {
        let of = |path| {
            let path = PathId(path);
            (Sealer::new(root, me, purpose, path), Opener::new(root, peer, purpose, path))
        };
        Self { id, peer: incarnation, paths: (0..paths).map(of).collect() }
    }

    /// What names the keys among those that this node has or had.
    pub fn name(&self) -> (Incarnation, u16) {
        (self.peer, self.id)
    }

    /// Seals a body under this set's key for the header's path.
    pub fn seal(&mut self, header: &Header, datagram: &mut [u8], body_len: usize) -> Option<usize> {
        let (sealer, _) = self.paths.get_mut(usize::from(header.path.0))?;
        sealer.seal(&Header { key_id: self.id, ..*header }, datagram, body_len)
    }

    /// Opens a datagram that names this set.
    pub fn open(&mut self, header: &Header, datagram: &mut [u8]) -> Result<usize, Rejection> {
        let (_, opener) = self.paths.get_mut(usize::from(header.path.0)).ok_or(Rejection::WrongPath)?;
        opener.open(header, datagram).map(|body| body.len())
    }
}
