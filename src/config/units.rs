//! Values with units: durations, sizes, rates, shares, addresses, secrets.
//!
//! Each type parses from the text a user writes and prints that text back in its shortest form; the error of a parse
//! says what was expected, with an example, and never repeats a secret.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration as StdDuration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Text and serde both ways through `FromStr` and `Display`.
macro_rules! text_serde {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

text_serde!(Duration, ByteSize, Rate, ByteRate, Percent, BindAddr, Cidr);

/// A length of time: `500ms`, `15s`, `1m`, `2h`, `30d`, `1h30m`. Resolution one millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(StdDuration);

impl Duration {
    /// The length as the standard library has it.
    pub const fn get(self) -> StdDuration {
        self.0
    }
}

impl From<Duration> for StdDuration {
    fn from(value: Duration) -> Self {
        value.0
    }
}

/// Units of time with their length in milliseconds, longest first.
const TIME_UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a duration such as \"15s\", \"500ms\", \"2h\" or \"30d\", found {text:?}"
            )
        };
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total: u64 = 0;
        let mut last = u64::MAX;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| {
                format!("expected a duration with a unit (ms, s, m, h, d, w), such as \"15s\", found {text:?}")
            })?;
            let (number, tail) = rest.split_at(digits);
            let letters = tail
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let (_, length) = TIME_UNITS
                .into_iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(wrong)?;
            if length >= last {
                return Err(wrong());
            }
            last = length;
            total = number
                .checked_mul(length)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| format!("{text:?} is too long a duration"))?;
            rest = tail.trim_start();
        }
        Ok(Self(StdDuration::from_millis(total)))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        // Weeks are read but not written: "30d" says more than "4w2d".
        for (unit, length) in TIME_UNITS.into_iter().skip(1) {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

/// Units of size with their length in bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("B", 1),
];

/// A number of bytes: `1MiB` (1,048,576), `64KB` (64,000), `512B`, or a bare number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes as an index; saturates where the machine's word is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected a size such as \"1MiB\", \"64KB\" or \"512B\", found {text:?}");
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim_start();
        let scale = if unit.is_empty() {
            1
        } else {
            SIZE_UNITS
                .into_iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .ok_or_else(wrong)?
                .1
        };
        number
            .checked_mul(scale)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is too large a size"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = SIZE_UNITS
            .into_iter()
            .filter(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale))
            .max_by_key(|(_, scale)| *scale)
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

/// Splits `1000/s` or `100/10s` into its amount and its time.
fn split_rate<'a>(text: &'a str, example: &str) -> Result<(&'a str, Duration), String> {
    let wrong = || format!("expected a rate such as {example}, found {text:?}");
    let (amount, per) = text.split_once('/').ok_or_else(wrong)?;
    let per = per.trim();
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) {
        per.parse()
    } else {
        format!("1{per}").parse()
    };
    let per: Duration = per.map_err(|_: String| wrong())?;
    if per.0.is_zero() {
        return Err(wrong());
    }
    Ok((amount.trim(), per))
}

/// Writes `/s` for one of a unit, `/10s` for several.
fn write_per(f: &mut fmt::Formatter<'_>, per: Duration) -> fmt::Result {
    let text = per.to_string();
    match text.strip_prefix('1') {
        Some(unit) if unit.starts_with(|c: char| c.is_ascii_alphabetic()) => write!(f, "/{unit}"),
        _ => write!(f, "/{text}"),
    }
}

/// A number of events in a time: `1000/s`, `60/m`, `100/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Events.
    pub amount: u64,
    /// In this time.
    pub per: Duration,
}

impl Rate {
    /// Events in one second.
    pub fn per_second(self) -> f64 {
        self.amount as f64 / self.per.0.as_secs_f64()
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (amount, per) = split_rate(text, "\"1000/s\"")?;
        let amount = amount
            .parse()
            .map_err(|_| format!("expected a rate such as \"1000/s\", found {text:?}"))?;
        Ok(Self { amount, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.amount)?;
        write_per(f, self.per)
    }
}

/// A number of bytes in a time: `100KB/s`, `1MiB/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRate {
    /// Bytes.
    pub amount: ByteSize,
    /// In this time.
    pub per: Duration,
}

