//! Who read what, and what must be looked at again.

use std::collections::{HashMap, HashSet};

use crate::tables::Node;

/// Names a node within the graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct NodeId(usize);

/// The dependencies between derivations, and when each last changed.
#[derive(Default)]
pub(crate) struct Graph {
    ids: HashMap<Node, NodeId>,
    states: Vec<Option<State>>,
    free: Vec<NodeId>,
    /// Grows with every change of an object.
    revision: u64,
    /// Nodes that lost a reader; looked at when nothing is being computed.
    idle: Vec<NodeId>,
}

struct State {
    node: Node,
    reads: Vec<NodeId>,
    read_by: HashSet<NodeId>,
    /// The revision at which its value last became another one.
    changed: u64,
    /// The revision at which it was last known to be up to date.
    verified: u64,
    /// Something below may have changed since.
    dirty: bool,
    /// Asked for from outside; stays until forgotten.
    root: bool,
}

impl Graph {
    pub(crate) fn next_revision(&mut self) {
        self.revision += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// The id of a node, made when it is new.
    pub(crate) fn intern(&mut self, node: &Node) -> NodeId {
        if let Some(id) = self.ids.get(node) {
            return *id;
        }
        let id = self.free.pop().unwrap_or(NodeId(self.states.len()));
        let state = State {
            node: node.clone(),
            reads: Vec::new(),
            read_by: HashSet::new(),
            changed: self.revision,
            verified: self.revision,
            dirty: false,
            root: false,
        };
        match self.states.get_mut(id.0) {
            Some(slot) => *slot = Some(state),
            None => self.states.push(Some(state)),
        }
        self.ids.insert(node.clone(), id);
        id
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<Node> {
        self.state(id).map(|state| state.node.clone())
    }

    /// An input has another value: it and everything above it is marked.
    pub(crate) fn input_changed(&mut self, node: &Node, dirty: &mut Vec<Node>) {
        let Some(id) = self.ids.get(node).copied() else { return };
        let revision = self.revision;
        let mut next: Vec<NodeId> = Vec::new();
        if let Some(state) = self.state_mut(id) {
            state.changed = revision;
            next.extend(state.read_by.iter().copied());
        }
        while let Some(id) = next.pop() {
            let Some(state) = self.state_mut(id) else { continue };
            if !state.dirty {
                state.dirty = true;
                next.extend(state.read_by.iter().copied());
                dirty.push(state.node.clone());
            }
        }
    }

    /// What must be looked at before a dirty node counts as current: its revision and what it read, in order.
    pub(crate) fn to_verify(&self, id: NodeId) -> Option<(u64, Vec<NodeId>)> {
        let state = self.state(id)?;
        state.dirty.then(|| (state.verified, state.reads.clone()))
    }

    pub(crate) fn changed_since(&self, id: NodeId, revision: u64) -> bool {
        self.state(id).is_none_or(|state| state.changed > revision)
    }

    pub(crate) fn verified(&mut self, id: NodeId) {
        let revision = self.revision;
        if let Some(state) = self.state_mut(id) {
            state.verified = revision;
            state.dirty = false;
        }
    }

    /// A node was computed anew from what it read.
    pub(crate) fn derived(&mut self, id: NodeId, mut read: Vec<NodeId>, changed: bool) {
        let mut seen = HashSet::new();
        read.retain(|id| seen.insert(*id));
        let revision = self.revision;
        let Some(state) = self.state_mut(id) else { return };
        if changed {
            state.changed = revision;
        }
        state.verified = revision;
        state.dirty = false;
        let before = std::mem::replace(&mut state.reads, read.clone());
        let mut unread = Vec::new();
        for old in before {
            if !seen.contains(&old)
                && let Some(state) = self.state_mut(old)
            {
                state.read_by.remove(&id);
                unread.push(old);
            }
        }
        for new in read {
            if let Some(state) = self.state_mut(new) {
                state.read_by.insert(id);
            }
        }
        self.idle.extend(unread);
    }

    /// Keeps a node although nobody reads it, or lets it go.
    pub(crate) fn set_root(&mut self, node: &Node, root: bool) {
        let Some(id) = self.ids.get(node).copied() else { return };
        if let Some(state) = self.state_mut(id) {
            state.root = root;
            if !root {
                self.idle.push(id);
            }
        }
    }

    /// A node may go when nobody reads or asked for it.
    pub(crate) fn set_idle(&mut self, id: NodeId) {
        self.idle.push(id);
    }

    /// Removes what nobody reads or asked for, then what only it read, and so on. Must not run while something is
    /// computed: what has been read is recorded only at the end.
    pub(crate) fn collect(&mut self) -> Vec<Node> {
        let mut removed = Vec::new();
        while let Some(id) = self.idle.pop() {
            if self.state(id).is_none_or(|state| state.root || !state.read_by.is_empty()) {
                continue;
            }
            let Some(state) = self.drop_state(id) else { continue };
            for read in state.reads {
                if let Some(below) = self.state_mut(read) {
                    below.read_by.remove(&id);
                    self.idle.push(read);
                }
            }
            removed.push(state.node);
        }
        removed
    }

    fn drop_state(&mut self, id: NodeId) -> Option<State> {
        let state = self.states.get_mut(id.0)?.take()?;
        self.ids.remove(&state.node);
        self.free.push(id);
        Some(state)
    }

    fn state(&self, id: NodeId) -> Option<&State> {
        self.states.get(id.0)?.as_ref()
    }

    fn state_mut(&mut self, id: NodeId) -> Option<&mut State> {
        self.states.get_mut(id.0)?.as_mut()
    }
}
