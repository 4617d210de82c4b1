//! Enhanced authentication between CONNECT and CONNACK.

use nightjar_broker::access::{Exchange, ExchangeStep};
use nightjar_broker::settings::MqttSettings;
use nightjar_mqtt::packet::{Auth, AuthProperties};
use nightjar_mqtt::{Decoded, Decoder, Packet, ProtocolVersion, ReasonCode};

use super::{Refusal, write_all};
use crate::listener::Accepted;
use crate::mqtt::scratch::with_read;
use crate::mqtt::{ListenerMqtt, Shared};

/// Runs an enhanced authentication to its end [MQTT-4.12.0-2..-5].
#[allow(
    clippy::too_many_arguments,
    reason = "one step of CONNECT, with all that CONNECT has"
)]
pub(super) async fn exchange_until_done(
    shared: &Shared,
    accepted: &mut Accepted<ListenerMqtt>,
    settings: &MqttSettings,
    exchange: &mut dyn Exchange,
    method: &str,
    first: &[u8],
    rest: &mut Vec<u8>,
    final_data: &mut Option<Vec<u8>>,
) -> Result<nightjar_broker::access::Grant, Refusal> {
    let decoder = Decoder::server(settings.max_packet_size.min(shared.limits.packet))
        .with_version(ProtocolVersion::V5);
    let mut data = first.to_vec();
    for _ in 0..MAX_AUTH_STEPS {
        let next = match exchange.step(&data).await {
            ExchangeStep::Success { data, grant } => {
                *final_data = data;
                return Ok(grant);
            }
            ExchangeStep::Fail(code) => {
                let refused = shared
                    .broker
                    .auth()
                    .refuse(code, nightjar_broker::auth::Refusal::Denied);
                return Err(Refusal::new(refused.code, refused.to_string()));
            }
            ExchangeStep::Continue(data) => data,
        };
        let auth = Packet::Auth(Auth {
            reason: ReasonCode::ContinueAuthentication,
            properties: AuthProperties {
                authentication_method: Some(method),
                authentication_data: Some(&next),
                ..AuthProperties::default()
            },
        });
        let mut output = Vec::new();
        auth.encode(ProtocolVersion::V5, &mut output)
            .map_err(|error| Refusal::new(ReasonCode::UnspecifiedError, error.to_string()))?;
        write_all(&mut accepted.transport, &output)
            .await
            .map_err(|error| Refusal::new(ReasonCode::UnspecifiedError, error.to_string()))?;
        data = loop {
            let consumed = match decoder.decode(rest) {
                Ok(Decoded::Packet {
                    packet: Packet::Auth(auth),
                    consumed,
                }) => {
                    if auth.properties.authentication_method != Some(method) {
                        return Err(Refusal::new(
                            ReasonCode::ProtocolError,
                            "AUTH with another method [MQTT-4.12.0-5]",
                        ));
                    }
                    if auth.reason != ReasonCode::ContinueAuthentication {
                        return Err(Refusal::new(
                            ReasonCode::ProtocolError,
                            "AUTH before CONNACK is not 0x18",
                        ));
                    }
                    Some((
                        auth.properties
                            .authentication_data
                            .unwrap_or_default()
                            .to_vec(),
                        consumed,
                    ))
                }
                Ok(Decoded::Packet { packet, .. }) => {
                    return Err(Refusal::new(
                        ReasonCode::ProtocolError,
                        format!(
                            "{} before CONNACK [MQTT-3.1.2-30]",
                            packet.packet_type().as_str()
                        ),
                    ));
                }
                Ok(Decoded::Incomplete { .. }) => None,
                Err(error) => return Err(Refusal::new(error.reason_code(), error.to_string())),
            };
            if let Some((data, consumed)) = consumed {
                rest.drain(..consumed);
                break data;
            }
            let transport = &mut accepted.transport;
            let read = std::future::poll_fn(|cx| {
                with_read(|scratch| {
                    transport
                        .poll_read(cx, scratch)
                        .map(|result| result.inspect(|&n| rest.extend_from_slice(&scratch[..n])))
                })
            });
            if !matches!(read.await, Ok(1..)) {
                return Err(Refusal::new(
                    ReasonCode::UnspecifiedError,
                    "closed during authentication",
                ));
            }
        };
    }
    Err(Refusal::new(
        ReasonCode::NotAuthorized,
        "authentication took too many steps",
    ))
}

/// Steps of an enhanced authentication before it is refused.
const MAX_AUTH_STEPS: usize = 16;
