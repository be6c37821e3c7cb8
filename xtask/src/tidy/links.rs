//! The links of the documentation: each leads to a file that exists, and to a heading that is in it; and every page of the
//! book is in its table of contents.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::files::File;

/// Where the pages of the book are, and its table of contents.
const BOOK: &str = "docs";
const CONTENTS: &str = "docs/SUMMARY.md";

/// The breaches in all files.
pub(super) fn check(files: &[File], root: &Path) -> Vec<String> {
    let pages: BTreeMap<&Path, &File> =
        files.iter().filter(|file| is_page(&file.path)).map(|file| (file.path.as_path(), file)).collect();
    let mut problems: Vec<String> = pages.values().flat_map(|page| broken(page, &pages, root)).collect();
    problems.extend(not_in_the_book(&pages));
    problems
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Relative links of a page whose file or heading does not exist.
fn broken(page: &File, pages: &BTreeMap<&Path, &File>, root: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let dir = page.path.parent().unwrap_or(Path::new(""));
    for (index, line) in outside_of_code(&page.text) {
        for target in links(line).into_iter().filter(|target| !target.contains(':')) {
            let at = format!("{}:{}", page.path.display(), index + 1);
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.path.clone() } else { normal(&dir.join(file)) };
            if !root.join(&path).exists() {
                problems.push(format!("{at}: no such file: {target}"));
            } else if let (false, Some(page)) = (heading.is_empty(), pages.get(path.as_path()))
                && !anchors(&page.text).iter().any(|anchor| anchor == heading)
            {
                problems.push(format!("{at}: no such heading: {target}"));
            }
        }
    }
    problems
}

/// Pages of the book that its table of contents does not have.
fn not_in_the_book(pages: &BTreeMap<&Path, &File>) -> Vec<String> {
    let Some(contents) = pages.get(Path::new(CONTENTS)) else { return Vec::new() };
    let listed: Vec<PathBuf> =
        contents.text.lines().flat_map(links).map(|target| Path::new(BOOK).join(target)).collect();
    let missing = pages.keys().filter(|path| path.starts_with(BOOK) && **path != Path::new(CONTENTS));
    missing
        .filter(|path| !listed.iter().any(|listed| listed == **path))
        .map(|path| format!("{}: is not in {CONTENTS}: add it there", path.display()))
        .collect()
}

/// A path without `..`, as far as it stays below where it begins.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// The lines of a page that are not in a block of code, with their numbers from 0.
fn outside_of_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What the headings of a page are called in links, by the rule that forges and mdBook share: letters and digits in lower
/// case, a dash for a space, nothing for the rest; a number behind one that was there before.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let headings = outside_of_code(text).filter_map(|(_, line)| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len() && heading.starts_with(' ')).then(|| heading.trim())
    });
    for heading in headings {
        let anchor: String = shown(heading)
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            })
            .flat_map(char::to_lowercase)
            .collect();
        let before = anchors.iter().filter(|other| **other == anchor).count();
        anchors.push(anchor.clone());
        if before > 0 {
            anchors.push(format!("{anchor}-{before}"));
        }
    }
    anchors
}

/// A heading without the targets of its links.
fn shown(heading: &str) -> String {
    let mut shown = heading.to_owned();
    while let Some(at) = shown.find("](")
        && let Some(end) = shown[at..].find(')')
    {
        shown.replace_range(at..=at + end, "");
    }
    shown
}

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> Vec<&str> {
    line.match_indices("](")
        .filter_map(|(at, open)| {
            let rest = &line[at + open.len()..];
            rest.split_once(')').map(|(target, _)| target.split_whitespace().next().unwrap_or_default())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: PathBuf::from(path), text: text.to_owned() }
    }

    fn check_in(files: &[File]) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for file in files {
            let path = dir.path().join(&file.path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
            fs::write(path, &file.text).expect("the file");
        }
        check(files, dir.path())
    }

    #[test]
    fn files_and_headings_that_are_linked_must_exist() {
        let index = "# Top\n[a](there.md) [b](there.md#a-part-of-it) [c](#top) [d](https://example.org)\n\
                     [e](gone.md)\n[f](there.md#gone) [g](#gone)\n```\n[h](gone.md)\n```\n";
        let there = "## A `part`, of [it](index.md)\n```sh\n# gone\n```\n";
        assert_eq!(
            check_in(&[file("docs/index.md", index), file("docs/there.md", there)]),
            [
                "docs/index.md:3: no such file: gone.md",
                "docs/index.md:4: no such heading: there.md#gone",
                "docs/index.md:4: no such heading: #gone",
            ]
        );
    }

    #[test]
    fn a_heading_that_is_there_twice_has_a_number() {
        assert_eq!(anchors("## Back up\n# Back up\n"), ["back-up", "back-up", "back-up-1"]);
        assert_eq!(anchors("### `--data-dir DIR`\n"), ["--data-dir-dir"]);
    }

    #[test]
    fn every_page_is_in_the_table_of_contents() {
        let contents = file("docs/SUMMARY.md", "- [a](a.md)\n- [b](sub/b.md)\n");
        let files = [
            contents,
            file("README.md", ""),
            file("docs/a.md", ""),
            file("docs/sub/b.md", ""),
            file("docs/sub/c.md", ""),
        ];
        assert_eq!(check_in(&files), ["docs/sub/c.md: is not in docs/SUMMARY.md: add it there"]);
    }
}
