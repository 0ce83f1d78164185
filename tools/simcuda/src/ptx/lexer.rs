//! From text to tokens.

use super::LoadError;

/// A token. A word keeps its points: `ld.global.f32` and `%tid.x` are one word each. Only directives can stand together:
/// `.reg.b32` are two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    Integer(u64),
    /// A float of single precision, `0f3F800000`.
    Single(u32),
    /// One of double precision, `0d3FF0000000000000` or `1.0`.
    Double(f64),
    Text(&'a str),
    Mark(u8),
}

/// A token and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spanned<'a> {
    pub(crate) token: Token<'a>,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) line: usize,
}

/// All tokens of a text; comments are gone.
pub(crate) fn tokens(text: &str) -> Result<Vec<Spanned<'_>>, LoadError> {
    let bytes = text.as_bytes();
    let mut all = Vec::with_capacity(text.len() / 4);
    let (mut at, mut line) = (0, 1);
    while let Some(&first) = bytes.get(at) {
        let start = at;
        let end_of = |from: usize, inside: fn(u8) -> bool| {
            bytes[from..].iter().position(|&b| !inside(b)).map_or(bytes.len(), |n| from + n)
        };
        let token = match first {
            b'\n' => {
                line += 1;
                at += 1;
                continue;
            }
            // The driver's text ends with a zero byte.
            b' ' | b'\t' | b'\r' | 0 => {
                at += 1;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = end_of(at, |b| b != b'\n');
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let len = text[at + 2..].find("*/").ok_or_else(|| error(line, "a comment without end"))?;
                line += text[at..at + 2 + len].matches('\n').count();
                at += len + 4;
                continue;
            }
            b'"' => {
                let len = text[at + 1..].find('"').ok_or_else(|| error(line, "a text without end"))?;
                at += len + 2;
                Token::Text(&text[start + 1..at - 1])
            }
            b'0'..=b'9' => {
                at = end_of(at, |b| b.is_ascii_alphanumeric() || b == b'.');
                // The sign of an exponent belongs to the number.
                if matches!(bytes[at - 1], b'e' | b'E')
                    && text[start..at].contains('.')
                    && matches!(bytes.get(at), Some(b'+' | b'-'))
                {
                    at = end_of(at + 1, |b| b.is_ascii_digit());
                }
                let word = &text[start..at];
                number(word).ok_or_else(|| error(line, &format!("`{word}` is no number")))?
            }
            b'.' | b'_' | b'$' | b'%' | b'a'..=b'z' | b'A'..=b'Z' => {
                at += 1;
                loop {
                    at = end_of(at, if first == b'.' { in_name } else { in_word });
                    // `L1::no_allocate` is one word; `label:` is not.
                    if !text[at..].starts_with("::") {
                        break;
                    }
                    at += 2;
                }
                Token::Word(&text[start..at])
            }
            b'{' | b'}' | b'(' | b')' | b'[' | b']' | b'<' | b'>' | b',' | b';' | b':' | b'@' | b'!'
            | b'+' | b'-' | b'=' | b'|' | b'*' => {
                at += 1;
                Token::Mark(first)
            }
            _ => return Err(error(line, &format!("byte {first:#04x} is not of PTX"))),
        };
        all.push(Spanned { token, start, end: at, line });
    }
    Ok(all)
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

fn in_word(byte: u8) -> bool {
    in_name(byte) || byte == b'.'
}

/// An error with its line.
pub(crate) fn error(line: usize, what: &str) -> LoadError {
    LoadError(format!("line {line}: {what}"))
}

fn number(word: &str) -> Option<Token<'_>> {
    let lower = word.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f") {
        return u32::from_str_radix(hex, 16).ok().map(Token::Single);
    }
    if let Some(hex) = lower.strip_prefix("0d") {
        return u64::from_str_radix(hex, 16).ok().map(|bits| Token::Double(f64::from_bits(bits)));
    }
    if lower.contains('.') {
        return lower.parse().ok().map(Token::Double);
    }
    let digits = lower.trim_end_matches('u');
    let (digits, radix) = match digits.strip_prefix("0x").map(|rest| (rest, 16)) {
        Some(hex) => hex,
        None => match digits.strip_prefix("0b").map(|rest| (rest, 2)) {
            Some(binary) => binary,
            None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
            None => (digits, 10),
        },
    };
    u64::from_str_radix(digits, radix).ok().map(Token::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_marks() {
        let text = ".reg.b32 @!%p1 ld.global.L1::no_allocate.f32 %f1, [%rd2+-4]; // end\n$L_1: 0X1Fu 010 0b11 0f3F800000 \
                    0d3FF0000000000000 1.5e+2 /* \n */ \"a b\"";
        let all: Vec<Token<'_>> =
            tokens(text).expect("PTX").into_iter().map(|spanned| spanned.token).collect();
        use Token::{Double, Integer, Mark, Single, Text, Word};
        assert_eq!(
            all,
            [
                Word(".reg"),
                Word(".b32"),
                Mark(b'@'),
                Mark(b'!'),
                Word("%p1"),
                Word("ld.global.L1::no_allocate.f32"),
                Word("%f1"),
                Mark(b','),
                Mark(b'['),
                Word("%rd2"),
                Mark(b'+'),
                Mark(b'-'),
                Integer(4),
                Mark(b']'),
                Mark(b';'),
                Word("$L_1"),
                Mark(b':'),
                Integer(31),
                Integer(8),
                Integer(3),
                Single(0x3f80_0000),
                Double(1.0),
                Double(150.0),
                Text("a b"),
            ]
        );
        assert_eq!(tokens("\n 12q").expect_err("no number").0, "line 2: `12q` is no number");
    }
}
