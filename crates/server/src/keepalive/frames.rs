/// Whose frames they are: a client's begin with the connection preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    FromClient,
    FromServer,
}

/// What a frame is to the one who counts pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A question whether the connection lives.
    Ping,
    /// Headers or data: part of a call or an answer.
    Useful,
    /// Anything else.
    Other,
}

/// Follows one direction of a connection from frame to frame (RFC 9113, sections 3.4 and 4.1), whatever pieces its
/// bytes come in. Costs nine bytes of copying a frame.
#[derive(Debug)]
pub(crate) struct Frames {
    position: Position,
    header: [u8; HEADER_LEN],
}

#[derive(Clone, Copy, Debug)]
enum Position {
    /// So many bytes of the preface have passed.
    Preface(usize),
    /// So many bytes of a frame's header have passed.
    Header(usize),
    /// So many bytes of a frame's payload are to come.
    Payload(usize),
    /// This is no HTTP/2: there is nothing to follow.
    Lost,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_LEN: usize = 9;
const TYPE_DATA: u8 = 0;
const TYPE_HEADERS: u8 = 1;
const TYPE_PING: u8 = 6;
const FLAG_ACK: u8 = 1;

impl Frames {
    pub(crate) fn new(direction: Direction) -> Frames {
        let position = match direction {
            Direction::FromClient => Position::Preface(0),
            Direction::FromServer => Position::Header(0),
        };
        Frames { position, header: [0; HEADER_LEN] }
    }

    /// Whether the last frame has passed whole and the next has not begun.
    pub(crate) fn is_between_frames(&self) -> bool {
        matches!(self.position, Position::Header(0))
    }

    /// Shows each frame whose header is complete with `bytes`.
    pub(crate) fn pass(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            let taken = match self.position {
                Position::Lost => return,
                Position::Preface(passed) => self.preface(passed, bytes),
                Position::Header(passed) => self.header(passed, bytes, &mut seen),
                Position::Payload(left) => {
                    let taken = left.min(bytes.len());
                    self.position = after_payload(left - taken);
                    taken
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    fn preface(&mut self, passed: usize, bytes: &[u8]) -> usize {
        let expected = PREFACE.get(passed..).unwrap_or_default();
        let taken = expected.len().min(bytes.len());
        self.position = match bytes.get(..taken) == expected.get(..taken) {
            false => Position::Lost,
            true if passed + taken == PREFACE.len() => Position::Header(0),
            true => Position::Preface(passed + taken),
        };
        taken
    }

    fn header(&mut self, passed: usize, bytes: &[u8], seen: &mut impl FnMut(Frame)) -> usize {
        let taken = (HEADER_LEN - passed).min(bytes.len());
        for (place, byte) in self.header.iter_mut().skip(passed).zip(bytes) {
            *place = *byte;
        }
        if passed + taken < HEADER_LEN {
            self.position = Position::Header(passed + taken);
            return taken;
        }
        let [high, middle, low, kind, flags, ..] = self.header;
        seen(match kind {
            TYPE_PING if flags & FLAG_ACK == 0 => Frame::Ping,
            TYPE_DATA | TYPE_HEADERS => Frame::Useful,
            _ => Frame::Other,
        });
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.position = after_payload(length as usize);
        taken
    }
}

fn after_payload(left: usize) -> Position {
    if left == 0 { Position::Header(0) } else { Position::Payload(left) }
}
