//! The rules of the house that no other tool checks: file sizes, leftovers, machine paths, the first line of every crate,
//! and the links of the documentation.

mod files;
mod rules;

use crate::context::Context;

/// Checks all files and reports every breach at once.
pub(crate) fn run(context: &Context) -> Result<(), String> {
    let files = files::read(&context.root)?;
    let problems: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let mut problems = rules::text(file);
            problems.extend(rules::broken_links(file, &context.root));
            problems
        })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{} problems:\n{}", problems.len(), problems.join("\n")))
}
