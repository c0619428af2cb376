//! The patterns of Redis: `*`, `?`, `[a-c]`, `[^a-c]`, and `\` before what is meant
//! as it stands. They match bytes, not characters.

/// Whether a whole text matches a pattern.
///
/// Takes at most the product of the two lengths in steps: of several `*` only the last
/// one met is ever tried again, which is enough, because what comes before it has been
/// matched as early as possible.
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
            // What is left of the pattern needs a byte and there is none; and another
            // try would have fewer still.
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

/// Matches the first element of a pattern, which is not `*`, with a byte. Says how long
/// the element is.
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

/// Whether a byte is in the class that a pattern starts with, and how long that is. A
/// class that is not closed goes to the end, as in Redis.
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
    fn a_hostile_pattern_takes_no_time() {
        let pattern = b"*a".repeat(2000);
        let text = vec![b'a'; 100_000];
        assert!(!matches(&[pattern.as_slice(), b"b"].concat(), &text));
    }
}
