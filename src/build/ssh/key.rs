//! Private keys out of PEM files, and signatures with them.
//!
//! | label | form |
//! |---|---|
//! | `OPENSSH PRIVATE KEY` | OpenSSH's own (its PROTOCOL.key): any kind of key |
//! | `RSA PRIVATE KEY` | PKCS #1 |
//! | `EC PRIVATE KEY` | SEC 1 |
//! | `PRIVATE KEY` | PKCS #8: any kind |
//!
//! Kinds are ed25519, RSA of 2048 bits or more, and ECDSA over the curves nistp256 and nistp384.
//! A key that a passphrase protects is refused: nobody is asked anything during a build. RSA signs
//! with SHA-256 and SHA-512; SHA-1, which OpenSSH gave up, is refused.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::error::KeyRejected;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};

use super::wire::{Fields, put_mpint, put_string, trimmed};

/// What OpenSSH's own form begins with.
const MAGIC: &[u8] = b"openssh-key-v1\0";
/// Flags of a request for an RSA signature.
const RSA_SHA256: u32 = 2;
const RSA_SHA512: u32 = 4;

/// Why a file gives no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no PEM file with a private key.
    #[error("it holds no private key in PEM form")]
    NoKey,
    /// It can't be read without a passphrase.
    #[error("this private key is passphrase protected")]
    Protected,
    /// Another kind of key.
    #[error("`{0}` is none of ed25519, rsa, and ecdsa on nistp256 or nistp384")]
    Kind(String),
    /// Its parts make no key.
    #[error("the private key in it can't be used: {0}")]
    Broken(String),
}

impl From<KeyRejected> for KeyError {
    fn from(why: KeyRejected) -> Self {
        Self::Broken(why.to_string())
    }
}

/// A private key that signs and is never shown.
pub struct SshKey {
    /// The public key as ssh writes it.
    public: Vec<u8>,
    comment: String,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(&'static Curve, EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

struct Curve {
    name: &'static str,
    kind: &'static str,
    /// Bytes of a number.
    len: usize,
    algorithm: &'static EcdsaSigningAlgorithm,
    /// Its object identifier, encoded.
    oid: &'static [u8],
}

static CURVES: [Curve; 2] = [
    Curve {
        name: "nistp256",
        kind: "ecdsa-sha2-nistp256",
        len: 32,
        algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING,
        oid: b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
    },
    Curve {
        name: "nistp384",
        kind: "ecdsa-sha2-nistp384",
        len: 48,
        algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING,
        oid: b"\x06\x05\x2b\x81\x04\x00\x22",
    },
];

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshKey")
            .field("comment", &self.comment)
            .finish_non_exhaustive()
    }
}

