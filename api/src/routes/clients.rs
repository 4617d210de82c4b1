//! Clients, their subscriptions and their timelines.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use nightjar_broker::access::Protocol;
use nightjar_broker::admin::SubscriptionRow;
use nightjar_broker::{RetainHandling, SessionHandle, Subscription};
use nightjar_mqtt::{ProtocolVersion, ReasonCode, TopicFilter, topic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::list::{Data, List, decode, limit};
use crate::error::{ApiError, CommonErrors};
use crate::extract::{Json, Path, Query};
use crate::shared::{Shared, when};

/// A client: its session, and its connection if it has one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClientView {
    /// Client identifier.
    pub clientid: String,
    /// User name.
    pub username: Option<String>,
    /// The node it is on.
    pub node: String,
    /// Is it connected?
    pub connected: bool,
    /// When its last connection was opened.
    pub connected_at: Option<String>,
    /// When its last connection ended, if none is open.
    pub disconnected_at: Option<String>,
    /// When the session came to be on this node.
    pub created_at: Option<String>,
    /// Address it is, or was last, connected from.
    pub ip_address: String,
    /// Port at that address.
    pub port: u16,
    /// Listener it came through.
    pub listener: String,
    /// `MQTT`, `MQIsdp` (3.1) or `MQTT-SN`.
    pub proto_name: String,
    /// 3, 4, 5; of MQTT-SN 1.
    pub proto_ver: u8,
    /// Clean Start (3.x: clean session).
    pub clean_start: bool,
    /// Keep Alive in force, seconds.
    pub keepalive: u16,
    /// Session Expiry Interval, seconds; 4294967295 never expires.
    pub expiry_interval: u32,
    /// Is the session durable?
    pub durable: bool,
    /// Does it skip authorization?
    pub is_superuser: bool,
    /// Number of subscriptions.
    pub subscriptions_cnt: usize,
    /// QoS 1/2 messages sent and not acknowledged.
    pub inflight_cnt: usize,
    /// Most of them.
    pub inflight_max: u16,
    /// Messages that wait.
    pub mqueue_len: usize,
    /// Most of them.
    pub mqueue_max: usize,
    /// Messages dropped, all reasons.
    pub mqueue_dropped: u64,
    /// PUBLISH packets taken from it.
    pub recv_msg: u64,
    /// PUBLISH packets sent to it.
    pub send_msg: u64,
    /// Packets taken from it.
    pub recv_pkt: u64,
    /// Packets sent to it.
    pub send_pkt: u64,
    /// Bytes read from it.
    pub recv_oct: u64,
    /// Bytes written to it.
    pub send_oct: u64,
    /// What the MQTT-SN gateway knows of it.
    pub sn: Option<Value>,
}

/// One subscription of one client.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionView {
    /// Whose.
    pub clientid: String,
    /// The node it is on.
    pub node: String,
    /// Topic filter, `$share/...` in full.
    pub topic: String,
    /// Granted QoS.
    pub qos: u8,
    /// No Local.
    pub nl: u8,
    /// Retain As Published.
    pub rap: u8,
    /// Retain Handling.
    pub rh: u8,
    /// Is the session durable?
    pub durable: bool,
    /// Subscription Identifier.
    pub subid: Option<u32>,
}

impl Shared {
    /// A session as lists show it.
    pub fn client_view(&self, handle: &Arc<SessionHandle>) -> ClientView {
        use std::sync::atomic::Ordering::Relaxed;
        let (info, facts) = handle.about();
        let queue = handle.queue_state();
        let stored = if handle.is_durable() {
            self.broker.store().queue_len(handle.client_id())
        } else {
            None
        };
        let (proto_name, proto_ver) = match info.protocol {
            Protocol::Mqtt(ProtocolVersion::V31) => ("MQIsdp", 3),
            Protocol::Mqtt(ProtocolVersion::V311) => ("MQTT", 4),
            Protocol::Mqtt(ProtocolVersion::V5) => ("MQTT", 5),
            Protocol::MqttSn => ("MQTT-SN", 1),
        };
        let sn = match info.protocol {
            Protocol::MqttSn => self.host.mqttsn_client(handle.client_id()),
            Protocol::Mqtt(_) => None,
        };
        let counts = &handle.counts;
        ClientView {
            clientid: handle.client_id().to_string(),
            username: info.username.as_deref().map(str::to_owned),
            node: self.broker.node().to_string(),
            connected: queue.connected,
            connected_at: when(facts.connected_at),
            disconnected_at: when(facts.disconnected_at).filter(|_| !queue.connected),
            created_at: when(facts.created_at),
            ip_address: info.peer.ip().to_canonical().to_string(),
            port: info.peer.port(),
            listener: info.listener.to_string(),
            proto_name: proto_name.to_owned(),
            proto_ver,
            clean_start: facts.clean_start,
            keepalive: facts.keep_alive,
            expiry_interval: facts.expiry,
            durable: handle.is_durable(),
            is_superuser: info.superuser,
            subscriptions_cnt: handle.with_subs(|subs| subs.len()),
            inflight_cnt: queue.inflight,
            inflight_max: facts.window,
            mqueue_len: queue.len.max(stored.map_or(0, |stored| stored.0)),
            mqueue_max: queue.max_len,
            mqueue_dropped: u64::from(handle.dropped.load(Relaxed)),
            recv_msg: counts.received.load(Relaxed),
            send_msg: counts.sent.load(Relaxed),
            recv_pkt: counts.packets_received.load(Relaxed),
            send_pkt: counts.packets_sent.load(Relaxed),
            recv_oct: counts.bytes_received.load(Relaxed),
            send_oct: counts.bytes_sent.load(Relaxed),
            sn,
        }
    }

