//! Streams: queues of work that is done when a call waits for it.
//!
//! Within a stream, work is done in order. Between streams only two rules order it: a wait for an event, and the legacy
//! default stream, which waits for what was given to blocking streams before, and for which these wait. Where more than
//! one stream could go on, the settings choose, so that a program that lacks an event can be made to show it.

use std::collections::{BTreeMap, VecDeque};

use super::work::Work;
use crate::launch::Order;
use crate::splitmix::SplitMix64;

/// The number of a stream; handles that the program gave are resolved before.
pub type StreamId = u64;

/// The legacy default stream.
pub const LEGACY: StreamId = 1;

/// A place in a stream: just behind the piece of work of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    stream: StreamId,
    number: u64,
}

#[derive(Debug)]
struct Stream {
    /// Each with its number. Numbers rise over all streams.
    queue: VecDeque<(u64, Work)>,
    blocking: bool,
    /// Its handle is gone, its work is not.
    destroyed: bool,
}

/// All streams, and which of them goes on.
#[derive(Debug)]
pub struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    pushed: u64,
    order: Order,
    random: SplitMix64,
}

impl Streams {
    /// The legacy default stream alone.
    #[must_use]
    pub fn new(order: Order) -> Self {
        let random = SplitMix64(if let Order::Seeded(seed) = order { seed } else { 0 });
        let mut streams = Self { streams: BTreeMap::new(), pushed: 0, order, random };
        streams.add(LEGACY, true);
        streams
    }

    /// A stream of this number, blocking if the legacy default stream orders its work.
    pub fn add(&mut self, id: StreamId, blocking: bool) {
        self.streams.insert(id, Stream { queue: VecDeque::new(), blocking, destroyed: false });
    }

