//! Inputs that come in pieces.

/// Cuts `bytes` into pieces of the lengths that `lengths` says, over and over; a length of zero is a piece of nothing.
pub(crate) fn pieces<'b>(bytes: &'b [u8], lengths: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    // An empty piece brings nobody forward: after each round comes one that does.
    let lengths = lengths.iter().map(|&len| usize::from(len)).chain([1]);
    for len in std::iter::repeat_with(|| lengths.clone()).flatten() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Splits an input into the lengths of pieces (at most 8, their number first) and what is cut.
pub(crate) fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((&count, rest)) = input.split_first() else { return (&[], &[]) };
    rest.split_at(usize::from(count % 9).min(rest.len()))
}
