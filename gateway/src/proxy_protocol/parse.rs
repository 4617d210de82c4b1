//! The parser: bytes in, header out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest version 1 header with its line end, as its specification says.
pub const MAX_V1: usize = 107;
/// Longest version 2 header taken, in bytes: addresses, and TLVs of the usual kinds many times over.
pub const MAX_V2: usize = 16 * 1024;
/// First bytes of version 2.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY ";
const V2_FIXED: usize = 16;
/// Longest unique id, section 2.2.5.
const MAX_UNIQUE_ID: usize = 128;

/// What a header says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Version 2 LOCAL: the proxy speaks for itself (a health check); the socket's own addresses hold.
    pub local: bool,
    /// The client's address. `None`: unknown to the proxy, or not an Internet address.
    pub source: Option<SocketAddr>,
    /// The address the client connected to.
    pub destination: Option<SocketAddr>,
    /// What the proxy says of the TLS it ended.
    pub tls: Option<ProxyTls>,
    /// The proxy's id of this connection, for logs; at most 128 bytes.
    pub unique_id: Option<Vec<u8>>,
    /// The name the client asked for by SNI.
    pub authority: Option<String>,
}

/// The SSL TLV of version 2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyTls {
    /// The client showed a certificate, now or in the session it resumed, and the proxy verified it.
    pub verified: bool,
    /// The certificate's common name.
    pub common_name: Option<String>,
    /// TLS version in words, `TLSv1.3`.
    pub version: Option<String>,
}

/// Why a header is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Version 1 line that does not follow the grammar.
    #[error("PROXY v1 line is malformed")]
    V1,
    /// Version 1 line without an end within [`MAX_V1`] bytes, or version 2 header above [`MAX_V2`].
    #[error("PROXY header is too long")]
    TooLong,
    /// Version 2 with an unknown version, command or address family.
    #[error("PROXY v2 header has an unknown version, command or family")]
    Unknown,
    /// Version 2 whose length does not hold its addresses or TLVs.
    #[error("PROXY v2 header is malformed")]
    V2,
    /// Version 2 whose CRC32c is wrong.
    #[error("PROXY v2 checksum is wrong")]
    Checksum,
}

/// The outcome for the bytes there are.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All bytes belong to a header that is not complete.
    Incomplete,
    /// This is no PROXY header.
    NotProxy,
    /// A header of this many bytes.
    Header(Box<ProxyHeader>, usize),
}

/// Parses the beginning of a connection.
///
/// # Errors
/// [`ProxyError`] for what begins as a header and is none.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    if begins(bytes, &SIGNATURE) {
        return parse_v2(bytes);
    }
    if begins(bytes, V1) {
        return parse_v1(bytes);
    }
    Ok(Parsed::NotProxy)
}

/// True if one is a prefix of the other.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let n = bytes.len().min(signature.len());
    bytes[..n] == signature[..n]
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    let window = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= MAX_V1 {
            Err(ProxyError::TooLong)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ProxyError::V1)?;
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::V1)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(ProxyError::V1);
    let family = word()?;
    let mut header = ProxyHeader::default();
    match family {
        // What follows UNKNOWN must be ignored.
        "UNKNOWN" => {}
        "TCP4" | "TCP6" => {
            let (source, destination) =
                (v1_address(word()?, family)?, v1_address(word()?, family)?);
            let (source_port, destination_port) = (v1_port(word()?)?, v1_port(word()?)?);
            if words.next().is_some() {
                return Err(ProxyError::V1);
            }
            header.source = Some(SocketAddr::new(source, source_port));
            header.destination = Some(SocketAddr::new(destination, destination_port));
        }
        _ => return Err(ProxyError::V1),
    }
    Ok(Parsed::Header(Box::new(header), end + 1))
}

fn v1_address(word: &str, family: &str) -> Result<IpAddr, ProxyError> {
    let address = match family {
        "TCP4" => word.parse::<Ipv4Addr>().map(IpAddr::V4),
        _ => word
            .parse::<Ipv6Addr>()
            .map(|address| IpAddr::V6(address).to_canonical()),
    };
    address.map_err(|_| ProxyError::V1)
}

