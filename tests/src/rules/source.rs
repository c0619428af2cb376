use super::Label;

/// A place in a Rust file that names a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Citation {
    pub(super) label: Label,
    /// The test function that contains the citation, if any.
    pub(super) test: Option<String>,
    /// True for a row of a table in a comment: an overview of other places.
    pub(super) is_overview: bool,
    /// True inside a test or a module of tests.
    pub(super) is_in_tests: bool,
}

/// The citations of rules in a Rust file.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) citations: Vec<Citation>,
    /// Modules in other files that are compiled for tests only.
    pub(super) test_modules: Vec<String>,
}

impl Source {
    /// Reads comments, names of tests, and messages that begin with a label (`"N8: …"`). `is_test`
    /// is true if the whole file consists of tests.
    pub(super) fn read(text: &str, is_test: bool) -> Self {
        let mut source = Self::default();
        // Comments and attributes above a function belong to it.
        let mut above: Vec<(Label, bool)> = Vec::new();
        let mut is_test_function = false;
        let mut is_for_tests = false;
        // The function and the module that contain the line, and the indentation at which they end.
        let mut test: Option<(String, usize)> = None;
        let mut module: Option<usize> = is_test.then_some(usize::MAX);
        for line in text.lines() {
            let code = line.trim_start();
            let indentation = line.len() - code.len();
            let is_overview = code.starts_with("/// |") || code.starts_with("//! |");
            let labels = labels_in(code).into_iter().map(|label| (label, is_overview));
            if code.starts_with("///") {
                above.extend(labels);
                continue;
            }
            if code.starts_with("#[") {
                is_test_function |= code == "#[test]";
                is_for_tests |= code == "#[cfg(test)]";
                continue;
            }
            if let Some(name) = function(code)
                && is_test_function
            {
                let named = Label::of_test(name).map(|label| (label, false));
                let new = above.drain(..).chain(named).map(|(label, is_overview)| Citation {
                    label,
                    is_overview,
                    test: Some(name.to_owned()),
                    is_in_tests: true,
                });
                source.citations.extend(new);
                test = Some((name.to_owned(), indentation));
            }
            if is_for_tests && let Some(name) = code.strip_prefix("mod ") {
                match name.strip_suffix(';') {
                    Some(name) => source.test_modules.push(name.to_owned()),
                    None => module = Some(indentation),
                }
            }
            let is_in_tests = test.is_some() || module.is_some();
            source.citations.extend(above.drain(..).chain(labels).map(|(label, is_overview)| {
                Citation {
                    label,
                    is_overview,
                    test: test.as_ref().map(|(name, _)| name.clone()),
                    is_in_tests,
                }
            }));
            if code == "}" {
                test = test.filter(|(_, begun)| *begun != indentation);
                module = module.filter(|begun| *begun != indentation);
            }
            (is_test_function, is_for_tests) = (false, false);
        }
        source
    }
}

/// Returns the name of a function that begins on this line.
fn function(code: &str) -> Option<&str> {
    let code = code.strip_prefix("pub ").unwrap_or(code);
    let code = code.strip_prefix("async ").unwrap_or(code).strip_prefix("fn ")?;
    code.split(['(', '<']).next()
}

/// Returns the labels in the comment of a line, and those at the beginning of a message.
fn labels_in(line: &str) -> Vec<Label> {
    if let Some(at) = line.find("//") {
        return Label::all_in(&line[at..]);
    }
    let messages = line.split('"').skip(1).step_by(2);
    let label = |message: &str| message.split_once(": ").and_then(|(label, _)| label.parse().ok());
    messages.filter_map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_tests_are_told_apart() {
        let text = "\
//! The log (rule L3).

/// Rule B4.
fn base() {
    check(\"N8: {index} is not durable\");
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    /// Of rule B6.
    #[test]
    fn v4_forks() {
        // And P2.
    }

    // Rule P1.
    fn helper() {}
}

// Rule N1.
";
        let source = Source::read(text, false);
        let found = source.citations.iter().map(|found| {
            let test = found.test.as_deref().unwrap_or("-");
            format!("{} {test} {}", found.label, found.is_in_tests)
        });
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                "L3 - false",
                "B4 - false",
                "N8 - false",
                "B6 v4_forks true",
                "V4 v4_forks true",
                "P2 v4_forks true",
                "P1 - true",
                "N1 - false",
            ]
        );
        assert_eq!(source.test_modules, ["hostile"]);
    }
}
