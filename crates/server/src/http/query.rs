/// The query of a request, as it stands in the URL: no name or value that is known here needs escaping.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(pub(super) &'a str);

impl<'a> Query<'a> {
    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Every value of a name.
    pub(super) fn all(self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Whether the name is there, with or without a value.
    pub(super) fn has(self, name: &'a str) -> bool {
        self.all(name).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_come_often_and_without_values() {
        let query = Query("verbose&exclude=NOSPACE&exclude=CORRUPT&serializable=true");
        assert!(query.has("verbose") && !query.has("verb"));
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["NOSPACE", "CORRUPT"]);
        assert_eq!(query.all("serializable").next(), Some("true"));
    }
}
