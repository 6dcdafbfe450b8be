//! What was said and is kept until the peer has it: what a session says again when its connection was cut. Pure; no I/O.
//!
//! The peer says how many messages it has received, of each lane, since the session began. As many are forgotten here, and
//! the others are what it lacks: messages arrive in the order of their lane.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::frame::{LANES, Lane, Message};

/// How many messages were received since a session began, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// On the control lane, without what the session says of its own.
    pub control: u64,
    /// On the bulk lane.
    pub bulk: u64,
}

impl Received {
    pub(super) fn of(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Control => self.control,
            Lane::Bulk => self.bulk,
        }
    }

    pub(super) fn count(&mut self, lane: Lane) {
        match lane {
            Lane::Control => self.control += 1,
            Lane::Bulk => self.bulk += 1,
        }
    }
}

/// What a peer says to have received cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceivedError {
    /// Nobody said so many.
    #[error("it claims to have received {claimed} messages of the {lane:?} lane, of {said} that were said")]
    NotSaid {
        /// The lane.
        lane: Lane,
        /// What the peer claims.
        claimed: u64,
        /// What was said.
        said: u64,
    },
    /// It had more before; they are forgotten and cannot be said again.
    #[error("it claims to have received {claimed} messages of the {lane:?} lane, and {before} before")]
    Fewer {
        /// The lane.
        lane: Lane,
        /// What the peer claims.
        claimed: u64,
        /// What it claimed before.
        before: u64,
    },
}

/// What was said and the peer is not known to have.
#[derive(Debug, Default)]
pub(super) struct Retained {
    lanes: [Queue; 2],
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    /// How many came before these.
    forgotten: u64,
}

impl Retained {
    /// Keeps a message that is said now.
    pub(super) fn keep(&mut self, lane: Lane, message: Message) {
        let queue = &mut self.lanes[lane as usize];
        queue.bytes += message.bytes();
        queue.messages.push_back(message);
    }

    /// Forgets what the peer has.
    ///
    /// # Errors
    /// If that cannot be; then nothing is forgotten.
    pub(super) fn forget(&mut self, received: Received) -> Result<(), ReceivedError> {
        for lane in LANES {
            let (queue, claimed) = (&self.lanes[lane as usize], received.of(lane));
            let (before, said) = (queue.forgotten, queue.forgotten + queue.messages.len() as u64);
            if claimed > said {
                return Err(ReceivedError::NotSaid { lane, claimed, said });
            }
            if claimed < before {
                return Err(ReceivedError::Fewer { lane, claimed, before });
            }
        }
        for lane in LANES {
            self.lanes[lane as usize].forget(received.of(lane));
        }
        Ok(())
    }

    /// Returns what the peer is not known to have, in the order of each lane.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Lane, &Message)> {
        LANES.into_iter().flat_map(|lane| self.lanes[lane as usize].messages.iter().map(move |message| (lane, message)))
    }

    /// Returns how many bytes are kept of a lane.
    pub(super) fn bytes(&self, lane: Lane) -> usize {
        self.lanes[lane as usize].bytes
    }
}

impl Queue {
    fn forget(&mut self, received: u64) {
        // It was checked that there are as many.
        for message in self.messages.drain(..(received - self.forgotten) as usize) {
            self.bytes -= message.bytes();
        }
        self.forgotten = received;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn message(n: u64) -> Message {
        Message { header: Bytes::from(n.to_le_bytes().to_vec()), buffers: vec![Bytes::from(vec![1; n as usize % 50])] }
    }

    fn said(retained: &Retained, lane: Lane) -> Vec<Message> {
        retained.iter().filter(|(of, _)| *of == lane).map(|(_, message)| message.clone()).collect()
    }

    proptest! {
        #[test]
        fn what_the_peer_has_is_forgotten_and_the_rest_is_kept_in_order(
            steps in prop::collection::vec((0..3_u8, 0..20_u64), 0..60),
        ) {
            let (mut retained, mut has, mut lanes) = (Retained::default(), Received::default(), [Vec::new(), Vec::new()]);
            for (step, n) in steps {
                if step < 2 {
                    let lane = LANES[usize::from(step)];
                    lanes[lane as usize].push(message(n));
                    retained.keep(lane, message(n));
                } else {
                    has.control = (has.control + n).min(lanes[0].len() as u64);
                    has.bulk = (has.bulk + n / 2).min(lanes[1].len() as u64);
                    prop_assert_eq!(retained.forget(has), Ok(()));
                }
                for lane in LANES {
                    let lacks = &lanes[lane as usize][has.of(lane) as usize..];
                    prop_assert_eq!(&said(&retained, lane)[..], lacks);
                    prop_assert_eq!(retained.bytes(lane), lacks.iter().map(Message::bytes).sum::<usize>());
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_is_an_error_and_forgets_nothing() {
        let mut retained = Retained::default();
        for n in 0..4 {
            retained.keep(Lane::Control, message(n));
            retained.keep(Lane::Bulk, message(n));
        }
        retained.forget(Received { control: 1, bulk: 2 }).unwrap();
        let cases = [
            (3, 5, "it claims to have received 5 messages of the Bulk lane, of 4 that were said"),
            (
                u64::MAX,
                2,
                "it claims to have received 18446744073709551615 messages of the Control lane, of 4 that were said",
            ),
            (3, 1, "it claims to have received 1 messages of the Bulk lane, and 2 before"),
            (0, 4, "it claims to have received 0 messages of the Control lane, and 1 before"),
        ];
        for (control, bulk, expected) in cases {
            let refused = retained.forget(Received { control, bulk }).unwrap_err();
            assert_eq!(refused.to_string(), expected);
            assert_eq!((said(&retained, Lane::Control).len(), said(&retained, Lane::Bulk).len()), (3, 2));
        }
    }
}
