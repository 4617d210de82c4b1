//! The meta group's state: small named values that the whole node must agree on (users, bans, keys, run-time
//! settings).

use std::collections::BTreeMap;

use nightjar_broker::shard::{CodecError, Decoder, Encoder, FORMAT};

/// An entry of the meta group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetaEntry {
    /// Sets a value.
    Put {
        /// Name, such as `ban/client/x`.
        key: String,
        /// Value.
        value: Vec<u8>,
    },
    /// Removes a value.
    Delete {
        /// Name.
        key: String,
    },
}

impl MetaEntry {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        match self {
            Self::Put { key, value } => {
                out.u8(1);
                out.text(key);
                out.bytes(value);
            }
            Self::Delete { key } => {
                out.u8(2);
                out.text(key);
            }
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, CodecError> {
        Ok(match from.u8("entry")? {
            1 => Self::Put {
                key: from.text("key")?.to_owned(),
                value: from.bytes("value")?.to_vec(),
            },
            2 => Self::Delete {
                key: from.text("key")?.to_owned(),
            },
            _ => return Err(CodecError::Invalid("kind of entry")),
        })
    }
}

/// The state.
#[derive(Debug, Default)]
pub(crate) struct Meta(pub BTreeMap<String, Vec<u8>>);

impl Meta {
    pub fn apply(&mut self, entry: MetaEntry) {
        match entry {
            MetaEntry::Put { key, value } => {
                self.0.insert(key, value);
            }
            MetaEntry::Delete { key } => {
                self.0.remove(&key);
            }
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut out = Encoder(out);
        out.u8(FORMAT);
        out.len(self.0.len());
        for (key, value) in &self.0 {
            out.text(key);
            out.bytes(value);
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut from = Decoder(bytes);
        from.format()?;
        let mut values = BTreeMap::new();
        for _ in 0..from.count("values")? {
            let key = from.text("key")?.to_owned();
            values.insert(key, from.bytes("value")?.to_vec());
        }
        Ok(Self(values))
    }
}
