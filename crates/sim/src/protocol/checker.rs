//! The search: breadth first over every state that a model can reach, so that the first violation has the shortest
//! trace.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;

use super::report::{Found, Report};
use super::violation::Violation;

/// A protocol as states and steps. One step is what one participant does without anybody else in between.
pub(crate) trait Model {
    /// Everything that decides what can happen next, and nothing else.
    type State: Clone + Hash;

    /// Where every run begins.
    fn start(&self) -> Self::State;

    /// Adds each step that somebody could take next. The same state must add the same steps in the same order.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// Takes from a state what has no effect any more, so that states that behave alike are counted once.
    fn normalize(&self, _state: &mut Self::State) {}

    /// What is wrong with a state, whichever way led to it.
    fn violation(&self, _state: &Self::State) -> Option<Violation> {
        None
    }

    /// Whether every client of the run has its answer.
    fn is_answered(&self, state: &Self::State) -> bool;

    /// Whether an answered state must be reachable from every state. Not so in a model whose time ends.
    fn must_stay_answerable(&self) -> bool {
        true
    }
}

struct Step<S> {
    state: S,
    violation: Option<Violation>,
    words: String,
}

/// The steps that lead on from one state.
pub(crate) struct Steps<S> {
    list: Vec<Step<S>>,
    is_told: bool,
}

impl<S> Steps<S> {
    fn new(is_told: bool) -> Self {
        Self { list: Vec::new(), is_told }
    }

    /// A step to `state`. `words` says who does what; it is called only for traces.
    pub(crate) fn add(&mut self, state: S, words: impl FnOnce() -> String) {
        self.add_checked(state, None, words);
    }

    /// A step that may itself break a promise.
    pub(crate) fn add_checked(
        &mut self,
        state: S,
        violation: Option<Violation>,
        words: impl FnOnce() -> String,
    ) {
        let words = if self.is_told { words() } else { String::new() };
        self.list.push(Step { state, violation, words });
    }
}

/// The number of a state, in the order in which states were found.
type Number = u32;

/// A search under way. Of a state that was dealt with only 128 bits are kept: two different states look alike with a
/// chance of some 10^-24 in ten million states.
struct Search<'a, M: Model> {
    model: &'a M,
    numbers: HashMap<u128, Number, FixedState>,
    /// How each state was reached: from which, by which of its steps.
    parents: Vec<(Number, u16)>,
    /// For each state in its order, where its steps lead to. Kept for a model that must stay answerable.
    edges: Vec<(Number, Number)>,
    answered: Vec<Number>,
    transitions: usize,
}

/// Searches until there is a violation, or no new state, or there are more than `states_limit`.
pub(crate) fn search<M: Model>(model: &M, states_limit: usize) -> Report {
    let mut search = Search {
        model,
        numbers: HashMap::default(),
        parents: Vec::new(),
        edges: Vec::new(),
        answered: Vec::new(),
        transitions: 0,
    };
    let start = model.start();
    search.number(&start, (0, 0));
    let mut frontier = vec![(0, start)];
    let mut depth = 0;
    let mut found = None;
    while !frontier.is_empty() && found.is_none() && search.parents.len() <= states_limit {
        let mut next = Vec::new();
        found = frontier.iter().find_map(|(number, state)| search.expand(*number, state, &mut next));
        if !next.is_empty() {
            depth += 1;
        }
        frontier = next;
    }
    let is_complete = frontier.is_empty() && found.is_none();
    let is_answerability_checked = is_complete && model.must_stay_answerable();
    if is_answerability_checked {
        found = search.unanswerable();
    }
    Report {
        states: search.parents.len(),
        transitions: search.transitions,
        depth,
        is_complete,
        is_answerability_checked,
        found,
    }
}

impl<M: Model> Search<'_, M> {
    /// The number of a state, and whether it is new.
    fn number(&mut self, state: &M::State, parent: (Number, u16)) -> (Number, bool) {
        let next = Number::try_from(self.parents.len()).expect("a search is limited below 2^32 states");
        match self.numbers.entry(fingerprint(state)) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(vacant) => {
                vacant.insert(next);
                self.parents.push(parent);
                (next, true)
            }
        }
    }

    fn expand(
        &mut self,
        number: Number,
        state: &M::State,
        next: &mut Vec<(Number, M::State)>,
    ) -> Option<Found> {
        let mut steps = Steps::new(false);
        self.model.steps(state, &mut steps);
        if self.model.is_answered(state) {
            self.answered.push(number);
        }
        for (index, step) in steps.list.into_iter().enumerate() {
            self.transitions += 1;
            let index = u16::try_from(index).expect("a state has few steps");
            let mut reached = step.state;
            self.model.normalize(&mut reached);
            if let Some(violation) = step.violation.or_else(|| self.model.violation(&reached)) {
                return Some(Found { violation, trace: self.trace(number, Some(index)) });
            }
            let (to, is_new) = self.number(&reached, (number, index));
            if self.model.must_stay_answerable() {
                self.edges.push((to, number));
            }
            if is_new {
                next.push((to, reached));
            }
        }
        None
    }

    /// The shortest way to a state, told by taking it again, and one step more.
    fn trace(&self, mut number: Number, last: Option<u16>) -> Vec<String> {
        let mut way: Vec<u16> = last.into_iter().collect();
        while number != 0 {
            let (parent, index) = self.parents[number as usize];
            way.push(index);
            number = parent;
        }
        let mut state = self.model.start();
        let mut words = Vec::new();
        for index in way.into_iter().rev() {
            let mut steps = Steps::new(true);
            self.model.steps(&state, &mut steps);
            let step = steps.list.swap_remove(usize::from(index));
            words.push(step.words);
            state = step.state;
            self.model.normalize(&mut state);
        }
        words
    }

    /// The first state from which no way leads to one in which every client is answered.
    fn unanswerable(&mut self) -> Option<Found> {
        self.edges.sort_unstable();
        let mut reaches = vec![false; self.parents.len()];
        let mut open = std::mem::take(&mut self.answered);
        for &number in &open {
            reaches[number as usize] = true;
        }
        while let Some(to) = open.pop() {
            let begin = self.edges.partition_point(|edge| edge.0 < to);
            for &(_, from) in self.edges[begin..].iter().take_while(|edge| edge.0 == to) {
                if !std::mem::replace(&mut reaches[from as usize], true) {
                    open.push(from);
                }
            }
        }
        let stuck = reaches.iter().position(|reaches| !reaches)?;
        let stuck = Number::try_from(stuck).expect("a search is limited below 2^32 states");
        Some(Found { violation: Violation::stuck(), trace: self.trace(stuck, None) })
    }
}

fn fingerprint(state: &impl Hash) -> u128 {
    let half = |seed| u128::from(FixedState::with_seed(seed).hash_one(state));
    half(1) << 64 | half(2)
}
