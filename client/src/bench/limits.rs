//! What the machine allows: open files of this process and ports of a source address.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files this process needs besides one for each client: standard streams, the runtimes' epoll and
/// event descriptors, certificates.
const OTHER_FILES: u64 = 64;

/// The machine does not allow what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Too few open files.
    #[error(
        "{wanted} clients need {needed} open files, the limit is {limit}; raise it (ulimit -n, \
         LimitNOFILE) or ask for at most {possible} clients"
    )]
    Files {
        /// Clients asked for.
        wanted: u64,
        /// Files they need.
        needed: u64,
        /// The hard limit.
        limit: u64,
        /// Clients the limit allows.
        possible: u64,
    },
    /// Too few local ports.
    #[error(
        "{wanted} clients need as many local ports, {addresses} address(es) with {ports} ports \
         each allow {possible}; give more with --ifaddr A,B,..."
    )]
    Ports {
        /// Clients asked for.
        wanted: u64,
        /// Addresses in use.
        addresses: u64,
        /// Ports of each.
        ports: u64,
        /// Clients they allow.
        possible: u64,
    },
}

/// Raises the soft limit of open files to the hard one and says what it is now (`None`: unlimited).
pub fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // A refusal leaves the old soft limit, which is what is reported then.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile).current
}

/// Checks that `clients` fit under a limit of open files.
///
/// # Errors
/// [`LimitError::Files`] with the number that would fit.
pub fn check_files(clients: u64, limit: Option<u64>) -> Result<(), LimitError> {
    let needed = clients + OTHER_FILES;
    match limit {
        Some(limit) if needed > limit => Err(LimitError::Files {
            wanted: clients,
            needed,
            limit,
            possible: limit.saturating_sub(OTHER_FILES),
        }),
        _ => Ok(()),
    }
}

/// Checks that `clients` find local ports on so many addresses.
///
/// # Errors
/// [`LimitError::Ports`] with the number that would fit.
pub fn check_ports(clients: u64, addresses: u64, ports: u64) -> Result<(), LimitError> {
    let possible = addresses * ports;
    if clients > possible {
        return Err(LimitError::Ports {
            wanted: clients,
            addresses,
            ports,
            possible,
        });
    }
    Ok(())
}

/// How many local ports the system gives out for each source address.
pub fn local_ports() -> u64 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| parse_port_range(&range))
        // The range IANA sets aside, used by systems that do not say.
        .unwrap_or(65_535 - 49_152 + 1)
}

fn parse_port_range(range: &str) -> Option<u64> {
    let mut ports = range.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ports.next()?.ok()?, ports.next()?.ok()?);
    (last >= first).then(|| last - first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_clients_than_files_are_refused_with_the_number_that_fits() {
        assert_eq!(check_files(19_000, Some(20_000)), Ok(()));
        assert_eq!(check_files(1_000_000, None), Ok(()));
        let error = check_files(20_000, Some(20_000)).unwrap_err();
        assert!(
            error.to_string().contains("at most 19936 clients"),
            "{error}"
        );
    }

    #[test]
    fn ports_count_for_each_source_address() {
        assert_eq!(check_ports(56_000, 2, 28_232), Ok(()));
        assert!(check_ports(56_000, 1, 28_232).is_err());
    }

    #[test]
    fn port_range_of_the_kernel() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some(28_232));
        assert_eq!(parse_port_range("5 4"), None);
        assert_eq!(parse_port_range("x"), None);
    }

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let now = raise_file_limit();
        assert_eq!(now, getrlimit(Resource::Nofile).maximum);
    }
}
