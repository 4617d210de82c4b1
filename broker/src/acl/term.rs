//! Erlang terms, as far as `acl.conf` needs them: atoms, strings, binaries, integers, tuples and lists, each followed
//! by a full stop, with `%` comments.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while, take_while1};
use nom::character::complete::{char, satisfy};
use nom::combinator::{cut, opt, recognize, value};
use nom::multi::separated_list0;
use nom::sequence::{delimited, pair, preceded, terminated};
use nom::{Err, IResult, Parser};

/// How deep tuples and lists may nest: a rule needs 5, and the parser's stack must be bounded.
const MAX_DEPTH: usize = 16;

/// A term and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// Bytes from the term's first character to the end of the text.
    pub left: usize,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Atom(String),
    /// A string or a binary: the same thing here.
    Text(String),
    Integer(i64),
    Tuple(Vec<Term>),
    List(Vec<Term>),
}

/// Where parsing stopped and what would have gone on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fail {
    /// Bytes from the place of the failure to the end of the text.
    pub left: usize,
    pub expected: &'static str,
}

impl nom::error::ParseError<&str> for Fail {
    fn from_error_kind(input: &str, _: nom::error::ErrorKind) -> Self {
        Self {
            left: input.len(),
            expected: "a term",
        }
    }

    fn append(_: &str, _: nom::error::ErrorKind, other: Self) -> Self {
        other
    }

    /// The branch that went further knows better.
    fn or(self, other: Self) -> Self {
        if self.left < other.left { self } else { other }
    }
}

type Parsed<'a, T> = IResult<&'a str, T, Fail>;

/// Names what a parser stands for in errors.
fn expect<'a, T>(
    expected: &'static str,
    mut parser: impl Parser<&'a str, Output = T, Error = Fail>,
) -> impl FnMut(&'a str) -> Parsed<'a, T> {
    move |input| {
        parser.parse(input).map_err(|error| match error {
            Err::Error(fail) => Err::Error(Fail { expected, ..fail }),
            other => other,
        })
    }
}

/// White space and comments.
pub(super) fn blank(input: &str) -> &str {
    let mut rest = input;
    loop {
        let trimmed = rest.trim_start();
        match trimmed.strip_prefix('%') {
            Some(comment) => rest = comment.find('\n').map_or("", |end| &comment[end..]),
            None => return trimmed,
        }
    }
}

fn skip(input: &str) -> Parsed<'_, ()> {
    Ok((blank(input), ()))
}

/// One term and the full stop behind it. The text must not begin with white space.
pub(super) fn form(input: &str) -> Parsed<'_, Term> {
    let (rest, term) = cut(|input| term(input, 0)).parse(input)?;
    let (rest, ()) = skip(rest)?;
    let (rest, _) = cut(expect("'.' after the rule", char('.'))).parse(rest)?;
    // Erlang's full stop is a dot and a blank; without it `{allow,all}.{deny,all}.` would hide a slip.
    if rest.starts_with(|c: char| !c.is_whitespace() && c != '%') {
        return Err(Err::Failure(Fail {
            left: rest.len(),
            expected: "a new line after '.'",
        }));
    }
    Ok((rest, term))
}

fn term(input: &str, depth: usize) -> Parsed<'_, Term> {
    if depth > MAX_DEPTH {
        return Err(Err::Failure(Fail {
            left: input.len(),
            expected: "no more than 16 nested tuples and lists",
        }));
    }
    let left = input.len();
    let (rest, value) = match input.chars().next() {
        Some('{') => items(input, depth, '{', '}', "',' or '}'").map(|(r, v)| (r, Value::Tuple(v))),
        Some('[') => items(input, depth, '[', ']', "',' or ']'").map(|(r, v)| (r, Value::List(v))),
        Some('"') => quoted(input, '"').map(|(r, v)| (r, Value::Text(v))),
        Some('<') => binary(input),
        Some('\'') => quoted(input, '\'').map(|(r, v)| (r, Value::Atom(v))),
        Some('a'..='z') => atom(input),
        Some('-' | '0'..='9') => integer(input),
        _ => Err(Err::Error(Fail {
            left,
            expected: "a term",
        })),
    }?;
    Ok((rest, Term { left, value }))
}

fn items<'a>(
    input: &'a str,
    depth: usize,
    open: char,
    close: char,
    expected: &'static str,
) -> Parsed<'a, Vec<Term>> {
    let comma = (skip, char(','), skip);
    let (rest, items) = preceded(
        (char(open), skip),
        separated_list0(comma, |input| term(input, depth + 1)),
    )
    .parse(input)?;
    // A list that broke off inside an element after a comma: the element's own error says more than "expected ','".
    let rest = blank(rest);
    if let Some(after) = rest.strip_prefix(',') {
        return cut(|input| term(input, depth + 1))
            .parse(blank(after))
            .map(|(rest, _)| (rest, items));
    }
    if items.is_empty() && !rest.starts_with(close) {
        return cut(|input| term(input, depth + 1))
            .parse(rest)
            .map(|(rest, _)| (rest, Vec::new()));
    }
    let (rest, _) = cut(expect(expected, char(close))).parse(rest)?;
    Ok((rest, items))
}

