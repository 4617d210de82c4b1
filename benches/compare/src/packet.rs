//! The few MQTT 3.1.1 packets the generator speaks.
//!
//! Written by hand and on purpose not with Nightjar's codec: the generator judges brokers and must not share a fault with
//! one of them, and it has to be far cheaper than what it measures. A PUBLISH is a template with the send time patched in.

/// Packet type CONNACK.
pub const CONNACK: u8 = 2;
/// Packet type PUBLISH.
pub const PUBLISH: u8 = 3;
/// Packet type PUBACK.
pub const PUBACK: u8 = 4;
/// Packet type PUBREC.
pub const PUBREC: u8 = 5;
/// Packet type PUBREL.
pub const PUBREL: u8 = 6;
/// Packet type PUBCOMP.
pub const PUBCOMP: u8 = 7;
/// Packet type SUBACK.
pub const SUBACK: u8 = 9;

/// The topic of a channel.
pub fn topic(number: usize) -> String {
    format!("compare/{number:05}")
}

/// CONNECT with a clean session and a keep alive of an hour.
pub fn connect(client_id: &str) -> Vec<u8> {
    connect_with(client_id, true)
}

/// CONNECT with a clean session or with one that the broker keeps, and a keep alive of an hour.
pub fn connect_with(client_id: &str, clean: bool) -> Vec<u8> {
    let mut packet = vec![0x10, (12 + client_id.len()) as u8, 0, 4];
    packet.extend_from_slice(b"MQTT\x04");
    packet.push(u8::from(clean) << 1);
    packet.extend_from_slice(b"\x0e\x10");
    string(&mut packet, client_id);
    packet
}

/// SUBSCRIBE, packet id 1.
pub fn subscribe(filters: &[&str], qos: u8) -> Vec<u8> {
    let remaining = 2 + filters.iter().map(|filter| 3 + filter.len()).sum::<usize>();
    let mut packet = vec![0x82];
    length(&mut packet, remaining);
    packet.extend_from_slice(&[0, 1]);
    for filter in filters {
        string(&mut packet, filter);
        packet.push(qos);
    }
    packet
}

/// An acknowledgement of this type; PUBREL has a flag.
pub const fn ack(kind: u8, [high, low]: [u8; 2]) -> [u8; 4] {
    [kind << 4 | if kind == PUBREL { 2 } else { 0 }, 2, high, low]
}

/// CONNACK of an accepted connection.
pub const CONNECTED: [u8; 4] = [0x20, 2, 0, 0];
/// PINGREQ: its answer comes behind all that was sent before it.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// Its answer.
pub const PINGRESP: u8 = 13;

/// DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A PUBLISH to one topic, to be written over and over.
pub struct Template {
    bytes: Vec<u8>,
    packet_id: Option<usize>,
    payload: usize,
}

impl Template {
    /// Prepares the packet, its payload of at least eight bytes: they are the send time in nanoseconds.
    pub fn new(topic: &str, qos: u8, retain: bool, size: usize) -> Self {
        let remaining = 2 + topic.len() + if qos > 0 { 2 } else { 0 } + size;
        let mut bytes = vec![0x30 | qos << 1 | u8::from(retain)];
        length(&mut bytes, remaining);
        string(&mut bytes, topic);
        let packet_id = (qos > 0).then_some(bytes.len());
        if qos > 0 {
            bytes.extend_from_slice(&[0, 0]);
        }
        let payload = bytes.len();
        bytes.resize(payload + size, b'n');
        Self {
            bytes,
            packet_id,
            payload,
        }
    }

    /// Bytes of the packet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends one packet.
    pub fn write(&self, out: &mut Vec<u8>, packet_id: u16, sent: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.packet_id {
            out[start + at..start + at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        out[start + self.payload..start + self.payload + 8].copy_from_slice(&sent.to_be_bytes());
    }
}

/// One packet found in a buffer.
pub struct Found<'b> {
    /// Packet type, 1 to 15.
    pub kind: u8,
    /// QoS bits of the first byte.
    pub qos: u8,
    /// What follows the fixed header.
    pub body: &'b [u8],
    /// The whole packet's length.
    pub length: usize,
}

/// The packet at the start of `bytes`, when it is complete.
pub fn next(bytes: &[u8]) -> Option<Found<'_>> {
    let first = *bytes.first()?;
    let (mut remaining, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        remaining |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            return None;
        }
    }
    let body = bytes.get(at..at + remaining)?;
    Some(Found {
        kind: first >> 4,
        qos: first >> 1 & 3,
        body,
        length: at + remaining,
    })
}

/// The packet id, if any, and the send time of a PUBLISH.
pub fn publish(found: &Found<'_>) -> Option<(Option<[u8; 2]>, u64)> {
    let topic = usize::from(u16::from_be_bytes(*found.body.first_chunk()?));
    let rest = found.body.get(2 + topic..)?;
    let (packet_id, payload) = if found.qos > 0 {
        (Some(*rest.first_chunk()?), rest.get(2..)?)
    } else {
        (None, rest)
    };
    Some((packet_id, u64::from_be_bytes(*payload.first_chunk()?)))
}

/// The packet id of an acknowledgement.
pub fn id(found: &Found<'_>) -> Option<[u8; 2]> {
    found.body.first_chunk().copied()
}

fn length(packet: &mut Vec<u8>, mut remaining: usize) {
    loop {
        let more = remaining > 0x7f;
        packet.push((remaining & 0x7f) as u8 | if more { 0x80 } else { 0 });
        remaining >>= 7;
        if !more {
            return;
        }
    }
}

fn string(packet: &mut Vec<u8>, text: &str) {
    packet.extend_from_slice(&(text.len() as u16).to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_writes_what_the_scanner_reads() {
        for (qos, size) in [(0, 8), (1, 16), (2, 256), (1, 4096), (0, 70_000)] {
            let mut bytes = Vec::new();
            Template::new(&topic(7), qos, false, size).write(&mut bytes, 0x1234, 99);
            for cut in 0..bytes.len() {
                assert!(
                    next(&bytes[..cut]).is_none(),
                    "a part of {cut} bytes is no packet"
                );
            }
            let found = next(&bytes).expect("one whole packet");
            assert_eq!(
                (found.kind, found.qos, found.length),
                (PUBLISH, qos, bytes.len())
            );
            assert_eq!(
                publish(&found),
                Some(((qos > 0).then_some([0x12, 0x34]), 99))
            );
        }
    }

    #[test]
    fn what_it_writes_states_its_own_length() {
        let names: Vec<String> = (0..100).map(topic).collect();
        let filters: Vec<&str> = names.iter().map(String::as_str).collect();
        for packet in [
            connect("compare-p-00001"),
            subscribe(&filters[..1], 1),
            subscribe(&filters, 0),
            ack(PUBREL, [1, 2]).to_vec(),
            PINGREQ.to_vec(),
        ] {
            assert_eq!(next(&packet).map(|found| found.length), Some(packet.len()));
        }
        assert_eq!(ack(PUBREL, [1, 2]), [0x62, 2, 1, 2]);
    }
}
