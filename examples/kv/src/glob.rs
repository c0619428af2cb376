//! Glob patterns as in Redis: `*`, `?`, `[a-c]`, `[^a-c]`, and `\` to escape the next byte. They
//! match bytes, not characters.

/// Returns true if the whole text matches a pattern.
///
/// Takes at most as many steps as the product of the two lengths. After a mismatch only the last
/// `*` is tried again, which is enough because everything before it has matched as early as
/// possible.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut next) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let rest = &pattern[at..];
        if rest.first() == Some(&b'*') {
            at += 1;
            retry = Some((at, next));
            continue;
        }
        let step = match text.get(next) {
            None if rest.is_empty() => return true,
            // The rest of the pattern needs another byte. Trying the last `*` again cannot help,
            // because it would leave even fewer bytes.
            None => return false,
            Some(&byte) => one(rest, byte),
        };
        match step {
            Some(used) => {
                at += used;
                next += 1;
            }
            None => match &mut retry {
                Some((star, from)) => {
                    *from += 1;
                    (at, next) = (*star, *from);
                }
                None => return false,
            },
        }
    }
}

/// Matches the first element of a pattern, which is not `*`, with a byte. Returns the length of the
/// element, or `None` if it does not match.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [b'[', ..] => {
            let (holds, used) = class(pattern, byte);
            holds.then_some(used)
        }
        [literal, ..] => (literal == byte).then_some(1),
    }
}

/// Returns true if a byte is in the class at the start of the pattern, and the length of the class.
/// An unclosed class extends to the end of the pattern, as in Redis.
fn class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    loop {
        match pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= literal == byte;
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        for (pattern, text, holds) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("**", "abc", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeello", true),
            ("h*llo", "hello!", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-c]llo", "hdllo", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("a\\", "a\\", true),
            ("[\\]]", "]", true),
            ("[\\-x]", "-", true),
            ("[a", "a", true),
            ("[a", "b", false),
            ("[]", "a", false),
            ("[^]", "a", true),
            ("user:*:name", "user:1:name", true),
            ("user:*:name", "user:1:names", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("*ab", "aab", true),
            ("a*", "ba", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), holds, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_matched_in_bounded_time() {
        let pattern = b"*a".repeat(2000);
        let text = vec![b'a'; 100_000];
        assert!(!matches(&[pattern.as_slice(), b"b"].concat(), &text));
    }
}
