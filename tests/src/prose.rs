//! A check of comments and documents against faults of style that readers stumble over.
//!
//! It finds:
//! - paragraphs of comments that open with a relative clause without a noun ("What is read …");
//! - phrases that have a plain or standard equivalent;
//! - lines of prose that are wider than 100 columns.
//!
//! Code blocks, tables and links are not checked.

use std::path::Path;
use std::{fmt, io};

use crate::repository;

/// Maximum width of a line of prose, in characters.
const WIDTH: usize = 100;

/// Words that begin a clause and leave open what it is about.
const OPENERS: &[&str] =
    &["What", "Who", "Whoever", "Whose", "Whether", "Which", "How", "As many", "So many"];

/// Phrases, in lower case, and what to write instead.
const PHRASES: &[(&str, &str)] = &[
    ("in vain", "without success"),
    ("in step", "caught up"),
    ("through with", "done with"),
    ("hands on", "passes"),
    ("handed on", "passed"),
    ("is told", "receives, or learns"),
    ("are told", "receive, or learn"),
    ("so many bytes", "a number of bytes"),
    ("as many as are", "the number of"),
    ("say the word", "confirm"),
    ("is nobody's", "has no owner"),
    ("no more than that", "at most that"),
    ("what it is about", "its subject"),
];

/// This check, which contains what it looks for.
const SELF: &str = "tests/src/prose.rs";

/// A fault and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    path: String,
    /// Counted from 1.
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Returns the faults of all Rust files and documents of a repository.
///
/// # Errors
///
/// A file that cannot be read.
pub fn faults(root: &Path) -> io::Result<Vec<Fault>> {
    let files = repository::files(root)?;
    let mut faults = Vec::new();
    for (path, text) in &files {
        if path == SELF {
            continue;
        }
        let lines = match path.rsplit_once('.') {
            Some((_, "rs")) => comments(text),
            Some((_, "md")) => prose(text),
            _ => continue,
        };
        check(path, &lines, &mut faults);
    }
    Ok(faults)
}

/// A line of prose.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line<'a> {
    number: usize,
    text: &'a str,
    /// With what stands in front of the text.
    width: usize,
    opens_comment: bool,
}

/// Returns the lines of the comments in Rust code.
fn comments(text: &str) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut is_code = false;
    let mut was_comment = false;
    for (number, line) in (1..).zip(text.lines()) {
        let Some(comment) = line.trim_start().strip_prefix("//") else {
            (is_code, was_comment) = (false, false);
            continue;
        };
        let text = comment.trim_start_matches(['/', '!']).trim_start();
        if text.starts_with("```") {
            is_code = !is_code;
        } else if !is_code && !text.starts_with('|') {
            let width = line.chars().count();
            lines.push(Line { number, text, width, opens_comment: !was_comment });
        }
        was_comment = true;
    }
    lines
}

/// Returns the lines of prose in a document.
fn prose(text: &str) -> Vec<Line<'_>> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code && !line.starts_with('|') {
            let width = line.chars().count();
            lines.push(Line { number, text: line.trim_start(), width, opens_comment: false });
        }
    }
    lines
}

fn check(path: &str, lines: &[Line<'_>], faults: &mut Vec<Fault>) {
    let mut fault = |line: &Line<'_>, what| {
        faults.push(Fault { path: path.to_owned(), line: line.number, what })
    };
    for line in lines {
        if line.width > WIDTH && !line.text.contains("](") && !line.text.contains("://") {
            fault(line, format!("{} columns, where {WIDTH} are the limit", line.width));
        }
        if line.opens_comment && !line.text.trim_end().ends_with('?') {
            let opener = OPENERS.iter().find(|opener| {
                line.text.strip_prefix(**opener).is_some_and(|rest| rest.starts_with(' '))
            });
            if let Some(opener) = opener {
                fault(line, format!("opens with \"{opener}\": begin with a verb or a noun"));
            }
        }
        let lower = line.text.to_lowercase();
        for (phrase, better) in PHRASES {
            let is_there = lower.match_indices(phrase).any(|(at, _)| {
                let before = lower[..at].chars().next_back();
                let after = lower[at + phrase.len()..].chars().next();
                [before, after].into_iter().flatten().all(|c| !c.is_alphanumeric())
            });
            if is_there {
                fault(line, format!("\"{phrase}\": write \"{better}\""));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[Line<'_>]) -> Vec<String> {
        let mut faults = Vec::new();
        check("a", lines, &mut faults);
        faults.iter().map(Fault::to_string).collect()
    }

    #[test]
    fn openers_are_found_at_the_start_of_a_comment_only() {
        let text = "/// What is read.\nfn a() {}\n// Reads\n// What is read.\n\n    // Whether?\n";
        assert_eq!(
            found(&comments(text)),
            ["a:1: opens with \"What\": begin with a verb or a noun"]
        );
        assert!(found(&prose("What it is for\n")).is_empty());
    }

    #[test]
    fn phrases_are_whole_words_outside_code() {
        let document =
            ["Waits in vain.", "```", "in vain", "```", "| in vain |", "In vainer."].join("\n");
        assert_eq!(found(&prose(&document)), ["a:1: \"in vain\": write \"without success\""]);
        let code = "let a = \"in vain\";\n/// ```\n/// in vain\n/// ```\n/// In vain\n";
        assert_eq!(found(&comments(code)), ["a:5: \"in vain\": write \"without success\""]);
    }

    #[test]
    fn wide_lines_are_found_unless_they_hold_a_link() {
        let wide = "word ".repeat(21);
        assert_eq!(found(&prose(&wide)), ["a:1: 105 columns, where 100 are the limit"]);
        assert!(found(&prose(&format!("{wide}[a](b)"))).is_empty());
    }
}
