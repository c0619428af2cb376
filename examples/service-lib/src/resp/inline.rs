//! Inline commands: requests typed by hand as words on a line, quoted if they contain spaces.

use bytes::Bytes;

/// Splits a line into words. Within `"..."` the escapes are `\n`, `\r`, `\t`, `\a`, `\b` and
/// `\xHH`; any other escaped byte stands for itself. Within `'...'` the only escape is `\'`.
/// Returns `None` if a quote is not closed, or if no space follows a closing quote.
pub(super) fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(word.into());
        rest = after.trim_ascii_start();
    }
    Some(words)
}

/// Takes the first word of a text that does not start with a space, and returns the rest.
fn word(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    let mut rest = text;
    loop {
        let (byte, after) = match rest.split_first() {
            None => return Some((word, rest)),
            Some((byte, _)) if byte.is_ascii_whitespace() => return Some((word, rest)),
            Some(found) => found,
        };
        rest = match byte {
            b'"' => closed(double_quoted(after, &mut word)?)?,
            b'\'' => closed(single_quoted(after, &mut word)?)?,
            _ => {
                word.push(*byte);
                after
            }
        };
    }
}

/// Returns `rest`, or `None` if it starts with anything but a space: a closing quote must end the
/// word.
fn closed(rest: &[u8]) -> Option<&[u8]> {
    rest.first().is_none_or(u8::is_ascii_whitespace).then_some(rest)
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                (hex(*high)? << 4 | hex(*low)?, after)
            }
            [b'\\', escaped, after @ ..] => (unescaped(*escaped), after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        word.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        word.push(byte);
        rest = after;
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        other => other,
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_redis_splits_them() {
        let words = |text: &str| {
            let words = split(text.as_bytes())?;
            Some(words.into_iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>())
        };
        for (line, expected) in [
            ("", Some(vec![])),
            ("  \r\n", Some(vec![])),
            (" set  a b \r\n", Some(vec!["set", "a", "b"])),
            (r#"set "a b" 'c d'"#, Some(vec!["set", "a b", "c d"])),
            (r#"set "\x41\n\"" '\x41\''"#, Some(vec!["set", "A\\n\\\"", "\\\\x41\\'"])),
            (r#"set """#, Some(vec!["set", ""])),
            (r#"a"b c""#, Some(vec!["ab c"])),
            (r#"set "a"#, None),
            (r#"set "a"b"#, None),
            ("set 'a", None),
            ("set 'a'b", None),
        ] {
            let expected = expected.map(|words| words.into_iter().map(String::from).collect());
            assert_eq!(words(line), expected, "{line:?}");
        }
    }
}