impl SshKey {
    /// Reads the text of a key file.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let (label, der) = pem(std::str::from_utf8(text).map_err(|_| KeyError::NoKey)?)?;
        match label {
            "OPENSSH PRIVATE KEY" => openssh(&der),
            "RSA PRIVATE KEY" => Ok(Self::rsa(RsaKeyPair::from_der(&der)?)),
            "EC PRIVATE KEY" => sec1(&der),
            "PRIVATE KEY" => pkcs8(&der),
            "ENCRYPTED PRIVATE KEY" => Err(KeyError::Protected),
            other => match other.strip_suffix(" PRIVATE KEY") {
                Some(kind) => Err(KeyError::Kind(kind.to_lowercase())),
                None => Err(KeyError::NoKey),
            },
        }
    }

    /// Returns the public key as ssh writes it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Returns what its owner wrote beside it.
    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    /// Signs `data` as the flags of the request say, `None` where that can't be.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match &self.pair {
            Pair::Ed25519(pair) => {
                put_string(&mut out, b"ssh-ed25519");
                put_string(&mut out, pair.sign(data).as_ref());
            }
            Pair::Ecdsa(curve, pair) => {
                let signed = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = signed.as_ref().split_at_checked(curve.len)?;
                let mut numbers = Vec::new();
                put_mpint(&mut numbers, r);
                put_mpint(&mut numbers, s);
                put_string(&mut out, curve.kind.as_bytes());
                put_string(&mut out, &numbers);
            }
            Pair::Rsa(pair) => {
                let (name, padding): (&[u8], _) = if flags & RSA_SHA512 != 0 {
                    (b"rsa-sha2-512", &RSA_PKCS1_SHA512)
                } else if flags & RSA_SHA256 != 0 {
                    (b"rsa-sha2-256", &RSA_PKCS1_SHA256)
                } else {
                    return None;
                };
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), data, &mut signed)
                    .ok()?;
                put_string(&mut out, name);
                put_string(&mut out, &signed);
            }
        }
        Some(out)
    }

    fn ed25519(pair: Ed25519KeyPair) -> Self {
        let mut public = Vec::new();
        put_string(&mut public, b"ssh-ed25519");
        put_string(&mut public, pair.public_key().as_ref());
        Self::of(public, Pair::Ed25519(pair))
    }

    fn ecdsa(curve: &'static Curve, pair: EcdsaKeyPair) -> Self {
        let mut public = Vec::new();
        put_string(&mut public, curve.kind.as_bytes());
        put_string(&mut public, curve.name.as_bytes());
        put_string(&mut public, pair.public_key().as_ref());
        Self::of(public, Pair::Ecdsa(curve, pair))
    }

    fn rsa(pair: RsaKeyPair) -> Self {
        let numbers = PublicKeyComponents::<Vec<u8>>::from(pair.public());
        let mut public = Vec::new();
        put_string(&mut public, b"ssh-rsa");
        put_mpint(&mut public, &numbers.e);
        put_mpint(&mut public, &numbers.n);
        Self::of(public, Pair::Rsa(Box::new(pair)))
    }

    fn of(public: Vec<u8>, pair: Pair) -> Self {
        Self {
            public,
            comment: String::new(),
            pair,
        }
    }
}

/// Returns label and bytes of the first thing in a PEM file (RFC 7468, and RFC 1421 for the
/// headers by which older files say that they are encrypted).
fn pem(text: &str) -> Result<(&str, Vec<u8>), KeyError> {
    let begin = text.split_once("-----BEGIN ").ok_or(KeyError::NoKey)?.1;
    let (label, rest) = begin.split_once("-----").ok_or(KeyError::NoKey)?;
    let end = format!("-----END {label}-----");
    let (body, _) = rest.split_once(&end).ok_or(KeyError::NoKey)?;
    let (headers, lines): (Vec<&str>, Vec<&str>) = body
        .lines()
        .map(str::trim)
        .partition(|line| line.contains(':'));
    if headers.iter().any(|line| line.contains("ENCRYPTED")) {
        return Err(KeyError::Protected);
    }
    let bytes = STANDARD.decode(lines.concat());
    Ok((label, bytes.map_err(|_| KeyError::NoKey)?))
}

/// Reads OpenSSH's own form.
fn openssh(bytes: &[u8]) -> Result<SshKey, KeyError> {
    let short = || KeyError::Broken("it ends too early".to_owned());
    let mut fields = Fields(bytes.strip_prefix(MAGIC).ok_or(KeyError::NoKey)?);
    let cipher = fields.text().ok_or_else(short)?;
    if cipher != "none" {
        return Err(KeyError::Protected);
    }
    let _ways_to_a_key = fields.string().ok_or_else(short)?;
    let _their_options = fields.string().ok_or_else(short)?;
    if fields.number() != Some(1) {
        return Err(KeyError::Broken("it holds several".to_owned()));
    }
    let _public = fields.string().ok_or_else(short)?;
    let mut fields = Fields(fields.string().ok_or_else(short)?);
    // Two equal numbers, which would differ after a wrong passphrase.
    let _check = fields.take(8).ok_or_else(short)?;
    let kind = fields.text().ok_or_else(short)?;
    let mut key = match kind {
        "ssh-ed25519" => openssh_ed25519(&mut fields),
        "ssh-rsa" => openssh_rsa(&mut fields),
        _ => match CURVES.iter().find(|curve| curve.kind == kind) {
            Some(curve) => openssh_ecdsa(&mut fields, curve),
            None => return Err(KeyError::Kind(kind.to_owned())),
        },
    }
    .ok_or_else(short)??;
    fields
        .text()
        .unwrap_or_default()
        .clone_into(&mut key.comment);
    Ok(key)
}

