//! The MQTT client of Nightjar, and the commands made of it: `pub`, `sub`, `bench`.
//!
//! - [`endpoint`], [`tls`], [`transport`]: where a broker is and the byte stream to it;
//! - [`options`], [`message`]: what goes into CONNECT and PUBLISH, owned;
//! - [`session`]: the protocol without I/O; [`connection`]: a session driven over a transport;
//! - [`sn`]: MQTT-SN over UDP;
//! - [`cli`]: flags and exit codes; [`mod@bench`]: the load generator.
//!
//! ```no_run
//! use nightjar_client::{ConnectOptions, Connection, Dialer, Message, QoS, TlsOptions, Url};
//! # async fn example() -> nightjar_client::Result<()> {
//! let url = Url::parse("mqtt://127.0.0.1:1883")?;
//! let dialer = Dialer::new(url.endpoint, &TlsOptions::default())?;
//! let mut client = Connection::connect(&dialer, ConnectOptions::new("meter-7")).await?;
//! client.subscribe_qos("orders/meter-7", QoS::AtLeastOnce).await?;
//! client.publish(Message::new("readings/meter-7", "21.5").qos(QoS::AtLeastOnce)).await?;
//! let order = client.next_message().await?;
//! println!("{}: {:?}", order.topic, order.payload);
//! client.disconnect().await
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod bench;
pub mod cli;
pub mod connection;
pub mod endpoint;
pub mod error;
pub mod message;
pub mod options;
pub mod session;
pub mod sn;
pub mod tls;
pub mod transport;

pub use cli::{BenchArgs, PubArgs, SubArgs, run_bench, run_pub, run_sub};
pub use connection::Connection;
pub use endpoint::{Endpoint, Scheme, Url};
pub use error::{Error, Result};
pub use message::{Message, MessageProperties};
pub use nightjar_mqtt::{ProtocolVersion, QoS, ReasonCode};
pub use options::{ConnectOptions, ConnectionProperties};
pub use session::{Connected, Event, Session, SessionError};
pub use tls::TlsOptions;
pub use transport::{Dialer, Transport};
