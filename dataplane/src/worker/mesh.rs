//! The rings between workers: one for each ordered pair, single producer, single consumer.

use dpdk::Mbuf;
use engine::PortId;
use rtrb::{Consumer, Producer, RingBuffer};

/// A frame on its way to another worker.
pub struct Handed {
    /// The port that it came in by, or is to leave by.
    pub port: PortId,
    /// The frame.
    pub frame: Mbuf,
}

/// One worker's ends of the rings.
pub struct MeshEnds {
    /// By receiving worker; nothing in its own place.
    pub to: Vec<Option<Producer<Handed>>>,
    /// By sending worker, itself left out.
    pub from: Vec<Consumer<Handed>>,
}

/// Rings of `places` from each of `workers` to each other.
pub fn mesh(workers: usize, places: usize) -> Vec<MeshEnds> {
    let empty = |_| MeshEnds { to: (0..workers).map(|_| None).collect(), from: Vec::new() };
    let mut ends: Vec<MeshEnds> = (0..workers).map(empty).collect();
    for sender in 0..workers {
        for receiver in (0..workers).filter(|receiver| *receiver != sender) {
            let (producer, consumer) = RingBuffer::new(places);
            if let Some(place) = ends.get_mut(sender).and_then(|ends| ends.to.get_mut(receiver)) {
                *place = Some(producer);
            }
            if let Some(ends) = ends.get_mut(receiver) {
                ends.from.push(consumer);
            }
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_reaches_every_other_one_and_not_itself() {
        for workers in 0..5 {
            let ends = mesh(workers, 8);
            assert_eq!(ends.len(), workers);
            for (me, ends) in ends.iter().enumerate() {
                assert_eq!(ends.from.len(), workers - 1);
                for (other, ring) in ends.to.iter().enumerate() {
                    assert_eq!(ring.is_some(), other != me);
                }
            }
        }
    }
}