    /// Whether there is such a stream.
    #[must_use]
    pub fn contains(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| !stream.destroyed)
    }

    /// Whether the legacy default stream orders its work.
    #[must_use]
    pub fn is_blocking(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| stream.blocking)
    }

    /// The stream's handle goes. Its work stays until it is done.
    pub fn destroy(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.destroyed = true;
            if stream.queue.is_empty() {
                self.streams.remove(&id);
            }
        }
    }

    /// Adds work, and answers its place.
    pub fn push(&mut self, id: StreamId, work: Work) -> Position {
        self.pushed += 1;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.queue.push_back((self.pushed, work));
        }
        Position { stream: id, number: self.pushed }
    }

    /// Whether work up to this place is left.
    #[must_use]
    pub fn is_pending(&self, position: Position) -> bool {
        self.head(position.stream).is_some_and(|number| number <= position.number)
    }

    /// Whether the stream has work.
    #[must_use]
    pub fn is_busy(&self, id: StreamId) -> bool {
        self.head(id).is_some()
    }

    /// How many pieces of work wait in all streams.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.streams.values().map(|stream| stream.queue.len()).sum()
    }

    /// Forgets all work.
    pub fn clear(&mut self) {
        for stream in self.streams.values_mut() {
            stream.queue.clear();
        }
        self.streams.retain(|_, stream| !stream.destroyed);
    }

    /// Takes the next piece of work from the stream that goes on; `None` if there is none.
    pub fn take(&mut self) -> Option<Work> {
        // Sorted by number, so that each choice is a place in the list.
        let mut ready: Vec<(u64, StreamId)> = self
            .streams
            .keys()
            .filter_map(|&id| Some((self.head(id)?, id)))
            .filter(|&head| self.may_go(head))
            .collect();
        ready.sort_unstable();
        let last = ready.len().checked_sub(1)?;
        let (_, id) = ready[match self.order {
            Order::Forward => 0,
            Order::Reversed => last,
            Order::Seeded(_) => self.random_below(ready.len()),
        }];
        let stream = self.streams.get_mut(&id)?;
        let (_, work) = stream.queue.pop_front()?;
        if stream.destroyed && stream.queue.is_empty() {
            self.streams.remove(&id);
        }
        Some(work)
    }

    /// A random number below `count`, which is not 0.
    pub(super) fn random_below(&mut self, count: usize) -> usize {
        self.random.below(count)
    }

    /// The number of the stream's next piece of work.
    fn head(&self, id: StreamId) -> Option<u64> {
        Some(self.streams.get(&id)?.queue.front()?.0)
    }

    /// Whether nothing holds back the next piece of work of a stream.
    fn may_go(&self, (number, id): (u64, StreamId)) -> bool {
        let stream = &self.streams[&id];
        if let Some((_, Work::Wait(position))) = stream.queue.front()
            && self.is_pending(*position)
        {
            return false;
        }
        if id == LEGACY {
            let earlier = |other: &Stream| other.queue.front().is_some_and(|(head, _)| *head < number);
            return !self.streams.iter().any(|(&other, s)| other != LEGACY && s.blocking && earlier(s));
        }
        !stream.blocking || self.head(LEGACY).is_none_or(|legacy| legacy > number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that is told apart by an address.
    fn free(address: u64) -> Work {
        Work::Free { address }
    }

    /// The addresses of the work, in the order in which it is done.
    fn drain(streams: &mut Streams) -> Vec<u64> {
        let mut done = Vec::new();
        while let Some(work) = streams.take() {
            if let Work::Free { address } = work {
                done.push(address);
            }
        }
        assert_eq!(streams.waiting(), 0);
        done
    }

    /// All orders of two streams with two pieces of work each, that seeds reach.
    fn orders(setup: impl Fn(&mut Streams)) -> std::collections::BTreeSet<Vec<u64>> {
        (0..200)
            .map(|seed| {
                let mut streams = Streams::new(Order::Seeded(seed));
                setup(&mut streams);
                drain(&mut streams)
            })
            .collect()
    }

    #[test]
    fn streams_without_an_event_run_in_any_order_and_each_keeps_its_own() {
        let setup = |streams: &mut Streams| {
            streams.add(10, false);
            streams.add(11, false);
            for (stream, address) in [(10, 1), (10, 2), (11, 3), (11, 4)] {
                streams.push(stream, free(address));
            }
        };
        let all = [[1, 2, 3, 4], [1, 3, 2, 4], [1, 3, 4, 2], [3, 1, 2, 4], [3, 1, 4, 2], [3, 4, 1, 2]];
        assert_eq!(orders(setup), all.iter().map(|order| order.to_vec()).collect());
        for (order, expected) in [(Order::Forward, all[0]), (Order::Reversed, all[5])] {
            let mut streams = Streams::new(order);
            setup(&mut streams);
            assert_eq!(drain(&mut streams), expected);
        }
    }

    #[test]
    fn an_event_orders_streams_in_every_choice() {
        let found = orders(|streams| {
            streams.add(10, false);
            streams.add(11, false);
            streams.push(10, free(1));
            let event = streams.push(10, Work::Marker);
            streams.push(10, free(2));
            streams.push(11, free(3));
            streams.push(11, Work::Wait(event));
            streams.push(11, free(4));
        });
        // 4 comes behind 1, and nothing else is ordered between the streams.
        let all = [[1, 2, 3, 4], [1, 3, 2, 4], [1, 3, 4, 2], [3, 1, 2, 4], [3, 1, 4, 2]];
        assert_eq!(found, all.iter().map(|order| order.to_vec()).collect());
    }

    #[test]
    fn the_legacy_stream_orders_blocking_streams_and_no_others() {
        for (blocking, orders_found) in [(true, 1), (false, 3)] {
            let found = orders(|streams| {
                streams.add(10, blocking);
                streams.push(10, free(1));
                streams.push(LEGACY, free(2));
                streams.push(10, free(3));
            });
            assert_eq!(found.len(), orders_found, "{found:?}");
        }
    }

    #[test]
    fn a_destroyed_stream_finishes_its_work() {
        let mut streams = Streams::new(Order::Forward);
        streams.add(10, true);
        let place = streams.push(10, free(1));
        streams.destroy(10);
        assert!(!streams.contains(10) && streams.is_pending(place));
        assert_eq!(drain(&mut streams), [1]);
        assert!(!streams.is_pending(place) && !streams.streams.contains_key(&10));
    }
}
