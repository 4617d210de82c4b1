//! Base64 in the forms that hashes, tokens and SCRAM use.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};

/// With or without padding: `mosquitto_passwd` writes it, PHC strings do not.
const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of a base64 text, padded or not; `None` if it is none.
pub(crate) fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    ANY_PADDING.decode(text).ok()
}

/// Base64 with padding.
pub(crate) fn base64_text(bytes: &[u8]) -> String {
    general_purpose::STANDARD.encode(bytes)
}

/// Base64 without padding.
#[cfg(feature = "password")]
pub(crate) fn base64_unpadded(bytes: &[u8]) -> String {
    general_purpose::STANDARD_NO_PAD.encode(bytes)
}

/// The bytes of base64url without padding, as tokens and their keys use it; `None` if it is not.
#[cfg(feature = "jwt")]
pub(crate) fn base64_url(text: &str) -> Option<Vec<u8>> {
    general_purpose::URL_SAFE_NO_PAD.decode(text).ok()
}