    /// A subscription as lists show it.
    pub fn subscription_view(&self, row: &SubscriptionRow) -> SubscriptionView {
        let options = row.sub.options;
        SubscriptionView {
            clientid: row.client_id.to_string(),
            node: self.broker.node().to_string(),
            topic: row.filter.to_string(),
            qos: options.qos().bits(),
            nl: u8::from(options.no_local()),
            rap: u8::from(options.retain_as_published()),
            rh: match options.retain_handling() {
                RetainHandling::Always => 0,
                RetainHandling::IfNew => 1,
                RetainHandling::Never => 2,
            },
            durable: row.durable,
            subid: (row.sub.id != 0).then_some(row.sub.id),
        }
    }
}

/// Connected or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConnState {
    /// It is.
    Connected,
    /// Only its session is there.
    Disconnected,
}

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub enum Proto {
    /// MQTT of any version.
    #[serde(rename = "mqtt")]
    Mqtt,
    /// MQTT-SN.
    #[serde(rename = "mqtt-sn")]
    MqttSn,
}

/// Which clients.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClientsQuery {
    /// Entries of the page, 1 to 1000.
    pub limit: Option<usize>,
    /// `meta.cursor` of the page before.
    pub cursor: Option<String>,
    /// Exactly this client identifier.
    pub clientid: Option<String>,
    /// Exactly this user name.
    pub username: Option<String>,
    /// Client identifiers that hold this text.
    pub like_clientid: Option<String>,
    /// User names that hold this text.
    pub like_username: Option<String>,
    /// Exactly this address.
    pub ip_address: Option<String>,
    /// `connected` or `disconnected`.
    #[param(inline)]
    pub conn_state: Option<ConnState>,
    /// `mqtt` or `mqtt-sn`.
    #[param(inline)]
    pub proto: Option<Proto>,
    /// Exactly this listener.
    pub listener: Option<String>,
}

impl ClientsQuery {
    /// Checks what is to be checked before the list is walked.
    pub fn filter(self) -> Result<ClientFilter, ApiError> {
        let address = match &self.ip_address {
            None => None,
            Some(text) => Some(text.parse::<IpAddr>().map_err(|_| {
                ApiError::bad_request(format!("ip_address: expected an address, got {text:?}"))
            })?),
        };
        Ok(ClientFilter {
            query: self,
            address,
        })
    }
}

/// A checked [`ClientsQuery`].
pub struct ClientFilter {
    query: ClientsQuery,
    address: Option<IpAddr>,
}

impl ClientFilter {
    /// Is it wanted?
    pub fn wants(&self, handle: &Arc<SessionHandle>) -> bool {
        let query = &self.query;
        let id: &str = handle.client_id();
        if query.clientid.as_deref().is_some_and(|wanted| wanted != id)
            || query
                .like_clientid
                .as_deref()
                .is_some_and(|part| !id.contains(part))
        {
            return false;
        }
        if let Some(state) = query.conn_state
            && handle.is_connected() != (state == ConnState::Connected)
        {
            return false;
        }
        if query.username.is_none()
            && query.like_username.is_none()
            && self.address.is_none()
            && query.proto.is_none()
            && query.listener.is_none()
        {
            return true;
        }
        let info = handle.info();
        let username = info.username.as_deref();
        query
            .username
            .as_deref()
            .is_none_or(|wanted| username == Some(wanted))
            && query
                .like_username
                .as_deref()
                .is_none_or(|part| username.is_some_and(|name| name.contains(part)))
            && self
                .address
                .is_none_or(|wanted| info.peer.ip().to_canonical() == wanted.to_canonical())
            && query.proto.is_none_or(|wanted| {
                (wanted == Proto::MqttSn) == (info.protocol == Protocol::MqttSn)
            })
            && query
                .listener
                .as_deref()
                .is_none_or(|wanted| *info.listener == *wanted)
    }
}

