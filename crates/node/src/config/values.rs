use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Text that is not empty.
pub(crate) fn text(value: &str) -> Result<&str, String> {
    if value.trim().is_empty() { Err("expected some text".to_owned()) } else { Ok(value) }
}

/// A whole number within bounds.
pub(crate) fn number<T>(value: &str, bounds: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    match value.trim().parse::<T>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number from {} to {}", bounds.start(), bounds.end())),
    }
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(value.trim()));
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        format!("expected one of: {}", words.join(", "))
    })
}
