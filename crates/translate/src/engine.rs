//! Keyed pure derivations with recorded inputs: what is computed once stays until something it read changes.
//!
//! A [`Derivation`] is a key with a pure function. The function reads objects by [`Topic`] and other derivations
//! through a [`Reader`], which records both. A change of an object marks everything above it as to be looked at
//! again; looking again recomputes only where something that was read really is different, and a recomputation that
//! comes to an equal value stops there. So a change costs what depends on it, and the result never differs from a
//! full recomputation (a property test holds this).
//!
//! This module knows no kind of object and nothing of the IR; [`crate::tables`] lists the derivations.

mod graph;
mod store;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use heddle_api::Resource as AnyObject;

pub(crate) use self::graph::{Graph, NodeId};
pub(crate) use self::store::{Kind, Store, Topic};
use crate::object::ObjectKey;
use crate::options::Options;
use crate::tables::{Node, Tables};

/// A value that is computed from what it reads, and from nothing else.
pub(crate) trait Derivation: Stored {
    /// Computes the value. Derivations must not read themselves, directly or through others.
    fn derive(&self, reader: &Reader<'_>) -> Self::Value;
}

/// A key whose values are kept; implemented by the table of derivations.
pub(crate) trait Stored: Clone + Eq + Hash + Into<Node> {
    /// What comes out; cheap to clone.
    type Value: Clone + PartialEq;

    /// Where values are kept.
    fn table(tables: &mut Tables) -> &mut HashMap<Self, Self::Value>;
}

/// The objects, what was derived from them, and who read what.
pub(crate) struct Engine {
    pub(crate) options: Options,
    pub(crate) store: Store,
    graph: RefCell<Graph>,
    tables: RefCell<Tables>,
}

impl Engine {
    pub(crate) fn new(options: Options) -> Self {
        let store = Store::new(options.clone());
        Self { options, store, graph: RefCell::default(), tables: RefCell::default() }
    }

    /// Puts or removes an object; marks what may depend on it. The marked nodes are collected in `dirty`.
    pub(crate) fn change(
        &mut self,
        key: &ObjectKey,
        object: Option<AnyObject>,
        dirty: &mut Vec<Node>,
    ) {
        self.collect();
        let topics = self.store.change(key, object);
        let graph = self.graph.get_mut();
        graph.next_revision();
        for topic in topics {
            graph.input_changed(&Node::Topic(topic), dirty);
        }
    }

    /// The value of a derivation, computed if it must be, and kept until it is forgotten.
    pub(crate) fn value<D: Derivation>(&self, key: &D) -> D::Value {
        let (_, value) = self.refresh(key);
        self.graph.borrow_mut().set_root(&key.clone().into(), true);
        value
    }

    /// The value of a derivation, which may be dropped again with the next change.
    pub(crate) fn peek<D: Derivation>(&self, key: &D) -> D::Value {
        let (id, value) = self.refresh(key);
        self.graph.borrow_mut().set_idle(id);
        value
    }

    /// Forgets a value that was asked for, unless something else reads it.
    pub(crate) fn forget<D: Derivation>(&mut self, key: &D) {
        self.graph.get_mut().set_root(&key.clone().into(), false);
        self.collect();
    }

    fn collect(&mut self) {
        let removed = self.graph.get_mut().collect();
        let tables = self.tables.get_mut();
        for node in removed {
            node.remove_from(tables);
        }
    }

    /// How many derived values are held.
    pub(crate) fn len(&self) -> usize {
        self.graph.borrow().len()
    }

    /// Brings a derivation up to date.
    pub(crate) fn refresh<D: Derivation>(&self, key: &D) -> (NodeId, D::Value) {
        let id = self.graph.borrow_mut().intern(&key.clone().into());
        let held = D::table(&mut self.tables.borrow_mut()).get(key).cloned();
        if let Some(value) = &held
            && self.is_current(id)
        {
            return (id, value.clone());
        }
        let reader = Reader { engine: self, read: RefCell::default() };
        let value = key.derive(&reader);
        let read = reader.read.into_inner();
        // An equal value keeps its old allocation, so that whoever compares by address sees no change.
        match held {
            Some(held) if held == value => {
                self.graph.borrow_mut().derived(id, read, false);
                (id, held)
            }
            _ => {
                self.graph.borrow_mut().derived(id, read, true);
                D::table(&mut self.tables.borrow_mut()).insert(key.clone(), value.clone());
                (id, value)
            }
        }
    }

    /// Whether nothing that a derivation read has changed since it was computed.
    fn is_current(&self, id: NodeId) -> bool {
        let Some((verified, read)) = self.graph.borrow().to_verify(id) else { return true };
        for dependency in read {
            let node = self.graph.borrow().node(dependency);
            if let Some(node) = node {
                node.refresh(self);
            }
            if self.graph.borrow().changed_since(dependency, verified) {
                return false;
            }
        }
        self.graph.borrow_mut().verified(id);
        true
    }
}

/// Through which a derivation reads, so that what it read is known.
pub(crate) struct Reader<'a> {
    engine: &'a Engine,
    read: RefCell<Vec<NodeId>>,
}

impl Reader<'_> {
    /// What was fixed when the translator was made.
    pub(crate) fn options(&self) -> &Options {
        &self.engine.options
    }

    /// The value of another derivation.
    pub(crate) fn read<D: Derivation>(&self, key: &D) -> D::Value {
        let (id, value) = self.engine.refresh(key);
        self.read.borrow_mut().push(id);
        value
    }

    /// The objects of a topic, in the order of their keys.
    pub(crate) fn objects(&self, topic: Topic) -> Vec<AnyObject> {
        let objects = self.engine.store.of(&topic);
        let id = self.engine.graph.borrow_mut().intern(&Node::Topic(topic));
        self.read.borrow_mut().push(id);
        objects
    }

    /// One object, by its key.
    pub(crate) fn object(&self, key: &ObjectKey) -> Option<AnyObject> {
        let id = self.engine.graph.borrow_mut().intern(&Node::Topic(Topic::Object(key.clone())));
        self.read.borrow_mut().push(id);
        self.engine.store.object(key)
    }
}