/// Clients, in the order of their identifiers
#[utoipa::path(get, path = "/clients", tag = "clients", params(ClientsQuery),
    responses((status = 200, body = List<ClientView>), CommonErrors))]
pub async fn list(
    State(shared): App,
    Query(query): Query<ClientsQuery>,
) -> Result<Answer<List<ClientView>>, ApiError> {
    let limit = limit(query.limit)?;
    let after: Option<String> = decode(query.cursor.as_deref())?;
    let filter = query.filter()?;
    // One client is found without a walk.
    if let Some(id) = &filter.query.clientid {
        let found = shared
            .broker
            .client(id)
            .filter(|handle| filter.wants(handle));
        let rows = found.map(|handle| shared.client_view(&handle));
        return Ok(Answer(List::new(rows.into_iter().collect(), None::<&()>)));
    }
    let (rows, next) = shared
        .walk(move |shared| {
            let page = shared
                .broker
                .page_clients(after.as_deref(), limit, |handle| filter.wants(handle));
            let next = page
                .rows
                .last()
                .filter(|_| page.more)
                .map(|last| last.client_id().to_string());
            let rows: Vec<_> = page.rows.iter().map(|it| shared.client_view(it)).collect();
            (rows, next)
        })
        .await?;
    Ok(Answer(List::new(rows, next.as_ref())))
}

fn unknown(clientid: &str) -> ApiError {
    ApiError::not_found(format!("there is no session of the client {clientid:?}"))
}

/// One client
#[utoipa::path(get, path = "/clients/{clientid}", tag = "clients", params(("clientid" = String, Path)),
    responses((status = 200, body = ClientView), CommonErrors))]
pub async fn one(
    State(shared): App,
    Path(id): Path<String>,
) -> Result<Answer<ClientView>, ApiError> {
    let handle = shared.broker.client(&id).ok_or_else(|| unknown(&id))?;
    Ok(Answer(shared.client_view(&handle)))
}

/// Disconnect a client (0x98); its session stays as long as its expiry says
#[utoipa::path(delete, path = "/clients/{clientid}", tag = "clients", params(("clientid" = String, Path)),
    responses((status = 204), CommonErrors))]
pub async fn kick(State(shared): App, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    if shared.broker.kick(&id, ReasonCode::AdministrativeAction) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::not_found(format!(
        "the client {id:?} is not connected"
    )))
}

/// How many were connected.
#[derive(Serialize, ToSchema)]
pub struct Kicked {
    /// Clients that were asked to leave.
    kicked: usize,
}

/// Disconnect several clients, at most 1000
#[utoipa::path(post, path = "/clients/kick/bulk", tag = "clients", request_body = Vec<String>,
    responses((status = 200, body = Kicked), CommonErrors))]
pub async fn kick_bulk(
    State(shared): App,
    Json(ids): Json<Vec<String>>,
) -> Result<Answer<Kicked>, ApiError> {
    if ids.len() > super::list::MAX {
        return Err(ApiError::bad_request(format!(
            "expected at most {} client identifiers, got {}",
            super::list::MAX,
            ids.len()
        )));
    }
    let kicked = ids
        .iter()
        .filter(|id| shared.broker.kick(id, ReasonCode::AdministrativeAction))
        .count();
    Ok(Answer(Kicked { kicked }))
}

/// Subscriptions of one client
#[utoipa::path(get, path = "/clients/{clientid}/subscriptions", tag = "clients", params(("clientid" = String, Path)),
    responses((status = 200, body = Data<SubscriptionView>), CommonErrors))]
pub async fn subscriptions_of(
    State(shared): App,
    Path(id): Path<String>,
) -> Result<Answer<Data<SubscriptionView>>, ApiError> {
    shared.broker.client(&id).ok_or_else(|| unknown(&id))?;
    let data = shared
        .walk(move |shared| {
            let page =
                shared
                    .broker
                    .page_subscriptions(Some(&id), None, None, 10_000, |_, _, _| true);
            page.rows
                .iter()
                .map(|row| shared.subscription_view(row))
                .collect()
        })
        .await?;
    Ok(Answer(Data { data }))
}

