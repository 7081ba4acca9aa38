//! What a client's [`State`] must keep to whatever its handles and its peer do, in any order.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use proptest::prelude::*;

use crate::error::{Initiator, Reason};
use crate::frame::{self, FrameHead};
use crate::settings::Config;
use crate::state::State;
use crate::streams::SendSide;

#[derive(Clone, Debug)]
enum Step {
    Request(bool),
    Data(usize, usize, bool),
    Trailers(usize),
    Reserve(usize, usize),
    Want(usize),
    Reset(usize),
    /// A handle; the reader is the first.
    Drop(usize),
    Written,
    Update(usize, u32),
    UpdateAll(u32),
    Window(u32),
    Limit(u32),
    Answered(usize),
    ResetByPeer(usize),
    GoAway(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![Just(0usize), 1usize..100, 1000usize..200_000];
    let which = || 0usize..8;
    prop::collection::vec(
        prop_oneof![
            6 => any::<bool>().prop_map(Step::Request),
            8 => (which(), size(), prop::bool::weighted(0.2)).prop_map(|(which, size, end)| Step::Data(which, size, end)),
            2 => which().prop_map(Step::Trailers),
            6 => (which(), size()).prop_map(|(which, size)| Step::Reserve(which, size)),
            3 => which().prop_map(Step::Want),
            1 => which().prop_map(Step::Reset),
            4 => which().prop_map(Step::Drop),
            6 => Just(Step::Written),
            4 => (which(), 1u32..100_000).prop_map(|(which, by)| Step::Update(which, by)),
            3 => (1u32..100_000).prop_map(Step::UpdateAll),
            2 => (0u32..100_000).prop_map(Step::Window),
            2 => (0u32..6).prop_map(Step::Limit),
            3 => which().prop_map(Step::Answered),
            1 => which().prop_map(Step::ResetByPeer),
            1 => prop::bool::weighted(0.1).prop_map(|really| if really { Step::GoAway(3) } else { Step::Written }),
        ],
        0..120,
    )
}

struct Model {
    state: State,
    /// Place, and how many of its two handles are left.
    held: Vec<(u32, u32)>,
}

impl Model {
    fn new() -> Self {
        let mut state = State::new(true, Config::default());
        state.senders = 1;
        Self { state, held: Vec::new() }
    }

    fn peer_says(&mut self, kind: u8, id: u32, payload: &[u8]) {
        let head = FrameHead { length: payload.len(), kind, flags: 0, id };
        if let Err(refused) = self.state.frame(head, payload) {
            let _ = self.state.refused(refused); // the driver would end the connection; the state bears more
        }
    }

    fn setting(&mut self, name: u8, value: u32) {
        let payload = [&[0, name], value.to_be_bytes().as_slice()].concat();
        self.peer_says(frame::SETTINGS, 0, &payload);
    }

    fn take(&mut self, step: &Step) {
        let held = |which: usize| if self.held.is_empty() { None } else { Some(which % self.held.len()) };
        let key = |which: usize| held(which).map(|place| self.held[place].0);
        match *step {
            Step::Request(end) => {
                if let Ok(key) = self.state.send_request(Request::post("http://a/b").body(()).unwrap(), end) {
                    self.held.push((key, 2));
                }
            }
            Step::Data(which, size, end) => {
                if let Some(key) = key(which) {
                    let _ = self.state.send_data(key, Bytes::from(vec![1; size]), end); // it may have ended
                }
            }
            Step::Trailers(which) => {
                if let Some(key) = key(which) {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("a", HeaderValue::from_static("b"));
                    let _ = self.state.send_trailers(key, trailers); // it may have ended
                }
            }
            Step::Reserve(which, size) => key(which).into_iter().for_each(|key| self.state.reserve(key, size)),
            Step::Want(which) => key(which).into_iter().for_each(|key| self.state.want(key)),
            Step::Reset(which) => {
                key(which).into_iter().for_each(|key| self.state.reset(key, Reason::CANCEL, Initiator::User));
            }
            Step::Drop(which) => {
                if let Some(place) = held(which) {
                    self.drop(place);
                }
            }
            Step::Written => self.written(),
            Step::Update(which, by) => {
                let id = key(which).map_or(0, |key| self.state.streams[key].id);
                if id > 0 {
                    self.peer_says(frame::WINDOW_UPDATE, id, &by.to_be_bytes());
                }
            }
            Step::UpdateAll(by) => self.peer_says(frame::WINDOW_UPDATE, 0, &by.to_be_bytes()),
            Step::Window(size) => self.setting(4, size),
            Step::Limit(streams) => self.setting(3, streams),
            Step::Answered(which) => {
                if let Some(key) = key(which)
                    && let stream = &self.state.streams[key]
                    && stream.id > 0
                    && !stream.is_over()
                {
                    self.state.received_end(key);
                }
            }
            Step::ResetByPeer(which) => {
                let id = key(which).map_or(0, |key| self.state.streams[key].id);
                if id > 0 {
                    self.peer_says(frame::RST_STREAM, id, &[0, 0, 0, 8]);
                }
            }
            Step::GoAway(last) => self.peer_says(frame::GOAWAY, 0, &[last.to_be_bytes(), [0; 4]].concat()),
        }
    }

    fn drop(&mut self, place: usize) {
        let (key, left) = &mut self.held[place];
        let (key, last) = (*key, *left == 1);
        if last {
            self.held.remove(place);
        } else {
            *left -= 1;
            self.state.reader_dropped(key);
        }
        self.state.handle_dropped(key);
    }

    fn written(&mut self) {
        self.state.out.clear();
        self.state.wakes.clear();
        self.state.pump();
    }

    fn check(&mut self) {
        let assigned: usize = self.state.streams.all().iter().map(|stream| stream.assigned).sum();
        assert_eq!(assigned, self.state.assigned);
        assert!(self.state.send_window >= 0);
        let named = self.state.streams.named();
        assert_eq!(named.len(), self.state.open);
        for key in named {
            let stream = &self.state.streams[key];
            assert!(!stream.is_over() && stream.handles > 0, "a client's stream that nobody holds is over");
            assert_eq!(stream.pending.iter().map(Bytes::len).sum::<usize>(), stream.pending_bytes);
            assert!(stream.is_queued || stream.pending.is_empty() || stream.send_window <= 0);
            assert!(stream.send != SendSide::Ending || !stream.pending.is_empty(), "an end that waits for nothing");
        }
    }
}

proptest! {
    #[test]
    fn a_state_keeps_its_accounts(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
            model.check();
        }
        // With room for everything, everything leaves.
        model.setting(3, 1000);
        model.setting(4, 1 << 28);
        for _ in 0..4 {
            model.peer_says(frame::WINDOW_UPDATE, 0, &(1u32 << 28).to_be_bytes());
        }
        for _ in 0..10_000 {
            model.written();
            if model.state.out.is_empty() {
                break;
            }
        }
        model.check();
        for key in model.state.streams.named() {
            prop_assert_eq!(model.state.streams[key].pending_bytes, 0);
        }
        while !model.held.is_empty() {
            model.drop(0);
            model.check();
        }
        prop_assert!(model.state.streams.is_empty() && model.state.queue.is_empty() && model.state.unopened.is_empty());
        prop_assert_eq!((model.state.assigned, model.state.open), (0, 0));
    }
}
