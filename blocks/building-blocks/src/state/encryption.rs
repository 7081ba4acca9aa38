//! Encryption at rest: values are encrypted before a store gets them, and decrypted after it gave them.
//!
//! *Source:* dapr `pkg/encryption`; spec internals.md §10.3. A stored value is the base64 of a nonce of 12 bytes, the AES-GCM
//! ciphertext and its tag of 16 bytes; then `||` and the name of the secret that holds the key. *Neighbours:* an [`super::Entry`]
//! has an [`Encryption`] or none. *Invariant:* no message and no log line holds a key or a value.

use std::fmt;

use aes_gcm::aead::{AeadInPlace as _, consts::U12};
use aes_gcm::{AesGcm, KeyInit as _, aes::Aes192};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use pillion_contract::{ComponentError, ErrorKind, Metadata};
use pillion_resources::types::NameValue;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::keys::SEPARATOR;

const PRIMARY: &str = "primaryEncryptionKey";
const SECONDARY: &str = "secondaryEncryptionKey";
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// The keys of one state store.
pub(super) struct Encryption {
    /// Encrypts, and decrypts what it encrypted.
    primary: Key,
    /// Decrypts what was encrypted when it was the primary one.
    secondary: Option<Key>,
}

struct Key {
    /// Of the secret; stands behind each value.
    secret_name: String,
    cipher: Cipher,
}

enum Cipher {
    /// 16 or 32 bytes.
    Ring(Box<LessSafeKey>),
    /// 24 bytes.
    Aes192(Box<AesGcm<Aes192, U12>>),
}

impl Encryption {
    /// The keys in the metadata of a component, which `items`, as written, took from secrets; `None` without a primary one.
    ///
    /// # Errors
    /// `InvalidRequest` for a key that no secret names (it could not be told apart from others later), or that is none.
    pub(super) fn of(store: &str, metadata: &Metadata, items: &[NameValue]) -> Result<Option<Self>, ComponentError> {
        let Some(primary) = key(store, PRIMARY, metadata, items)? else { return Ok(None) };
        Ok(Some(Self { primary, secondary: key(store, SECONDARY, metadata, items)? }))
    }

    /// The form in which a value is stored.
    ///
    /// # Errors
    /// `Internal`: there was no randomness.
    pub(super) fn encrypt(&self, store: &str, value: &[u8]) -> Result<Bytes, ComponentError> {
        let failed = |what: &str| internal(format!("could not encrypt data for state store {store}: {what}"));
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).map_err(|_| failed("no random numbers"))?;
        let sealed = self.primary.cipher.seal(nonce, value).ok_or_else(|| failed("the value is too long"))?;
        let name = &self.primary.secret_name;
        let mut stored = String::with_capacity(sealed.len().div_ceil(3) * 4 + SEPARATOR.len() + name.len());
        STANDARD.encode_string(&sealed, &mut stored);
        stored.push_str(SEPARATOR);
        stored.push_str(name);
        Ok(stored.into())
    }

    /// The value behind its stored form; an empty one is empty.
    ///
    /// # Errors
    /// `Internal`: it is in clear, or another key encrypted it, or somebody changed it.
    pub(super) fn decrypt(&self, store: &str, stored: &[u8]) -> Result<Bytes, ComponentError> {
        if stored.is_empty() {
            return Ok(Bytes::new());
        }
        let failed =
            |what: fmt::Arguments<'_>| internal(format!("could not decrypt data for state store {store}: {what}"));
        let separator = SEPARATOR.as_bytes();
        let place = stored.windows(separator.len()).rposition(|window| window == separator);
        let (text, name) =
            place.map_or((stored, &[][..]), |place| (&stored[..place], &stored[place + separator.len()..]));
        if name.is_empty() {
            return Err(failed(format_args!("encryption key name not found on record"))); // wire text of the original
        }
        let mut keys = std::iter::once(&self.primary).chain(&self.secondary);
        let key = keys.find(|key| key.secret_name.as_bytes() == name).ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            failed(format_args!(
                "it was encrypted with the key {name:?}, which is neither the primary nor the secondary one"
            ))
        })?;
        let sealed = STANDARD.decode(text).map_err(|error| internal(format!("illegal base64 data: {error}")))?;
        // Wire text of the original.
        key.cipher.open(sealed).ok_or_else(|| internal("cipher: message authentication failed".to_owned()))
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secondary = self.secondary.as_ref().map(|key| &key.secret_name);
        f.debug_struct("Encryption").field("primary", &self.primary.secret_name).field("secondary", &secondary).finish()
    }
}