impl FromStr for ByteRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (amount, per) = split_rate(text, "\"100KB/s\"")?;
        let amount = amount
            .parse()
            .map_err(|_| format!("expected a rate such as \"100KB/s\", found {text:?}"))?;
        Ok(Self { amount, per })
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.amount)?;
        write_per(f, self.per)
    }
}

/// A share of something, `0%` to `100%`, in whole percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u8);

impl Percent {
    /// The share as a number from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.trim()
            .strip_suffix('%')
            .and_then(|number| number.trim_end().parse::<u8>().ok())
            .filter(|number| *number <= 100)
            .map(Self)
            .ok_or_else(|| format!("expected a share such as \"70%\", found {text:?}"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// An address to listen on: `0.0.0.0:1883`, `[::]:1883`, `localhost:1883`, or a port alone, which means every IPv4
/// address. Port 0 takes a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BindAddr(SocketAddr);

impl BindAddr {
    /// The socket address.
    pub const fn get(self) -> SocketAddr {
        self.0
    }

    /// True if two sockets of the same transport cannot have both addresses at once.
    pub fn clashes(self, other: Self) -> bool {
        let (a, b) = (self.0, other.0);
        let same_family = a.is_ipv4() == b.is_ipv4();
        a.port() == b.port()
            && a.port() != 0
            && same_family
            && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
    }
}

impl FromStr for BindAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if let Ok(address) = trimmed.parse() {
            return Ok(Self(address));
        }
        let (host, port) = trimmed.rsplit_once(':').unwrap_or(("", trimmed));
        let ip = match host {
            "" | "*" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => None,
        };
        match (ip, port.parse()) {
            (Some(ip), Ok(port)) => Ok(Self(SocketAddr::new(ip, port))),
            _ => Err(format!(
                "expected an address and port such as \"0.0.0.0:1883\", \"[::]:1883\" or \"1883\", found {text:?}"
            )),
        }
    }
}

impl fmt::Display for BindAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A block of addresses: `10.0.0.0/8`, `fd00::/8`, or one address. Bits behind the prefix must be zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// First address of the block.
    pub address: IpAddr,
    /// Leading bits that must be equal.
    pub prefix: u8,
}

impl Cidr {
    /// The bits of an address, left-aligned in 128.
    fn bits(address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
            IpAddr::V6(v6) => u128::from(v6),
        }
    }

    /// A mask of this many leading ones.
    fn mask(prefix: u8) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected an address or block such as \"10.0.0.0/8\", found {text:?}");
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => widest,
        };
        if prefix > widest {
            return Err(wrong());
        }
        if Self::bits(address) & !Self::mask(prefix) != 0 {
            return Err(format!(
                "{text:?} has bits set behind its prefix: write the first address of the block"
            ));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A value or the word `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffOr<T> {
    /// Switched off, without a limit.
    Off,
    /// This value.
    On(T),
}

impl<T: Copy> OffOr<T> {
    /// The value, `None` if off.
    pub fn get(&self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(*value),
        }
    }
}

impl<T: Serialize> Serialize for OffOr<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::On(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OffOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        enum Word {
            #[serde(rename = "off")]
            Off,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Word(Word),
            Value(T),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Word(Word::Off) => Self::Off,
            Either::Value(value) => Self::On(value),
        })
    }
}

/// What stands in the place of a secret wherever configuration is shown.
pub const REDACTED: &str = "******";

/// A password, cookie, token or key. Shown nowhere: `Debug` and serde write [`REDACTED`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// Address of a web service: `http://` or `https://`. A password in it is shown nowhere.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The whole address, for the one place that connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&without_password(&self.0))
    }
}

