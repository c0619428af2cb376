//! Mutations: patches in `tests/mutations` that break one rule each. Some check must detect each of
//! them.
//!
//! A file begins with three lines, followed by a unified diff whose paths are relative to the
//! repository:
//!
//! ```text
//! Rule: P2
//! Breaks: a write is reported durable before it was synced
//! Caught-by: test -p plainsong-storage --lib syncs
//! ```
//!
//! `Rule` has labels of `docs/protocol.md` (`P2`, or `P2, L6`), or `contract` and the name of a
//! case of a conformance suite, or the name of a program in `examples`. `Caught-by` is one of:
//!
//! | `Caught-by:` | check |
//! | --- | --- |
//! | `simulation` | seeds from 0 on |
//! | `simulation seed 46` | that seed |
//! | `test ARGUMENTS` | `cargo test ARGUMENTS`, which begin with `-p PACKAGE` |
//! | `scenario NAME` | the scenario of that name |

mod run;
mod scratch;
mod table;

use std::path::Path;
use std::{fmt, fs, io};

pub use self::run::{Outcome, run};
pub use self::scratch::Scratch;
pub use self::table::with_table;
use crate::rules::Label;

/// Directory of the patches, relative to the repository.
pub const FOLDER: &str = "tests/mutations";

/// A patch that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The name of its file, without `.patch`.
    pub name: String,
    /// The broken rules.
    pub rule: Rule,
    /// Description of the effect, as a sentence.
    pub breaks: String,
    /// The check that detects it.
    pub caught_by: Check,
}

/// The rules that a mutation breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Rules of the protocol.
    Protocol(Vec<Label>),
    /// A case of the conformance suite for transports or stores.
    Contract(String),
    /// The guarantees of a program in `examples`.
    Program(String),
}

/// A check that detects a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The simulation, by this seed or by any.
    Simulation(Option<u64>),
    /// Tests, by the arguments of `cargo test`.
    Test(Vec<String>),
    /// A scenario.
    Scenario(String),
}

impl Mutation {
    /// Reads all mutations of a repository, sorted by name.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is not a mutation.
    pub fn all(root: &Path) -> io::Result<Vec<Self>> {
        let mut mutations = Vec::new();
        for entry in fs::read_dir(root.join(FOLDER))? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            let path = format!("{FOLDER}/{}", entry.file_name().to_string_lossy());
            mutations.push(Self::parse(&path, &text).map_err(io::Error::other)?);
        }
        mutations.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(mutations)
    }

    /// Returns the path of its patch, relative to the repository.
    pub fn path(&self) -> String {
        format!("{FOLDER}/{}.patch", self.name)
    }

    /// Parses a patch file. `path` is its path relative to the repository.
    ///
    /// # Errors
    ///
    /// Describes the problem in a line that begins with `path`.
    pub fn parse(path: &str, text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{path}: {what}");
        let file = path.rsplit('/').next().unwrap_or(path);
        let name =
            file.strip_suffix(".patch").ok_or_else(|| wrong("its name does not end in .patch"))?;
        let (header, diff) = text.split_at(text.find("--- a/").unwrap_or(text.len()));
        let field = |field: &str| {
            let mut lines = header.lines().filter_map(|line| line.strip_prefix(field));
            let value = lines.next().map(str::trim).filter(|value| !value.is_empty());
            match (value, lines.next()) {
                (Some(value), None) => Ok(value),
                _ => Err(wrong(&format!("its header has no single line {field} …"))),
            }
        };
        let (rule, breaks, caught_by) = (field("Rule:")?, field("Breaks:")?, field("Caught-by:")?);
        if diff.is_empty() {
            return Err(wrong("it has no diff"));
        }
        Ok(Self {
            name: name.to_owned(),
            rule: Rule::parse(rule).map_err(|error| wrong(&error))?,
            breaks: breaks.to_owned(),
            caught_by: Check::parse(caught_by).map_err(|error| wrong(&error))?,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(labels) => {
                let labels: Vec<_> = labels.iter().map(ToString::to_string).collect();
                f.write_str(&labels.join(", "))
            }
            Self::Contract(case) => write!(f, "contract `{case}`"),
            Self::Program(name) => f.write_str(name),
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(case) = text.strip_prefix("contract ") {
            return Ok(Self::Contract(case.trim().to_owned()));
        }
        if text.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Ok(Self::Program(text.to_owned()));
        }
        let labels = text.split(',').map(|label| label.trim().parse());
        Ok(Self::Protocol(labels.collect::<Result<_, _>>()?))
    }
}

impl Check {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_whitespace().collect();
        match *words.as_slice() {
            ["simulation"] => Ok(Self::Simulation(None)),
            ["simulation", "seed", seed] => match seed.parse() {
                Ok(seed) => Ok(Self::Simulation(Some(seed))),
                Err(_) => Err(format!("{seed} is not a seed")),
            },
            ["scenario", name] => Ok(Self::Scenario(name.to_owned())),
            ["test", "-p", _, ..] => {
                Ok(Self::Test(words[1..].iter().map(ToString::to_string).collect()))
            }
            _ => Err(format!("{text:?} is not a check")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "tests/mutations/no-sync.patch";

    fn parse(header: &str) -> Result<Mutation, String> {
        Mutation::parse(
            PATH,
            &format!("{header}\n--- a/storage/src/lib.rs\n+++ b/storage/src/lib.rs\n"),
        )
    }

    #[test]
    fn a_header_names_rules_and_a_check() {
        let mutation =
            parse("Rule: P2, L6\nBreaks: no sync\nCaught-by: test -p storage --lib syncs");
        let labels = ["P2", "L6"].map(|label| label.parse());
        assert_eq!(
            mutation,
            Ok(Mutation {
                name: "no-sync".into(),
                rule: Rule::Protocol(labels.into_iter().collect::<Result<_, _>>().unwrap()),
                breaks: "no sync".into(),
                caught_by: Check::Test(
                    ["-p", "storage", "--lib", "syncs"].map(String::from).into()
                ),
            })
        );
        let seed =
            parse("Rule: contract a_case\nBreaks: b\nCaught-by: simulation seed 46").unwrap();
        assert_eq!(seed.caught_by, Check::Simulation(Some(46)));
        assert_eq!(seed.rule, Rule::Contract("a_case".into()));
    }

    #[test]
    fn an_incomplete_header_is_rejected() {
        for header in [
            "Rule: P2\nBreaks: b",
            "Rule: P2\nBreaks:\nCaught-by: simulation",
            "Rule: P2\nRule: P3\nBreaks: b\nCaught-by: simulation",
            "Rule: Q2\nBreaks: b\nCaught-by: simulation",
            "Rule: P2\nBreaks: b\nCaught-by: review",
            "Rule: P2\nBreaks: b\nCaught-by: test",
            "Rule: P2\nBreaks: b\nCaught-by: simulation seed x",
        ] {
            assert!(parse(header).is_err(), "{header}");
        }
        assert!(Mutation::parse(PATH, "Rule: P2\nBreaks: b\nCaught-by: simulation").is_err());
    }
}
