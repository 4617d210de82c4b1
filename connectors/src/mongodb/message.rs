//! OP_MSG: one document as question, one as answer.

use super::bson::{Document, Value, Writer, Wrong};

/// The longest answer.
const MAX_MESSAGE: usize = 16 << 20;
/// Bytes of the header, of the flags and of the section's kind.
const HEAD: usize = 16;
const OP_MSG: i32 = 2013;
/// A CRC-32C follows; it is not asked for.
const CHECKSUM: u32 = 1;
/// Flags below this must be understood.
const REQUIRED: u32 = 0xffff;

/// A command as it is sent.
pub(super) fn command(id: i32, command: Writer) -> Vec<u8> {
    let document = command.finish();
    let size = HEAD + 5 + document.len();
    let mut out = Vec::with_capacity(size);
    for number in [i32::try_from(size).unwrap_or(i32::MAX), id, 0, OP_MSG, 0] {
        out.extend(number.to_le_bytes());
    }
    out.push(0);
    out.extend(document);
    out
}

/// The length of an answer's rest, by its first four bytes.
pub(super) fn rest_of(head: [u8; 4]) -> Result<usize, Wrong> {
    usize::try_from(i32::from_le_bytes(head))
        .ok()
        .filter(|size| (HEAD + 5..=MAX_MESSAGE).contains(size))
        .map(|size| size - 4)
        .ok_or("expected a MongoDB message of 21 bytes to 16 MiB")
}

/// The document of an answer whose length has been taken off.
pub(super) fn answer(id: i32, bytes: &[u8]) -> Result<Document<'_>, Wrong> {
    let (head, rest) = bytes
        .split_at_checked(HEAD)
        .ok_or("expected a MongoDB message")?;
    let number = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|it| it.try_into().ok());
        bytes.map_or(0, i32::from_le_bytes)
    };
    if number(8) != OP_MSG {
        return Err("expected an answer by OP_MSG (MongoDB 4.4.2 or newer)");
    }
    if number(4) != id {
        return Err("expected the answer to another question");
    }
    let flags = number(12).cast_unsigned() & REQUIRED;
    let rest = match flags {
        0 => rest,
        CHECKSUM => rest.get(..rest.len().saturating_sub(4)).unwrap_or_default(),
        _ => return Err("expected a whole answer by OP_MSG"),
    };
    let [0, document @ ..] = rest else {
        return Err("expected one document as answer");
    };
    let (document, []) = Document::read(document)? else {
        return Err("expected one document as answer");
    };
    Ok(document)
}

/// The error that an answer holds, if any.
pub(super) fn failed(answer: Document<'_>) -> Result<Option<String>, Wrong> {
    let ok = match answer.get("ok")? {
        Some(Value::Double(ok)) => ok == 1.0,
        Some(Value::Integer(ok)) => ok == 1,
        Some(Value::Truth(ok)) => ok,
        _ => false,
    };
    if ok {
        return Ok(None);
    }
    let text = match answer.get("errmsg")? {
        Some(Value::Text(text)) => text,
        _ => "no reason given",
    };
    // It goes to a log line.
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    let code = match answer.get("code")? {
        Some(Value::Integer(code)) => format!(" (code {code})"),
        _ => String::new(),
    };
    Ok(Some(format!("{text}{code}")))
}
