use super::Config;

/// One thing that can be set. Nothing about it is said anywhere else.
pub(crate) struct Setting {
    /// The flag without its dashes, and the key in a file.
    pub(crate) name: &'static str,
    /// What the value is, in one word.
    pub(crate) value: &'static str,
    /// The value of a setting that is not set.
    pub(crate) default: &'static str,
    /// Where the setting comes from.
    pub(crate) family: Family,
    /// What it is, on one line.
    pub(crate) summary: &'static str,
    /// What to know before changing it: unit, bounds, and what one gets and pays.
    pub(crate) detail: &'static str,
    /// Reads a value into the configuration, or says what was expected instead.
    pub(crate) set: fn(&mut Config, &str) -> Result<(), String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// A flag of etcd, with etcd's meaning.
    Etcd,
    /// One that only Orlop has.
    Own,
}

impl Setting {
    /// The setting's environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("{}{}", VARIABLE_PREFIX, self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The setting's flag.
    pub(crate) fn flag(&self) -> String {
        format!("--{}", self.name)
    }
}

/// The value of a setting that is on or off; a flag without a value is `true`, as with etcd.
pub(crate) const SWITCH: &str = "BOOL";

/// What the names of all environment variables begin with.
pub(crate) const VARIABLE_PREFIX: &str = "ORLOP_";
