//! Topic aliases, both ways [MQTT-3.3.2-8..-12].

use nightjar_broker::Message;
use nightjar_mqtt::{ReasonCode, TopicName};

/// Bytes the alias maps of one connection may hold.
const MAX_BYTES: usize = 64 * 1024;
/// What an entry costs beside its topic.
const ENTRY: usize = 48;

/// The aliases of one connection.
#[derive(Debug, Default)]
pub struct Aliases {
    /// Set by the client; index 0 is alias 1.
    inbound: Vec<Option<TopicName>>,
    inbound_bytes: usize,
    /// Given by us.
    outbound: Vec<TopicName>,
    outbound_bytes: usize,
}

impl Aliases {
    /// The client's PUBLISH has an alias and a topic: remember it.
    ///
    /// # Errors
    /// 0x94 above the announced maximum [MQTT-3.3.2-9], 0x97 if the map would hold too much.
    pub fn set(&mut self, alias: u16, max: u16, topic: &str) -> Result<(), ReasonCode> {
        if alias == 0 || alias > max {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let at = usize::from(alias) - 1;
        if self.inbound.len() <= at {
            self.inbound.resize(at + 1, None);
        }
        if self.inbound[at]
            .as_ref()
            .is_some_and(|old| old.as_str() == topic)
        {
            return Ok(());
        }
        let old = self.inbound[at].as_ref().map_or(0, |old| old.len() + ENTRY);
        let bytes = self.inbound_bytes - old + topic.len() + ENTRY;
        if bytes > MAX_BYTES {
            return Err(ReasonCode::QuotaExceeded);
        }
        self.inbound_bytes = bytes;
        self.inbound[at] = Some(TopicName::from_validated(topic));
        Ok(())
    }

    /// The client's PUBLISH has an alias and no topic.
    ///
    /// # Errors
    /// 0x94 above the announced maximum, 0x82 for one that was never set.
    pub fn get(&self, alias: u16, max: u16) -> Result<TopicName, ReasonCode> {
        if alias == 0 || alias > max {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        self.inbound
            .get(usize::from(alias) - 1)
            .cloned()
            .flatten()
            .ok_or(ReasonCode::ProtocolError)
    }

    /// The alias to send with a message: known to the client already (`true`), new, or none.
    pub fn outgoing(&self, message: &Message, max: u16) -> Option<(u16, bool)> {
        let topic = message.topic();
        if let Some(at) = self.outbound.iter().position(|known| known == topic) {
            return Some((at as u16 + 1, true));
        }
        let room = self.outbound.len() < usize::from(max)
            && self.outbound_bytes + topic.len() + ENTRY <= MAX_BYTES
            && self.outbound.len() < 64;
        room.then(|| (self.outbound.len() as u16 + 1, false))
    }

    /// The new alias of [`Self::outgoing`] was sent with its topic.
    pub fn sent(&mut self, message: &Message) {
        self.outbound_bytes += message.topic().len() + ENTRY;
        self.outbound.push(message.topic().clone());
    }
}
