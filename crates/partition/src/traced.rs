use base::TRACE;
use model::Revision;
use tracing::{Span, info_span};

/// The spans of one transaction whose request is traced: of the request itself, and of the step that the transaction is
/// in. Of those that are not traced there is none.
pub(crate) struct Traced {
    request: Span,
    step: Span,
}

/// What becomes of a transaction, one after the other, when it has waited for its turn.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    Evaluate,
    /// Together with all that this batch has.
    Commit {
        txns: usize,
        revision: Revision,
    },
    Publish,
}

impl Traced {
    /// A transaction begins to wait for its turn; `None` where the request is not traced.
    pub(crate) fn queue() -> Option<Box<Traced>> {
        let request = base::traced()?;
        let step = info_span!(target: TRACE, parent: &request, "queue");
        Some(Box::new(Traced { request, step }))
    }

    /// The step before ends, and this one begins.
    pub(crate) fn begin(&mut self, step: Step) {
        // Before the next one begins, not after.
        self.step = Span::none();
        let request = &self.request;
        self.step = match step {
            Step::Evaluate => info_span!(target: TRACE, parent: request, "evaluate"),
            Step::Commit { txns, revision } => info_span!(
                target: TRACE,
                parent: request,
                "engine.commit",
                transactions = txns,
                revision = revision.get()
            ),
            Step::Publish => info_span!(target: TRACE, parent: request, "publish"),
        };
    }

    /// The span of the request.
    pub(crate) fn request(&self) -> &Span {
        &self.request
    }
}
