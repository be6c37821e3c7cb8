//! The rules of the house that no other tool checks: file sizes, leftovers, machine paths, the first line of every crate,
//! and the links and the table of contents of the documentation.

mod files;
mod links;
mod rules;

use crate::context::Context;

/// Checks all files and reports every breach at once.
pub(crate) fn run(context: &Context) -> Result<(), String> {
    let files = files::read(&context.root)?;
    let mut problems: Vec<String> = files.iter().flat_map(rules::text).collect();
    problems.extend(links::check(&files, &context.root));
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{} problems:\n{}", problems.len(), problems.join("\n")))
}
