//! As much DER as a public key file needs.

/// Takes one element of this tag off the front: its content, and what follows. `None` if another stands there or the
/// length is wrong.
fn take(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let [found, first, rest @ ..] = input else {
        return None;
    };
    if *found != tag {
        return None;
    }
    let (length, rest) = match *first {
        short @ 0..=0x7F => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (
            usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])),
            &rest[2..],
        ),
        // Longer than 64 KiB: no key is.
        _ => return None,
    };
    rest.split_at_checked(length)
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];

/// A public key as it stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey<'a> {
    Rsa { n: &'a [u8], e: &'a [u8] },
    P256(&'a [u8]),
    P384(&'a [u8]),
    Ed25519(&'a [u8]),
}

/// `BEGIN PUBLIC KEY`: SubjectPublicKeyInfo (RFC 5280 section 4.1).
pub(super) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let (info, []) = take(SEQUENCE, der)? else {
        return None;
    };
    let (algorithm, rest) = take(SEQUENCE, info)?;
    let (bits, []) = take(BIT_STRING, rest)? else {
        return None;
    };
    let (0, key) = bits.split_first()? else {
        return None;
    };
    let (oid, parameters) = take(OID, algorithm)?;
    match oid {
        RSA => rsa_public_key(key),
        ED25519 => Some(PublicKey::Ed25519(key)),
        EC => match take(OID, parameters)? {
            (P256, []) => Some(PublicKey::P256(key)),
            (P384, []) => Some(PublicKey::P384(key)),
            _ => None,
        },
        _ => None,
    }
}

/// `BEGIN RSA PUBLIC KEY`: RSAPublicKey (RFC 8017 appendix A.1.1).
pub(super) fn rsa_public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let (numbers, []) = take(SEQUENCE, der)? else {
        return None;
    };
    let (n, rest) = take(INTEGER, numbers)?;
    let (e, []) = take(INTEGER, rest)? else {
        return None;
    };
    let positive = |number: &'_ [u8]| number.first().is_some_and(|first| *first < 0x80);
    (positive(n) && positive(e)).then_some(PublicKey::Rsa {
        n: strip(n),
        e: strip(e),
    })
}

/// Without the zero that keeps an INTEGER positive.
fn strip(number: &[u8]) -> &[u8] {
    match number {
        [0, rest @ ..] if !rest.is_empty() => rest,
        number => number,
    }
}
