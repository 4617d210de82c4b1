//! UDP sockets of an MQTT-SN listener: one for each core on one address, and one for each multicast group, which may have
//! a port of its own.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::GatewayError;

/// Bytes asked for the receive buffer of each socket at least: a burst of thousands of datagrams fits, with what the kernel
/// adds to each (768 bytes for a small one).
const RECEIVE_BUFFER: usize = 4 << 20;
/// Bytes that the sockets of one address share: 80,000 small datagrams at once, as from a fleet that wakes on the minute. The
/// kernel takes the memory when they come, not before.
const RECEIVE_BUFFERS: usize = 32 << 20;

/// Where a listener's sockets are.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// `listeners.mqttsn.default`, for errors.
    pub key: String,
    /// Address; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Multicast groups and broadcast addresses for discovery.
    pub groups: Vec<SocketAddr>,
    /// Networks that a multicast message may cross.
    pub ttl: u8,
    /// Seconds between two ADVERTISE; `None`: none are sent.
    pub advertise: Option<u16>,
}

/// Binds so many sockets to one address.
///
/// # Errors
/// [`GatewayError::Bind`], also when another process has the port: with `SO_REUSEPORT` alone it would take half of the
/// datagrams, so the port is first bound without.
pub(super) fn bind(
    settings: &SocketSettings,
    count: usize,
) -> Result<Vec<UdpSocket>, GatewayError> {
    let failed = |source| GatewayError::Bind {
        key: format!("{}.bind", settings.key),
        address: settings.bind,
        source,
    };
    let address = {
        let probe = open(settings.bind, false).map_err(failed)?;
        let address = probe.local_addr().map_err(failed)?;
        address.as_socket().unwrap_or(settings.bind)
    };
    let mut sockets = Vec::with_capacity(count);
    for number in 0..count.max(1) {
        let socket = open(address, true).map_err(failed)?;
        let buffer = RECEIVE_BUFFER.max(RECEIVE_BUFFERS / count.max(1));
        prepare(settings, &socket, buffer, number == 0);
        sockets.push(socket.into());
    }
    Ok(sockets)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What may fail without harm to clients that know our address: buffers, groups.
fn prepare(settings: &SocketSettings, socket: &Socket, buffer: usize, first: bool) {
    let key = &settings.key;
    if sockopt::set_socket_recv_buffer_size_force(socket, buffer).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, buffer);
    }
    match sockopt::socket_recv_buffer_size(socket) {
        Ok(size) if size < RECEIVE_BUFFER && first => tracing::info!(
            "{key}: the system grants a receive buffer of {size} bytes; `sysctl net.core.rmem_max={RECEIVE_BUFFER}` \
             keeps bursts of datagrams whole"
        ),
        _ => {}
    }
    // Otherwise every socket gets a copy of what comes to a group.
    let all = match settings.bind.ip() {
        IpAddr::V4(_) => socket.set_multicast_all_v4(false),
        IpAddr::V6(_) => socket.set_multicast_all_v6(false),
    };
    if let Err(error) = all
        && first
        && !settings.groups.is_empty()
    {
        tracing::warn!("{key}: a SEARCHGW to a group may be answered more than once: {error}");
    }
    if !first {
        return;
    }
    let ttl = u32::from(settings.ttl);
    let sends = match settings.bind.ip() {
        IpAddr::V4(own) => socket
            .set_multicast_ttl_v4(ttl)
            .and_then(|()| socket.set_broadcast(true))
            .and_then(|()| match own.is_unspecified() {
                true => Ok(()),
                false => socket.set_multicast_if_v4(&own),
            }),
        IpAddr::V6(own) => socket
            .set_multicast_hops_v6(ttl)
            .and_then(|()| socket.set_multicast_if_v6(interface_of(own))),
    };
    if let Err(error) = sends
        && !settings.groups.is_empty()
    {
        tracing::warn!("{key}.multicast: ADVERTISE may not reach its groups: {error}");
    }
}

/// The sockets that hear the groups, each with its group. One that cannot be had is a warning: who knows our address is
/// served all the same.
pub(super) fn groups(settings: &SocketSettings) -> Vec<(SocketAddr, UdpSocket)> {
    let mut sockets = Vec::with_capacity(settings.groups.len());
    for group in &settings.groups {
        match hear(settings, *group) {
            Ok(socket) => sockets.push((*group, socket)),
            Err(error) => tracing::warn!(
                "{}.multicast: cannot join {group}: {error}; SEARCHGW sent to it is not heard",
                settings.key
            ),
        }
    }
    sockets
}

/// A socket for one group. Several processes of a machine may hear one.
fn hear(settings: &SocketSettings, group: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP))?;
    // The listener's own sockets may have the group's port, and other programs its address.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&group.into())?;
    match (group.ip(), settings.bind.ip()) {
        (IpAddr::V4(group), IpAddr::V4(own)) if group.is_multicast() => {
            // The unspecified address is the interface of the default route.
            socket.join_multicast_v4(&group, &own)?;
        }
        (IpAddr::V6(group), IpAddr::V6(own)) => {
            socket.join_multicast_v6(&group, interface_of(own))?;
        }
        (IpAddr::V4(_), IpAddr::V4(_)) => {}
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                "it is of the other IP version than the listener",
            ));
        }
    }
    Ok(socket.into())
}

/// The interface that has an IPv6 address, by its index; 0 leaves the choice to the system.
fn interface_of(own: Ipv6Addr) -> u32 {
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let own = format!("{:032x}", own.to_bits());
    table
        .lines()
        .find_map(|line| {
            let mut columns = line.split_whitespace();
            (columns.next()? == own).then_some(())?;
            u32::from_str_radix(columns.next()?, 16).ok()
        })
        .unwrap_or(0)
}

/// Datagrams that the kernel dropped because the sockets' buffers were full, by `/proc/net/udp`.
pub(super) fn kernel_drops(port: u16) -> u64 {
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .map(|table| drops_in(&table, port))
        .sum()
}

fn drops_in(table: &str, port: u16) -> u64 {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let local = columns.nth(1)?;
            local.ends_with(&suffix).then_some(())?;
            columns.last()?.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(bind: &str) -> SocketSettings {
        SocketSettings {
            key: "listeners.mqttsn.default".to_owned(),
            bind: bind.parse().unwrap(),
            groups: Vec::new(),
            ttl: 1,
            advertise: None,
        }
    }

    #[test]
    fn sockets_share_a_port_that_nobody_else_has() {
        let sockets = bind(&settings("127.0.0.1:0"), 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|it| it.local_addr().unwrap() == address));
        let again = bind(&settings(&address.to_string()), 2).unwrap_err();
        assert!(
            again.to_string().contains("in use by another process"),
            "{again}"
        );
        assert_eq!(kernel_drops(address.port()), 0);
    }

    #[test]
    fn the_kernels_drops_are_in_the_last_column() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
             1: 00000000:075C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11 2 0 17\n\
             2: 00000000:075C 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0 4\n\
             3: 00000000:1234 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0 9\n";
        assert_eq!(drops_in(table, 1884), 21);
    }
}
