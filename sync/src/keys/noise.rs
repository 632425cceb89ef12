//! The Noise KK handshake (revision 34) over pinned X25519 keys, and nothing else of Noise: what comes out
//! is a [`Root`] for keys of our own.

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};

use super::{PublicKey, SecretKey};
use crate::seal::Root;

const PATTERN: &str = "Noise_KK_25519_ChaChaPoly_SHA256";
/// Bytes of either message: an ephemeral key and the tag of an empty payload.
pub const MESSAGE: usize = 48;

/// One side of one handshake.
pub struct Handshake(HandshakeState);

impl Handshake {
    /// A handshake bound to `prologue`, whose ephemeral key is `random`.
    pub fn new(
        initiates: bool,
        own: &SecretKey,
        peer: &PublicKey,
        prologue: &[u8],
        random: [u8; 32],
    ) -> Option<Self> {
        let params = PATTERN.parse().ok()?;
        let builder = Builder::with_resolver(params, Box::new(Resolver { random }))
            .local_private_key(own.bytes())
            .and_then(|b| b.remote_public_key(peer.bytes()))
            .and_then(|b| b.prologue(prologue))
            .ok()?;
        if initiates { builder.build_initiator() } else { builder.build_responder() }.ok().map(Self)
    }

    /// This side's message.
    pub fn write(&mut self) -> Option<[u8; MESSAGE]> {
        let mut message = [0; MESSAGE];
        let length = self.0.write_message(&[], &mut message).ok()?;
        (length == MESSAGE).then_some(message)
    }

    /// The other side's message: false if it is not authentic.
    pub fn read(&mut self, message: &[u8; MESSAGE]) -> bool {
        self.0.read_message(message, &mut [0; MESSAGE]).is_ok()
    }

    /// The secret that both sides have once both messages went over.
    pub fn root(&mut self) -> Option<Root> {
        if !self.0.is_handshake_finished() {
            return None;
        }
        let (first, second) = self.0.dangerously_get_raw_split();
        Some(Root::new(self.0.get_handshake_hash(), &[first, second].concat()))
    }
}

/// snow's own primitives, with the ephemeral key from outside: this crate draws no randomness itself.
struct Resolver {
    random: [u8; 32],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.random))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Gives 32 bytes once. A handshake has one ephemeral key; a second one would be a repetition.
struct Once(Option<[u8; 32]>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        match self.0.take() {
            Some(bytes) if dest.len() == bytes.len() => {
                dest.copy_from_slice(&bytes);
                Ok(())
            }
            _ => Err(Error::Rng),
        }
    }
}

/// The public key of a secret one.
pub fn public_of(secret: &[u8; 32]) -> [u8; 32] {
    let mut public = [0; 32];
    if let Some(mut dh) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) {
        dh.set(secret);
        public.copy_from_slice(dh.pubkey());
    }
    public
}

/// What two static keys have in common.
pub fn shared(secret: &[u8; 32], public: &[u8; 32]) -> [u8; 32] {
    let mut shared = [0; 32];
    if let Some(mut dh) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) {
        dh.set(secret);
        // An error leaves zeros, and a pair with them comes to no handshake: see `is_weak`.
        let _ = dh.dh(public, &mut shared);
    }
    shared
}

/// True for public keys that give zeros with every secret one (RFC 7748 §6.1).
pub fn is_weak(public: &[u8; 32]) -> bool {
    shared(&[0x55; 32], public) == [0; 32]
}
