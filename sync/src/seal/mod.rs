//! Sealing and opening of whole datagrams with AES-256-GCM-SIV (RFC 8452).
//!
//! Each (direction, purpose, path) has its own key under a root (decision 29), derived by HKDF (RFC 5869),
//! so that whoever seals needs to share no counter with anybody. The nonce is that key's counter. GCM-SIV,
//! because a counter may repeat after a bug; it then gives away only that two datagrams were equal.
//!
//! The order of checks on receipt is the order of their cost, and nothing is changed before the tag was
//! verified: a forged datagram can neither move a window nor occupy memory.

mod reject;
mod window;

pub use reject::{Rejection, Rejections};
pub use window::{ReplayWindow, Verdict};

use std::fmt;

use aes_gcm_siv::aead::{AeadInOut, KeyInit};
use aes_gcm_siv::{Aes256GcmSiv, Key, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::datagram::{HEADER, Header, MAX_COUNTER, MAX_DATAGRAM, Purpose, TAG};
use crate::ids::{NodeId, PathId};

/// Secret from which the keys of one handshake are derived.
#[derive(Clone)]
pub struct Root([u8; 32]);

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(…)")
    }
}

impl Root {
    /// Condenses `secret`, bound to a public `salt`.
    #[must_use]
    pub fn new(salt: &[u8], secret: &[u8]) -> Self {
        Self(Hkdf::<Sha256>::extract(Some(salt), secret).0.into())
    }

    /// Another secret, for `purpose` alone.
    #[must_use]
    pub(crate) fn derive(&self, purpose: &[u8]) -> [u8; 16] {
        let mut key = [0; 16];
        let expanded = Hkdf::<Sha256>::from_prk(&self.0).is_ok_and(|hk| hk.expand(purpose, &mut key).is_ok());
        debug_assert!(expanded);
        key
    }

    /// The cipher for what `sender` sends on `path`, with `extra` in its derivation.
    pub(crate) fn cipher(&self, sender: NodeId, purpose: Purpose, path: PathId, extra: u64) -> Cipher {
        let mut key = [0; 32];
        let extra = extra.to_le_bytes();
        let info = [b"understudy sync 1", &[sender.0, purpose as u8, path.0][..], &extra];
        // Both lengths are constants that HKDF-SHA-256 takes.
        let expanded =
            Hkdf::<Sha256>::from_prk(&self.0).is_ok_and(|hk| hk.expand_multi_info(&info, &mut key).is_ok());
        debug_assert!(expanded);
        Cipher(Aes256GcmSiv::new(&Key::<Aes256GcmSiv>::from(key)))
    }
}

/// A key ready for use.
#[derive(Clone)]
pub(crate) struct Cipher(Aes256GcmSiv);

impl Cipher {
    /// Seals `datagram[HEADER..HEADER + body_len]` under `header`; returns the datagram's length, or
    /// `None` if it does not fit.
    pub fn seal(&self, header: &Header, datagram: &mut [u8], body_len: usize) -> Option<usize> {
        if body_len > MAX_DATAGRAM - HEADER - TAG {
            return None;
        }
        let (front, rest) = datagram.split_first_chunk_mut::<HEADER>()?;
        let (body, rest) = rest.split_at_mut_checked(body_len)?;
        let tag_space = rest.first_chunk_mut::<TAG>()?;
        *front = header.to_wire();
        let tag = self.0.encrypt_inout_detached(&nonce(header.counter), front, body.into()).ok()?;
        *tag_space = tag.into();
        Some(HEADER + body_len + TAG)
    }

    /// Opens a datagram whose header was read from it. After a failure its bytes mean nothing.
    pub fn open<'d>(&self, header: &Header, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        let (front, rest) = datagram.split_first_chunk_mut::<HEADER>()?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG>()?;
        let tag = Tag::from(*tag);
        self.0.decrypt_inout_detached(&nonce(header.counter), front, (&mut *body).into(), &tag).ok()?;
        Some(body)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}

/// One direction of one key, sending. Belongs to one thread.
pub struct Sealer {
    cipher: Cipher,
    next: u64,
}

impl Sealer {
    /// The key of what `sender` sends on `path`.
    #[must_use]
    pub fn new(root: &Root, sender: NodeId, purpose: Purpose, path: PathId) -> Self {
        Self { cipher: root.cipher(sender, purpose, path, 0), next: 1 }
    }

    /// Seals the body that lies in `datagram` behind the room for its header. The header's counter is
    /// filled in. `None` if the datagram does not fit, or the key has used up its counters.
    pub fn seal(&mut self, header: &Header, datagram: &mut [u8], body_len: usize) -> Option<usize> {
        if self.next > MAX_COUNTER {
            return None;
        }
        let header = Header { counter: self.next, ..*header };
        self.next += 1;
        self.cipher.seal(&header, datagram, body_len)
    }

    /// How many datagrams were sealed.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.next - 1
    }
}

/// One direction of one key, receiving.
pub struct Opener {
    cipher: Cipher,
    window: ReplayWindow,
}

impl Opener {
    /// The key of what `sender` sends on `path`.
    #[must_use]
    pub fn new(root: &Root, sender: NodeId, purpose: Purpose, path: PathId) -> Self {
        Self { cipher: root.cipher(sender, purpose, path, 0), window: ReplayWindow::default() }
    }

    /// Opens a datagram whose header was read from it, and returns its body.
    ///
    /// # Errors
    /// `Replayed` or `TooOld` without any cryptography, `Forged` if the tag is not right. Nothing changes
    /// then, but the bytes of a forged datagram are garbled.
    pub fn open<'d>(&mut self, header: &Header, datagram: &'d mut [u8]) -> Result<&'d mut [u8], Rejection> {
        match self.window.check(header.counter) {
            Verdict::Fresh => {}
            Verdict::Replayed => return Err(Rejection::Replayed),
            Verdict::TooOld => return Err(Rejection::TooOld),
        }
        let body = self.cipher.open(header, datagram).ok_or(Rejection::Forged)?;
        self.window.record(header.counter);
        Ok(body)
    }
}

#[cfg(test)]
mod tests;
