//! `[listeners.mqttsn.*]`: what the gateway is told.

use std::sync::Arc;

use arc_swap::ArcSwap;
use nightjar_broker::settings::{MqttSettings, QueueLimits};
use nightjar_cluster::ClusterNode;
use nightjar_gateway::cidr::Cidr;
use nightjar_gateway::mqttsn::{
    AddressChange, Auth, Predefined, PredefinedTopic, Relay, Settings, SocketSettings,
};

use super::settings::{self, millis, seconds};
use crate::config::model::{self, Config, MqttSnListener, SnAuth};
use crate::config::units::{OffOr, Rate};

/// The way to the gateways of other nodes: a sleeper may wake, and a datagram may come, anywhere.
pub struct Between(pub Arc<ClusterNode>);

impl Relay for Between {
    fn send(&self, to: Option<u64>, octets: bytes::Bytes) -> usize {
        self.0.to_gateways(to, &octets)
    }

    fn node(&self) -> u64 {
        nightjar_broker::Mesh::node(&*self.0)
    }
}

/// What can change while a listener runs.
pub struct Changeable {
    /// `mqttsn:default`.
    pub name: String,
    /// Predefined topics.
    pub predefined: Predefined,
    /// `[mqtt]` with the listener's overrides.
    pub mqtt: MqttSettings,
}

/// All MQTT-SN listeners that are switched on.
pub fn listeners(config: &Config) -> Vec<(Settings, SocketSettings)> {
    config
        .listeners
        .datagrams()
        .map(|(name, it)| (listener(config, name, it), place(name, it)))
        .collect()
}

/// What a reload puts in force.
pub fn changeable(config: &Config) -> Vec<Changeable> {
    config
        .listeners
        .datagrams()
        .map(|(name, it)| Changeable {
            name: format!("mqttsn:{name}"),
            predefined: predefined(it),
            mqtt: mqtt(config, it),
        })
        .collect()
}

fn mqtt(config: &Config, it: &MqttSnListener) -> MqttSettings {
    settings::mqtt(config, &config.mqtt.with(&it.mqtt))
}

fn predefined(it: &MqttSnListener) -> Predefined {
    let topics = it.predefined.iter().map(|entry| PredefinedTopic {
        id: entry.id,
        topic: entry.topic.clone(),
        clients: entry.clients.clone(),
    });
    Predefined::new(topics.collect())
}

fn place(name: &str, it: &MqttSnListener) -> SocketSettings {
    SocketSettings {
        key: format!("listeners.mqttsn.{name}"),
        bind: it.bind.get(),
        groups: it.multicast.clone(),
        ttl: it.multicast_ttl,
        advertise: it
            .advertise_interval
            .get()
            .map(|interval| u16::try_from(interval.get().as_secs()).unwrap_or(u16::MAX)),
    }
}

fn listener(config: &Config, name: &str, it: &MqttSnListener) -> Settings {
    let rate = |rate: OffOr<Rate>| rate.get().map(Rate::per_second);
    let mut to = Settings::new(name);
    to.gateway_id = it.gateway_id;
    to.mountpoint = (!it.mountpoint.is_empty()).then(|| it.mountpoint.clone());
    to.max_sessions = it.max_connections.get().map(|max| max as usize);
    to.max_datagram = usize::from(it.max_datagram);
    to.retry_interval_ms = millis(it.retry_interval);
    to.max_retries = it.max_retries;
    to.session_expiry = seconds(it.session_expiry);
    to.max_topics = usize::from(it.max_topics);
    to.wake_limit = it.wake_limit;
    to.publish_asleep = it.publish_asleep;
    to.strict_client_id = it.strict_client_id;
    to.qos_minus_one = it.qos_minus_one;
    to.qos_minus_one_rate = rate(it.qos_minus_one_rate);
    to.auth = match it.auth {
        SnAuth::Chain => Auth::Chain,
        SnAuth::Trusted => Auth::Trusted,
        SnAuth::Off => Auth::Off,
    };
    to.username = it.username.clone();
    to.password = it.password.as_ref().map(|text| text.expose().to_owned());
    to.trusted_sources = it
        .trusted_sources
        .iter()
        .filter_map(|range| Cidr::new(range.address, range.prefix))
        .collect();
    to.address_change = match it.address_change {
        model::AddressChange::Never => AddressChange::Never,
        model::AddressChange::SameIp => AddressChange::SameIp,
        model::AddressChange::SamePrefix => AddressChange::SamePrefix,
        model::AddressChange::Validated => AddressChange::Validated,
    };
    to.new_sessions_per_source = rate(it.new_sessions_per_source);
    to.replies_to_strangers_per_source = rate(it.replies_to_strangers_per_source);
    let mqtt = mqtt(config, it);
    to.queue = Arc::new(QueueLimits {
        max_len: it.buffer_messages,
        max_bytes: it.buffer_bytes.as_usize(),
        ..QueueLimits::clone(&mqtt.queue)
    });
    to.predefined = ArcSwap::from_pointee(predefined(it));
    to.mqtt = ArcSwap::from_pointee(mqtt);
    to
}
