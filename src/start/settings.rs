//! From the configuration's words to the settings of broker and gateway.

use std::sync::Arc;

use nightjar_broker::acl::{AclSettings, DenyAction, NoMatch};
use nightjar_broker::auth::AuthSettings;
use nightjar_broker::limits::{BucketRate, Flapping, LimitSettings, Rates};
use nightjar_broker::settings::{
    Leniency, MqttSettings, QueueLimits, QueuePolicy, RetainedSettings, SharedStrategy,
};
use nightjar_gateway::cidr::Cidr;
use nightjar_gateway::listener::{ListenerKind, ListenerSettings, ProxyMode, ProxySettings};
use nightjar_gateway::mqtt::{CertAsUsername, ListenerMqtt, MqttListener};
use nightjar_gateway::tls::{SniCertificate, TlsSettings, Verify};
use nightjar_gateway::websocket::handshake::{WsPath, WsSettings};
use nightjar_mqtt::QoS;

use crate::config::model::{self, Config, StreamKind, StreamListener};
use crate::config::units::{OffOr, Rate};

pub(super) fn millis(duration: crate::config::units::Duration) -> u64 {
    u64::try_from(duration.get().as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn seconds(duration: crate::config::units::Duration) -> u32 {
    u32::try_from(duration.get().as_secs()).unwrap_or(u32::MAX)
}

/// `[mqtt]`, with or without a listener's overrides.
pub fn mqtt(config: &Config, from: &model::Mqtt) -> MqttSettings {
    MqttSettings {
        max_packet_size: u32::try_from(from.max_packet_size.get()).unwrap_or(u32::MAX),
        max_client_id_len: from.max_client_id_len,
        max_topic_levels: from.max_topic_levels,
        max_topic_alias: from.max_topic_alias,
        max_qos: QoS::from_bits(from.max_qos).unwrap_or(QoS::ExactlyOnce),
        retain_available: from.retain_available,
        wildcard_subscription: from.wildcard_subscription,
        shared_subscription: from.shared_subscription,
        subscription_identifiers: from.subscription_identifiers,
        connect_timeout_ms: millis(from.connect_timeout),
        keep_alive_percent: (from.keep_alive_multiplier * 100.0).round() as u32,
        server_keep_alive: from
            .server_keep_alive
            .get()
            .map(|cap| u16::try_from(seconds(cap)).unwrap_or(u16::MAX)),
        max_inflight: from.max_inflight,
        receive_maximum: from.receive_maximum,
        retry_interval_ms: from.retry_interval.get().map(millis),
        max_awaiting_rel: usize::from(from.max_awaiting_rel),
        session_expiry_3x: seconds(from.session_expiry_3x),
        max_session_expiry: seconds(from.max_session_expiry),
        queue: Arc::new(QueueLimits {
            max_len: from.max_queue_len,
            max_bytes: from.max_queue_bytes.as_usize(),
            policy: match from.queue_policy {
                model::QueuePolicy::DropOldest => QueuePolicy::DropOldest,
                model::QueuePolicy::DropNewest => QueuePolicy::DropNewest,
                model::QueuePolicy::Reject => QueuePolicy::Reject,
            },
            queue_qos0: from.queue_qos0,
        }),
        max_subscriptions: from.max_subscriptions.get().map(|max| max as usize),
        message_expiry: from.message_expiry.get().map(seconds),
        leniency: match from.client_leniency {
            model::Leniency::Lenient => Leniency::Lenient,
            model::Leniency::Strict => Leniency::Strict,
        },
        shared_strategy: match from.shared_strategy {
            model::SharedStrategy::RoundRobin => SharedStrategy::RoundRobin,
            model::SharedStrategy::Random => SharedStrategy::Random,
            model::SharedStrategy::Sticky => SharedStrategy::Sticky,
            model::SharedStrategy::Local => SharedStrategy::Local,
            model::SharedStrategy::HashClientId => SharedStrategy::HashClientId,
            model::SharedStrategy::HashTopic => SharedStrategy::HashTopic,
        },
        backpressure_timeout_ms: millis(from.backpressure_timeout),
        will_restart_grace: seconds(config.node.will_restart_grace),
    }
}

/// `[retained]`.
pub fn retained(config: &Config) -> RetainedSettings {
    RetainedSettings {
        max_messages: config
            .retained
            .max_messages
            .get()
            .map(|max| usize::try_from(max).unwrap_or(usize::MAX)),
        max_payload: Some(config.retained.max_payload.as_usize()),
        expiry: config.retained.expiry.get().map(seconds),
    }
}

/// `[auth]` but its chain.
pub const fn auth(config: &Config) -> AuthSettings {
    AuthSettings {
        allow_anonymous: config.auth.allow_anonymous,
        fallthrough_anonymous: config.auth.fallthrough_anonymous,
        bind_client_id: config.auth.bind_client_id,
    }
}

/// `[limits]` of clients, users and addresses.
pub fn limits(config: &Config) -> LimitSettings {
    let limits = &config.limits;
    let flapping = limits.flapping;
    LimitSettings {
        client: rates(limits.client),
        user: rates(limits.user),
        address: rates(limits.address),
        flapping: flapping.enable.then(|| Flapping {
            connects: flapping.connects,
            window: flapping.window.get(),
            ban: flapping.ban.get(),
        }),
    }
}

fn rates(buckets: model::Buckets) -> Rates {
    let rate = |amount: u64, per: crate::config::units::Duration| BucketRate {
        burst: amount as f64,
        per: per.get(),
    };
    let events = |it: OffOr<Rate>| it.get().map(|it| rate(it.amount, it.per));
    Rates {
        messages: events(buckets.messages),
        bytes: buckets.bytes.get().map(|it| rate(it.amount.get(), it.per)),
        connects: events(buckets.connects),
    }
}

/// `[acl]` but its sources.
pub fn acl(config: &Config) -> AclSettings {
    AclSettings {
        no_match: match config.acl.no_match {
            model::NoMatch::Deny => NoMatch::Deny,
            model::NoMatch::Allow => NoMatch::Allow,
        },
        deny_action: match config.acl.deny_action {
            model::DenyAction::Ignore => DenyAction::Ignore,
            model::DenyAction::Disconnect => DenyAction::Disconnect,
        },
        cache_size: config.acl.cache_size,
        cache_ttl: config.acl.cache_ttl.get(),
    }
}

fn kind(kind: StreamKind) -> ListenerKind {
    match kind {
        StreamKind::Tcp => ListenerKind::Tcp,
        StreamKind::Tls => ListenerKind::Tls,
        StreamKind::Ws => ListenerKind::Ws,
        StreamKind::Wss => ListenerKind::Wss,
    }
}

fn listener(config: &Config, it: &StreamListener<'_>) -> ListenerSettings<ListenerMqtt> {
    let stream = it.stream;
    let settings = mqtt(config, &config.mqtt.with(&stream.mqtt));
    let lenient = settings.leniency == Leniency::Lenient;
    let max_message = u64::from(settings.max_packet_size)
        .max(1 << 20)
        .saturating_mul(512);
    let mqtt = Arc::new(MqttListener {
        settings: arc_swap::ArcSwap::from_pointee(settings),
        cert_as_username: match stream.cert_as_username {
            model::CertAsUsername::Off => CertAsUsername::Off,
            model::CertAsUsername::Cn => CertAsUsername::CommonName,
            model::CertAsUsername::Dn => CertAsUsername::Subject,
        },
    });
    let mut listener = ListenerSettings::<ListenerMqtt>::new(kind(it.kind), it.name);
    listener.bind = vec![stream.bind.get()];
    listener.backlog = u32::from(stream.backlog);
    listener.max_connections = stream.max_connections.get().map(|max| max as usize);
    listener.max_connect_rate = stream
        .max_connect_rate
        .get()
        .map(|rate| rate.per_second().ceil().max(1.0) as u32);
    listener.max_handshakes = stream.max_handshakes as usize;
    listener.handshake_timeout = stream.handshake_timeout.get();
    listener.proxy = ProxySettings {
        mode: match stream.proxy_protocol {
            model::ProxyProtocol::Off => ProxyMode::Off,
            model::ProxyProtocol::Required => ProxyMode::Required,
            model::ProxyProtocol::Optional => ProxyMode::Optional,
        },
        trusted: stream
            .trusted_proxies
            .iter()
            .filter_map(|range| Cidr::new(range.address, range.prefix))
            .collect(),
        timeout: stream.proxy_timeout.get(),
    };
    if let Some(tls) = it.tls {
        listener.tls = TlsSettings {
            cert_file: tls.cert_file.clone(),
            key_file: tls.key_file.clone(),
            ca_file: tls.ca_file.clone(),
            verify: match tls.verify {
                model::Verify::None => Verify::None,
                model::Verify::Peer => Verify::Peer,
            },
            fail_if_no_peer_cert: tls.fail_if_no_peer_cert,
            crl_file: tls.crl_file.clone(),
            sni: tls
                .sni
                .iter()
                .map(|pair| SniCertificate {
                    cert_file: pair.cert_file.clone(),
                    key_file: pair.key_file.clone(),
                })
                .collect(),
            data_dir: config.node.data_dir.clone(),
            ..TlsSettings::default()
        };
    }
    if let Some(ws) = it.ws {
        listener.websocket = WsSettings {
            path: ws.path.clone().map_or(WsPath::Default, WsPath::Exact),
            lenient,
            allowed_origins: (!ws.allowed_origins.is_empty()).then(|| ws.allowed_origins.clone()),
            allow_origin_absence: ws.allow_origin_absence,
            max_message,
        };
    }
    listener.mountpoint = (!stream.mountpoint.is_empty()).then(|| stream.mountpoint.clone());
    listener.mqtt = mqtt;
    listener
}

/// All stream listeners that are switched on.
pub fn listeners(config: &Config) -> Vec<ListenerSettings<ListenerMqtt>> {
    config
        .listeners
        .streams()
        .map(|it| listener(config, &it))
        .collect()
}