/// The key that the fields make, `None` when they end too early.
type Made = Option<Result<SshKey, KeyError>>;

fn openssh_ed25519(fields: &mut Fields<'_>) -> Made {
    let public = fields.string()?;
    // The seed, and the public key again.
    let (seed, _) = fields.string()?.split_at_checked(32)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
    Some(pair.map(SshKey::ed25519).map_err(KeyError::from))
}

fn openssh_ecdsa(fields: &mut Fields<'_>, curve: &'static Curve) -> Made {
    let _name = fields.string()?;
    let public = fields.string()?;
    let number = fields.mpint()?;
    let mut secret = vec![0; curve.len.checked_sub(number.len())?];
    secret.extend(number);
    let random = SystemRandom::new();
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm, &secret, public, &random);
    let made = pair.map(|pair| SshKey::ecdsa(curve, pair));
    Some(made.map_err(KeyError::from))
}

fn openssh_rsa(fields: &mut Fields<'_>) -> Made {
    let (n, e, d) = (fields.mpint()?, fields.mpint()?, fields.mpint()?);
    let inverse = fields.mpint()?;
    let (p, q) = (fields.mpint()?, fields.mpint()?);
    let (of_p, of_q) = (exponent(d, p)?, exponent(d, q)?);
    let pair = RsaKeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: trimmed(&of_p),
        dQ: trimmed(&of_q),
        qInv: inverse,
    });
    Some(pair.map(SshKey::rsa).map_err(KeyError::from))
}

/// Returns `d` modulo the prime less one: bit after bit is shifted in, and the divisor taken off.
fn exponent(d: &[u8], prime: &[u8]) -> Option<Vec<u8>> {
    // A prime is odd, so that one less is one bit less.
    let mut by = vec![0];
    by.extend(prime);
    *by.last_mut()? &= !1;
    let mut rest = vec![0; by.len()];
    let bits = d
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    for bit in bits {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if rest >= by {
            let mut borrow = false;
            for (byte, less) in rest.iter_mut().zip(&by).rev() {
                let (first, under) = byte.overflowing_sub(*less);
                let (second, again) = first.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (second, under || again);
            }
        }
    }
    (prime.len() > 1).then_some(rest)
}

/// Reads SEC 1 by putting it into PKCS #8, which names the curve outside.
fn sec1(der: &[u8]) -> Result<SshKey, KeyError> {
    const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    let holds = |curve: &&Curve| der.windows(curve.oid.len()).any(|part| part == curve.oid);
    let curve = CURVES.iter().find(holds);
    let curve = curve.ok_or_else(|| KeyError::Kind("ec".to_owned()))?;
    let algorithm = tlv(0x30, &[EC, curve.oid]);
    let whole = tlv(0x30, &[b"\x02\x01\x00", &algorithm, &tlv(0x04, &[der])]);
    pkcs8(&whole)
}

/// A DER value of some parts that have 64 KiB at most.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let len = body.len().to_be_bytes();
    let len = trimmed(&len);
    let mut out = vec![tag];
    if body.len() >= 0x80 {
        out.push(0x80 | len.len() as u8);
    }
    out.extend(len);
    out.extend(body);
    out
}

/// Reads PKCS #8. Which kind of key it is shows by which reader takes it.
fn pkcs8(der: &[u8]) -> Result<SshKey, KeyError> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(SshKey::ed25519(pair));
    }
    let random = SystemRandom::new();
    for curve in &CURVES {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve.algorithm, der, &random) {
            return Ok(SshKey::ecdsa(curve, pair));
        }
    }
    Ok(SshKey::rsa(RsaKeyPair::from_pkcs8(der)?))
}
