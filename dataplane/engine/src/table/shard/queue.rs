//! The half-open sessions, oldest first: a queue of a fixed size, whose memory is touched when it is made, so
//! that no worker waits for a page. What finds it full stays outside.

use super::Slot;

/// A slot and the lower half of its version, which tells its tenant from the next one.
pub(super) type HalfOpen = (Slot, u32);

pub(super) struct Queue {
    places: Box<[HalfOpen]>,
    first: usize,
    len: usize,
}

impl Queue {
    pub fn new(places: usize) -> Self {
        // Not zeros, which the allocator would not write.
        Self { places: vec![(Slot(u32::MAX), 0); places].into(), first: 0, len: 0 }
    }

    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len == self.places.len()
    }

    /// Appends; nothing happens if the queue is full.
    #[inline(always)]
    pub fn push(&mut self, session: HalfOpen) {
        let places = self.places.len();
        if self.len == places {
            return;
        }
        let at = self.first + self.len;
        if let Some(place) = self.places.get_mut(if at >= places { at - places } else { at }) {
            *place = session;
            self.len += 1;
        }
    }

    /// The oldest one.
    pub fn pop(&mut self) -> Option<HalfOpen> {
        if self.len == 0 {
            return None;
        }
        let session = self.places.get(self.first).copied()?;
        self.first = if self.first + 1 == self.places.len() { 0 } else { self.first + 1 };
        self.len -= 1;
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn it_is_a_queue_that_takes_no_more_than_it_has_places() {
        let (mut queue, mut model) = (Queue::new(5), VecDeque::new());
        for n in 0..200_u32 {
            let session = (Slot(n), n);
            queue.push(session);
            if model.len() < 5 {
                model.push_back(session);
            }
            if n % 3 == 0 || (50..60).contains(&n) {
                assert_eq!(queue.pop(), model.pop_front());
            }
            assert_eq!(queue.is_full(), model.len() == 5);
        }
        while let Some(session) = model.pop_front() {
            assert_eq!(queue.pop(), Some(session));
        }
        assert_eq!(queue.pop(), None);
    }
}
