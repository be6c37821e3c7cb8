use tracing::{Level, Span, info_span, span_enabled};

/// The target of the spans that make a trace of a request: of `tracing`'s, only these go to a collector, and no log shows
/// them. They are made for requests that are traced, and for no other.
pub const TRACE: &str = "orlop::trace";

/// The span of the traced request that the caller works for; `None` where it works for none. Where traces are off this is
/// one look at a flag.
pub fn traced() -> Option<Span> {
    if !span_enabled!(target: TRACE, Level::INFO) {
        return None;
    }
    let span = Span::current();
    let is_traced = span.metadata().is_some_and(|metadata| metadata.target() == TRACE);
    is_traced.then_some(span)
}

/// A span for a step of the work for a traced request; none where [`traced`] is.
pub fn step(name: &'static str) -> Span {
    match traced() {
        Some(request) => info_span!(target: TRACE, parent: &request, "step", otel.name = name),
        None => Span::none(),
    }
}
