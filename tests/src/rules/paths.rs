use std::collections::BTreeSet;
use std::path::Path;

/// All files and folders of a repository; checks that the paths in its documentation exist.
///
/// A mention is one of these:
/// - a word that begins with a folder at the top of the repository and a slash, as in
///   `tests/simulate --seeds 5`; a star, or a word in capitals such as `NAME`, stands for any text
///   inside a name;
/// - a bare name of a Rust file in backticks; the file may be in any folder;
/// - the target of a link to a file;
/// - a line of a code block that shows the tree; its first line names a file or folder at the top
///   of the repository. Each line begins with a path, relative to the last line with less
///   indentation.
#[derive(Clone, Debug)]
pub(super) struct Paths(BTreeSet<String>);

impl Paths {
    /// Creates the set from the paths of all files in the repository.
    pub(super) fn new<'a>(files: impl IntoIterator<Item = &'a str>) -> Self {
        let mut paths = BTreeSet::new();
        for file in files {
            paths.insert(file.to_owned());
            let parents = file.match_indices('/').map(|(at, _)| file[..at].to_owned());
            paths.extend(parents);
        }
        Self(paths)
    }

    /// Returns the paths that a document, itself at `document`, mentions and that do not exist.
    pub(super) fn missing(&self, document: &str, text: &str) -> Vec<String> {
        let mut missing = Vec::new();
        let mut tree: Option<Vec<(usize, String)>> = None;
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.starts_with("```") {
                let word = lines.peek().and_then(|next| next.split_whitespace().next());
                let is_tree = tree.is_none() && word.is_some_and(|word| self.is_at_top(word));
                tree = is_tree.then(Vec::new);
            } else if let Some(above) = &mut tree {
                missing.extend(self.missing_in_tree(above, line));
            } else {
                let mentions = self.words(line).chain(files(line)).chain(links(document, line));
                missing.extend(mentions.filter(|path| !self.has(path)));
            }
        }
        missing
    }

    fn is_at_top(&self, word: &str) -> bool {
        self.0.contains(word.trim_end_matches('/'))
    }

    fn words<'a>(&'a self, line: &'a str) -> impl Iterator<Item = String> + 'a {
        let is_part = |c: char| c.is_alphanumeric() || "_-./*".contains(c);
        line.split(move |c| !is_part(c)).filter_map(|word| {
            let (top, rest) = word.split_once('/')?;
            let is_path = self.0.contains(top) && !rest.is_empty();
            is_path.then(|| word.trim_end_matches(['.', '/']).to_owned())
        })
    }

    fn missing_in_tree(&self, above: &mut Vec<(usize, String)>, line: &str) -> Option<String> {
        let name = line.split_whitespace().next()?;
        let indentation = line.len() - line.trim_start().len();
        // A continuation of the line before.
        if indentation > 8 {
            return None;
        }
        above.retain(|(other, _)| *other < indentation);
        let folder = above.last().map_or("", |(_, path)| path.as_str());
        let path = format!("{folder}{name}");
        let is_here = self.has(path.trim_end_matches('/'));
        above.push((indentation, path.clone()));
        (!is_here).then_some(path)
    }

    fn has(&self, path: &str) -> bool {
        let at_top = path.strip_prefix("./").unwrap_or(path);
        // Tests create `tests/out`.
        if self.0.contains(at_top) || path.starts_with("tests/out") {
            return true;
        }
        if !path.contains('/') {
            let name = format!("/{path}");
            return self.0.iter().any(|other| other.ends_with(&name));
        }
        let pattern = pattern(path);
        pattern.contains('*') && self.0.iter().any(|other| matches(&pattern, other))
    }
}

/// Returns the bare names of Rust files in backticks.
fn files(line: &str) -> impl Iterator<Item = String> + '_ {
    let quoted = line.split('`').skip(1).step_by(2);
    let is_file = |word: &&str| word.ends_with(".rs") && !word.contains(['/', ' ', '*']);
    quoted.filter(is_file).map(str::to_owned)
}

/// Returns the targets of links to files, by their paths in the repository.
fn links<'a>(document: &'a str, line: &'a str) -> impl Iterator<Item = String> + 'a {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let is_file = |target: &&str| !target.is_empty() && !target.contains(':');
    targets.filter(is_file).map(|target| {
        let folder = Path::new(document).parent().unwrap_or(Path::new(""));
        let mut path: Vec<_> = folder.iter().filter_map(|part| part.to_str()).collect();
        for part in target.trim_end_matches('/').split('/') {
            match part {
                ".." => drop(path.pop()),
                "." => {}
                part => path.push(part),
            }
        }
        // The prefix distinguishes a file at the top from a bare name, which may be in any folder.
        if path.len() == 1 { format!("./{}", path[0]) } else { path.join("/") }
    })
}

/// Replaces words in capitals, such as `NAME`, with stars.
fn pattern(path: &str) -> String {
    let mut pattern = String::new();
    let mut capitals = String::new();
    for c in path.chars().chain(['\0']) {
        if c.is_ascii_uppercase() {
            capitals.push(c);
            continue;
        }
        pattern.push_str(if capitals.len() > 1 { "*" } else { &capitals });
        capitals.clear();
        pattern.push(c);
    }
    pattern.trim_end_matches('\0').to_owned()
}

/// Returns true if a path matches a pattern, in which a star matches any text without slashes.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((begin, rest)) => path.strip_prefix(begin).is_some_and(|path| {
            let ends = path.find('/').unwrap_or(path.len());
            (0..=ends).any(|at| path.is_char_boundary(at) && matches(rest, &path[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let files =
            ["Cargo.toml", "docs/a.md", "tests/run", "core/src/log/mod.rs", "core/src/io.rs"];
        Paths::new(files).missing("docs/b.md", text)
    }

    #[test]
    fn words_that_begin_with_a_folder_at_the_top_are_paths() {
        assert!(missing("`tests/run --all`, tests/*, core/src/NAME.rs. core/src/log/").is_empty());
        assert_eq!(missing("`tests/walk`; core/NAME.rs"), ["tests/walk", "core/NAME.rs"]);
        assert!(missing("and/or `foo/bar`, /core/x of target/x").is_empty());
    }

    #[test]
    fn files_and_links_are_looked_up() {
        assert!(missing("`io.rs` [a](a.md#top) [run](../tests/run) [x](https://x.org)").is_empty());
        assert_eq!(missing("`oi.rs` [c](c.md)"), ["oi.rs", "docs/c.md"]);
        assert!(missing("[manifest](../Cargo.toml)").is_empty());
        assert_eq!(missing("[manifest](../Cargo.lock)"), ["./Cargo.lock"]);
    }

    #[test]
    fn each_line_of_a_tree_is_below_the_last_with_less_indentation() {
        let tree = "```\ncore/  the library\n  src/log/  the log\n                and more\n  src/oi.rs\ntests/\n```";
        assert_eq!(missing(tree), ["core/src/oi.rs"]);
        assert!(missing("```\nsomething else\n  src/oi.rs\n```").is_empty());
    }
}
