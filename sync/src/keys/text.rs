//! Static keys and their written form: 64 hexadecimal digits, secret keys behind a word that says so.

use std::fmt;
use std::str::FromStr;

use super::noise;

/// What a secret key's text begins with, so that nobody pastes one where a public key belongs.
const SECRET_PREFIX: &str = "secret:";
const DIGITS: usize = 64;

/// Why a text is not a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyTextError {
    /// Not 64 digits.
    #[error("a key has 64 hexadecimal digits, this has {found} characters")]
    Length {
        /// Characters found.
        found: usize,
    },
    /// Something that is no digit.
    #[error("'{found}' at character {at} is not a hexadecimal digit")]
    Digit {
        /// The character.
        found: char,
        /// Its place, from 1.
        at: usize,
    },
    /// A secret key where a public one belongs.
    #[error("this is a secret key; the public key that goes with it belongs here")]
    IsSecret,
    /// A public key where a secret one belongs.
    #[error("a secret key begins with `secret:`; is this the public key?")]
    IsPublic,
    /// A key that agrees with everybody.
    #[error("this key is one of the few that protect nothing (a point of low order)")]
    Weak,
}

/// A node's public X25519 key, pinned by its partner.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// A node's secret X25519 key.
#[derive(Clone)]
pub struct SecretKey([u8; 32]);

impl PublicKey {
    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl SecretKey {
    /// Makes a key of 32 bytes from a cryptographic random source.
    #[must_use]
    pub const fn from_random(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The key that the partner pins.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(noise::public_of(&self.0))
    }

    /// The written form: for the key file only.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{SECRET_PREFIX}{}", PublicKey(self.0))
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl FromStr for PublicKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let text = text.trim();
        if text.starts_with(SECRET_PREFIX) {
            return Err(KeyTextError::IsSecret);
        }
        let key = digits(text, 0)?;
        if noise::is_weak(&key) { Err(KeyTextError::Weak) } else { Ok(Self(key)) }
    }
}

impl FromStr for SecretKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let text = text.trim();
        let Some(key) = text.strip_prefix(SECRET_PREFIX) else {
            digits(text, 0)?;
            return Err(KeyTextError::IsPublic);
        };
        digits(key, SECRET_PREFIX.len()).map(Self)
    }
}

fn digits(text: &str, before: usize) -> Result<[u8; 32], KeyTextError> {
    let mut key = [0; 32];
    let mut found = 0;
    for c in text.chars() {
        let digit = c.to_digit(16).ok_or(KeyTextError::Digit { found: c, at: before + found + 1 })?;
        if let Some(byte) = key.get_mut(found / 2) {
            *byte = *byte << 4 | digit as u8;
        }
        found += 1;
    }
    if found == DIGITS { Ok(key) } else { Err(KeyTextError::Length { found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let secret = SecretKey::from_random([0x5a; 32]);
        let public = secret.public();
        assert_eq!(public.to_string().parse::<PublicKey>(), Ok(public));
        let read: SecretKey = format!(" {}\n", secret.to_text()).parse().unwrap();
        assert_eq!(read.public(), public);
        assert_eq!(format!("{secret:?}"), "SecretKey(…)");
    }

    /// RFC 7748 §5.2: the first iteration starts from the base point with the scalar 9.
    #[test]
    fn the_public_key_is_that_of_x25519() {
        let nine: SecretKey = format!("secret:09{}", "00".repeat(31)).parse().unwrap();
        assert_eq!(
            nine.public().to_string(),
            "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
        );
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        let hex = "5a".repeat(32);
        let public = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(public(&hex[1..]), KeyTextError::Length { found: 63 });
        assert_eq!(public(""), KeyTextError::Length { found: 0 });
        assert_eq!(public(&format!("{}é", &hex[1..])), KeyTextError::Digit { found: 'é', at: 64 });
        assert_eq!(public(&format!("secret:{hex}")), KeyTextError::IsSecret);
        assert_eq!(public(&"00".repeat(32)), KeyTextError::Weak);
        assert_eq!(public(&format!("01{}", "00".repeat(31))), KeyTextError::Weak);
        assert_eq!(hex.parse::<SecretKey>().unwrap_err(), KeyTextError::IsPublic);
        assert_eq!("secret:12".parse::<SecretKey>().unwrap_err(), KeyTextError::Length { found: 2 });
    }
}
