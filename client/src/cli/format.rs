//! The output format of `sub`: `-F`, in the language of mosquitto_sub.
//!
//! A format is parsed once, with every mistake reported before the first message, and then written
//! for each message as bytes: payloads need not be text.

use jiff::Zoned;
use jiff::fmt::strtime;

use crate::cli::json;

/// What can be printed of a message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload bytes.
    pub payload: &'a [u8],
    /// 0, 1 or 2.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// Packet identifier; 0 with QoS 0.
    pub packet_id: u16,
    /// 5.0: topic alias.
    pub topic_alias: Option<u16>,
    /// 5.0: content type.
    pub content_type: Option<&'a str>,
    /// 5.0: correlation data.
    pub correlation_data: Option<&'a [u8]>,
    /// 5.0: message expiry interval in seconds, as the broker sent it.
    pub message_expiry: Option<u32>,
    /// 5.0: payload format indicator.
    pub payload_format: Option<u8>,
    /// 5.0: response topic.
    pub response_topic: Option<&'a str>,
    /// 5.0: subscription identifiers.
    pub subscription_ids: &'a [u32],
    /// 5.0: user properties in order.
    pub user_properties: &'a [(String, String)],
}

/// A parsed format string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Item>);

/// Flags, width and maximum width between `%` and its letter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Field {
    left: bool,
    zero: bool,
    width: usize,
    /// Characters of text at most.
    precision: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Literal(Vec<u8>),
    /// `%` and a letter.
    Parameter(u8, Field),
    /// `@` and a letter, as the pattern for strftime.
    Time(String),
    /// `@N`.
    Nanoseconds,
}

/// Widths above this are a typing error, not a wish.
const MAX_WIDTH: usize = 1_000_000;

impl Format {
    /// The format of plain output: the payload, with `-v` the topic before it.
    pub fn plain(verbose: bool) -> Self {
        let mut items = Vec::new();
        if verbose {
            items.push(Item::Parameter(b't', Field::default()));
            items.push(Item::Literal(vec![b' ']));
        }
        items.push(Item::Parameter(b'p', Field::default()));
        Self(items)
    }

