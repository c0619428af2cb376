use std::fmt::Write as _;

use super::{Mutation, Outcome};

const BEGIN: &str = "<!-- mutations: written by tests/mutate --all -->\n";
const END: &str = "<!-- mutations: end -->\n";

/// Writes the table of all mutations and their outcomes into a document, between two marks.
///
/// # Errors
///
/// If the document does not have these marks.
pub fn with_table(document: &str, outcomes: &[(Mutation, Outcome)]) -> Result<String, String> {
    let missing = || format!("the document has no pair of lines {BEGIN}{END}");
    let (before, rest) = document.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    let mut table = String::from(
        "\n| mutation | rule | what it breaks | caught by |\n| --- | --- | --- | --- |\n",
    );
    for (mutation, outcome) in outcomes {
        let by = match outcome {
            Outcome::Caught { by, .. } => by.as_str(),
            Outcome::Missed => "NOT caught",
            Outcome::Broken(_) => "does not compile",
        };
        let Mutation { name, rule, breaks, .. } = mutation;
        let _ = writeln!(table, "| `{name}` | {rule} | {breaks} | {by} |");
    }
    Ok(format!("{before}{BEGIN}{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_what_is_between_the_marks() {
        let text = "Rule: P2\nBreaks: no sync\nCaught-by: simulation\n--- a/x\n+++ b/x\n";
        let mutation = Mutation::parse("tests/mutations/no-sync.patch", text).unwrap();
        let caught = Outcome::Caught { by: "seed 4".into(), what: String::new() };
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let new = with_table(&document, &[(mutation, caught)]).unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("after\n") && !new.contains("old"));
        assert!(new.contains("\n| `no-sync` | P2 | no sync | seed 4 |\n"), "{new}");
        assert!(with_table("before", &[]).is_err());
    }
}