/// An address with the password of its user replaced.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}:{REDACTED}@{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print_in_their_shortest_form() {
        for (text, millis, shown) in [
            ("500ms", 500, "500ms"),
            ("15s", 15_000, "15s"),
            ("1m", 60_000, "1m"),
            ("90s", 90_000, "1m30s"),
            ("2h", 7_200_000, "2h"),
            ("1h30m", 5_400_000, "1h30m"),
            ("30d", 2_592_000_000, "30d"),
            ("1w", 604_800_000, "7d"),
            ("0s", 0, "0s"),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.get().as_millis(), millis, "{text}");
            assert_eq!(duration.to_string(), shown);
        }
        for text in [
            "",
            "15",
            "s",
            "15 apples",
            "-1s",
            "1.5s",
            "1s1h",
            "1s1s",
            "99999999999999999999s",
            "9999999999999999w",
        ] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_know_both_families_of_units() {
        for (text, bytes, shown) in [
            ("1MiB", 1_048_576, "1MiB"),
            ("64KB", 64_000, "64KB"),
            ("512B", 512, "512B"),
            ("1048576", 1_048_576, "1MiB"),
            ("1 mib", 1_048_576, "1MiB"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.get(), bytes, "{text}");
            assert_eq!(size.to_string(), shown);
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1XB", "99999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn rates_have_an_amount_and_a_time() {
        let rate: Rate = "1000/s".parse().unwrap();
        assert_eq!(
            (rate.per_second() as u64, rate.to_string().as_str()),
            (1000, "1000/s")
        );
        let rate: Rate = "100/10s".parse().unwrap();
        assert_eq!(
            (rate.per_second() as u64, rate.to_string().as_str()),
            (10, "100/10s")
        );
        let rate: ByteRate = "100KB/s".parse().unwrap();
        assert_eq!(
            (rate.amount.get(), rate.to_string().as_str()),
            (100_000, "100KB/s")
        );
        for text in ["1000", "/s", "1000/", "x/s", "10/0s", "10/parsec"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_clash_only_when_both_cannot_be_bound() {
        let at = |text: &str| text.parse::<BindAddr>().unwrap();
        assert_eq!(at("1883").to_string(), "0.0.0.0:1883");
        assert_eq!(at(":1883").to_string(), "0.0.0.0:1883");
        assert_eq!(at("localhost:0").to_string(), "127.0.0.1:0");
        assert_eq!(at("[::]:1883").to_string(), "[::]:1883");
        assert!(at("0.0.0.0:1883").clashes(at("127.0.0.1:1883")));
        assert!(!at("127.0.0.1:1883").clashes(at("127.0.0.2:1883")));
        assert!(!at("127.0.0.1:0").clashes(at("127.0.0.1:0")));
        for text in ["", "host:1883", "1.2.3.4", "1.2.3.4:99999", "70000"] {
            assert!(text.parse::<BindAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn blocks_begin_with_their_first_address() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            ("127.0.0.1", "127.0.0.1/32"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), shown);
        }
        for text in ["10.0.0.1/8", "10.0.0.0/33", "host", "10.0.0.0/"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn off_is_a_word_beside_numbers_and_durations() {
        assert_eq!(
            serde_json::from_str::<OffOr<u64>>("\"off\"").unwrap(),
            OffOr::Off
        );
        assert_eq!(
            serde_json::from_str::<OffOr<u64>>("5").unwrap(),
            OffOr::On(5)
        );
        assert_eq!(
            serde_json::from_str::<OffOr<Duration>>("\"1s\"").unwrap(),
            OffOr::On("1s".parse().unwrap())
        );
        assert!(serde_json::from_str::<OffOr<Duration>>("\"never\"").is_err());
    }

    #[test]
    fn secrets_show_nowhere() {
        let secret = Secret("hunter2".into());
        assert_eq!(format!("{secret:?}"), REDACTED);
        assert_eq!(
            serde_json::to_string(&secret).unwrap(),
            format!("\"{REDACTED}\"")
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (url, shown) in [
            ("http://127.0.0.1:80/a?b=c@d", "http://127.0.0.1:80/a?b=c@d"),
            (
                "https://me:pw@example.org/a",
                "https://me:******@example.org/a",
            ),
            (
                "https://me:p@w@example.org",
                "https://me:******@example.org",
            ),
            (
                "https://token@example.org/",
                "https://token:******@example.org/",
            ),
        ] {
            let url = HttpUrl(url.into());
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(serde_json::to_value(&url).unwrap(), shown);
        }
    }
}
