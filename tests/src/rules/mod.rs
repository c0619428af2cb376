//! Which code, tests, scenarios and mutations name each rule of the protocol.
//!
//! A rule is a paragraph of `docs/protocol.md` that begins with a label, such as `B4` or `N11a`, and
//! a title, both in bold: `**B4. The base.**`. Code names a rule in a comment; a test by its name
//! (`b4_…`) or in a comment; a scenario and a mutation in their headers. Each rule needs code, and a
//! test, scenario or mutation.
//!
//! `tests/rules` prints what is missing, `tests/rules --write` brings `docs/rules.md` up to date.

mod label;
mod paths;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::Path;

pub use self::label::Label;
use self::paths::Paths;
use self::source::Source;
use crate::mutation::{Mutation, Rule};
use crate::repository;

/// Where the table is, in the repository.
pub const TABLE: &str = "docs/rules.md";

/// This tool, whose own tests name rules.
const TOOL: &[&str] = &["tests/src/rules/", "tests/src/mutation/"];

/// What names a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    code: BTreeSet<String>,
    tests: BTreeSet<String>,
    checks: BTreeSet<String>,
    mutations: BTreeSet<String>,
}

/// All rules, and what is wrong with the repository.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: BTreeMap<Label, Named>,
    /// In the order of the protocol.
    order: Vec<Label>,
    problems: Vec<String>,
}