fn atom(input: &str) -> Parsed<'_, Value> {
    recognize(pair(
        satisfy(|c| c.is_ascii_lowercase()),
        take_while(|c: char| c.is_alphanumeric() || c == '_' || c == '@'),
    ))
    .map(|name: &str| Value::Atom(name.to_owned()))
    .parse(input)
}

fn integer(input: &str) -> Parsed<'_, Value> {
    let (rest, digits) = expect(
        "a number",
        recognize(pair(
            opt(char('-')),
            take_while1(|c: char| c.is_ascii_digit()),
        )),
    )(input)?;
    match digits.parse() {
        Ok(number) => Ok((rest, Value::Integer(number))),
        Err(_) => Err(Err::Failure(Fail {
            left: input.len(),
            expected: "a number of at most 64 bits",
        })),
    }
}

/// `<<"text">>`, with or without `/utf8`.
fn binary(input: &str) -> Parsed<'_, Value> {
    delimited(
        (tag("<<"), skip),
        cut(expect("a string", |input| quoted(input, '"'))),
        cut(expect("'>>'", (opt((skip, tag("/utf8"))), skip, tag(">>")))),
    )
    .map(Value::Text)
    .parse(input)
}

fn quoted(input: &str, quote: char) -> Parsed<'_, String> {
    let closing = match quote {
        '"' => "a closing '\"'",
        _ => "a closing \"'\"",
    };
    let (mut rest, _) = char(quote).parse(input)?;
    let mut text = String::new();
    loop {
        let (next, plain) = take_till(|c| c == quote || c == '\\').parse(rest)?;
        text.push_str(plain);
        let Some(escaped) = next.strip_prefix('\\') else {
            let (rest, _) = cut(expect(closing, char(quote))).parse(next)?;
            return Ok((rest, text));
        };
        let (next, c) = cut(expect("an escape such as \\\" or \\\\", escape)).parse(escaped)?;
        text.push(c);
        rest = next;
    }
}

/// What may follow a backslash.
fn escape(input: &str) -> Parsed<'_, char> {
    let hex = |c: char| c.is_ascii_hexdigit();
    alt((
        value('\n', char('n')),
        value('\t', char('t')),
        value('\r', char('r')),
        value(' ', char('s')),
        value('\u{8}', char('b')),
        value('\u{c}', char('f')),
        value('\u{b}', char('v')),
        value('\u{1b}', char('e')),
        value('\u{7f}', char('d')),
        preceded(
            tag("x{"),
            terminated(take_while1(hex), char('}')).map_opt(|digits| code(digits, 16)),
        ),
        preceded(
            char('x'),
            recognize((satisfy(hex), satisfy(hex))).map_opt(|digits| code(digits, 16)),
        ),
        recognize((
            satisfy(|c| c.is_digit(8)),
            opt(satisfy(|c| c.is_digit(8))),
            opt(satisfy(|c| c.is_digit(8))),
        ))
        .map_opt(|digits| code(digits, 8)),
        satisfy(|c| !c.is_ascii_alphanumeric() && c != '^'),
    ))
    .parse(input)
}

fn code(digits: &str, radix: u32) -> Option<char> {
    u32::from_str_radix(digits, radix)
        .ok()
        .and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &str) -> Result<String, (usize, &'static str)> {
        match form(input) {
            Ok((
                "",
                Term {
                    value: Value::Text(text),
                    ..
                },
            )) => Ok(text),
            Ok(other) => panic!("{input}: {other:?}"),
            Err(Err::Error(fail) | Err::Failure(fail)) => {
                Err((input.len() - fail.left, fail.expected))
            }
            Err(Err::Incomplete(_)) => unreachable!("complete parsers only"),
        }
    }

    #[test]
    fn strings_take_erlang_escapes() {
        let table = [
            (r#""plain"."#, "plain"),
            (r#""a\"b\\c"."#, "a\"b\\c"),
            (r#""\x41\x{263A}\101\s\t"."#, "A\u{263A}A \t"),
            (r#"<<"bin">>."#, "bin"),
            (r#"<<"gr\x{fc}n"/utf8>>."#, "gr\u{fc}n"),
            ("\"h\u{e9}\".", "h\u{e9}"),
        ];
        for (input, expected) in table {
            assert_eq!(text(input).as_deref(), Ok(expected), "{input}");
        }
    }

    #[test]
    fn failures_say_where_and_what() {
        let table = [
            (r#""open"#, 5, "a closing '\"'"),
            (r#""a\q"."#, 3, "an escape such as \\\" or \\\\"),
            (r#""a\x{110000}"."#, 5, "an escape such as \\\" or \\\\"),
            ("\"a\"", 3, "'.' after the rule"),
            ("\"a\".x", 4, "a new line after '.'"),
            ("{a,", 3, "a term"),
            ("{a,b", 4, "',' or '}'"),
            ("{a b}.", 3, "',' or '}'"),
            ("[Foo].", 1, "a term"),
            ("{a,{b,\"x}.", 10, "a closing '\"'"),
            ("<<a>>.", 2, "a string"),
            ("-x.", 1, "a number"),
            ("99999999999999999999.", 0, "a number of at most 64 bits"),
        ];
        for (input, at, expected) in table {
            assert_eq!(text(input), Err((at, expected)), "{input}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}{}.", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(form(&deep), Err(Err::Failure(_))));
        let shallow = format!("{}{}.", "[".repeat(16), "]".repeat(16));
        assert!(form(&shallow).is_ok());
    }
}
