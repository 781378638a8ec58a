//! The responses of a call, which wait for the client's windows.

use crate::grammar::Action;

/// The rest of a response.
#[derive(Debug, Default)]
pub struct Outgoing {
    started: bool,
    left: usize,
    end: bool,
    trailers: bool,
    /// Whether END_STREAM is sent.
    pub done: bool,
}

/// The next frame of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// As many of these bytes as possible; all of them end the response if the flag is set.
    Data(usize, bool),
    Trailers,
    Nothing,
}

impl Outgoing {
    /// Plans an action. Returns whether it is possible.
    pub fn plan(&mut self, action: Action) -> bool {
        let open = self.started && !self.end && !self.trailers;
        match action {
            Action::Headers(end) => {
                if std::mem::replace(&mut self.started, true) {
                    return false;
                }
                (self.end, self.done) = (end, end);
            }
            Action::Data(length, end) if open => {
                self.left += length;
                self.end = end;
            }
            Action::Trailers if open => self.trailers = true,
            Action::Data(..) | Action::Trailers => return false,
            Action::Reset(_) | Action::Drop => {}
        }
        true
    }

    pub fn next(&self) -> Next {
        match self.left {
            _ if self.done => Next::Nothing,
            0 if self.trailers => Next::Trailers,
            0 if !self.end => Next::Nothing,
            left => Next::Data(left, self.end),
        }
    }

    /// Records the DATA that was sent. Returns whether it ends the response.
    pub fn sent_data(&mut self, length: usize) -> bool {
        self.left -= length;
        self.done = self.end && self.left == 0;
        self.done
    }
}