/// An event of a client's life.
#[derive(Serialize, ToSchema)]
pub struct TimelineEntry {
    /// When; of repeated events the last time.
    at: String,
    /// `connected`, `disconnected`, `refused`, `taken_over`, `kicked`, `subscribed`, `denied`, `dropped`, ...
    event: String,
    /// The particulars.
    text: String,
    /// How often in a row.
    count: u64,
    /// The node that saw it.
    node: String,
}

impl std::fmt::Display for TimelineEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.at, self.event, self.text)?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}

/// What happened to a client lately, newest first; also one that is gone
#[utoipa::path(get, path = "/clients/{clientid}/timeline", tag = "clients", params(("clientid" = String, Path)),
    responses((status = 200, body = Data<TimelineEntry>), CommonErrors))]
pub async fn timeline(State(shared): App, Path(id): Path<String>) -> Answer<Data<TimelineEntry>> {
    Answer(Data {
        data: shared.timeline(&id),
    })
}

impl Shared {
    /// Journal and drop ledger of a client, newest first.
    pub fn timeline(&self, id: &str) -> Vec<TimelineEntry> {
        let node = self.broker.node().to_string();
        let events = self.broker.journal().of(id, 200).into_iter().map(|entry| {
            (
                entry.at,
                TimelineEntry {
                    at: entry.at.to_rfc3339(),
                    event: entry.event.as_str().to_owned(),
                    text: entry.text.into(),
                    count: u64::from(entry.count),
                    node: node.clone(),
                },
            )
        });
        let drops = self
            .broker
            .drops()
            .list(200, |drop| *drop.client_id == *id)
            .into_iter()
            .map(|drop| {
                let topic = drop
                    .topic
                    .map_or_else(String::new, |topic| format!(" of {topic}"));
                (
                    drop.at,
                    TimelineEntry {
                        at: drop.at.to_rfc3339(),
                        event: "dropped".to_owned(),
                        text: format!("deliveries{topic}: {}", drop.reason.as_str()),
                        count: drop.count,
                        node: node.clone(),
                    },
                )
            });
        let mut all: Vec<_> = events.chain(drops).collect();
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        all.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// Which subscriptions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubscriptionsQuery {
    /// Entries of the page, 1 to 1000.
    pub limit: Option<usize>,
    /// `meta.cursor` of the page before.
    pub cursor: Option<String>,
    /// Of this client.
    pub clientid: Option<String>,
    /// Exactly this topic filter.
    pub topic: Option<String>,
    /// Filters that match this topic name.
    pub match_topic: Option<String>,
    /// With this granted QoS.
    pub qos: Option<u8>,
    /// In this shared group.
    pub share_group: Option<String>,
}

impl SubscriptionsQuery {
    /// Is it wanted?
    pub fn wants(&self, filter: &TopicFilter, sub: Subscription) -> bool {
        self.topic
            .as_deref()
            .is_none_or(|wanted| wanted == filter.as_str())
            && self
                .match_topic
                .as_deref()
                .is_none_or(|name| topic::matches(filter.routing_filter(), name))
            && self.qos.is_none_or(|qos| sub.options.qos().bits() == qos)
            && self
                .share_group
                .as_deref()
                .is_none_or(|group| filter.shared().is_some_and(|shared| shared.group == group))
    }
}

/// Subscriptions, in the order of client identifiers and filters
#[utoipa::path(get, path = "/subscriptions", tag = "subscriptions", params(SubscriptionsQuery),
    responses((status = 200, body = List<SubscriptionView>), CommonErrors))]
pub async fn subscriptions(
    State(shared): App,
    Query(query): Query<SubscriptionsQuery>,
) -> Result<Answer<List<SubscriptionView>>, ApiError> {
    let limit = limit(query.limit)?;
    let after: Option<(String, String)> = decode(query.cursor.as_deref())?;
    let (rows, next) = shared
        .walk(move |shared| {
            let after = after.as_ref().map(|(id, filter)| (&**id, &**filter));
            let page = shared.broker.page_subscriptions(
                query.clientid.as_deref(),
                query.topic.as_deref(),
                after,
                limit,
                |_, filter, sub| query.wants(filter, sub),
            );
            let next = page
                .rows
                .last()
                .filter(|_| page.more)
                .map(|last| (last.client_id.to_string(), last.filter.to_string()));
            let rows: Vec<_> = page
                .rows
                .iter()
                .map(|row| shared.subscription_view(row))
                .collect();
            (rows, next)
        })
        .await?;
    Ok(Answer(List::new(rows, next.as_ref())))
}