    /// Parses a format string.
    ///
    /// # Errors
    /// A sentence about the first unknown or unfinished sequence.
    pub fn parse(format: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut literal = Vec::new();
        let mut rest = format.chars().peekable();
        while let Some(character) = rest.next() {
            let item = match character {
                '%' => match parse_parameter(&mut rest)? {
                    None => {
                        literal.push(b'%');
                        continue;
                    }
                    Some(item) => item,
                },
                '@' => match rest.next() {
                    None => return Err("incomplete time sequence at the end (@)".to_owned()),
                    Some('@') => {
                        literal.push(b'@');
                        continue;
                    }
                    Some('N') => Item::Nanoseconds,
                    Some(letter) => {
                        let pattern = format!("%{letter}");
                        if strtime::format(&pattern, &Zoned::now()).is_err() {
                            return Err(format!("unknown time sequence @{letter}"));
                        }
                        Item::Time(pattern)
                    }
                },
                '\\' => {
                    literal.push(match rest.next() {
                        Some('\\') => b'\\',
                        Some('0') => 0,
                        Some('a') => 7,
                        Some('e') => 0x1b,
                        Some('n') => b'\n',
                        Some('r') => b'\r',
                        Some('t') => b'\t',
                        Some('v') => 0x0b,
                        Some(other) => return Err(format!("unknown escape \\{other}")),
                        None => return Err("incomplete escape at the end (\\)".to_owned()),
                    });
                    continue;
                }
                other => {
                    let mut utf8 = [0; 4];
                    literal.extend_from_slice(other.encode_utf8(&mut utf8).as_bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                items.push(Item::Literal(std::mem::take(&mut literal)));
            }
            items.push(item);
        }
        if !literal.is_empty() {
            items.push(Item::Literal(literal));
        }
        Ok(Self(items))
    }

    /// Appends one message to `out`, without the end of line.
    ///
    /// # Errors
    /// [`json::NotJson`] where `%J` meets a payload that is not JSON; `out` then holds a part of
    /// the line.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        fields: &Fields<'_>,
        now: &Zoned,
        pretty: bool,
    ) -> Result<(), json::NotJson> {
        for item in &self.0 {
            match item {
                Item::Literal(bytes) => out.extend_from_slice(bytes),
                Item::Nanoseconds => {
                    let nanoseconds = now.subsec_nanosecond();
                    out.extend_from_slice(format!("{nanoseconds:09}").as_bytes());
                }
                Item::Time(pattern) => {
                    // The pattern was tried when it was parsed.
                    let text = strtime::format(pattern, now).unwrap_or_default();
                    out.extend_from_slice(text.as_bytes());
                }
                Item::Parameter(b'j', _) => {
                    json::write(out, fields, now, json::Payload::Quoted, pretty)?
                }
                Item::Parameter(b'J', _) => {
                    json::write(out, fields, now, json::Payload::Raw, pretty)?
                }
                Item::Parameter(letter, field) => parameter(out, *letter, *field, fields, now),
            }
        }
        Ok(())
    }
}

/// Reads what follows a `%`; `None` for `%%`.
fn parse_parameter(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<Option<Item>, String> {
    if rest.next_if_eq(&'%').is_some() {
        return Ok(None);
    }
    let mut field = Field::default();
    while let Some(flag) = rest.next_if(|&flag| flag == '-' || flag == '0') {
        field.left |= flag == '-';
        field.zero |= flag == '0';
    }
    field.width = parse_number(rest)?.unwrap_or(0);
    if rest.next_if_eq(&'.').is_some() {
        field.precision = Some(parse_number(rest)?.unwrap_or(0));
    }
    match rest.next() {
        None => Err("incomplete sequence at the end (%)".to_owned()),
        Some(letter) if "ACDEFIJPRSUXjlmpqrtx".contains(letter) => {
            let byte = u8::try_from(letter).expect("the list above is ASCII");
            Ok(Some(Item::Parameter(byte, field)))
        }
        Some(letter) => Err(format!("unknown sequence %{letter}")),
    }
}

fn parse_number(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = rest.peek().and_then(|character| character.to_digit(10)) {
        rest.next();
        let value = number.unwrap_or(0usize) * 10 + digit as usize;
        if value > MAX_WIDTH {
            return Err(format!("a width above {MAX_WIDTH}"));
        }
        number = Some(value);
    }
    Ok(number)
}

fn parameter(out: &mut Vec<u8>, letter: u8, field: Field, fields: &Fields<'_>, now: &Zoned) {
    let mut number = |value: Option<u64>| {
        let text = value.map(|value| value.to_string()).unwrap_or_default();
        pad(out, text.as_bytes(), text.len(), field, field.zero);
    };
    match letter {
        b'A' => number(fields.topic_alias.map(u64::from)),
        b'E' => number(fields.message_expiry.map(u64::from)),
        b'F' => number(fields.payload_format.map(u64::from)),
        b'l' => number(Some(fields.payload.len() as u64)),
        b'm' => number(Some(fields.packet_id.into())),
        b'S' => {
            let ids: Vec<_> = fields.subscription_ids.iter().map(u32::to_string).collect();
            let ids = ids.join(" ");
            pad(out, ids.as_bytes(), ids.len(), field, field.zero);
        }
        b'q' => out.push(b'0' + fields.qos),
        b'r' => out.push(b'0' + u8::from(fields.retain)),
        b'C' => text(out, fields.content_type.unwrap_or_default(), field),
        b'R' => text(out, fields.response_topic.unwrap_or_default(), field),
        b't' => text(out, fields.topic, field),
        b'I' => text(out, &now.strftime("%Y-%m-%dT%H:%M:%S%z").to_string(), field),
        b'U' => {
            let time = now.timestamp();
            let line = format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
            out.extend_from_slice(line.as_bytes());
        }
        b'D' => out.extend_from_slice(fields.correlation_data.unwrap_or_default()),
        b'P' => {
            for (index, (key, value)) in fields.user_properties.iter().enumerate() {
                if index > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(key.as_bytes());
                out.push(b':');
                out.extend_from_slice(value.as_bytes());
            }
        }
        b'p' => pad(out, fields.payload, fields.payload.len(), field, field.zero),
        b'x' | b'X' => {
            let digits = if letter == b'x' {
                b"0123456789abcdef"
            } else {
                b"0123456789ABCDEF"
            };
            let hex: Vec<u8> = fields
                .payload
                .iter()
                .flat_map(|byte| {
                    [
                        digits[usize::from(byte >> 4)],
                        digits[usize::from(byte & 15)],
                    ]
                })
                .collect();
            pad(out, &hex, hex.len(), field, field.zero);
        }
        _ => unreachable!("parse_parameter lets no other letter through"),
    }
}

/// Text is padded with blanks only, and cut to the maximum width in characters.
fn text(out: &mut Vec<u8>, value: &str, field: Field) {
    let end = field
        .precision
        .and_then(|precision| value.char_indices().nth(precision))
        .map_or(value.len(), |(at, _)| at);
    let value = &value[..end];
    pad(out, value.as_bytes(), value.chars().count(), field, false);
}

fn pad(out: &mut Vec<u8>, value: &[u8], columns: usize, field: Field, zero: bool) {
    let missing = field.width.saturating_sub(columns);
    if field.left {
        out.extend_from_slice(value);
        out.resize(out.len() + missing, b' ');
    } else {
        out.resize(out.len() + missing, if zero { b'0' } else { b' ' });
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields<'static> {
        Fields {
            topic: "a/ä/c",
            payload: b"he\"llo",
            qos: 1,
            retain: true,
            packet_id: 7,
            ..Fields::default()
        }
    }

    fn zoned() -> Zoned {
        "2026-11-20T10:58:35.052884+01:00[+01:00]".parse().unwrap()
    }

    fn write(format: &str, fields: &Fields<'_>) -> String {
        let mut out = Vec::new();
        Format::parse(format)
            .unwrap()
            .write(&mut out, fields, &zoned(), false)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parameters_widths_and_flags() {
        for (format, expected) in [
            ("%t %p", "a/ä/c he\"llo"),
            ("%%|@@|\\\\", "%|@|\\"),
            (
                "[%10t][%-10t][%.3t][%4.2t]",
                "[     a/ä/c][a/ä/c     ][a/ä][  a/]",
            ),
            ("%l %05l %-5l|", "6 00006 6    |"),
            ("%0-5l|", "6    |"),
            ("%m %q %r", "7 1 1"),
            ("%x %X", "6865226c6c6f 6865226C6C6F"),
            (
                "%16x|%-16x|%016x",
                "    6865226c6c6f|6865226c6c6f    |00006865226c6c6f",
            ),
            ("%8p|%-8p|", "  he\"llo|he\"llo  |"),
            ("<%A%C%D%E%F%P%R%S>", "<>"),
            ("%I", "2026-11-20T10:58:35+0100"),
            ("%U", "1795168715.052884000"),
            (
                "@Y-@m-@dT@H:@M:@S@z @N @s",
                "2026-11-20T10:58:35+0100 052884000 1795168715",
            ),
            (
                "\\e[1m%t\\e[0m\\t\\n\\a\\v\\r\\0",
                "\x1b[1ma/ä/c\x1b[0m\t\n\x07\x0b\r\0",
            ),
        ] {
            assert_eq!(write(format, &sample()), expected, "{format}");
        }
    }

    #[test]
    fn properties_of_5_0() {
        let user = [
            ("k".to_owned(), "v".to_owned()),
            ("k".to_owned(), "w".to_owned()),
        ];
        let fields = Fields {
            topic_alias: Some(3),
            content_type: Some("text/plain"),
            correlation_data: Some(b"cd"),
            message_expiry: Some(77),
            payload_format: Some(1),
            response_topic: Some("r/t"),
            subscription_ids: &[5, 9],
            user_properties: &user,
            ..sample()
        };
        assert_eq!(
            write("%A %C %D %E %F %P %R %S %.4C %05E", &fields),
            "3 text/plain cd 77 1 k:v k:w r/t 5 9 text 00077"
        );
    }

    #[test]
    fn a_binary_payload_is_written_as_it_is() {
        let fields = Fields {
            payload: &[0xff, 0, 0xfe],
            ..sample()
        };
        let mut out = Vec::new();
        Format::plain(true)
            .write(&mut out, &fields, &zoned(), false)
            .unwrap();
        assert_eq!(out, b"a/\xc3\xa4/c \xff\x00\xfe");
    }

    #[test]
    fn mistakes_are_found_before_the_first_message() {
        for format in ["%", "%5", "%z", "%.", "@", "\\", "\\q", "%99999999t", "@!"] {
            assert!(Format::parse(format).is_err(), "{format} was accepted");
        }
    }
}
