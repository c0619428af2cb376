use std::fmt;
use std::str::FromStr;

/// First letters of all labels in the protocol.
const LETTERS: &str = "EBVNLPR";

/// The label of a rule of the protocol, such as `B4` or `N11a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    letter: char,
    number: u32,
    part: Option<char>,
}

impl Label {
    /// Reads the label at the beginning of a test's name, such as `n11a_` in `n11a_delays_nothing`.
    pub fn of_test(name: &str) -> Option<Self> {
        let (first, _) = name.split_once('_')?;
        let (letter, rest) = first.split_at_checked(1)?;
        format!("{}{rest}", letter.to_uppercase()).parse().ok()
    }

    /// Returns all labels in a text, in order, including those inside ranges such as `N2 to N4`.
    pub fn all_in(text: &str) -> Vec<Self> {
        let mut labels: Vec<Self> = Vec::new();
        let mut is_range = false;
        // A hyphen between two labels is a range; any other hyphen is a part of its word.
        for word in text.split(|c: char| !(c.is_alphanumeric() || "_-–".contains(c))) {
            let (first, second) = match word.split_once(['-', '–']) {
                Some((first, second)) => (first.parse().ok(), second.parse().ok()),
                None => (word.parse().ok(), None),
            };
            match (first, second) {
                (Some(first), Some(second)) => {
                    labels.push(first);
                    labels.extend(first.up_to(second));
                }
                (Some(label), None) if !word.contains(['-', '–']) => {
                    if is_range && let Some(last) = labels.last() {
                        labels.extend(last.up_to(label));
                    } else {
                        labels.push(label);
                    }
                }
                _ => {}
            }
            is_range = match word {
                "" => is_range,
                "to" => first.is_none() && !labels.is_empty(),
                _ => false,
            };
        }
        labels
    }

    /// Returns the labels after this one through `last`, or only `last` if the two form no range.
    fn up_to(self, last: Self) -> Vec<Self> {
        let is_range = self.letter == last.letter && self.part.is_none() && last.part.is_none();
        let first = if is_range { self.number + 1 } else { last.number };
        (first..=last.number).map(|number| Self { number, ..last }).collect()
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not the label of a rule");
        let mut rest = text.chars();
        let letter = rest.next().filter(|c| LETTERS.contains(*c)).ok_or_else(wrong)?;
        let rest = rest.as_str();
        let (digits, part) = match rest.char_indices().next_back() {
            Some((at, part)) if part.is_ascii_lowercase() => (&rest[..at], Some(part)),
            _ => (rest, None),
        };
        let is_number = digits.starts_with(|c: char| ('1'..='9').contains(&c))
            && digits.len() <= 2
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(number) if is_number => Ok(Self { letter, number, part }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.letter, self.number)?;
        self.part.map_or(Ok(()), |part| write!(f, "{part}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        Label::all_in(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn labels_are_found_beside_other_words() {
        assert_eq!(
            texts("rule N11a: (B6), X1, U8, B2B, B100, B0, not-B1, `V4`."),
            ["N11a", "B6", "V4"]
        );
    }

    #[test]
    fn ranges_include_what_is_between() {
        assert_eq!(texts("rules N2 to N4, and P1–P3"), ["N2", "N3", "N4", "P1", "P2", "P3"]);
        assert_eq!(texts("(E1-E3)"), ["E1", "E2", "E3"]);
        assert_eq!(texts("from E1 to B1, N11 to N11c"), ["E1", "B1", "N11", "N11c"]);
    }

    #[test]
    fn a_test_begins_with_its_label() {
        let label = |name| Label::of_test(name).map(|label| label.to_string());
        assert_eq!(label("n11a_a_clock_delays_nothing").as_deref(), Some("N11a"));
        assert_eq!(label("b10_a_ballot").as_deref(), Some("B10"));
        assert_eq!(label("a_ballot"), None);
    }
}