fn v1_port(word: &str) -> Result<u16, ProxyError> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = word.len() > 1 && word.starts_with('0');
    if !digits || leading_zero {
        return Err(ProxyError::V1);
    }
    word.parse().map_err(|_| ProxyError::V1)
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, ProxyError> {
    // What is known to be wrong is refused before the rest is waited for.
    let version_command = bytes.get(12).copied();
    if version_command.is_some_and(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(ProxyError::Unknown);
    }
    let Some(fixed) = bytes.get(..V2_FIXED) else {
        return Ok(Parsed::Incomplete);
    };
    let total = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if total > MAX_V2 {
        return Err(ProxyError::TooLong);
    }
    let Some(whole) = bytes.get(..total) else {
        return Ok(Parsed::Incomplete);
    };
    let mut header = ProxyHeader::default();
    if version_command == Some(0x20) {
        // Section 2.2: whatever family and addresses a LOCAL header has, they are skipped.
        header.local = true;
        return Ok(Parsed::Header(Box::new(header), total));
    }
    let body = &whole[V2_FIXED..];
    let tlvs = match fixed[13] {
        0x00 => body,
        0x11 | 0x12 => {
            let (address, rest) = body.split_first_chunk::<12>().ok_or(ProxyError::V2)?;
            let [a, b, c, d, e, f, g, h, sp, sq, dp, dq] = *address;
            header.source = Some(SocketAddr::from((
                [a, b, c, d],
                u16::from_be_bytes([sp, sq]),
            )));
            header.destination = Some(SocketAddr::from((
                [e, f, g, h],
                u16::from_be_bytes([dp, dq]),
            )));
            rest
        }
        0x21 | 0x22 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(ProxyError::V2)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(ProxyError::V2)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(ProxyError::V2)?;
            let address = |octets: [u8; 16], port: [u8; 2]| {
                SocketAddr::new(
                    IpAddr::from(octets).to_canonical(),
                    u16::from_be_bytes(port),
                )
            };
            header.source = Some(address(*source, [ports[0], ports[1]]));
            header.destination = Some(address(*destination, [ports[2], ports[3]]));
            rest
        }
        // Unix sockets: two paths of 108 bytes, no address of the Internet.
        0x31 | 0x32 => body.get(216..).ok_or(ProxyError::V2)?,
        _ => return Err(ProxyError::Unknown),
    };
    let tlv_offset = total - tlvs.len();
    parse_tlvs(&mut header, whole, tlv_offset)?;
    Ok(Parsed::Header(Box::new(header), total))
}

/// Walks TLVs: type, two bytes of length, value. `offset` is where the first begins in `area`.
fn each_tlv<'a>(
    area: &'a [u8],
    mut offset: usize,
    mut take: impl FnMut(u8, &'a [u8], usize) -> Result<(), ProxyError>,
) -> Result<(), ProxyError> {
    while offset < area.len() {
        let head = area.get(offset..offset + 3).ok_or(ProxyError::V2)?;
        let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let value = area
            .get(offset + 3..offset + 3 + length)
            .ok_or(ProxyError::V2)?;
        take(head[0], value, offset + 3)?;
        offset += 3 + length;
    }
    Ok(())
}

fn parse_tlvs(header: &mut ProxyHeader, whole: &[u8], offset: usize) -> Result<(), ProxyError> {
    let mut checked = false;
    each_tlv(whole, offset, |kind, value, at| {
        match kind {
            0x02 => header.authority = Some(text(value)?),
            0x03 => {
                // One only: each costs a pass over the whole header.
                if std::mem::replace(&mut checked, true) {
                    return Err(ProxyError::V2);
                }
                let sum: [u8; 4] = value.try_into().map_err(|_| ProxyError::V2)?;
                if crc32c(whole, at..at + 4) != u32::from_be_bytes(sum) {
                    return Err(ProxyError::Checksum);
                }
            }
            0x05 if value.len() > MAX_UNIQUE_ID => return Err(ProxyError::V2),
            0x05 => header.unique_id = Some(value.to_vec()),
            0x20 => header.tls = parse_tls(value)?,
            _ => {}
        }
        Ok(())
    })
}

fn parse_tls(value: &[u8]) -> Result<Option<ProxyTls>, ProxyError> {
    const CLIENT_SSL: u8 = 0x01;
    const CERT_CONN: u8 = 0x02;
    const CERT_SESS: u8 = 0x04;
    let (fixed, _) = value.split_first_chunk::<5>().ok_or(ProxyError::V2)?;
    let [client, verify @ ..] = *fixed;
    if client & CLIENT_SSL == 0 {
        return Ok(None);
    }
    let shown = client & (CERT_CONN | CERT_SESS) != 0;
    let mut tls = ProxyTls {
        verified: shown && u32::from_be_bytes(verify) == 0,
        ..ProxyTls::default()
    };
    each_tlv(value, 5, |kind, value, _| {
        match kind {
            0x21 => tls.version = Some(text(value)?),
            0x22 => tls.common_name = Some(text(value)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(Some(tls))
}

/// Text for logs and user names: UTF-8 without control characters.
fn text(value: &[u8]) -> Result<String, ProxyError> {
    let text = std::str::from_utf8(value).map_err(|_| ProxyError::V2)?;
    if text.chars().any(char::is_control) {
        return Err(ProxyError::V2);
    }
    Ok(text.to_owned())
}

/// CRC32c (Castagnoli) with the bytes of `zeroed` taken as zero, as section 2.2.3 asks.
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    let mut crc = u32::MAX;
    for (index, byte) in bytes.iter().enumerate() {
        crc ^= if zeroed.contains(&index) {
            0
        } else {
            u32::from(*byte)
        };
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82F6_3B78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
