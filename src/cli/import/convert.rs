//! Values of other brokers in the forms of this configuration.

use toml::Value;

/// How a value is written here. `None` of a conversion: it has no meaning here.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// As it is.
    Text,
    /// on, off, true, false, yes, no.
    Bool,
    /// A whole number.
    Int,
    /// A whole number; 0 is no limit.
    IntOff,
    /// A whole number; 0 is no limit, here the largest there is.
    IntMax(i64),
    /// A time; a number alone is seconds.
    Time,
    /// A time; 0 and infinity are "off".
    TimeOff,
    /// A size in units of 1024.
    Size,
    /// A size; 0 is "off".
    SizeOff,
    /// A number for each second.
    PerSecond,
    /// `100,10s`: so many in that time.
    PerTime,
    /// A port, or an address with one.
    Bind,
    /// One of these words, and what it is called here.
    Word(&'static [(&'static str, &'static str)]),
}

/// Truth in any of the words people write.
pub fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "enable" => Some(true),
        "off" | "false" | "no" | "0" | "disable" => Some(false),
        _ => None,
    }
}

fn int(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("infinity") {
        return Some(0);
    }
    text.trim().parse().ok().filter(|it| *it >= 0)
}

/// `15s`, `1m 30s`, `20` (seconds).
pub fn time(text: &str) -> Option<String> {
    let packed: String = text.split_whitespace().collect();
    if packed.bytes().all(|byte| byte.is_ascii_digit()) {
        return packed
            .parse::<u64>()
            .ok()
            .map(|seconds| format!("{seconds}s"));
    }
    // Units: `f` were weeks in some versions; everything else is the same.
    packed
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric())
        .then(|| packed.to_ascii_lowercase())
}

/// `1MB` is 1024 * 1024 bytes there.
pub fn size(text: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => "B",
        "K" | "KB" | "KIB" => "KiB",
        "M" | "MB" | "MIB" => "MiB",
        "G" | "GB" | "GIB" => "GiB",
        _ => return None,
    };
    (digits > 0).then(|| {
        if unit == "B" {
            number.to_owned()
        } else {
            format!("{number}{unit}")
        }
    })
}

/// `1883`, `0.0.0.0:1883`, `:::1883`, `[::]:1883` as an address with a port.
pub fn bind(text: &str) -> Option<String> {
    let text = text.trim();
    if text.parse::<u16>().is_ok() {
        return Some(format!("0.0.0.0:{text}"));
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.trim_matches(['[', ']']);
    Some(match host {
        "" | "*" => format!("0.0.0.0:{port}"),
        "localhost" => format!("127.0.0.1:{port}"),
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    })
}

fn off_or(zero: bool, value: Option<impl Into<Value>>) -> Option<Value> {
    if zero {
        Some("off".into())
    } else {
        value.map(Into::into)
    }
}

impl Form {
    /// A value in this form.
    pub fn apply(self, text: &str) -> Option<Value> {
        let nothing = text == "0" || text.eq_ignore_ascii_case("infinity") || text == "disabled";
        match self {
            Self::Text => Some(text.into()),
            Self::Bool => truth(text).map(Into::into),
            Self::Int => int(text).map(Into::into),
            Self::IntOff => off_or(nothing, int(text)),
            Self::IntMax(max) => int(text).map(|it| if it == 0 { max } else { it }.into()),
            Self::Time => time(text).map(Into::into),
            Self::TimeOff => off_or(nothing || time(text)? == "0s", time(text)),
            Self::Size => size(text).map(Into::into),
            Self::SizeOff => off_or(nothing || size(text)? == "0", size(text)),
            Self::PerSecond => off_or(nothing, int(text).map(|it| format!("{it}/s"))),
            Self::PerTime => {
                let (count, time) = text.split_once(',')?;
                let count = count.trim();
                let count = if int(count).is_some() {
                    count.to_owned()
                } else {
                    size(count)?
                };
                Some(format!("{count}/{}", self::time(time.trim())?).into())
            }
            Self::Bind => bind(text).map(Into::into),
            Self::Word(words) => words
                .iter()
                .find(|(there, _)| there.eq_ignore_ascii_case(text))
                .map(|(_, here)| (*here).into()),
        }
    }
}

/// Placeholders of EMQ X as they are written here; in SQL the quotes around them go too, for values are bound.
pub fn placeholders(text: &str) -> String {
    let mut out = text.to_owned();
    for (there, here) in [
        ("%u", "${username}"),
        ("%c", "${clientid}"),
        ("%a", "${peerhost}"),
        ("%C", "${cert_cn}"),
        ("%d", "${cert_dn}"),
        ("%P", "${password}"),
        ("%A", "${action}"),
        ("%t", "${topic}"),
        ("%Q", "${qos}"),
        ("%R", "${retain}"),
        ("${cert_common_name}", "${cert_cn}"),
        ("${cert_subject}", "${cert_dn}"),
        ("${ipaddress}", "${peerhost}"),
    ] {
        out = out
            .replace(&format!("'{there}'"), here)
            .replace(&format!("\"{there}\""), here)
            .replace(there, here);
    }
    out.replace("'${", "${").replace("}'", "}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_forms_of_this_configuration() {
        let table: &[(Form, &str, Option<Value>)] = &[
            (Form::Bool, "on", Some(true.into())),
            (Form::Bool, "maybe", None),
            (Form::IntOff, "0", Some("off".into())),
            (Form::IntOff, "infinity", Some("off".into())),
            (Form::IntOff, "32", Some(32.into())),
            (Form::IntMax(65_535), "0", Some(65_535.into())),
            (Form::Time, "20", Some("20s".into())),
            (Form::Time, "1m 30s", Some("1m30s".into())),
            (Form::TimeOff, "0", Some("off".into())),
            (Form::Size, "64KB", Some("64KiB".into())),
            (Form::Size, "1048576", Some("1048576".into())),
            (Form::Size, "much", None),
            (Form::PerSecond, "1000", Some("1000/s".into())),
            (Form::PerTime, "100,10s", Some("100/10s".into())),
            (Form::PerTime, "100KB,10s", Some("100KiB/10s".into())),
            (Form::Bind, "1883", Some("0.0.0.0:1883".into())),
            (Form::Bind, ":::1883", Some("[::]:1883".into())),
            (
                Form::Bind,
                "127.0.0.1:11883",
                Some("127.0.0.1:11883".into()),
            ),
            (Form::Bind, "nowhere", None),
            (
                Form::Word(&[("warning", "warn")]),
                "warning",
                Some("warn".into()),
            ),
        ];
        for (form, text, want) in table {
            assert_eq!(form.apply(text), *want, "{form:?} of {text}");
        }
    }

    #[test]
    fn placeholders_lose_their_quotes() {
        assert_eq!(
            placeholders("select password from mqtt_user where username = '%u' limit 1"),
            "select password from mqtt_user where username = ${username} limit 1"
        );
        assert_eq!(
            placeholders("HMGET mqtt_user:%u password"),
            "HMGET mqtt_user:${username} password"
        );
    }
}
