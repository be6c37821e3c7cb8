//! Answers that may be as large as what is asked for.

use prost::Message;
use tonic::{Response, Status};

use crate::clients::AnswerBytes;

/// The largest answer that is sent in one message: HTTP/2 here takes no more at once (2 GiB less 1, of which 5 bytes
/// are gRPC's), and a client in Go no more either.
const ANSWER_BYTES_MAX: usize = i32::MAX as usize - 5;

/// The answer, or the error with Go's text for one that cannot be sent; without it the client would only see its call
/// cancelled. Told before the answer is encoded, so that no second copy of it is made.
pub(super) fn sendable<M: Message>(answer: M) -> Result<Response<M>, Status> {
    within(ANSWER_BYTES_MAX, answer)
}

fn within<M: Message>(bytes_max: usize, answer: M) -> Result<Response<M>, Status> {
    let length = answer.encoded_len();
    if length > bytes_max {
        let text = format!("grpc: trying to send message larger than max ({length} vs. {bytes_max})");
        return Err(Status::resource_exhausted(text));
    }
    let mut response = Response::new(answer);
    // Counted against the client from now on, not only once it is encoded.
    response.extensions_mut().insert(AnswerBytes(length));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::spliced::RangeResponse;
    use tonic::Code;

    use super::*;

    #[test]
    fn an_answer_that_cannot_be_sent_is_an_error_in_gos_words() {
        let answer = RangeResponse { kvs: vec![Bytes::from_static(&[0; 96])], ..Default::default() };
        assert_eq!(within(98, answer.clone()).unwrap().into_inner(), answer);
        let refused = within(97, answer).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.message(), "grpc: trying to send message larger than max (98 vs. 97)");
    }
}
