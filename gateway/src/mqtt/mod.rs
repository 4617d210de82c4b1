//! The MQTT front-end: from bytes on a transport to calls on a `Session`, and back.
//!
//! A connection has two phases, each a type: [`handshake`] reads CONNECT, asks who may come in and opens the session;
//! [`connection`] is the connected client. The first is boxed and gone before the second begins, so that an idle
//! client's task stays small.

mod alias;
mod connection;
mod deliver;
mod end;
mod handshake;
mod incoming;
mod input;
mod message;
mod publish;
mod scratch;
mod subscribe;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use nightjar_broker::Broker;
use nightjar_broker::settings::MqttSettings;

use crate::listener::Accepted;

/// What a listener carries for MQTT: its settings, overrides applied, replaced by a reload.
pub type ListenerMqtt = Arc<ArcSwap<MqttSettings>>;

/// Bytes one connection may have buffered before its CONNECT is whole.
pub const MAX_CONNECT_BYTES: u32 = 384 * 1024;

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    broker: Arc<Broker>,
    /// Bytes buffered by connections whose CONNECT is not whole.
    unconnected: AtomicUsize,
    /// The most of them.
    unconnected_max: usize,
    client_ids: input::ClientIds,
}

/// The MQTT front-end of a broker. Clones share it.
#[derive(Debug, Clone)]
pub struct MqttFrontend(Arc<Shared>);

impl MqttFrontend {
    /// A front-end whose connections may together buffer `unconnected_max` bytes before their CONNECT is whole.
    #[must_use]
    pub fn new(broker: Arc<Broker>, unconnected_max: usize) -> Self {
        Self(Arc::new(Shared {
            broker,
            unconnected: AtomicUsize::new(0),
            unconnected_max,
            client_ids: input::ClientIds::default(),
        }))
    }

    /// Serves one connection from its first byte to its end.
    pub async fn serve(self, accepted: Accepted<ListenerMqtt>) {
        // Boxed, so that what the handshake needs does not live as long as the connection.
        let connection = Box::pin(handshake::run(self.0, accepted)).await;
        if let Some(connection) = connection {
            connection.run().await;
        }
    }
}
