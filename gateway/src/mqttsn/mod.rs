//! The MQTT-SN 1.2 front-end: sensors over UDP as full clients of the broker.
//!
//! [`Gateway`] holds the clients of one listener and is sans-IO: datagrams and the time go in, datagrams come out. Each
//! client is a state machine ([`State`]) that drives a `Session` of the broker, as an MQTT connection does; a client that
//! sleeps has its session parked in its record and is here an entry of a few hundred bytes, without task and without
//! timer of its own. [`SnListeners`] puts sockets around it.
//!
//! A test drives it without sockets:
//!
//! ```
//! # use std::sync::Arc;
//! # use nightjar_broker::{Broker, MemoryStore, Parts, Timestamp, acl, auth, settings};
//! use nightjar_gateway::mqttsn::{Auth, Gateway, Path, Settings, Turn};
//!
//! # struct NoTimer;
//! # impl auth::Timer for NoTimer {
//! #     fn sleep(&self, _: std::time::Duration) -> nightjar_broker::access::BoxFuture<'static, ()> {
//! #         Box::pin(std::future::pending())
//! #     }
//! # }
//! # let store = Arc::new(MemoryStore::new(4));
//! # let broker = Broker::new(Parts {
//! #     kept: nightjar_broker::Kept::default(),
//! #     node: "n".into(),
//! #     store: store.clone(),
//! #     settings: settings::MqttSettings::default(),
//! #     retained: settings::RetainedSettings::default(),
//! #     acl: Arc::new(acl::AclSources::new(
//! #         acl::AclSettings { no_match: acl::NoMatch::Allow, ..acl::AclSettings::default() },
//! #         Vec::new(),
//! #     )),
//! #     auth: auth::AuthChain::new(auth::AuthSettings::default(), Vec::new(), Vec::new(), Arc::new(NoTimer)),
//! # });
//! # store.set_sink(broker.clone());
//! let mut settings = Settings::new("default");
//! settings.auth = Auth::Off;
//! let gateway = Gateway::seeded(broker, settings, 7);
//! let path = Path::direct("192.0.2.1:5000".parse()?, None);
//! let mut turn = Turn::default();
//! // CONNECT, CleanSession, keep alive 60 s, client id "s".
//! gateway.receive(Timestamp(1_000), 0, &mut turn, path, None, &[7, 0x04, 0x04, 1, 0, 60, b's']);
//! gateway.finish(&mut turn);
//! let sent: Vec<&[u8]> = turn.output().iter().map(|(_, datagram)| datagram).collect();
//! assert_eq!(sent, [[3, 0x05, 0]]);
//! let clients = gateway.clients();
//! assert_eq!((&*clients[0].client_id, clients[0].state), ("s", nightjar_gateway::mqttsn::State::Active));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod arrive;
mod bucket;
mod client;
mod connect;
mod counters;
mod downlink;
mod front;
mod gateway;
mod limits;
mod link;
mod listener;
mod live;
mod path;
mod predefined;
mod random;
mod ready;
mod relay;
mod settings;
mod socket;
mod stray;
mod taken;
#[cfg(test)]
mod tests;
mod topics;
mod trace;
mod uplink;
mod view;
mod wheel;
mod will;

use std::net::SocketAddr;

pub use counters::{Counted, Counters};
pub use gateway::{Gateway, Turn};
pub use listener::{BoundSnListeners, SnListenerStatus, SnListeners};
pub use path::{Output, Path};
pub use predefined::{Predefined, PredefinedTopic};
pub use relay::Relay;
pub use settings::{AddressChange, Auth, Settings};
pub use socket::SocketSettings;
pub use view::{ClientView, Sleep, TopicView};

/// The states of a client (MQTT-SN section 6.14, figure 4). One that is lost or disconnected is not known any more; its
/// session waits in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being forgotten.
    Disconnected,
    /// Between CONNECT and CONNACK.
    Connecting,
    /// Connected.
    Active,
    /// Asleep.
    Asleep,
    /// Between PINGREQ and PINGRESP.
    Awake,
}

/// What a listener tells of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientStatus {
    /// Its state.
    pub state: State,
    /// Where it was last heard.
    pub peer: SocketAddr,
}