impl Rules {
    /// Reads a repository.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn read(root: &Path) -> io::Result<Self> {
        let files = repository::files(root)?;
        let mut rules = Self::default();
        rules.define(files.get("docs/protocol.md").map_or("", |text| text));
        rules.read_sources(&files);
        rules.read_scenarios(&files);
        rules.read_mutations(&files);
        rules.read_documents(&files);
        rules.find_gaps();
        Ok(rules)
    }

    /// What has to be repaired, one line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The contents of `docs/rules.md`.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "# Rules\n\nWhich code, tests and mutations name each rule of [the protocol](protocol.md). \
             Written by\n`tests/rules --write`; do not edit. Code is below `core/src` where no other \
             folder is named.\nChecks are those of the [simulation](simulation.md), at every step of \
             every seed.\n\n| rule | code | tests and scenarios | checks | mutations |\n\
             | --- | --- | --- | --- | --- |\n",
        );
        for label in &self.order {
            let Some(named) = self.rules.get(label) else { continue };
            let cells = [&named.code, &named.tests, &named.checks, &named.mutations].map(|cell| {
                let quoted: Vec<_> = cell.iter().map(|place| format!("`{place}`")).collect();
                quoted.join(" ")
            });
            let _ = writeln!(table, "| {label} | {} |", cells.join(" | "));
        }
        table
    }

    fn define(&mut self, protocol: &str) {
        for line in protocol.lines() {
            let bold = line.strip_prefix("**").and_then(|bold| bold.split_once(". "));
            let Some(label) = bold.and_then(|(label, _)| label.parse().ok()) else { continue };
            if self.rules.insert(label, Named::default()).is_some() {
                self.problems.push(format!("docs/protocol.md defines {label} twice"));
            }
            self.order.push(label);
        }
    }

    fn named(&mut self, label: Label, by: &str) -> Option<&mut Named> {
        let named = self.rules.get_mut(&label);
        if named.is_none() {
            self.problems
                .push(format!("{by} names {label}, which docs/protocol.md does not define"));
        }
        named
    }

    fn read_sources(&mut self, files: &BTreeMap<String, String>) {
        let is_tool = |path: &str| TOOL.iter().any(|folder| path.starts_with(folder));
        let sources = files.iter().filter(|(path, _)| path.ends_with(".rs") && !is_tool(path));
        let mut test_modules = BTreeSet::new();
        for (path, text) in sources.clone() {
            let folder = folder_of_modules(path);
            let modules = Source::read(text, false).test_modules;
            test_modules.extend(modules.iter().map(|module| format!("{folder}/{module}")));
        }
        for (path, text) in sources {
            let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
            let is_test = path.contains("/tests/") || test_modules.contains(module);
            let short = path.strip_prefix("core/src/").unwrap_or(path);
            for found in Source::read(text, is_test).citations {
                let Some(named) = self.named(found.label, path) else { continue };
                if found.is_overview {
                    continue;
                }
                if found.is_in_tests {
                    named.tests.insert(found.test.unwrap_or_else(|| short.to_owned()));
                } else if path.starts_with("core/src/testing/") || path.starts_with("core/src/sim/")
                {
                    named.checks.insert(short.to_owned());
                } else if is_product(path) {
                    named.code.insert(short.to_owned());
                }
            }
        }
    }

    fn read_scenarios(&mut self, files: &BTreeMap<String, String>) {
        for (path, text) in files.iter().filter(|(path, _)| path.starts_with("tests/scenarios/")) {
            let prose = text.lines().filter(|line| line.starts_with('#'));
            for label in prose.flat_map(Label::all_in) {
                if let Some(named) = self.named(label, path) {
                    named.tests.insert(path.trim_start_matches("tests/").to_owned());
                }
            }
        }
    }

    fn read_mutations(&mut self, files: &BTreeMap<String, String>) {
        let contracts = |path: &str| path.contains("src/conformance/");
        let is_contract = |name: &str| {
            let function = format!("fn {name}(");
            files.iter().any(|(path, text)| contracts(path) && text.contains(&function))
        };
        for (path, text) in files.iter().filter(|(path, _)| path.starts_with("tests/mutations/")) {
            match Mutation::parse(path, text) {
                Err(error) => self.problems.push(error),
                Ok(Mutation { name, rule: Rule::Protocol(labels), .. }) => {
                    for label in labels {
                        if let Some(named) = self.named(label, path) {
                            named.mutations.insert(name.clone());
                        }
                    }
                }
                Ok(Mutation { rule: Rule::Contract(case), .. }) if !is_contract(&case) => {
                    let what = format!("{path} names {case}, which no conformance suite has");
                    self.problems.push(what);
                }
                Ok(Mutation { rule: Rule::Program(program), .. })
                    if !files.contains_key(&format!("examples/{program}/Cargo.toml")) =>
                {
                    self.problems.push(format!("{path} names {program}, which is no program"));
                }
                Ok(_) => {}
            }
        }
    }

    fn read_documents(&mut self, files: &BTreeMap<String, String>) {
        let paths = Paths::new(files.keys().map(String::as_str));
        let is_document = |path: &str| {
            path.ends_with(".md") && (path.starts_with("docs/") || !path.contains('/'))
        };
        // What changed in the past has its paths of the past.
        let is_checked = |path: &str| is_document(path) && path != "CHANGELOG.md" && path != TABLE;
        for (document, text) in files.iter().filter(|(path, _)| is_checked(path)) {
            for path in paths.missing(document, text) {
                self.problems.push(format!("{document} mentions {path}, which does not exist"));
            }
            for label in Label::all_in(text) {
                self.named(label, document);
            }
        }
    }

    fn find_gaps(&mut self) {
        for label in &self.order {
            let Some(named) = self.rules.get(label) else { continue };
            if named.code.is_empty() {
                self.problems.push(format!("no code names {label}"));
            }
            if named.tests.is_empty() {
                self.problems.push(format!("no test and no scenario names {label}"));
            }
        }
    }
}

/// Whether a file is what users run, and not a test.
fn is_product(path: &str) -> bool {
    let is_source =
        ["core/src/", "storage/src/", "cpg/src/"].iter().any(|top| path.starts_with(top));
    is_source && !path.contains("/conformance/")
}

/// Returns the folder of the modules that a file declares.
fn folder_of_modules(path: &str) -> &str {
    let module = path.trim_end_matches(".rs");
    let roots = ["/mod", "/lib", "/main"];
    roots.iter().find_map(|root| module.strip_suffix(root)).unwrap_or(module)
}