impl Cipher {
    /// Makes it of a key of 16, 24 or 32 bytes.
    fn new(key: &[u8]) -> Option<Self> {
        let ring = |algorithm: &'static Algorithm| {
            Some(Self::Ring(Box::new(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))))
        };
        match key.len() {
            16 => ring(&AES_128_GCM),
            24 => Some(Self::Aes192(Box::new(AesGcm::new_from_slice(key).ok()?))),
            32 => ring(&AES_256_GCM),
            _ => None,
        }
    }

    /// Nonce, ciphertext, tag.
    fn seal(&self, nonce: [u8; NONCE_BYTES], value: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(NONCE_BYTES + value.len() + TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let text = &mut sealed[NONCE_BYTES..];
        match self {
            Self::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), text).ok()?;
                sealed.extend_from_slice(tag.as_ref());
            }
            Self::Aes192(key) => {
                let tag = key.encrypt_in_place_detached(&nonce.into(), &[], text).ok()?;
                sealed.extend_from_slice(&tag);
            }
        }
        Some(sealed)
    }

    /// The reverse.
    fn open(&self, mut sealed: Vec<u8>) -> Option<Bytes> {
        let length = sealed.len().checked_sub(NONCE_BYTES + TAG_BYTES)?;
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE_BYTES>()?;
        match self {
            Self::Ring(key) => {
                key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), rest).ok()?;
            }
            Self::Aes192(key) => {
                let (text, tag) = rest.split_at_mut(length);
                key.decrypt_in_place_detached((&*nonce).into(), &[], text, (&*tag).into()).ok()?;
            }
        }
        Some(Bytes::from(sealed).slice(NONCE_BYTES..NONCE_BYTES + length))
    }
}

/// One key; `None` when the field is not there.
fn key(store: &str, field: &str, metadata: &Metadata, items: &[NameValue]) -> Result<Option<Key>, ComponentError> {
    let Some(text) = metadata.get(field) else { return Ok(None) };
    let refused = |problem: String| {
        let message =
            format!("component {store:?}: failed to extract encryption key: metadata field {field:?}: {problem}");
        ComponentError::new(ErrorKind::InvalidRequest, message)
    };
    let item = items.iter().find(|item| item.name.eq_ignore_ascii_case(field));
    let secret_name = item.and_then(|item| item.secret_key_ref.as_ref()).map(|(name, _)| name.as_str());
    let secret_name = secret_name.filter(|name| !name.is_empty()).ok_or_else(|| {
        refused("secretKeyRef cannot be empty; keep the key in a secret store and name it with secretKeyRef".to_owned())
    })?;
    let cipher = hex(text).and_then(|key| Cipher::new(&key)).ok_or_else(|| {
        let found = text.chars().count();
        refused(format!(
            "the secret {secret_name:?} must be 32, 48 or 64 hexadecimal digits (AES-128, AES-192 or AES-256); it has {found} characters"
        ))
    })?;
    Ok(Some(Key { secret_name: secret_name.to_owned(), cipher }))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let pair = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair.get(1)?).ok();
    digits.chunks(2).map(pair).collect()
}

fn internal(message: String) -> ComponentError {
    ComponentError::new(ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests;
