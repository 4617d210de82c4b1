//! The wire format of Redis, RESP2: what is sent, and what comes back.

use tokio::io::{AsyncBufReadExt, AsyncReadExt};

/// Answers longer than this in all are refused.
const MAX_ANSWER: usize = 16 << 20;
/// The longest line: a length or an error text.
const MAX_LINE: u64 = 64 << 10;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Nil,
    /// Simple and bulk strings.
    Text(Vec<u8>),
    Integer(i64),
    Array(Vec<Self>),
    Error(String),
}

impl Value {
    /// The text of an element; `None` if it is nil.
    pub fn text(self) -> Result<Option<String>, String> {
        match self {
            Self::Nil => Ok(None),
            Self::Integer(number) => Ok(Some(number.to_string())),
            Self::Text(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err("expected UTF-8 text in the answer".to_owned()),
            },
            Self::Array(_) => Err("expected texts in the answer, got a list".to_owned()),
            Self::Error(error) => Err(error),
        }
    }
}

/// A command: an array of bulk strings, each with its length, so that no byte in them means anything.
pub(super) fn encode(arguments: &[String]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads one answer. An array may not hold arrays: no command that is asked here answers so.
pub(super) async fn read(input: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Value> {
    let mut left = MAX_ANSWER;
    let head = line(input).await?;
    let Some(count) = head.strip_prefix('*') else {
        return one(input, head, &mut left).await;
    };
    match length(count)? {
        None => Ok(Value::Nil),
        Some(count) => {
            // The count comes from the other side: room is made as elements come.
            let mut values = Vec::new();
            for _ in 0..count {
                let head = line(input).await?;
                left = left.checked_sub(head.len() + 32).ok_or_else(too_long)?;
                values.push(one(input, head, &mut left).await?);
            }
            Ok(Value::Array(values))
        }
    }
}

async fn one(
    input: &mut (impl AsyncBufReadExt + Unpin),
    head: String,
    left: &mut usize,
) -> std::io::Result<Value> {
    let (kind, rest) = match head.split_at_checked(1) {
        Some(split) => split,
        None => return Err(nonsense()),
    };
    match kind {
        "+" => Ok(Value::Text(rest.as_bytes().to_vec())),
        "-" => Ok(Value::Error(rest.to_owned())),
        ":" => rest.parse().map(Value::Integer).map_err(|_| nonsense()),
        "$" => match length(rest)? {
            None => Ok(Value::Nil),
            Some(length) => {
                *left = left.checked_sub(length).ok_or_else(too_long)?;
                let mut bytes = vec![0; length + 2];
                input.read_exact(&mut bytes).await?;
                if !bytes.ends_with(b"\r\n") {
                    return Err(nonsense());
                }
                bytes.truncate(length);
                Ok(Value::Text(bytes))
            }
        },
        _ => Err(nonsense()),
    }
}

async fn line(input: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    (&mut *input)
        .take(MAX_LINE)
        .read_until(b'\n', &mut bytes)
        .await?;
    match bytes.strip_suffix(b"\r\n") {
        Some(line) => String::from_utf8(line.to_vec()).map_err(|_| nonsense()),
        None if bytes.is_empty() => Err(std::io::ErrorKind::UnexpectedEof.into()),
        None => Err(nonsense()),
    }
}

/// A length; -1 is nil.
fn length(text: &str) -> std::io::Result<Option<usize>> {
    if text == "-1" {
        return Ok(None);
    }
    match text.parse::<usize>() {
        Ok(length) if length <= MAX_ANSWER => Ok(Some(length)),
        Ok(_) => Err(too_long()),
        Err(_) => Err(nonsense()),
    }
}

fn nonsense() -> std::io::Error {
    std::io::Error::other("expected an answer of Redis")
}

fn too_long() -> std::io::Error {
    std::io::Error::other("expected an answer of at most 16 MiB")
}
