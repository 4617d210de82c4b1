//! What operators see of a gateway: its clients, who of them is asleep, the topic ids in use.

use std::net::SocketAddr;
use std::sync::Arc;

use nightjar_broker::Timestamp;

use super::State;
use super::client::Client;
use super::gateway::Gateway;

/// A client in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientView {
    /// Its identifier.
    pub client_id: Arc<str>,
    /// Its state.
    pub state: State,
    /// Where it was last heard.
    pub peer: SocketAddr,
    /// Its sleep, while it is asleep.
    pub sleep: Option<Sleep>,
    /// Topic ids it has; `None` of a sleeper from before a restart, whose ids stand in its record.
    pub topic_ids: Option<usize>,
}

/// A sleep (MQTT-SN section 6.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleep {
    /// Seconds, the tolerance for late clients included.
    pub seconds: u32,
    /// When it is lost if nothing is heard of it.
    pub lost_at: Timestamp,
}

impl Sleep {
    /// When it was last heard.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        Timestamp(
            self.lost_at
                .0
                .saturating_sub(u64::from(self.seconds) * 1000),
        )
    }
}

/// A topic id in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Whose; `None` for a predefined one of all clients.
    pub client_id: Option<Arc<str>>,
    /// The id.
    pub id: u16,
    /// The topic name, or the template of a predefined one.
    pub topic: String,
    /// Is it predefined?
    pub predefined: bool,
}

impl Gateway {
    /// Looks at every client, shard by shard.
    fn each_client(&self, mut look: impl FnMut(&Client)) {
        for shard in &self.shards {
            let shard = shard.lock();
            for client in shard.slots.iter().filter_map(|slot| slot.client.as_deref()) {
                look(client);
            }
        }
    }

    /// All clients, in no order. Each shard is locked while its clients are read.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientView> {
        let mut rows = Vec::with_capacity(self.sessions());
        self.each_client(|client| {
            rows.push(ClientView {
                client_id: client.id.clone(),
                state: client.state(),
                peer: client.link.path.peer,
                sleep: client.sleep(),
                topic_ids: client.topic_ids(),
            });
        });
        rows
    }

    /// Predefined topics and the ids of connected clients, of one client or of all. The ids of a sleeper stand in its
    /// record until it wakes.
    #[must_use]
    pub fn topic_ids(&self, of: Option<&str>) -> Vec<TopicView> {
        let predefined = self.settings().predefined.load();
        let mut rows: Vec<TopicView> = predefined
            .entries()
            .iter()
            .map(|entry| TopicView {
                client_id: entry.clients.as_deref().map(Arc::from),
                id: entry.id,
                topic: entry.topic.clone(),
                predefined: true,
            })
            .collect();
        self.each_client(|client: &Client| {
            if of.is_none_or(|of| *client.id == *of) {
                client.each_topic(|id, name| {
                    rows.push(TopicView {
                        client_id: Some(client.id.clone()),
                        id,
                        topic: name.to_owned(),
                        predefined: false,
                    });
                });
            }
        });
        rows
    }
}
