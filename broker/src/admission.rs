//! What every front-end asks before a client comes in, beside authentication: bans, rates, to whom a session belongs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use nightjar_mqtt::ReasonCode;

use crate::access::ClientInfo;
use crate::auth::{Owner, Refused};
use crate::bans::{Ban, BanKind};
use crate::broker::Broker;
use crate::limits::OverRate;
use crate::metrics::Counter;
use crate::owners::OwnerGuard;
use crate::ticket::Ticket;
use crate::time::Timestamp;

/// Why a client may not come in, whoever it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// It is banned.
    #[error("banned: {} {:?}", .0.kind, .0.who)]
    Banned(Arc<Ban>),
    /// It connects more often than it may.
    #[error("connections come faster than {}", .0.key())]
    OverRate(OverRate),
}

impl NotAdmitted {
    /// The code for CONNACK.
    #[must_use]
    pub const fn code(&self) -> ReasonCode {
        match self {
            Self::Banned(_) => ReasonCode::Banned,
            Self::OverRate(_) => ReasonCode::ConnectionRateExceeded,
        }
    }
}

impl Broker {
    /// Refuses a client that is banned by client identifier, user name or address, and counts it. Ask before
    /// authentication, and again if that gave another user name.
    ///
    /// # Errors
    /// [`NotAdmitted::Banned`].
    pub fn check_ban(&self, info: &ClientInfo, now: Timestamp) -> Result<(), NotAdmitted> {
        let name = info.username.as_deref();
        let bans = self.kept().bans();
        match bans.find(&info.client_id, name, info.peer.ip(), now) {
            None => Ok(()),
            Some(ban) => {
                self.metrics().count(Counter::ConnectsBanned);
                Err(NotAdmitted::Banned(ban))
            }
        }
    }

    /// Counts a connection of an address against `limits.address.connects`. Ask before authentication.
    ///
    /// # Errors
    /// [`NotAdmitted::OverRate`].
    pub fn count_address(&self, address: IpAddr) -> Result<(), NotAdmitted> {
        let over = self.limits().connect_from(address, Instant::now());
        over.map_err(|over| self.over_rate(over))
    }

    /// Counts an authenticated connection against `limits.user.connects` and `limits.client.connects`, and bans a client
    /// identifier that connects too often (`limits.flapping`).
    ///
    /// # Errors
    /// [`NotAdmitted::OverRate`].
    pub fn count_client(&self, info: &ClientInfo) -> Result<(), NotAdmitted> {
        let now = Instant::now();
        let over = self.limits().connect(info, now);
        over.map_err(|over| self.over_rate(over))?;
        if let Some(flapping) = self.limits().flaps(&info.client_id, now) {
            self.metrics().count(Counter::FlappingBans);
            let at = Timestamp::now();
            let length = u64::try_from(flapping.ban.as_millis()).unwrap_or(u64::MAX);
            let ban = Ban {
                kind: BanKind::ClientId,
                who: info.client_id.to_string(),
                reason: format!(
                    "{} connections in {:?} (limits.flapping)",
                    flapping.connects, flapping.window
                ),
                by: "flapping".to_owned(),
                at,
                until: at.plus_millis(length),
            };
            // It is enforced when it is committed, this connection among those it ends.
            if let Err(error) = self.kept().bans().submit(ban) {
                tracing::warn!(client_id = &*info.client_id, %error, "a flapping client could not be banned");
            }
        }
        Ok(())
    }

    /// Holds the client identifier of an authenticated client for its user and certificate while its session is opened,
    /// where `auth.bind_client_id` asks for it. Keep the guard until the session is open.
    ///
    /// # Errors
    /// [`Refused`] if the session belongs to another user or certificate, or another one is opening it now.
    pub fn hold_client_id(&self, info: &ClientInfo) -> Result<Option<OwnerGuard<'_>>, Refused> {
        if !self.auth().settings().bind_client_id {
            return Ok(None);
        }
        let owners = self.kept().owners();
        let guard = match owners.hold(&info.client_id, &Owner::from(info)) {
            Ok(guard) => guard,
            Err(other) => return Err(self.auth().not_the_owner(&other, info)),
        };
        // Of a session found at the start only what was written down is known.
        let live = || {
            let info = self.client(&info.client_id)?.info();
            (!info.peer.ip().is_unspecified()).then(|| Owner::from(&*info))
        };
        if let Some(owner) = owners.find(&info.client_id).or_else(live) {
            self.auth().may_take_over(&owner, info)?;
        }
        Ok(Some(guard))
    }

    /// Writes down to whom a durable session belongs that was opened under [`Self::hold_client_id`]; `present` as
    /// [`Broker::open`] said.
    #[must_use]
    pub fn bind_client_id(&self, info: &ClientInfo, present: bool) -> Ticket {
        let owners = self.kept().owners();
        owners.set(&info.client_id, &Owner::from(info), !present)
    }

    fn over_rate(&self, over: OverRate) -> NotAdmitted {
        self.metrics().count(Counter::ConnectsOverRate);
        NotAdmitted::OverRate(over)
    }
}
