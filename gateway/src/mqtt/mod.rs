//! The MQTT front-end: from bytes on a transport to calls on a `Session`, and back.
//!
//! A connection has two phases, each a type: `handshake` reads CONNECT, asks who may come in and opens the session;
//! `connection` is the connected client. The first is boxed and gone before the second begins, so that an idle
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
mod trace;

pub(crate) use input::ClientIds;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use nightjar_broker::Broker;
use nightjar_broker::settings::MqttSettings;

use crate::listener::Accepted;

/// What a listener carries for MQTT.
pub type ListenerMqtt = Arc<MqttListener>;

/// What MQTT wants to know of a listener.
#[derive(Debug, Default)]
pub struct MqttListener {
    /// `[mqtt]` with the listener's overrides; a reload replaces it for connections to come.
    pub settings: ArcSwap<MqttSettings>,
    /// `cert_as_username`: what of a verified client certificate takes the place of the user name.
    pub cert_as_username: CertAsUsername,
}

/// What of a verified client certificate is the user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertAsUsername {
    /// Nothing.
    #[default]
    Off,
    /// Its common name.
    CommonName,
    /// Its distinguished name.
    Subject,
}

/// Bounds on connections whose CONNECT is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectLimits {
    /// Bytes of one CONNECT (`limits.connect_packet_size`).
    pub packet: u32,
    /// Bytes buffered by all of them together (`limits.connect_memory`).
    pub memory: usize,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        Self {
            packet: 384 * 1024,
            memory: 64 << 20,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    broker: Arc<Broker>,
    /// Bytes buffered by connections whose CONNECT is not whole.
    unconnected: AtomicUsize,
    limits: ConnectLimits,
    client_ids: ClientIds,
}

/// The MQTT front-end of a broker. Clones share it.
#[derive(Debug, Clone)]
pub struct MqttFrontend(Arc<Shared>);

impl MqttFrontend {
    /// A front-end of this broker.
    #[must_use]
    pub fn new(broker: Arc<Broker>, limits: ConnectLimits) -> Self {
        Self(Arc::new(Shared {
            broker,
            unconnected: AtomicUsize::new(0),
            limits,
            client_ids: ClientIds::default(),
        }))
    }

    /// Serves one connection from its first byte to its end.
    ///
    /// What the handshake needs is boxed before the task begins, and so is the connected client: the task of an idle
    /// client is a pointer and little more.
    pub fn serve(
        self,
        accepted: Accepted<ListenerMqtt>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let handshake = Box::pin(handshake::run(self.0, accepted));
        async move {
            if let Some(connection) = handshake.await {
                connection.run().await;
            }
        }
    }
}
