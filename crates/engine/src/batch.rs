use bytes::Bytes;

/// Writes that are applied all together or not at all. Each key occurs at most once.
///
/// An engine may find out what became of a batch whose outcome is unclear by what the key of its first insert holds. So
/// nobody may delete or overwrite that record who does not know the outcome of its batch. The next slot of a log has this
/// property, and so has the identity of a store. Of a batch without an insert, an unclear outcome may stay unclear.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The writes; their order matters only in which insert is the first.
    pub writes: Vec<Write>,
    /// What the batch is for, which decides what it may still do on a full disk.
    pub class: BatchClass,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Creates or overwrites a record.
    Put(Bytes, Bytes),
    /// Creates a record that must not exist: if it does, the whole batch fails with `Conflict`.
    Insert(Bytes, Bytes),
    /// Deletes a record; one that does not exist is no error.
    Delete(Bytes),
}

/// What a batch is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchClass {
    /// New data: refused when the disk is full.
    #[default]
    Normal,
    /// Frees space (deletions, compaction) or keeps the store alive (leases): may use the engine's reserve, so
    /// that a full disk can be emptied.
    Reclaim,
}

impl Batch {
    /// A batch of new data.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a put.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.writes.push(Write::Put(key.into(), value.into()));
    }

    /// Adds an insert.
    pub fn insert(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.writes.push(Write::Insert(key.into(), value.into()));
    }

    /// Adds a deletion.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.writes.push(Write::Delete(key.into()));
    }
}

impl Write {
    /// The key that the write is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Write::Put(key, _) | Write::Insert(key, _) | Write::Delete(key) => key,
        }
    }
}
